//! Giving an association up: conviction, the silence of its queue pairs, its order fence.

use umpath_core::AssociationId;
use umpath_core::association::{Conviction, FenceTerms, FencedBy, Ladder, OrderFence};
use umpath_nvme::command::Instance;
use umpath_session::ControllerFacts;

use crate::sim::clock::{MICRO, Nanos, duration, nanos};
use crate::sim::fabric::HostEnd;
use crate::sim::host::{Host, instance_of};
use crate::sim::mutant::Mutant;
use crate::sim::plan::Plan;
use crate::sim::world::{Happening, World};

/// Before a controller said who it is.
const NOBODY: Instance = Instance {
    cntlid: 0,
    ciu: 0,
    cirn: 0,
};

/// What is written down of an association before its first I/O.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) association: AssociationId,
    pub(crate) terms: Option<FenceTerms>,
    pub(crate) instance: Instance,
}

/// A queue pair that has to be silent before a fence counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FencedQueue {
    Admin,
    Lane(usize),
}

/// An association that was given up, until its order fence stands.
#[derive(Debug)]
pub(crate) struct Teardown {
    pub(crate) association: AssociationId,
    /// The incarnation that was lost.
    pub(crate) instance: Instance,
    fence: OrderFence<FencedQueue>,
    terms: Option<FenceTerms>,
    answered: Nanos,
    /// Lanes that have not drained.
    lanes: usize,
    timed: bool,
    /// The way to its fence.
    pub(crate) ladder: Ladder,
    /// What proves that it executes nothing more, once something does.
    pub(crate) surety: Option<FencedBy>,
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
        let terms = facts.and_then(|facts| terms_of(facts, &self.plan, self.mutant));
        let lanes = self.host.lanes.len();
        let queues = (0..lanes)
            .map(FencedQueue::Lane)
            .chain([FencedQueue::Admin]);
        let instance = facts.map_or(NOBODY, instance_of);
        let ladder = self.ladder_for(path, instance);
        self.host.teardowns.push(Teardown {
            association,
            instance,
            ladder,
            surety: None,
            fence: OrderFence::new(terms, queues),
            terms,
            answered: attempt.answered,
            lanes,
            timed: false,
        });
        self.host.device.convict(association, why, now);
        self.pump_device();
        self.survivor_gone(association);
        self.climb(association);
        for (qid, qp) in attempt.qps {
            if qid == 0 {
                self.silence(qp);
                let wait = self
                    .fabric_chance
                    .tail(10 * MICRO, self.plan.drain_deadline);
                self.agenda.push(
                    self.now + wait,
                    Happening::Drained {
                        life: self.host.life,
                        qp,
                        lane: None,
                    },
                );
            } else if usize::from(qid) > lanes {
                self.silence(qp);
            }
        }
        if self.is(Mutant::RecordsForget) {
            self.records
                .retain(|record| record.association != association);
        }
        if !self.is(Mutant::NeverReconnects) {
            self.reconnect_later(path, false);
        }
    }

    pub(crate) fn admin_silent(&mut self, association: AssociationId, silent_at: Nanos) {
        self.queue_silent(association, silent_at, FencedQueue::Admin);
    }

    /// One more queue pair of an association is silent.
    pub(crate) fn queue_silent(
        &mut self,
        association: AssociationId,
        at: Nanos,
        queue: FencedQueue,
    ) {
        let known = |teardown: &&mut Teardown| teardown.association == association;
        let Some(teardown) = self.host.teardowns.iter_mut().find(known) else {
            return;
        };
        teardown.fence.queue_silent(&queue, duration(at));
        if queue != FencedQueue::Admin {
            teardown.lanes -= 1;
        }
        self.stand_if_proven(association);
        let Some(teardown) = self.host.teardowns.iter_mut().find(known) else {
            return;
        };
        if teardown.lanes > 0 || teardown.timed {
            return;
        }
        let Teardown {
            fence,
            terms,
            answered,
            ..
        } = teardown;
        let Some(due) = Mutant::fence(self.mutant, &self.plan, fence, *terms, *answered, self.now)
        else {
            return;
        };
        teardown.timed = true;
        let (at, life) = (due.max(self.now), self.host.life);
        self.agenda
            .push(at, Happening::FenceDue { life, association });
    }

    /// The fence by time of an association stands.
    pub(crate) fn fence_due(&mut self, association: AssociationId) {
        self.on_ladder(association, Ladder::time_reached);
    }

    /// Tells the device that an order fence stands, once something proves it and every lane has
    /// drained.
    pub(crate) fn stand_if_proven(&mut self, mut association: AssociationId) {
        let known = |teardown: &&Teardown| teardown.association == association;
        let teardown = self.host.teardowns.iter().find(known);
        if teardown.is_none_or(|teardown| teardown.surety.is_none() || teardown.lanes > 0) {
            return;
        }
        let surety = teardown.and_then(|teardown| teardown.surety);
        let prompt = self.check_prompt(association);
        if let Err(violation) = prompt.and_then(|()| self.check_reset(association, surety)) {
            return self.fail(violation);
        }
        if self.is(Mutant::FenceOfAnother)
            && let Some(other) = self
                .host
                .device
                .unfenced()
                .find(|known| *known != association)
        {
            association = other;
        }
        self.records
            .retain(|record| record.association != association);
        self.host
            .teardowns
            .retain(|teardown| teardown.association != association);
        self.host.fenced.push(association);
        self.host.proven.push(association);
        let copies = &self.copies;
        self.at_large
            .retain(|at| copies[*at as usize].association != association);
        self.host
            .device
            .order_fenced(association, duration(self.now));
        self.pump_device();
    }

    /// The host's process is killed. Its queue pairs are destroyed with it.
    pub(crate) fn kill_host(&mut self) {
        if !self.host.alive {
            return;
        }
        self.host.alive = false;
        self.host.life += 1;
        for qp in 0..self.qps.len() {
            self.silence(qp);
            self.qps[qp].host = HostEnd::Drained;
        }
        for copy in &mut self.copies {
            copy.lost |= !copy.answered;
        }
        let used = self.host.used.iter().copied();
        let fenced = &self.host.fenced;
        self.inherited
            .extend(used.filter(|known| !fenced.contains(known)));
    }

    /// A new process takes over: its predecessor's associations are fenced before it writes, and
    /// the requests that were in flight come back as new ones.
    pub(crate) fn revive_host(&mut self) {
        if self.host.alive {
            return;
        }
        let session = self.host.session_config.clone();
        let mut host = Host::new(&self.plan, self.mutant, session, self.now);
        host.life = self.host.life;
        host.next_association = self.host.next_association;
        host.locked = std::mem::take(&mut self.host.locked);
        host.fenced = std::mem::take(&mut self.host.fenced);
        host.proven = std::mem::take(&mut self.host.proven);
        self.host = host;
        if self.is(Mutant::InheritNothing) {
            self.records.clear();
        }
        let now = duration(self.now);
        for record in self.records.clone() {
            let Record {
                association,
                terms,
                instance,
            } = record;
            self.host.device.inherit(association, now);
            let fence = OrderFence::silent_since(terms, now);
            self.host.teardowns.push(Teardown {
                association,
                instance,
                fence: fence.clone(),
                terms,
                answered: self.now,
                lanes: 0,
                timed: true,
                ladder: Ladder::new(instance),
                surety: None,
            });
            let due = fence.at().map(nanos);
            if let Some(due) = due {
                let at = if self.is(Mutant::DeathIsFence) {
                    self.now
                } else {
                    due
                };
                let life = self.host.life;
                self.agenda
                    .push(at, Happening::FenceDue { life, association });
            }
        }
        self.pump_device();
        for path in 0..self.plan.paths() {
            self.connect(path);
        }
        self.reissue();
    }
}

/// What an association's controller promised, and what it is granted where it promises nothing.
pub(crate) fn terms_of(
    facts: &ControllerFacts,
    plan: &Plan,
    mutant: Option<Mutant>,
) -> Option<FenceTerms> {
    let traffic_based = facts.traffic_based && mutant != Some(Mutant::TrafficIgnored);
    let floor = if plan.cqt_unreported { plan.cqt } else { 0 };
    FenceTerms::new(facts.kato?, 1, traffic_based, facts.cqt, duration(floor))
}
