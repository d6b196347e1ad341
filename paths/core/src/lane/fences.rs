//! Convictions and the two fences.

use core::time::Duration;

use super::command::{State, tag_of};
use super::link::LinkState;
use super::{Action, Lane, Send};
use crate::table::AssociationId;

/// A command whose send the host has not taken.
#[derive(Clone, Copy)]
struct Unsent {
    is_mutation: bool,
    lost: bool,
}

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
        // Commands the host has not taken yet never left.
        self.take_back(now, |send, _| send.association == association);
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
        if self.shared.held() > 0 {
            // The hold concerns what has not left as well, unless it is what is held for.
            self.take_back(now, |_, command| command.is_mutation && !command.lost);
        }
        self.rebuild_offers();
        self.pump(now);
    }

    /// Takes sends back that the host has not taken, and queues their commands again.
    fn take_back(&mut self, now: Duration, wanted: impl Fn(&Send, Unsent) -> bool) {
        let mut taken = Vec::new();
        let Self {
            actions,
            links,
            commands,
            requests,
            ..
        } = self;
        actions.retain(|action| {
            let Action::Send(send) = action else {
                return true;
            };
            let cid = send.sqe.cid.get();
            let mut open = links
                .iter()
                .filter(|link| link.association == send.association);
            let Some(number) = open.find_map(|link| link.command(cid)) else {
                return true;
            };
            let unsent = Unsent {
                lost: commands[number].lost,
                is_mutation: requests[tag_of(number)].body.op.is_mutation(),
            };
            let take = wanted(send, unsent);
            if take {
                taken.push((send.path, send.association, cid));
            }
            !take
        });
        // Last in, first to the front: they keep their order.
        for (path, association, cid) in taken.into_iter().rev() {
            let link = self.link_of(association);
            if let Some(number) = link.and_then(|at| self.links[at].give_back(cid)) {
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
            self.shared.dropped(path, self.data_in_flight(number));
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
