//! The controllers: commands that wait for as long as they like, resets, and timers that run out.
//!
//! A command is in a controller's hands from the moment it is sent, which covers every delay in the
//! fabric. It is executed at any time until the controller has ended, or never.

use super::Engine;
use super::judge::Violation;
use super::ladder::{LadderInput, News, Reply};
use super::lane::{Given, given};
use super::mutant::Mutant;
use super::vocabulary::{Association, Write};
use super::world::{AssociationState, Log, Request, Sent, Truth, World};

/// How a controller takes a request to reset another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    Complete,
    Pending,
    Busy,
    Refused,
    /// No answer comes back, whether or not the reset was done.
    Unanswered {
        done: bool,
    },
    /// The log is read as it is.
    Log,
    /// The log could not be read.
    NoLog,
}

impl World {
    /// A lane sends a write.
    pub(super) fn send(&mut self, engine: &Engine, write: Write, association: Association) {
        for copy in self.copies.iter().copied().collect::<Vec<_>>() {
            let of = self.association(copy.association);
            if !copy.lost || copy.executed {
                continue;
            }
            if of.inherited {
                self.blame(engine, Violation::SentBeforeFence(write));
            } else if copy.write == write && !of.locked {
                self.blame(engine, Violation::ResentEarly(write));
            } else if copy.write != write && of.locked {
                self.blame(engine, Violation::SentOverGhost(write));
            }
        }
        let unfenced = |state: &AssociationState| state.inherited && state.truth != Truth::Dead;
        if self.associations.iter().any(unfenced) {
            self.blame(engine, Violation::SentBeforeFence(write));
        }
        if self.association(association).truth == Truth::Alive {
            self.copies.push(Sent {
                association,
                write,
                executed: false,
                lost: false,
            });
        }
    }

    /// A controller executes a command.
    pub(super) fn execute(&mut self, engine: &Engine, at: usize) {
        let copy = &mut self.copies[at];
        copy.executed = true;
        let Sent { write, lost, .. } = *copy;
        if lost {
            // Nobody hears of it.
            self.copies.remove(at);
        }
        if let Some(broken) = self.application.execute(write) {
            self.blame(engine, broken);
        }
    }

    /// An answer reaches the lane.
    pub(super) fn answer(&mut self, engine: &mut Engine, at: usize, idle: u8) {
        let Sent {
            association, write, ..
        } = self.copies.remove(at);
        let input = given(Given::Answer(write, association), idle);
        self.lane(engine, super::host::lane_of(write), &input);
    }

    /// A controller ends: nothing it has not executed is executed any more.
    fn end(&mut self, association: Association) {
        self.association_mut(association).truth = Truth::Dead;
        self.copies
            .retain(|copy| copy.association != association || copy.executed);
    }

    pub(super) fn has_unexecuted(&self, association: Association) -> bool {
        let here = |copy: &Sent| copy.association == association && !copy.executed;
        self.copies.iter().any(here)
    }

    /// The keep-alive timer of a lost association has run out, and the host's fence by time stands.
    pub(super) fn time_out(&mut self, engine: &mut Engine, association: Association) {
        // Whoever still speaks to the controller keeps it alive.
        if self.association(association).is_silent() {
            self.end(association);
        }
        self.escalate(engine, association, LadderInput::Time);
    }

    /// A survivor takes a request.
    pub(super) fn serve(&mut self, engine: &mut Engine, at: usize, served: Served) {
        let request = self.requests.remove(at);
        match request {
            Request::Reset { lost, via } => {
                let victim = self.victim(engine, lost);
                let reply = self.reset(engine, victim, served);
                self.escalate(engine, lost, LadderInput::Reply(via, reply));
            }
            Request::ReadLog { lost, via } => {
                let victim = self.victim(engine, lost);
                let news = match (served, self.association(victim).log) {
                    (Served::NoLog, _) | (_, Log::Nothing) => News::Nothing,
                    (_, Log::InProgress) => News::InProgress,
                    (_, Log::Success) => News::Success,
                    (_, Log::Failed) => News::Failed,
                };
                self.escalate(engine, lost, LadderInput::News(via, news));
            }
        }
    }

    /// The incarnation that is reset.
    pub(super) fn victim(&self, engine: &Engine, lost: Association) -> Association {
        let path = self.association(lost).path;
        if engine.is(Mutant::WrongIncarnation) {
            self.current(path).unwrap_or(lost)
        } else {
            lost
        }
    }

    fn reset(&mut self, engine: &Engine, victim: Association, served: Served) -> Reply {
        if !self.association(victim).lost {
            self.blame(engine, Violation::WrongReset);
        }
        match served {
            Served::Complete => {
                self.end(victim);
                Reply::Complete
            }
            Served::Pending => {
                let state = self.association_mut(victim);
                state.truth = Truth::Closing;
                state.log = Log::InProgress;
                Reply::Pending
            }
            Served::Unanswered { done } => {
                if done {
                    self.end(victim);
                }
                Reply::Unanswered
            }
            Served::Refused => Reply::Refused,
            Served::Busy | Served::Log | Served::NoLog => Reply::Busy,
        }
    }

    /// A reset under way comes to its end.
    pub(super) fn end_reset(&mut self, association: Association, success: bool) {
        if success {
            self.end(association);
        }
        self.association_mut(association).log = if success { Log::Success } else { Log::Failed };
    }
}
