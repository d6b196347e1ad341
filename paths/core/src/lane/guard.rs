//! The lane's side of the ghost-range lock.
//!
//! From [`Lane::guard`] on the lane sends no mutation that overlaps a ghost of another owner: it is
//! *parked* until a table allows it, and holds up no other. Mutations sent before the table came may
//! overlap such a ghost; when the last of them is no longer in flight, the lane reports
//! [`LaneEvent::Guarded`]. Once every lane has, ghosts may be sent again
//! ([`Lane::locked`](Lane::locked)). Why this is enough: docs/decisions/0004.

use core::time::Duration;
use std::sync::Arc;

use super::Lane;
use super::command::{State, tag_of};
use super::queue_pair::QueuePair;
use crate::event::LaneEvent;
use crate::ghost::{Ghost, GhostTable, Owner, Resend};
use crate::table::AssociationId;

/// Commands that wait because of ghosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldStats {
    /// Mutations that overlapped a ghost, and waited for its order fence.
    pub by_ghost: u64,
    /// Ghosts that overlapped another one, and waited for its order fence.
    pub by_overlap: u64,
    /// Ghosts that waited for their order fence because others write to the namespace too.
    pub by_sharing: u64,
    /// Mutations that waited for associations of which nothing else is known, such as those an
    /// earlier run of the host left behind.
    pub by_unknown: u64,
    /// Commands held at this moment, ghosts that wait to be locked included.
    pub now: u32,
    /// Longest time a command was held.
    pub longest: Duration,
}

/// The table in force, and what is left to do for it.
#[derive(Debug, Default)]
pub(super) struct Guard {
    table: Arc<GhostTable>,
    /// The table holds ghosts. All that a mutation reads while there are none.
    closed: bool,
    /// Mutations in flight since before the table came that overlap a ghost of another owner.
    in_flight: u32,
    /// Associations whose ghosts every lane keeps off, and that are not fenced.
    locked: Vec<AssociationId>,
    /// The volume is going away.
    closing: bool,
}

impl Lane {
    /// The ghosts of the volume from now on; an older table than the last is ignored. Answered by
    /// [`LaneEvent::Guarded`], at once or when what is in flight allows it.
    pub fn guard(&mut self, table: Arc<GhostTable>, now: Duration) {
        if table.generation() <= self.guard.table.generation() {
            return;
        }
        self.guard.closed = !table.is_empty();
        self.guard.table = table;
        if self.guard.closed {
            // What the host has not taken yet has not been sent: it waits like anything new.
            self.take_back(now, |lane, _, number| lane.is_kept_off(number));
        }
        self.check_flight();
        self.unpark();
        self.rebuild_offers();
        self.pump(now);
    }

    /// Every lane of the volume keeps off the blocks of an association's ghosts: those of this lane
    /// are sent again, and requests may fail that had been waiting only for this.
    pub fn locked(&mut self, association: AssociationId, now: Duration) {
        if !self.guard.locked.contains(&association) {
            self.guard.locked.push(association);
        }
        let at_once = self.guard.table.resend() == Resend::OnceGuarded;
        for _ in 0..self.queues.ghosts.len() {
            let Some(number) = self.queues.ghosts.pop_front() else {
                break;
            };
            let concerned = self.commands[number].association == association;
            if concerned && !at_once {
                self.stats.held.by_sharing += 1;
            }
            let repeatable = self.requests[tag_of(number)].body.op.is_idempotent();
            if concerned && at_once && repeatable {
                self.requeue(number);
            } else {
                self.queues.ghosts.push_back(number);
            }
        }
        if at_once || self.guard.closing {
            self.end_failing(association, now);
        }
        self.pump(now);
    }

    /// The volume is going away: requests fail without waiting for an order fence, which may never
    /// come. They still wait until every lane keeps off the blocks of what was lost.
    pub fn close(&mut self, now: Duration) {
        self.guard.closing = true;
        self.fail_queued(now);
        for at in 0..self.guard.locked.len() {
            if let Some(association) = self.guard.locked.get(at).copied() {
                self.end_failing(association, now);
            }
        }
    }

