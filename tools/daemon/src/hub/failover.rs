//! Suspicion, conviction and the two fences, passed between paths and volumes.
//!
//! The order of things is the contract of `umpath_core`: every queue thread of every volume on the
//! association confirms that its queue pair is drained before the order fence is waited for, and the
//! fence counts from the moment the last queue pair was silent. When that moment has come is
//! computed by `umpath_core::association::OrderFence`.

use std::collections::BTreeSet;
use std::time::Duration;

use umpath_core::association::{
    Conviction, FenceTerms, Ladder, OrderFence, Stuck, Suspicion, quiesce_floor,
};
use umpath_core::{AssociationId, LaneEvent};
use umpath_protocol::EventKind;
use umpath_rdma::HostQueue;
use umpath_session::{ControllerFacts, StableId};
use umpath_ublk::LaneReport;

use super::inherit::forget_association;
use super::ladder::instance_of;
use super::teardown::{FencedQueue, Teardown};
use super::{Hub, Message, Remains};
use crate::association::Order;
use crate::clock;
use crate::events::FailoverId;
use crate::volume::Volume;

/// `EX_SOFTWARE` of sysexits.h: not zero, so that a supervisor starts umpathd again.
pub(crate) const EXIT_SOFTWARE: i32 = 70;
/// How long after the order fence the longest stall is read: what was held has been answered then.
const AFTERMATH: Duration = Duration::from_millis(500);

impl Hub {
    pub(super) fn suspect(
        &mut self,
        path: u32,
        association: AssociationId,
        at: Duration,
        why: Suspicion,
    ) {
        let Some(live) = self.still_live(path, association) else {
            return;
        };
        live.suspect = Some(why);
        self.failover(path, at, EventKind::Suspected, &why.to_string());
        for volume in self.volumes.values_mut() {
            volume.suspect(association, why, at);
        }
    }

