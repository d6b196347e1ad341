//! Giving an association up: conviction, the silence of its queue pairs, its order fence.

use umpath_core::AssociationId;
use umpath_core::association::{Conviction, FenceTerms, OrderFence};

use crate::sim::clock::{MICRO, Nanos, duration, nanos};
use crate::sim::mutant::Mutant;
use crate::sim::world::{Happening, World};

/// An association that was given up, until its order fence stands.
#[derive(Debug)]
pub(crate) struct Teardown {
    association: AssociationId,
    fence: OrderFence,
    /// Lanes that have not drained.
    lanes: usize,
    timed: bool,
}

impl World {
    /// Gives a path's association up.
    pub(crate) fn convict(&mut self, path: usize, why: Conviction) {
        let now = duration(self.now);
        let Some(attempt) = self.host.paths[path].attempt.take() else {
            return;
        };
        let association = attempt.association;
        let facts = attempt.ready.as_ref().map(|ready| &ready.facts);
        let terms =
            facts.and_then(|facts| FenceTerms::new(facts.kato?, 1, facts.traffic_based, facts.cqt));
        let lanes = self.host.lanes.len();
        self.host.teardowns.push(Teardown {
            association,
            fence: OrderFence::new(terms, duration(attempt.answered), 1 + lanes as u32),
            lanes,
            timed: false,
        });
        self.host.device.convict(association, why, now);
        self.pump_device();
        for (qid, qp) in attempt.qps {
            if qid == 0 {
                self.silence(qp);
                let wait = self
                    .fabric_chance
                    .tail(10 * MICRO, self.plan.drain_deadline);
                self.agenda
                    .push(self.now + wait, Happening::Drained { qp, lane: None });
            } else if usize::from(qid) > lanes {
                self.silence(qp);
            }
        }
        self.reconnect_later(path, false);
    }

    pub(crate) fn admin_silent(&mut self, association: AssociationId, silent_at: Nanos) {
        self.queue_silent(association, silent_at, None);
    }

    /// One more queue pair of an association is silent.
    pub(crate) fn queue_silent(
        &mut self,
        association: AssociationId,
        at: Nanos,
        lane: Option<usize>,
    ) {
        let known = |teardown: &&mut Teardown| teardown.association == association;
        let Some(teardown) = self.host.teardowns.iter_mut().find(known) else {
            return;
        };
        teardown.fence.queue_silent(duration(at));
        if lane.is_some() {
            teardown.lanes -= 1;
        }
        if teardown.lanes > 0 || teardown.timed {
            return;
        }
        let Some(due) = teardown.fence.at() else {
            return;
        };
        teardown.timed = true;
        let due = if self.mutant == Some(Mutant::NoFence) {
            duration(self.now)
        } else {
            due
        };
        let (at, life) = (nanos(due).max(self.now), self.host.life);
        self.agenda
            .push(at, Happening::FenceDue { life, association });
    }

    /// The order fence of an association stands.
    pub(crate) fn fence_due(&mut self, association: AssociationId) {
        self.host
            .teardowns
            .retain(|teardown| teardown.association != association);
        self.host.fenced.push(association);
        self.host
            .device
            .order_fenced(association, duration(self.now));
        self.pump_device();
    }
}
