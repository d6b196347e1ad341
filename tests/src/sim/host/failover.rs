//! Giving an association up: conviction, the silence of its queue pairs, its order fence.

use umpath_core::AssociationId;
use umpath_core::association::{Conviction, FenceTerms, OrderFence};
use umpath_session::ControllerFacts;

use crate::sim::clock::{MICRO, Nanos, duration, nanos};
use crate::sim::fabric::HostEnd;
use crate::sim::host::Host;
use crate::sim::mutant::Mutant;
use crate::sim::world::{Happening, World};

/// What is written down of an association before its first I/O.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) association: AssociationId,
    pub(crate) terms: Option<FenceTerms>,
}

/// An association that was given up, until its order fence stands.
#[derive(Debug)]
pub(crate) struct Teardown {
    association: AssociationId,
    fence: OrderFence,
    terms: Option<FenceTerms>,
    answered: Nanos,
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
        let terms = facts.and_then(|facts| terms_of(facts, self.mutant));
        let lanes = self.host.lanes.len();
        self.host.teardowns.push(Teardown {
            association,
            fence: OrderFence::new(terms, duration(attempt.answered), 1 + lanes as u32),
            terms,
            answered: attempt.answered,
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
        let Teardown {
            fence,
            terms,
            answered,
            ..
        } = teardown;
        let Some(due) = Mutant::fence(self.mutant, fence, *terms, *answered, self.now) else {
            return;
        };
        teardown.timed = true;
        let (at, life) = (due.max(self.now), self.host.life);
        self.agenda
            .push(at, Happening::FenceDue { life, association });
    }

    /// The order fence of an association stands.
    pub(crate) fn fence_due(&mut self, mut association: AssociationId) {
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
        self.host = host;
        if self.is(Mutant::InheritNothing) {
            self.records.clear();
        }
        let now = duration(self.now);
        for Record { association, terms } in self.records.clone() {
            self.host.device.inherit(association, now);
            // Nothing is known of the last answer; it came before now.
            let mut fence = OrderFence::new(terms, now, 1);
            fence.queue_silent(now);
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

/// What an association's controller promised.
pub(crate) fn terms_of(facts: &ControllerFacts, mutant: Option<Mutant>) -> Option<FenceTerms> {
    let traffic_based = facts.traffic_based && mutant != Some(Mutant::TrafficIgnored);
    FenceTerms::new(facts.kato?, 1, traffic_based, facts.cqt)
}
