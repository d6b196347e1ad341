//! The two fences of a lost association, and what follows from them.
//!
//! The order of things is the contract of `umpath_core`: every queue thread of every volume on the
//! association confirms that its queue pair is drained before the order fence counts, and by time it
//! counts from the moment the last queue pair was silent
//! ([`OrderFence`](umpath_core::association::OrderFence)).

use std::time::Duration;

use umpath_core::AssociationId;
use umpath_core::association::{FenceTerms, Ladder};
use umpath_protocol::EventKind;
use umpath_session::{ControllerFacts, StableId};

use super::Host;
use crate::order::{Order, QueueKey, Remains};

/// How long after the order fence the longest stall is read: what was held has been answered then.
const AFTERMATH: Duration = Duration::from_millis(500);

impl Host {
    /// What the controller promised about ending by itself.
    pub(super) fn fence_terms(&self, facts: &ControllerFacts) -> Option<FenceTerms> {
        // The session has rounded KATO to the controller's granularity already.
        let unit = 1;
        let floor = self.settings.quiesce_floor();
        FenceTerms::new(facts.kato?, unit, facts.traffic_based, facts.cqt, floor)
    }

    /// What was left of an association has been destroyed, at `at`.
    pub fn handle_destroyed(
        &mut self,
        association: AssociationId,
        remains: Remains,
        at: Duration,
        now: Duration,
    ) {
        self.begin(now);
        match remains {
            Remains::Spare => self.queue_silent(association, QueueKey::Spare, at),
            Remains::Lane(id, queue) => {
                let found = self.path_with(association).map(|(path, _)| path);
                if let Some(live) = found.and_then(|path| self.live_mut(path)) {
                    live.leaving.remove(&QueueKey::Lane(id, queue));
                }
                if let Some(volume) = self.volumes.get_mut(&id) {
                    volume.queue_destroyed(association, queue, &mut self.fx);
                }
                self.queue_silent(association, QueueKey::Lane(id, queue), at);
            }
        }
        self.settle();
    }

    pub(super) fn admin_silent(&mut self, association: AssociationId, at: Duration) {
        self.queue_silent(association, QueueKey::Admin, at);
    }

    /// A queue pair has sent nothing since `at`, and never will.
    pub(super) fn queue_silent(&mut self, association: AssociationId, key: QueueKey, at: Duration) {
        // One whose fence was proved otherwise may be over already.
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        teardown.queue_silent(key, at);
        self.fence_if_known(association);
    }

    /// A queue thread's memory is its own again.
    pub(super) fn lane_drained(&mut self, id: StableId, queue: u16, association: AssociationId) {
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        if !teardown.lanes.remove(&(id, queue)) {
            return;
        }
        if teardown.orderly {
            self.retired_if_drained(association);
        }
        self.fence_if_known(association);
    }

    /// Waits for the fence by time once every queue pair is silent.
    pub(super) fn fence_if_known(&mut self, association: AssociationId) {
        self.fenced_if_proved(association);
        let now = self.fx.now;
        let unfenced = self.settings.unfenced();
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        if teardown.fence_due.is_none() && teardown.lanes.is_empty() {
            teardown.fence_due = if unfenced {
                Some(now)
            } else {
                teardown.fence.at()
            };
        }
    }

    /// Teardowns for which a time has come.
    pub(super) fn teardowns_due(&mut self) {
        let now = self.fx.now;
        let due = |(association, teardown): (&AssociationId, &super::Teardown)| {
            teardown
                .poll_fence()
                .is_some_and(|due| due <= now)
                .then_some(*association)
        };
        let due: Vec<AssociationId> = self.teardowns.iter().filter_map(due).collect();
        for association in due {
            self.time_reached(association);
        }
    }

    /// The fence by time has come, or the effects of a proved one are over.
    fn time_reached(&mut self, association: AssociationId) {
        let teardown = self
            .teardowns
            .get_mut(&association)
            .expect("a teardown that is due");
        if teardown.over_at.is_some() {
            return self.teardown_over(association);
        }
        if teardown.ladder.is_some() {
            return self.on_ladder(association, Ladder::time_reached);
        }
        teardown.proof = Some("by time".to_owned());
        self.fenced_if_proved(association);
    }

    /// Nothing was left on an association that ended in good order.
    pub(super) fn nothing_lost(&mut self, association: AssociationId) {
        if let Some(teardown) = self.teardowns.get_mut(&association) {
            teardown.proof = Some("nothing was lost".to_owned());
        }
        self.fenced_if_proved(association);
    }

    /// Tells the volumes that the order fence stands, once something proves it and every queue
    /// thread has drained.
    pub(super) fn fenced_if_proved(&mut self, association: AssociationId) {
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        let Some(proof) = teardown.proof.clone() else {
            return;
        };
        if !teardown.lanes.is_empty() || teardown.over_at.is_some() {
            return;
        }
        teardown.over_at = Some(self.fx.now + AFTERMATH);
        let unconcerned = teardown.failover.filter(|_| teardown.volumes.is_empty());
        if let Some(failover) = unconcerned {
            let (now, kind) = (self.fx.now, EventKind::OrderFenced);
            self.fx.events.mark(failover, now, kind, None, &proof);
        }
        for id in &teardown.volumes {
            if let Some(volume) = self.volumes.get_mut(id) {
                volume.order_fenced(association, &proof, &mut self.fx);
            }
        }
        self.fx.order(Order::Forget(teardown.record(association)));
    }

    /// The effects are over: the queue threads say how long a request took at most since.
    fn teardown_over(&mut self, association: AssociationId) {
        let teardown = self
            .teardowns
            .remove(&association)
            .expect("a teardown that is due");
        let Some(failover) = teardown.failover else {
            return;
        };
        for (id, volume) in &mut self.volumes {
            if teardown.volumes.contains(id) {
                volume.ask_longest(failover, &mut self.fx);
            } else {
                volume.call_off(failover);
            }
        }
        tracing::debug!(path = teardown.lost.path, "failover over");
    }
}
