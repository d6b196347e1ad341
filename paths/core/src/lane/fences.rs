//! Convictions, the buffer fence and the order fence, as a lane handles them.

use core::time::Duration;

use super::command::{State, tag_of};
use super::queue_pair::{QueuePair, QueuePairState};
use super::{Action, Lane, SendCommand};
use crate::ghost::Ghost;
use crate::table::AssociationId;

impl Lane {
    /// Gives an association up: nothing more is sent to it. A mutation in flight on it whose answer
    /// still comes before [`drained`](Self::drained) was not lost.
    pub fn convict(&mut self, association: AssociationId, now: Duration) {
        let Some(at) = self.pair_of(association) else {
            return;
        };
        if self.pairs[at].state != QueuePairState::Open {
            return;
        }
        self.convicted = Some((association, now));
        self.stop_sending(at, now);
    }

    /// Gives up one queue pair of an association that lives on, because the queue pair is cut off from
    /// the controller. True: [`drained`](Self::drained) is due when it is, and leaves no ghosts, and
    /// then another one may be [attached](Self::attach). False: it stays, because the controller may
    /// still execute a mutation that is in flight on it, or because it is not in use.
    pub fn give_up_queue(&mut self, association: AssociationId, now: Duration) -> bool {
        let Some(at) = self.pair_of(association) else {
            return false;
        };
        let pair = &self.pairs[at];
        if pair.state != QueuePairState::Open || self.has_mutation_on(pair) {
            return false;
        }
        self.stop_sending(at, now);
        true
    }

    /// Gives up a queue pair: what is in flight on it waits for the buffer fence.
    fn stop_sending(&mut self, at: u16, now: Duration) {
        let association = self.pairs[at].association;
        // Commands the host has not taken yet never left.
        self.take_back(now, |_, send, _| send.association == association);
        // What is in flight is no load of the path any more, and its silence says nothing of the
        // queue pair or the association that comes next.
        for number in self.pairs[at].commands() {
            self.shared
                .dropped(self.pairs[at].path, self.data_in_flight(number));
        }
        self.pairs[at].state = QueuePairState::Draining;
        self.rebuild_offers();
        self.pump(now);
    }

    pub(super) fn has_mutation_on(&self, pair: &QueuePair) -> bool {
        pair.commands().any(|number| self.is_mutation(number))
    }

    /// Takes sends back that the host has not taken, and queues their commands again.
    pub(super) fn take_back(
        &mut self,
        now: Duration,
        wanted: impl Fn(&Self, &SendCommand, u16) -> bool,
    ) {
        let mut taken = Vec::new();
        let mut actions = core::mem::take(&mut self.actions);
        actions.retain(|action| {
            let Action::Send(send) = action else {
                return true;
            };
            let pair = self.pair_of(send.association);
            let Some(number) = pair.and_then(|at| self.pairs[at].command(send.sqe.cid.get()))
            else {
                return true;
            };
            let take = wanted(self, send, number);
            if take {
                taken.push((send.association, send.sqe.cid.get()));
            }
            !take
        });
        self.actions = actions;
        // Last in, first to the front: they keep their order.
        for (association, cid) in taken.into_iter().rev() {
            let at = self.pair_of(association).expect("it was found above");
            let number = self.pairs[at].give_back(cid).expect("it is in flight");
            self.unsend(number, at, now);
        }
    }

    /// The buffer fence: the association can no longer touch any buffer of this lane, and no
    /// answer of it comes any more. Reads and flushes are sent again at once. Mutations wait for
    /// [`locked`](Self::locked) or [`fenced`](Self::fenced): they are the ghosts returned, to be
    /// handed to [`Device::lane_drained`](crate::Device::lane_drained) before any later event of
    /// this lane.
    #[must_use = "ghosts that nobody hears of are not kept off"]
    pub fn drained(&mut self, association: AssociationId, now: Duration) -> Vec<Ghost> {
        self.convict(association, now);
        let Some(at) = self.pair_of(association) else {
            return Vec::new();
        };
        let mut unanswered = Vec::with_capacity(self.pairs[at].in_flight());
        while let Some(number) = self.pairs[at].take_any() {
            self.left_flight(number);
            unanswered.push(number);
        }
        self.pairs[at].close();
        unanswered.sort_unstable_by_key(|number| self.commands[*number].sequence);
        let ghosts = unanswered
            .into_iter()
            .filter_map(|number| self.lose(number, now))
            .collect();
        self.pump(now);
        ghosts
    }

    /// A command was never answered and never will be. Returns the ghost that is left of it.
    fn lose(&mut self, number: u16, now: Duration) -> Option<Ghost> {
        let tag = tag_of(number);
        let failed = self.requests[tag].error.is_some();
        if !self.is_mutation(number) {
            if failed {
                self.free(number, now);
                self.finish_if_over(tag, now);
            } else {
                self.requeue(number);
            }
            return None;
        }
        self.stats.lost += 1;
        self.hold(number, now);
        let owner = self.owner(number);
        let command = &mut self.commands[number];
        command.lost = true;
        if failed {
            command.state = State::Failing;
            self.queues.failing.push_back(number);
        } else {
            command.state = State::Held;
            self.queues.ghosts.push_back(number);
        }
        Some(Ghost {
            owner: Some(owner),
            association: command.association,
            lba: command.lba,
            blocks: command.covered.into(),
        })
    }

    /// The order fence: the association executes nothing more, and this lane has drained it. Its
    /// lost mutations are sent again, in the order in which they were sent.
    pub fn fenced(&mut self, association: AssociationId, now: Duration) {
        assert!(self.pair_of(association).is_none(), "fenced before drained");
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
        self.unlock(association);
        self.end_failing(association, now);
        self.pump(now);
    }
}
