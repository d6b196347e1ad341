//! The two fences of a lost association, and what follows from them.
//!
//! The contract of `umpath_core` fixes the sequence: the order fence counts only after every queue
//! thread of every volume on the association has confirmed that its queue pair is drained. A fence
//! by time runs from the moment the last queue pair fell silent
//! ([`OrderFence`](umpath_core::association::OrderFence)).

use std::time::Duration;

use umpath_core::AssociationId;
use umpath_core::association::{FenceTerms, Ladder, quiesce_floor};
use umpath_protocol::EventKind;
use umpath_session::ControllerFacts;

use super::{Host, same};
use crate::events::Subject;
use crate::order::{QueueKey, Remains};
use crate::spec::VolumeKey;

/// Delay after the order fence before the longest stall is read; held requests have completed by
/// then.
const AFTERMATH: Duration = Duration::from_millis(500);

impl Host {
    /// The controller's promise to end the association by itself.
    pub(super) fn fence_terms(&self, facts: &ControllerFacts) -> Option<FenceTerms> {
        // The session has already rounded KATO to the controller's granularity.
        let unit = 1;
        let floor = quiesce_floor(self.settings.quiesce_floor(), facts.cqt);
        FenceTerms::new(facts.kato?, unit, facts.traffic_based, facts.cqt, floor)
    }

    /// The shell destroyed what was left of an association, at `at`.
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
            Remains::Lane(key, queue) => {
                self.destroying.remove(&(association, key, queue));
                // Where it was destroyed for its silence alone, the thread has its memory already.
                let teardown = self.teardowns.get(&association);
                let awaited = teardown.is_some_and(|it| it.lanes.contains(&(key, queue)));
                let volume = same(&mut self.volumes, key).filter(|_| awaited);
                if let Some(volume) = volume {
                    volume.queue_destroyed(association, queue, &mut self.fx);
                }
                let lane = QueueKey::Lane(key, queue);
                self.queue_silent(association, lane, at);
                if let Some((path, _)) = self.path_with(association) {
                    let live = self.live_mut(path).expect("it was just found");
                    live.leaving.remove(&lane);
                }
                self.replacement_destroyed(association, (key, queue));
            }
        }
        self.settle();
    }

    pub(super) fn admin_silent(&mut self, association: AssociationId, at: Duration) {
        self.queue_silent(association, QueueKey::Admin, at);
    }

    /// A queue pair has sent nothing since `at` and never will.
    pub(super) fn queue_silent(&mut self, association: AssociationId, key: QueueKey, at: Duration) {
        // If its fence was proved otherwise, the teardown may be over already.
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        teardown.queue_silent(key, at);
        self.fence_if_known(association);
    }

    /// A queue thread owns its memory again.
    pub(super) fn lane_drained(&mut self, key: VolumeKey, queue: u16, association: AssociationId) {
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        if !teardown.lanes.remove(&(key, queue)) {
            return;
        }
        if teardown.orderly {
            self.retired_if_drained(association);
        }
        self.fence_if_known(association);
    }

    /// Starts the wait for the fence by time once every queue pair is silent.
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

    /// Handles teardowns whose time has come.
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

    /// Either the fence by time has come or the aftermath of a proved fence is over.
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

    /// An association that ended in good order lost nothing.
    pub(super) fn nothing_lost(&mut self, association: AssociationId) {
        if let Some(teardown) = self.teardowns.get_mut(&association) {
            teardown.proof = Some("nothing was lost".to_owned());
        }
        self.fenced_if_proved(association);
    }

    /// Notifies the volumes of the order fence once it is proved and every queue thread has
    /// drained.
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
            self.fx
                .events
                .mark(failover, now, kind, Subject::default(), &proof);
        }
        for id in &teardown.volumes {
            if let Some(volume) = self.volumes.get_mut(id) {
                volume.order_fenced(association, &proof, &mut self.fx);
            }
        }
        let record = teardown.record(association);
        self.forget(record);
    }

    /// The aftermath is over: the queue threads report their longest stall since the failover
    /// began.
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
