//! What must never happen.

use super::vocabulary::{WRITES, Write, Writes, only};

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Violation {
    /// A write that was over was executed after one that was submitted later.
    Overtaken(Write),
    /// A block changed although nobody was writing it.
    Unsettled(Write),
    /// A write was acknowledged and is not on the medium.
    NotWritten(Write),
    /// The host takes an association for fenced that still executes.
    FencedAlive,
    /// A write was sent over a ghost that was locked.
    SentOverGhost(Write),
    /// A ghost was sent again before it was locked or fenced.
    ResentEarly(Write),
    /// Ghosts were locked while a write that overlaps one was in flight.
    LockedInFlight(Write),
    /// A restarted host wrote before its predecessor's associations were fenced.
    SentBeforeFence(Write),
    /// A controller was reset that the host had not given up.
    WrongReset,
}

impl Violation {
    /// Of the order that keeps the data right, not of the data itself.
    pub(super) fn is_of_order(self) -> bool {
        !matches!(
            self,
            Self::Overtaken(_) | Self::Unsettled(_) | Self::NotWritten(_)
        )
    }
}

/// The application's side, and block 1 of the medium, which every write changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Application {
    pub(super) submitted: Writes,
    pub(super) acknowledged: Writes,
    /// Writes that the lanes of this daemon were given.
    pub(super) given: Writes,
    /// Writes that were executed, once or more often.
    executed: Writes,
    /// By write: those that were over when it was submitted.
    before: [Writes; WRITES.len()],
    /// Who wrote the block last.
    content: Option<Write>,
}

impl Application {
    pub(super) fn submit(&mut self, write: Write) {
        self.given |= only(write);
        if self.submitted & only(write) == 0 {
            self.submitted |= only(write);
            self.before[usize::from(write)] = self.acknowledged;
        }
    }

    pub(super) fn has_answered(&self, write: Write) -> bool {
        self.acknowledged & only(write) != 0
    }

    /// What the kernel gives out again after a crash.
    pub(super) fn unanswered(&self) -> Writes {
        self.submitted & !self.acknowledged
    }

    /// Forgets what no later judgement asks for; these writes may still be executed.
    pub(super) fn forget(&mut self, pending: Writes) {
        let over = self.acknowledged & !pending;
        for before in &mut self.before {
            *before &= !over;
        }
        if pending == 0 {
            self.content = None;
        }
    }

    /// A controller executes a copy of `write`.
    pub(super) fn execute(&mut self, write: Write) -> Option<Violation> {
        let over = self.acknowledged & only(write) != 0;
        let seen_later = |(later, before): (usize, &Writes)| {
            self.executed & only(later as Write) != 0 && before & only(write) != 0
        };
        let overtakes = over && self.before.iter().enumerate().any(seen_later);
        let settled = self.submitted == self.acknowledged;
        let changes = self.content != Some(write);
        self.executed |= only(write);
        self.content = Some(write);
        if overtakes {
            return Some(Violation::Overtaken(write));
        }
        (settled && changes).then_some(Violation::Unsettled(write))
    }

    pub(super) fn acknowledge(&mut self, write: Write) -> Option<Violation> {
        self.acknowledged |= only(write);
        let missing = self.executed & only(write) == 0;
        missing.then_some(Violation::NotWritten(write))
    }

    /// All that was to be written is.
    pub(super) fn is_over(&self, writes: Writes) -> bool {
        self.acknowledged == writes
    }
}
