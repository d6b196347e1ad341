//! Removing a path from volumes that stay.
//!
//! The path gets no new I/O. Once every queue thread has confirmed that, and the commands in flight
//! have completed, or at the latest after [`DRAIN_TIME_MAX`], the queue threads drain their queue
//! pairs as after a conviction. If nothing of unknown fate is left, there is nothing to fence;
//! otherwise the order fence is awaited as usual: a survivor is asked to reset the controller, and
//! time counts from the moment when neither the queue threads nor the admin queue can send any more.
//! Finally the controller is shut down.

use std::time::Duration;

use umpath_core::AssociationId;
use umpath_core::association::Conviction;

use super::Host;
use super::attach::Live;
use super::ladder::instance_of;
use super::teardown::{Lost, Teardown};
use crate::order::{Order, QueueKey, Remains};
use crate::spec::VolumeKey;

/// Longest wait for commands in flight.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// Interval between counts of the commands in flight.
const COUNT_EVERY: Duration = Duration::from_millis(5);

/// A path being removed that may have commands in flight.
#[derive(Debug)]
pub(super) struct Retirement {
    path: u32,
    association: AssociationId,
    /// Counters requested behind the tables without the path: a queue thread that has answered sends
    /// nothing new on it, and only then does a count of zero mean that nothing is in flight.
    confirmations: Vec<(VolumeKey, u64)>,
    count_at: Duration,
    until: Duration,
}

impl Retirement {
    pub(super) fn poll_timeout(&self) -> Duration {
        self.count_at
    }
}

impl Host {
    /// Removes a path from its volumes and ends it.
    pub(super) fn take_path_away(&mut self, path: u32) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        record.standing = false;
        let association = record.live.as_ref().map(|live| live.association);
        self.attach_no_more(path);
        self.note_paths_to(path);
        let Some(association) = association else {
            return self.end_path(path);
        };
        let mut confirmations = Vec::new();
        for volume in self.volumes.values_mut() {
            if volume.retire(association, &mut self.fx) {
                confirmations.push((volume.key(), volume.ask_counters(&mut self.fx)));
            }
        }
        if confirmations.is_empty() {
            return self.end_path(path);
        }
        self.retirements.push(Retirement {
            path,
            association,
            confirmations,
            count_at: self.fx.now + COUNT_EVERY,
            until: self.fx.now + DRAIN_TIME_MAX,
        });
    }

    /// Counts the commands in flight on paths being removed.
    pub(super) fn retirements_due(&mut self) {
        let now = self.fx.now;
        let volumes = &self.volumes;
        let mut idle = Vec::new();
        self.retirements.retain_mut(|retirement| {
            if retirement.count_at > now {
                return true;
            }
            let association = retirement.association;
            let busy = retirement.confirmations.iter().any(|(key, ticket)| {
                let volume = volumes.get(&key.id);
                // The queue threads of a volume that is gone have ended, whatever its successor does.
                volume
                    .filter(|volume| volume.key() == *key)
                    .is_some_and(|volume| {
                        volume.silent(*ticket) > 0 || volume.in_flight_on(association) > 0
                    })
            });
            if busy && now < retirement.until {
                retirement.count_at = (now + COUNT_EVERY).min(retirement.until);
                return true;
            }
            idle.push((retirement.path, association));
            false
        });
        for (path, association) in idle {
            self.retired(path, association);
        }
    }

    /// Nothing is in flight any more on a path being removed, or it took too long.
    fn retired(&mut self, path: u32, association: AssociationId) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        let own = |live: &mut Live| live.association == association;
        let Some(live) = record.live.take_if(own) else {
            // Convicted meanwhile: that teardown does the rest.
            return self.end_path(path);
        };
        self.let_go_in_order(path, &live);
        self.retired_if_drained(association);
    }

    /// Makes the queue threads drain an association that is not convicted.
    pub(super) fn let_go_in_order(&mut self, path: u32, live: &Live) {
        let association = live.association;
        let lost = Lost {
            path,
            nqn: self.path(path).spec.nqn.clone(),
            instance: instance_of(&live.ready.facts),
            terms: self.fence_terms(&live.ready.facts),
        };
        let (lanes, volumes) = self.convict_volumes(association, Conviction::Operator, self.fx.now);
        let others = live.queues_apart();
        let report = others.contains(&QueueKey::Spare);
        let teardown = Teardown::orderly(lost, lanes, volumes, others);
        self.teardowns.insert(association, teardown);
        self.survivor_gone(association);
        self.fx.order(Order::Destroy {
            association,
            remains: Remains::Spare,
            report,
        });
    }

    /// Ends a path once its queue threads have released it.
    pub(super) fn retired_if_drained(&mut self, association: AssociationId) {
        let teardown = self.teardowns.get(&association).expect("an orderly end");
        if !teardown.lanes.is_empty() {
            return;
        }
        let path = teardown.lost.path;
        // Every queue thread has reported its ghosts.
        let ghosts = teardown
            .volumes
            .iter()
            .map(|id| self.volumes.get(id))
            // A volume removed meanwhile notified nobody; carry the fence over to its successor, which
            // takes it when it is built.
            .any(|volume| volume.is_none_or(|it| !it.is_built() || it.has_ghosts(association)));
        if ghosts {
            let Lost { nqn, instance, .. } = teardown.lost.clone();
            let ladder = self.ladder_for(path, &nqn, instance);
            let teardown = self.teardowns.get_mut(&association);
            teardown.expect("an orderly end").ladder = Some(ladder);
            self.carry_out(association);
        } else {
            self.nothing_lost(association);
        }
        if self.paths.contains_key(&path) {
            self.end_path(path);
        }
    }

    /// Makes volumes drop a path that has ended in good order.
    pub(super) fn leave_volumes(&mut self, path: u32) {
        if let Some(live) = self.path_mut(path).live.take() {
            let association = live.association;
            // A volume with a path on it still gives the association up as usual, fences included.
            self.let_go_in_order(path, &live);
            let teardown = self.teardowns.get(&association).expect("an orderly end");
            if teardown.lanes.is_empty() {
                self.nothing_lost(association);
            }
        }
        for volume in self.volumes.values_mut() {
            volume.path_removed(path, &mut self.fx);
        }
    }
}
