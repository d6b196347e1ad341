//! A volume's event log: single events, and marks in the timeline of the failover they belong to.
//!
//! A failover is open on a path from the first evidence until either the evidence is gone or I/O is
//! back on the path. A group switch is a step of the failover opened last.

use umpath_core::{AssociationId, Event, EventKind as Core, LaneCommand, ThreadStats};
use umpath_protocol::EventKind;

use super::{Member, Volume};
use crate::effects::Effects;
use crate::events::{FailoverId, Subject};

impl Volume {
    /// Assigns the path's marks to this failover from now on; `None`: it is over.
    pub(crate) fn note_failover(
        &mut self,
        path: u32,
        failover: Option<FailoverId>,
        fx: &mut Effects,
    ) {
        let Some(member) = self.members.iter_mut().find(|member| member.path == path) else {
            return;
        };
        let before = std::mem::replace(&mut member.failover, failover);
        if let Some(id) = failover.filter(|_| before != failover) {
            // Earlier delays have nothing to do with it.
            self.measures.begin(id);
            self.send_all(fx, || LaneCommand::Snapshot);
        }
    }

    /// The evidence is gone: nothing stalled because of it.
    pub(crate) fn call_off(&mut self, failover: FailoverId) {
        self.measures.forget(failover);
    }

    /// Requests the queue threads' longest stall, for a failover's record.
    pub(crate) fn ask_longest(&mut self, failover: FailoverId, fx: &mut Effects) {
        self.measures.end(failover);
        self.send_all(fx, || LaneCommand::Snapshot);
    }

    /// Handles the statistics of a queue thread.
    pub(crate) fn stats(&mut self, queue: u16, stats: &ThreadStats, fx: &mut Effects) {
        self.counters.note(queue, stats);
        let longest = stats.queue.longest.max(stats.queue.oldest_waiting);
        for failover in self.measures.note(queue) {
            fx.events.stalled(failover, longest);
        }
    }

    /// Logs an event of the core.
    pub(super) fn log(&mut self, event: &Event, fx: &mut Effects) {
        let Some(kind) = kind_of(event) else {
            return;
        };
        // The first path ever is not a restore.
        if kind == EventKind::PathAgain && !self.pathless {
            return;
        }
        match kind {
            EventKind::GroupSwitched | EventKind::FailedBack | EventKind::GroupChosen => {
                self.group_switches += 1;
            }
            EventKind::NoPath => self.pathless = true,
            EventKind::PathAgain => self.pathless = false,
            _ => {}
        }
        let detail = match kind {
            EventKind::OrderFenced => self.proof.clone(),
            _ => detail_of(event),
        };
        let path = self.member_of(event).map(|member| member.path);
        let subject = Subject {
            volume: Some(self.spec.name.clone()),
            path,
        };
        if let Some(failover) = self.failover_of(event, kind) {
            fx.events.mark(failover, event.at, kind, subject, &detail);
        } else {
            fx.events.record(event.at, kind, subject, detail);
        }
        if kind == EventKind::FailedBack
            && let Some(path) = path
        {
            self.note_failover(path, None, fx);
        }
    }

    /// The path an event names, whatever became of its association meanwhile.
    fn member_of(&self, event: &Event) -> Option<&Member> {
        let by_path = |member: &&Member| Some(member.number) == event.path;
        self.members.iter().find(by_path)
    }

    /// The path that has an association, or lost it last.
    fn owner_of(&self, association: Option<AssociationId>) -> Option<&Member> {
        let owns = |member: &&Member| {
            association.is_some_and(|id| member.association == id || member.lost == Some(id))
        };
        self.members.iter().find(owns)
    }

    /// The failover an event is a step of.
    fn failover_of(&self, event: &Event, kind: EventKind) -> Option<FailoverId> {
        let owner = self.owner_of(event.association);
        let own = owner.and_then(|member| member.failover);
        let last = || {
            self.members
                .iter()
                .filter_map(|member| member.failover)
                .max()
        };
        match kind {
            EventKind::BufferFenced
            | EventKind::GhostsLocked
            | EventKind::OrderFenced
            | EventKind::FirstIo
            | EventKind::PathReady => own,
            EventKind::FailedBack => own.or_else(last),
            EventKind::GroupSwitched | EventKind::NoPath | EventKind::PathAgain => last(),
            _ => None,
        }
    }
}

fn detail_of(event: &Event) -> String {
    if let Core::FirstIo { stall } = event.kind {
        return format!("longest wait so far {} ms", stall.as_millis());
    }
    let words = event.kind.to_string();
    words
        .split_once(": ")
        .map_or(String::new(), |(_, detail)| detail.to_owned())
}

/// The kind of an event; `None` if the host logs it for the whole association.
fn kind_of(event: &Event) -> Option<EventKind> {
    Some(match event.kind {
        Core::PathAdded
        | Core::PathRemoved
        | Core::Suspected(_)
        | Core::Cleared
        | Core::Convicted(_) => return None,
        Core::PathUp => EventKind::PathReady,
        Core::PathDown => EventKind::PathRemoved,
        Core::BufferFenced => EventKind::BufferFenced,
        Core::GhostsLocked { .. } => EventKind::GhostsLocked,
        Core::GhostsOverflowed => EventKind::GhostsOverflowed,
        Core::Inherited => EventKind::Inherited,
        Core::OrderFenced => EventKind::OrderFenced,
        Core::FirstIo { .. } => EventKind::FirstIo,
        Core::GroupSwitched => EventKind::GroupSwitched,
        Core::FailedBack => EventKind::FailedBack,
        Core::AnaChanged(_) | Core::AnaStatus(_) => EventKind::AnaChanged,
        Core::PathErrors { .. } => EventKind::PathErrors,
        Core::NoPath => EventKind::NoPath,
        Core::PathAgain => EventKind::PathAgain,
        Core::QueueingStarted => EventKind::QueueingStarted,
        Core::QueueingEnded => EventKind::QueueingEnded,
        Core::QueueingExpired => EventKind::QueuedFailed,
        Core::Held { .. } => EventKind::PathHeld,
        Core::Probation => EventKind::PathProbation,
        Core::Sound => EventKind::PathSound,
        Core::PathFailed => EventKind::PathFailed,
        Core::PathReinstated => EventKind::PathReinstated,
        Core::Preferred(_) => EventKind::PathPreferred,
        Core::GroupChosen => EventKind::GroupChosen,
        Core::PolicyChanged => EventKind::PolicyChanged,
    })
}