    /// The association's ghosts are gone.
    pub(super) fn unlock(&mut self, association: AssociationId) {
        self.guard.locked.retain(|known| *known != association);
    }

    /// A ghost of another owner overlaps what is left to do of a mutation.
    pub(super) fn is_kept_off(&self, number: u16) -> bool {
        self.guard.closed && self.kept_off_by(number).is_some()
    }

    fn kept_off_by(&self, number: u16) -> Option<&Ghost> {
        if !self.is_mutation(number) {
            return None;
        }
        let command = &self.commands[number];
        let owner = self.owner(number);
        let table = &self.guard.table;
        table.conflict(owner, command.lba, command.blocks.into())
    }

    pub(super) fn owner(&self, number: u16) -> Owner {
        Owner {
            lane: self.config.id,
            birth: self.commands[number].birth,
        }
    }

    /// Sets a command aside until a table lets it go.
    pub(super) fn park(&mut self, number: u16, now: Duration) {
        let unknown = self.kept_off_by(number).is_some_and(|g| g.owner.is_none());
        let command = &mut self.commands[number];
        command.state = State::Ready;
        if !command.parked {
            command.parked = true;
            let held = &mut self.stats.held;
            match (unknown, command.lost) {
                (true, _) => held.by_unknown += 1,
                (_, true) => held.by_overlap += 1,
                _ => held.by_ghost += 1,
            }
        }
        self.hold(number, now);
        self.queues.parked.push_back(number);
    }

    /// Counts a command as held from now on.
    pub(super) fn hold(&mut self, number: u16, now: Duration) {
        if self.commands[number].held_since.is_none() {
            self.commands[number].held_since = Some(now);
            self.stats.held.now += 1;
        }
    }

    pub(super) fn end_hold(&mut self, number: u16, now: Duration) {
        let command = &mut self.commands[number];
        command.parked = false;
        if let Some(since) = command.held_since.take() {
            let held = &mut self.stats.held;
            held.now -= 1;
            held.longest = held.longest.max(now.saturating_sub(since));
        }
    }

    /// Has everything parked checked again, in its old order.
    fn unpark(&mut self) {
        while let Some(number) = self.queues.parked.pop_back() {
            if self.commands[number].lost {
                self.queues.released.push_front(number);
            } else {
                self.queues.retry.of(true).push_front(number);
            }
        }
    }

    /// Finds what is in flight against the table.
    fn check_flight(&mut self) {
        let Self {
            config,
            guard,
            pairs,
            commands,
            requests,
            ..
        } = self;
        guard.in_flight = 0;
        for number in pairs.iter().flat_map(QueuePair::commands) {
            let command = &mut commands[number];
            let owner = Owner {
                lane: config.id,
                birth: command.birth,
            };
            command.watched = guard.closed
                && requests[tag_of(number)].body.op.is_mutation()
                && guard
                    .table
                    .conflict(owner, command.lba, command.covered.into())
                    .is_some();
            guard.in_flight += u32::from(command.watched);
        }
        if guard.in_flight == 0 {
            self.report_guarded();
        }
    }

    /// A command is in flight no more: answered, lost, or never sent.
    pub(super) fn left_flight(&mut self, number: u16) {
        if core::mem::take(&mut self.commands[number].watched) {
            self.guard.in_flight -= 1;
            if self.guard.in_flight == 0 {
                self.report_guarded();
            }
        }
    }

    fn report_guarded(&mut self) {
        let generation = self.guard.table.generation();
        self.events.push_back(LaneEvent::Guarded { generation });
    }

    /// Ends requests that were waiting for an association's lock or fence to fail.
    pub(super) fn end_failing(&mut self, association: AssociationId, now: Duration) {
        for _ in 0..self.queues.failing.len() {
            let Some(number) = self.queues.failing.pop_front() else {
                break;
            };
            if self.commands[number].association == association {
                self.free(number, now);
                self.finish_if_over(tag_of(number), now);
            } else {
                self.queues.failing.push_back(number);
            }
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod projection;
