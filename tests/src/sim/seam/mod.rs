//! Where mistakes are planted: every message of the host passes through here.
//!
//! Without a mutant everything passes as it is.
//!
//! | file | on the way |
//! |---|---|
//! | here | from the host to the shell, and to its disk |
//! | `lanes` | between the host and queue threads |
//! | `paths` | between the host and paths |
//! | `wire` | between queue threads and the fabric |

mod lanes;
mod paths;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use umpath_core::{AssociationId, LaneCommand, OnNoPath, PathTable};
use umpath_host::policy::{NoPathRetry, VolumePolicy};
use umpath_host::record::{Asked, VolumeRecord};
use umpath_host::{Order, Remains, VolumeKey};

use super::clock::{SECOND, duration};
use super::host::Inside;
use super::mutant::Mutant;
use super::plan::Plan;
use super::qp::Assoc;
use super::store::first_nsid;
use super::world::World;

/// Records do not say which number a path has.
fn forget_numbers(paths: &mut [Asked]) {
    for asked in paths {
        asked.number = None;
    }
}

impl Mutant {
    /// The policies a host under this mistake believes in.
    pub(crate) fn policy(mutant: Option<Self>, mut policy: VolumePolicy) -> VolumePolicy {
        match mutant {
            Some(Self::FailsWithoutPath) => policy.no_path_retry = NoPathRetry::Fail,
            Some(Self::SharingIgnored) => policy.shared_with_other_hosts = false,
            _ => {}
        }
        policy
    }

    /// What a host under this mistake grants a controller that reports no quiesce time.
    pub(crate) fn quiesce(mutant: Option<Self>, plan: &Plan) -> Duration {
        let forgotten = mutant == Some(Self::QuiesceForgotten);
        if plan.cqt_unreported && !forgotten {
            duration(plan.cqt)
        } else {
            Duration::ZERO
        }
    }
}

impl World {
    /// An order of the host, before it is carried out.
    pub(crate) fn seam_order(&mut self, mut order: Order) -> Order {
        let (now, life) = (self.now, self.host.life);
        match (self.mutant, &mut order) {
            (Some(Mutant::TooFewQueues), Order::RunPath(spec)) if life > 1 => {
                spec.session.io_queues_per_namespace = 1;
            }
            (Some(Mutant::RestartForgetsPath), Order::Rewrite(record)) => self.forget_down(record),
            (Some(Mutant::NumbersForgotten), Order::Rewrite(record)) => {
                forget_numbers(&mut record.paths);
            }
            (Some(Mutant::NumbersForgotten), Order::Build(spec)) => {
                forget_numbers(&mut spec.paths);
            }
            (
                Some(Mutant::RecordNotAwaited),
                Order::Record {
                    path, association, ..
                },
            ) => {
                let early = Inside::RecordedEarly(*path, *association);
                self.inside(now, life, early);
            }
            (
                Some(mutant @ (Mutant::DestroyedEarly | Mutant::SpareIgnored)),
                Order::Destroy {
                    association,
                    remains,
                    report,
                },
            ) if *report => {
                let spare = *remains == Remains::Spare;
                if spare == (mutant == Mutant::SpareIgnored) {
                    *report = false;
                    let (association, remains, at) = (*association, *remains, duration(now));
                    self.inside(now, life, Inside::Destroyed(association, remains, at));
                }
            }
            (
                Some(Mutant::GraceEndsEarly),
                Order::Lane {
                    volume,
                    command: LaneCommand::SetTable(table),
                    ..
                },
            ) => self.end_grace(*volume, table),
            (
                Some(Mutant::NumberKept),
                Order::Lane {
                    volume,
                    command: LaneCommand::SetTable(table),
                    ..
                },
            ) => self.keep_number(*volume, table),
            (Some(Mutant::CacheDenied), Order::Build(spec)) => {
                spec.facts.limits.volatile_cache = false;
            }
            _ => {}
        }
        order
    }

    /// A volume that was taken over has a path, if no usable one: its patience ends.
    fn end_grace(&self, volume: VolumeKey, table: &mut Arc<PathTable>) {
        let device = self.host.served.get(&volume);
        let adopted = device.is_some_and(|device| self.devices[*device].adopted_at.is_some());
        if adopted && !table.paths.is_empty() && !table.has_usable() {
            let mut impatient = (**table).clone();
            impatient.on_no_path = OnNoPath::Fail;
            *table = Arc::new(impatient);
        }
    }

    /// A table has the number that a namespace had first, on every path.
    fn keep_number(&self, volume: VolumeKey, table: &mut Arc<PathTable>) {
        let store = self.stores.iter().position(|store| store.id == volume.id);
        if let Some(store) = store.filter(|_| self.renumbered) {
            let mut kept = (**table).clone();
            for entry in &mut kept.paths {
                entry.nsid = first_nsid(store);
            }
            *table = Arc::new(kept);
        }
    }

    /// A path that is down is not noted.
    fn forget_down(&self, record: &mut VolumeRecord) {
        record.paths.retain(|asked| {
            let path = asked.number.and_then(|number| self.host.paths.get(&number));
            path.is_some_and(|path| path.core.association().is_some())
        });
    }

    /// A record is not written although the disk would take it.
    pub(crate) fn seam_record_fails(&self) -> bool {
        self.is(Mutant::RefusedForEver) && self.host.record_failed
    }

    /// Memory is not registered although the driver would do it.
    pub(crate) fn seam_memory_fails(&self) -> bool {
        self.is(Mutant::MemoryRefusedForEver) && self.host.memory_failed
    }

    /// How long a queue thread waits for the end of a drain.
    pub(crate) fn seam_drain_deadline(&self) -> Duration {
        let never = self.is(Mutant::DrainForEver);
        duration(if never {
            3_600 * SECOND
        } else {
            self.plan.drain_deadline
        })
    }

    /// The record of an association is not removed although it is fenced.
    pub(crate) fn seam_record_stays(&self) -> bool {
        self.is(Mutant::RecordsStay)
    }

    /// An association is convicted: a mutant strikes its record.
    pub(crate) fn seam_convicted(&mut self, association: AssociationId) {
        if self.is(Mutant::RecordsForget) {
            let assoc = self.host.assoc(association);
            self.disk.forget(assoc);
        }
    }

    /// Whether a mutant knows that it has said goodbye.
    pub(super) fn said_goodbye(&self, assoc: Assoc) -> bool {
        self.goodbyes.contains(&assoc)
    }
}
