//! Convictions and the two fences.

use core::time::Duration;

use super::command::{State, tag_of};
use super::link::LinkState;
use super::{Action, Lane};
use crate::table::AssociationId;

impl Lane {
    /// Gives an association up: nothing more is sent to it. Mutations in flight on it count as held
    /// from now on; one whose answer still comes before [`drained`](Self::drained) was not lost.
    pub fn convict(&mut self, association: AssociationId, now: Duration) {
        let Some(at) = self.link_of(association) else {
            return;
        };
        if self.links[at].state != LinkState::Open {
            return;
        }
        self.links[at].state = LinkState::Draining;
        self.convicted = Some((association, now));
        self.take_back_unsent(association, now);
        let Self {
            links,
            commands,
            requests,
            shared,
            ..
        } = self;
        for number in links[at].commands() {
            let command = &mut commands[number];
            if requests[tag_of(number)].body.op.is_mutation() && !command.ghost {
                command.ghost = true;
                shared.hold();
            }
        }
        self.rebuild_offers();
        self.pump(now);
    }

    /// Commands the host has not taken yet never left.
    fn take_back_unsent(&mut self, association: AssociationId, now: Duration) {
        let mut taken = Vec::new();
        self.actions.retain(|action| match action {
            Action::Send(send) if send.association == association => {
                taken.push((send.path, send.sqe.cid.get()));
                false
            }
            _ => true,
        });
        // Last in, first to the front: they keep their order.
        for (path, cid) in taken.into_iter().rev() {
            let Some(at) = self.link_of(association) else {
                return;
            };
            if let Some(number) = self.links[at].give_back(cid) {
                self.unsend(number, path, now);
            }
        }
    }

    /// The buffer fence: the association can no longer touch any buffer of this lane, and no
    /// answer of it comes any more. Reads and flushes are sent again at once; mutations wait for
    /// [`fenced`](Self::fenced).
    pub fn drained(&mut self, association: AssociationId, now: Duration) {
        self.convict(association, now);
        let Some(at) = self.link_of(association) else {
            return;
        };
        let (path, fenced) = (self.links[at].path, self.links[at].fenced);
        let mut unanswered = Vec::with_capacity(self.links[at].in_flight());
        while let Some(number) = self.links[at].take_any() {
            self.shared.dropped(path);
            unanswered.push(number);
        }
        self.links[at].close();
        unanswered.sort_unstable_by_key(|number| self.commands[*number].sequence);
        for number in unanswered {
            self.lose(number, fenced, now);
        }
        self.pump(now);
    }

    /// A command was never answered and never will be.
    fn lose(&mut self, number: u16, fenced: bool, now: Duration) {
        let tag = tag_of(number);
        let failed = self.requests[tag].error.is_some();
        if !self.is_mutation(number) {
            if failed {
                self.free(number);
                self.finish_if_over(tag, now);
            } else {
                self.requeue(number);
            }
            return;
        }
        self.stats.lost += 1;
        self.commands[number].lost = true;
        match (failed, fenced) {
            (true, true) => self.free(number),
            (true, false) => self.orphan(number),
            (false, true) => return self.requeue(number),
            (false, false) => {
                self.commands[number].state = State::Held;
                self.queues.ghosts.push_back(number);
                return;
            }
        }
        self.finish_if_over(tag, now);
    }

    /// The order fence: the association executes nothing more, and every lane of the volume has
    /// drained. Its lost mutations are sent again, in the order in which they were sent.
    pub fn fenced(&mut self, association: AssociationId, now: Duration) {
        if let Some(at) = self.link_of(association) {
            // Told too early: this lane's part of the fence comes with the buffer fence.
            self.links[at].fenced = true;
        }
        for _ in 0..self.queues.ghosts.len() {
            let Some(number) = self.queues.ghosts.pop_front() else {
                break;
            };
            if self.commands[number].association == association {
                self.requeue(number);
            } else {
                self.queues.ghosts.push_back(number);
            }
        }
        if let Some(at) = self
            .orphans
            .iter()
            .position(|(known, _)| *known == association)
        {
            let (_, count) = self.orphans.swap_remove(at);
            self.end_holds(count);
        }
        self.pump(now);
    }
}
