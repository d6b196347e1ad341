//! A volume's part in a failover: passes what the host learned about an association to the core,
//! and the core's orders to the queue threads.

use std::time::Duration;

use umpath_core::association::{Conviction, Suspicion};
use umpath_core::{AssociationId, Ghost, LaneCommand, LaneId};

use super::Volume;
use crate::effects::Effects;

impl Volume {
    pub(crate) fn suspect(
        &mut self,
        association: AssociationId,
        why: Suspicion,
        at: Duration,
        fx: &mut Effects,
    ) {
        self.core.suspect(association, why, at);
        self.pump(fx);
    }

    pub(crate) fn clear(&mut self, association: AssociationId, at: Duration, fx: &mut Effects) {
        self.core.clear(association, at);
        self.pump(fx);
    }

    /// Gives an association up. Returns the queue threads that will confirm it: all live ones if
    /// the volume has a path on it, else none.
    pub(crate) fn convict(
        &mut self,
        association: AssociationId,
        why: Conviction,
        at: Duration,
        fx: &mut Effects,
    ) -> Vec<u16> {
        if self.number_on(association).is_none() {
            return Vec::new();
        }
        self.path_faults += 1;
        self.core.convict(association, why, at);
        self.pump(fx);
        let queues = 0..self.lanes;
        queues.filter(|queue| !self.ended.contains(queue)).collect()
    }

    /// Carries over an unfenced association, which may have carried writes for the namespace before
    /// this volume existed. Call before it has a path.
    pub(crate) fn carry_over(&mut self, association: AssociationId, fx: &mut Effects) {
        self.core.inherit(association, fx.now);
        self.pump(fx);
    }

    /// A queue thread has passed its buffer fence.
    pub(crate) fn lane_drained(
        &mut self,
        association: AssociationId,
        queue: u16,
        ghosts: Vec<Ghost>,
        at: Duration,
        fx: &mut Effects,
    ) {
        self.core
            .lane_drained(association, LaneId(queue), ghosts, at);
        self.pump(fx);
    }

    /// A queue thread has ended: the fate of its commands in flight is unknown.
    pub(crate) fn lane_gone(&mut self, queue: u16, fx: &mut Effects) {
        self.ended.insert(queue);
        self.core.lane_gone(LaneId(queue), fx.now);
        self.pump(fx);
    }

    /// Has a queue thread give up its queue pair on an association that lives on.
    pub(crate) fn give_up_queue(&self, association: AssociationId, queue: u16, fx: &mut Effects) {
        if !self.ended.contains(&queue) {
            fx.lane(self.key(), queue, LaneCommand::GiveUpQueue(association));
        }
    }

    /// Gives a queue thread another queue pair on an association it serves already. False: nobody is
    /// there to take it.
    pub(crate) fn replace_queue(
        &mut self,
        association: AssociationId,
        queue: u16,
        qid: u16,
        fx: &mut Effects,
    ) -> bool {
        let ended = self.ended.contains(&queue);
        let Some(member) = self.member_on_mut(association).filter(|_| !ended) else {
            return false;
        };
        if let Some(known) = member.qids.get_mut(usize::from(queue)) {
            *known = qid;
        }
        let path = member.number;
        let attach = LaneCommand::Attach {
            path,
            association,
            transport: qid,
        };
        fx.lane(self.key(), queue, attach);
        true
    }

    /// A queue pair that had not drained was destroyed: the thread owns its memory again.
    pub(crate) fn queue_destroyed(
        &mut self,
        association: AssociationId,
        queue: u16,
        fx: &mut Effects,
    ) {
        // A thread that has ended has reported that itself.
        if !self.ended.contains(&queue) {
            fx.lane(self.key(), queue, LaneCommand::Destroyed(association));
        }
    }

    /// Whether drained queue threads reported writes of unknown fate on an association.
    pub(crate) fn has_ghosts(&self, association: AssociationId) -> bool {
        self.core.has_ghosts(association)
    }

    /// `proof`: what proves the fence, for the log.
    pub(crate) fn order_fenced(
        &mut self,
        association: AssociationId,
        proof: &str,
        fx: &mut Effects,
    ) {
        proof.clone_into(&mut self.proof);
        self.core.order_fenced(association, fx.now);
        self.pump(fx);
    }
}
