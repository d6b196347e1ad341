//! What takes time: writes to disk, calls of the driver, the end of queue pairs.

use umpath_session::StableId;

use super::{Inside, Work, failure};
use crate::sim::clock::{MICRO, MILLI, Nanos, duration};
use crate::sim::plan::FaultKind;
use crate::sim::world::World;

impl World {
    pub(super) fn begin(&mut self, work: Work) {
        let takes = self.host_chance.tail(50 * MICRO, self.plan.work_delay);
        self.work(takes, work);
    }

    pub(super) fn on_disk(&mut self, work: Work) {
        let mut takes = self.host_chance.tail(50 * MICRO, self.plan.work_delay);
        if self.has_fault(FaultKind::DiskSlow) {
            takes += self.host_chance.below(400 * MILLI);
        }
        self.work(takes, work);
    }

    pub(super) fn work(&mut self, takes: Nanos, work: Work) {
        let (at, life) = (self.now + takes, self.host.life);
        let key = self.works.insert(work);
        self.inside(at, life, Inside::Done(key));
    }

    /// A moment of the control side.
    pub(super) fn a_moment(&mut self) -> Nanos {
        self.fabric_chance.tail(MICRO, self.plan.message_delay)
    }

    /// A piece of work is done.
    pub(crate) fn done(&mut self, key: usize) {
        let work = self.works.remove(key);
        let now = duration(self.now);
        match work {
            Work::Record {
                path,
                association,
                record,
            } => {
                let outcome = if self.has_fault(FaultKind::DiskFull) || self.seam_record_fails() {
                    self.host.record_failed = true;
                    Err(failure("the disk is full"))
                } else {
                    self.disk.record(self.host.assoc(association), *record);
                    Ok(())
                };
                let core = &mut self.host.core;
                core.handle_recorded(path, association, outcome, now);
            }
            Work::Forget(_) if self.seam_record_stays() => {}
            Work::Forget(assoc) => self.disk.forget(assoc),
            Work::Rewrite => self.rewrite(),
            Work::Build(spec) => self.build(&spec),
            Work::Recover {
                spec,
                device,
                cookie,
            } => self.recover(&spec, device, cookie),
            Work::Find(record) => {
                let found = self.driver_says(&record);
                self.note(|| format!("volume {}: {found:?}", record.name));
                self.host.core.handle_found(record.id, found, now);
            }
            Work::Register(volume, association) => {
                let fails = self.has_fault(FaultKind::DriverFails) || self.seam_memory_fails();
                self.host.memory_failed |= fails;
                if let Some(device) = self.served(volume).filter(|_| fails) {
                    self.host.registered.remove(&(device, association));
                }
                let why = || failure("memory cannot be registered");
                let outcome = if fails { Err(why()) } else { Ok(()) };
                let core = &mut self.host.core;
                core.handle_registered(volume, association, outcome, now);
            }
            Work::Start(volume) => self.start_device(volume),
            Work::FindUsers(removal, volumes) => self.find_users(removal, volumes),
            Work::Remove {
                removal,
                volume,
                force,
            } => self.remove_device(removal, volume, force),
            Work::Removed(removal, volume, outcome) => {
                let core = &mut self.host.core;
                core.handle_removed(removal, volume, outcome, now);
            }
            Work::Sweep(record) => self.sweep(&record),
            Work::Destroy {
                association,
                remains,
                report,
                qps,
            } => self.destroyed(association, remains, report, &qps),
        }
        self.pump_host();
    }

    fn rewrite(&mut self) {
        let full = self.has_fault(FaultKind::DiskFull);
        self.judge_rewrite();
        self.disk.rewrite(full);
    }

    fn find_users(&mut self, removal: u64, volumes: Vec<StableId>) {
        let users = |id: StableId| {
            let mut served = self.host.served.iter();
            let device = served.find(|(volume, _)| volume.id == id);
            let device = device.map(|(_, device)| &self.devices[*device]);
            let open = device.is_some_and(|device| device.is_open(self.now));
            (
                id,
                if open {
                    vec!["the application".to_owned()]
                } else {
                    Vec::new()
                },
            )
        };
        let users: Vec<_> = volumes.into_iter().map(users).collect();
        let now = duration(self.now);
        self.host.core.handle_users(removal, &users, now);
    }
}