    pub(super) fn clear(&mut self, path: u32, association: AssociationId, at: Duration) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        let Some(live) = record
            .live
            .as_mut()
            .filter(|live| live.association == association)
        else {
            return;
        };
        live.suspect = None;
        let failover = record.failover.take();
        if let Some(failover) = failover {
            self.context
                .events
                .mark(failover, at, EventKind::Cleared, None, "");
        }
        for volume in self.volumes.values_mut() {
            volume.clear(association, at);
            volume.note_failover(path, None);
            if let Some(failover) = failover {
                volume.call_off(failover);
            }
        }
    }

    /// The failover under way on a path; begins one with this mark, or adds the mark to it.
    fn failover(&mut self, path: u32, at: Duration, kind: EventKind, why: &str) -> FailoverId {
        let events = self.context.events.clone();
        let Some(record) = self.paths.get_mut(&path) else {
            return events.failover(at, kind, path, "", why);
        };
        let id = match record.failover {
            Some(id) => {
                events.mark(id, at, kind, None, why);
                id
            }
            None => events.failover(at, kind, path, &record.spec.address(), why),
        };
        record.failover = Some(id);
        for volume in self
            .volumes
            .values_mut()
            .filter(|volume| volume.has_path(path))
        {
            volume.note_failover(path, Some(id));
            events.concerns(id, volume.name());
        }
        id
    }

    pub(super) fn convict(
        &mut self,
        path: u32,
        association: AssociationId,
        at: Duration,
        why: Conviction,
    ) {
        if self.still_live(path, association).is_none() {
            return;
        }
        let failover = self.failover(path, at, EventKind::Convicted, &why.to_string());
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        let Some(live) = record.live.take() else {
            return;
        };
        record.last_error = why.to_string();
        // The next loss is another failover.
        record.failover = None;
        let terms = fence_terms(&live.ready.facts);
        let (nqn, instance) = (record.spec.nqn.clone(), instance_of(&live.ready.facts));
        let ladder = self.ladder_for(path, &live.ready.facts, clock::now());
        let (lanes, volumes) = self.convict_volumes(association, why, at);
        let spare = live.spare;
        let attached = lanes
            .iter()
            .map(|(id, queue)| FencedQueue::Lane(*id, *queue));
        let rest = (!spare.is_empty()).then_some(FencedQueue::Spare);
        let fence = OrderFence::new(terms, attached.chain(rest).chain([FencedQueue::Admin]));
        let teardown = Teardown {
            path,
            failover: Some(failover),
            fence,
            talking: lanes.clone(),
            lanes,
            volumes,
            timed: false,
            orderly: false,
            admin_silent: false,
            terms,
            nqn,
            instance,
            ladder: Some(ladder),
            surety: None,
            stood: false,
            inherited: None,
        };
        self.teardowns.insert(association, teardown);
        // It may have been asked to help another.
        self.survivor_gone(association);
        let domain = live.domain;
        if spare.is_empty() {
            tokio::task::spawn_blocking(move || drop(domain));
        } else {
            self.destroy(association, Remains::Spare, move || drop((spare, domain)));
        }
        self.carry_out(association);
        if terms.is_none() {
            tracing::error!(
                path,
                "this controller has no keep-alive timer, so nothing proves that it has stopped: \
                 writes lost with it are held for ever; disconnect the volume with --force to fail \
                 them"
            );
        }
        self.fence_if_known(association);
    }

    /// Makes every volume give the association up. Returns the queue threads that will confirm it,
    /// and the volumes concerned.
    pub(super) fn convict_volumes(
        &mut self,
        association: AssociationId,
        why: Conviction,
        at: Duration,
    ) -> (BTreeSet<(StableId, u16)>, BTreeSet<StableId>) {
        let mut lanes = BTreeSet::new();
        let mut volumes = BTreeSet::new();
        for volume in self.volumes.values_mut() {
            let queues = volume.convict(association, why, at);
            if !queues.is_empty() {
                volumes.insert(volume.id());
                lanes.extend(queues.into_iter().map(|queue| (volume.id(), queue)));
            }
        }
        (lanes, volumes)
    }

    fn destroy(
        &self,
        association: AssociationId,
        remains: Remains,
        destroy: impl FnOnce() + Send + 'static,
    ) {
        self.elsewhere(move || {
            destroy();
            Message::Destroyed(association, remains, clock::now())
        });
    }

    pub(super) fn lane_report(&mut self, id: StableId, queue: u16, report: LaneReport<HostQueue>) {
        match report {
            LaneReport::Drained {
                association,
                silent_at,
                transport,
                quiet,
                ..
            } => {
                if let Some(transport) = transport {
                    if !quiet {
                        let remains = Remains::Lane(id, queue);
                        self.destroy(association, remains, move || drop(transport));
                        return;
                    }
                    tokio::task::spawn_blocking(move || drop(transport));
                }
                self.lane_silent(id, queue, association, silent_at);
            }
            LaneReport::BufferFenced {
                association,
                ghosts,
                at,
            } => {
                if let Some(volume) = self.volumes.get_mut(&id) {
                    volume.lane_drained(association, queue, ghosts, at);
                }
                self.lane_drained(id, queue, association);
            }
            LaneReport::Broken {
                association, why, ..
            } => {
                let words = crate::volume::loss_in_words(&why);
                self.tell(association, Order::Broken(association, words));
            }
            LaneReport::Event { event, at } => {
                if let Some(volume) = self.volumes.get_mut(&id) {
                    volume.lane_event(queue, event, at);
                }
                match event {
                    // The controller refused with an ANA status: its log says more.
                    LaneEvent::AnaStatus { association, .. } => {
                        self.tell(association, Order::RefreshAna(association));
                    }
                    LaneEvent::Overdue {
                        association,
                        since,
                        cid,
                        ..
                    } => self.overdue(id, queue, association, (since, cid)),
                    _ => {}
                }
            }
            LaneReport::Stats(stats) => {
                if let Some(volume) = self.volumes.get_mut(&id) {
                    volume.stats(queue, &stats);
                }
            }
            LaneReport::Ended {
                transports,
                outcome,
            } => {
                self.lane_ended(id, queue, transports, outcome);
            }
        }
    }

    fn overdue(
        &self,
        id: StableId,
        queue: u16,
        association: AssociationId,
        (since, cid): (Duration, Option<u16>),
    ) {
        let volume = self.volumes.get(&id);
        let qid = volume.and_then(|volume| volume.qid_on(association, queue));
        let stuck = qid.zip(cid).map(|(qid, cid)| Stuck { qid, cid, since });
        self.tell(association, Order::Overdue(association, since, stuck));
    }

    /// Tells the path whose association it is; nobody when it is gone.
    pub(super) fn tell(&self, association: AssociationId, order: Order) {
        if let Some((record, _)) = self.path_with(association) {
            // A path that has ended hears nothing, and need not.
            let _ = record.orders.send(order);
        }
    }

    /// A queue thread has ended: what it still had is destroyed, and nothing waits for it.
    fn lane_ended(
        &mut self,
        id: StableId,
        queue: u16,
        transports: Vec<(AssociationId, HostQueue)>,
        outcome: std::io::Result<()>,
    ) {
        if let Err(error) = outcome {
            let name = self.volumes.get(&id).map_or("", Volume::name);
            leave_to_successor(name, queue, &error);
        }
        let now = clock::now();
        if let Some(volume) = self.volumes.get_mut(&id) {
            volume.lane_gone(queue, now);
        }
        let had: BTreeSet<AssociationId> = transports.iter().map(|(known, _)| *known).collect();
        for (association, transport) in transports {
            self.destroy(association, Remains::Lane(id, queue), move || {
                drop(transport);
            });
        }
        let waiting: Vec<AssociationId> = self
            .teardowns
            .iter()
            .filter(|(_, teardown)| teardown.lanes.contains(&(id, queue)))
            .map(|(association, _)| *association)
            .collect();
        for association in waiting {
            if !had.contains(&association) {
                self.lane_silent(id, queue, association, now);
            }
            self.lane_drained(id, queue, association);
        }
    }

    /// A queue thread's queue pair has sent nothing since `at`, and never will.
    fn lane_silent(&mut self, id: StableId, queue: u16, association: AssociationId, at: Duration) {
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        if !teardown.talking.remove(&(id, queue)) {
            return;
        }
        if teardown.orderly {
            self.fence_if_silent(association);
        } else {
            let queue = FencedQueue::Lane(id, queue);
            teardown.fence.queue_silent(&queue, at);
            self.fence_if_known(association);
        }
    }

    /// A queue thread's memory is its own again.
    fn lane_drained(&mut self, id: StableId, queue: u16, association: AssociationId) {
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        if !teardown.lanes.remove(&(id, queue)) {
            return;
        }
        if teardown.orderly {
            self.retired_if_drained(association);
            self.fence_if_silent(association);
        } else {
            self.fence_if_known(association);
        }
    }

    pub(super) fn destroyed(&mut self, association: AssociationId, remains: Remains, at: Duration) {
        match remains {
            Remains::Spare => self.queue_silent(association, FencedQueue::Spare, at),
            Remains::Lane(id, queue) => {
                if let Some(volume) = self.volumes.get_mut(&id) {
                    volume.queue_destroyed(association, queue);
                }
                self.lane_silent(id, queue, association, at);
            }
        }
    }

    pub(super) fn queue_silent(
        &mut self,
        association: AssociationId,
        queue: FencedQueue,
        at: Duration,
    ) {
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        if teardown.orderly {
            // Its only queue pair that no queue thread has is the admin queue's.
            teardown.admin_silent();
            self.fence_if_silent(association);
        } else {
            teardown.fence.queue_silent(&queue, at);
            self.fence_if_known(association);
        }
    }

    /// Sets the timer once every queue pair is silent.
    pub(super) fn fence_if_known(&mut self, association: AssociationId) {
        self.stand_if_proven(association);
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        let known = if self.context.unfenced {
            Some(clock::now())
        } else {
            teardown.fence.at()
        };
        let Some(at) = known.filter(|_| !teardown.timed) else {
            return;
        };
        if !teardown.lanes.is_empty() {
            return;
        }
        teardown.timed = true;
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(clock::instant(at)).await;
            let _ = outbox.send(Message::Fenced(association));
        });
    }

    /// The fence by time stands.
    pub(super) fn order_fenced(&mut self, association: AssociationId) {
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        if teardown.ladder.is_some() {
            return self.on_ladder(association, Ladder::time_reached);
        }
        teardown.surety = Some("by time".to_owned());
        self.stand_if_proven(association);
    }

    /// Nothing was left on an association that ended in good order.
    pub(super) fn nothing_lost(&mut self, association: AssociationId) {
        if let Some(teardown) = self.teardowns.get_mut(&association) {
            teardown.surety = Some("nothing was lost".to_owned());
        }
        self.stand_if_proven(association);
    }

    /// Tells the volumes that the order fence stands, once something proves it and every queue
    /// thread has drained.
    pub(super) fn stand_if_proven(&mut self, association: AssociationId) {
        let Some(teardown) = self.teardowns.get_mut(&association) else {
            return;
        };
        let Some(surety) = teardown.surety.clone() else {
            return;
        };
        if !teardown.lanes.is_empty() || std::mem::replace(&mut teardown.stood, true) {
            return;
        }
        let now = clock::now();
        if let Some(failover) = teardown.failover.filter(|_| teardown.volumes.is_empty()) {
            let events = &self.context.events;
            events.mark(failover, now, EventKind::OrderFenced, None, &surety);
        }
        for id in &teardown.volumes {
            if let Some(volume) = self.volumes.get_mut(id) {
                volume.order_fenced(association, &surety, now);
            }
        }
        let file = teardown.inherited.clone();
        forget_association(file.unwrap_or_else(|| self.context.records.file(association)));
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AFTERMATH).await;
            let _ = outbox.send(Message::Settled(association));
        });
    }

    /// The effects are over: the queue threads say how long a request took at most since.
    pub(super) fn settled(&mut self, association: AssociationId) {
        let Some(teardown) = self.teardowns.remove(&association) else {
            return;
        };
        let Some(failover) = teardown.failover else {
            return;
        };
        for (id, volume) in &mut self.volumes {
            if teardown.volumes.contains(id) {
                volume.ask_longest(failover);
            } else {
                volume.call_off(failover);
            }
        }
        tracing::debug!(path = teardown.path, "failover over");
    }

    /// Destroys the queue pairs of a path that no queue thread has.
    pub(super) fn let_go_of_spares(&mut self, path: u32) {
        if let Some(live) = self.live_mut(path) {
            let spare = std::mem::take(&mut live.spare);
            if !spare.is_empty() {
                tokio::task::spawn_blocking(move || drop(spare));
            }
        }
    }

    /// Makes volumes forget a path that has ended in good order.
    pub(super) fn leave_volumes(&mut self, path: u32) {
        let record = self.paths.get_mut(&path);
        if let Some(live) = record.and_then(|record| record.live.take()) {
            let association = live.association;
            // A volume that has a path on it still gives it up like any other, fences included.
            self.let_go_in_order(path, live);
            let unused = |teardown: &Teardown| teardown.lanes.is_empty();
            if self.teardowns.get(&association).is_some_and(unused) {
                self.nothing_lost(association);
            }
        }
        for volume in self.volumes.values_mut() {
            volume.path_removed(path);
        }
    }
}

/// Ends this process at once, as if it had been killed.
///
/// Nobody knows any more what the failed thread has in flight on associations that live on, and its
/// requests have no server. A restart puts both right: the next umpathd inherits every association,
/// fences it before it writes anything, and gets the requests from the kernel again.
fn leave_to_successor(volume: &str, queue: u16, error: &std::io::Error) -> ! {
    // Past the log, which is written by a thread that would not get to it.
    eprintln!(
        "umpathd: queue thread {queue} of {volume} failed: {error}; umpathd ends, so that the next one \
         takes over all block devices with their requests (start it again if nothing does)"
    );
    std::process::exit(EXIT_SOFTWARE)
}

/// What the controller promised about ending by itself.
pub(super) fn fence_terms(facts: &ControllerFacts) -> Option<FenceTerms> {
    // The session has rounded KATO to the controller's granularity already.
    let unit = 1;
    let floor = quiesce_floor(None, facts.cqt);
    FenceTerms::new(facts.kato?, unit, facts.traffic_based, facts.cqt, floor)
}
