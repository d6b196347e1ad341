//! Carrying out orders.

use tokio::sync::mpsc;
use umpath_core::{AssociationId, LaneCommand};
use umpath_host::order::{Order, Remains, RemovalOutcome};
use umpath_host::record::{RecordKey, VolumeRecord};
use umpath_host::{PathSpec, VolumeKey, VolumeSpec};
use umpath_protocol::Failure;
use umpath_session::StableId;
use umpath_ublk::{Control, Removed};

use super::start::ask_driver;
use super::{EXIT_SOFTWARE, Message, Shell};
use crate::association;
use crate::build::{build, recover};
use crate::clock;
use crate::spec::connect_params;
use crate::usage::users_of;

impl Shell {
    /// Everything the host wants done.
    pub(super) fn carry_out_all(&mut self) {
        while let Some(order) = self.host.poll_order() {
            self.carry_out(order);
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::RunPath(spec) => self.run_path(*spec),
            Order::ToPath(path, request) => {
                if let Some(task) = self.paths.get(&path) {
                    // A task that has ended needs to hear nothing, and its end is on its way.
                    let _ = task.send(request);
                }
            }
            Order::Lane {
                volume,
                queue,
                command,
            } => self.lane_command(volume, queue, command),
            Order::Destroy {
                association,
                remains,
                report,
            } => self.destroy(association, remains, report),
            Order::Record {
                path,
                association,
                record,
            } => {
                let records = self.context.records.clone();
                self.elsewhere(move || {
                    let outcome = records.write(association, &record).map_err(|error| {
                        Failure::new(
                            "an association cannot be used",
                            format!("{error:#}"),
                            "make room for the state directory",
                        )
                    });
                    Message::Recorded(path, association, outcome)
                });
            }
            Order::Forget(key) => self.forget(key),
            Order::Build(spec) => self.build(*spec, None),
            Order::Recover {
                spec,
                device,
                cookie,
            } => self.build(*spec, Some((device, cookie))),
            Order::FindDevice(record) => {
                self.elsewhere(move || Message::Found(record.id, ask_driver(&record)));
            }
            Order::Register {
                volume,
                association,
            } => self.register(volume, association),
            Order::Unregister(volume) => self.unregister(volume),
            Order::Start(volume) => self.start_device(volume),
            Order::FindUsers { removal, volumes } => self.elsewhere(move || {
                let users = |(id, device): (StableId, String)| (id, users_of(&device));
                Message::Users(removal, volumes.into_iter().map(users).collect())
            }),
            Order::Remove {
                removal,
                volume,
                force,
            } => self.remove(removal, volume, force),
            Order::Discard(volume) => {
                let device = self.resources.take_device(volume);
                let record = self.resources.served(volume).record.clone();
                let keeper = self.context.keeper.clone();
                tokio::task::spawn_blocking(move || {
                    drop(device);
                    keeper.remove(&record);
                });
            }
            Order::Abandon(volume) => {
                let device = self.resources.take_device(volume);
                // Waits for the queue threads to end, which they do at once.
                tokio::task::block_in_place(|| device.abandon());
            }
            Order::Sweep(record) => {
                let keeper = self.context.keeper.clone();
                self.elsewhere(move || {
                    let outcome = sweep(&record).map_err(|error| {
                        let what = format!("cannot remove /dev/ublkb{}", record.device);
                        Failure::new(what, error.to_string(), "dmesg tells more")
                    });
                    if outcome.is_ok() {
                        keeper.remove(&record);
                    }
                    Message::Swept(record.id, outcome)
                });
            }
            Order::DeleteOrphan { device, call } => self.elsewhere(move || {
                let deleted = Control::open().and_then(|mut control| control.delete(device));
                let outcome = deleted.map_err(|error| {
                    let what = format!("cannot remove /dev/ublkb{device}");
                    Failure::new(what, error.to_string(), "dmesg tells more")
                });
                Message::OrphanDeleted(call, device, outcome)
            }),
            Order::ForgetVolume(record) => self.context.keeper.remove(&record),
            Order::Rewrite(record) => self.context.keeper.rewrite(*record),
            Order::SaveNames(names) => self.context.keeper.save_names(names),
            Order::SaveNumbers(numbers) => self.context.keeper.save_numbers(numbers),
            Order::Answer(call, answer) => self.answer(call, answer),
            Order::LeaveToSuccessor(why) => leave_to_successor(&why),
        }
    }

    fn run_path(&mut self, spec: PathSpec) {
        let defaults = &self.context.config.defaults;
        let params = connect_params(defaults, spec.traddr, spec.host_traddr);
        let (requests, inbox) = mpsc::unbounded_channel();
        let before = self.paths.insert(spec.id, requests);
        assert!(before.is_none(), "path {} is run twice", spec.id);
        let around = self.around.clone();
        tokio::spawn(association::run(spec, params, around, inbox));
    }

    fn lane_command(&mut self, volume: VolumeKey, queue: u16, command: LaneCommand<u16>) {
        let command = command.map(|association, qid| {
            let known = self.resources.associations.get_mut(&association);
            let queue = known.and_then(|known| known.queues.remove(&qid));
            queue.expect("the host attaches queue pairs that are spare")
        });
        let lanes = &self.resources.served(volume).lanes;
        let lane = lanes
            .get(usize::from(queue))
            .expect("a queue thread that was made");
        if let Err(gone) = lane.send(command) {
            // The thread has ended, and the volume with it: its last report is on its way.
            tokio::task::spawn_blocking(move || drop(gone));
        }
    }

    fn destroy(&mut self, association: AssociationId, remains: Remains, report: bool) {
        let known = match remains {
            Remains::Spare => self.resources.associations.remove(&association),
            Remains::Lane(..) => None,
        };
        let handed_back = self.resources.handed_back.remove(&(association, remains));
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || {
            drop((known, handed_back));
            if report {
                let _ = outbox.send(Message::Destroyed(association, remains, clock::now()));
            }
        });
    }

    fn forget(&self, key: RecordKey) {
        let records = self.context.records.clone();
        tokio::task::spawn_blocking(move || records.forget(&key));
    }

    /// Makes a block device, or takes one over.
    fn build(&self, spec: VolumeSpec, device: Option<(u32, u64)>) {
        let waits = self.context.config.defaults.waits();
        let (keeper, outbox) = (self.context.keeper.clone(), self.outbox.clone());
        self.elsewhere(move || {
            let outcome = match device {
                Some((device, cookie)) => recover(&spec, device, cookie, waits, &outbox),
                None => build(&spec, &keeper, waits, &outbox),
            };
            Message::Built(spec.key(), outcome.map(Box::new))
        });
    }

    fn register(&mut self, volume: VolumeKey, association: AssociationId) {
        let arenas = self.resources.served(volume).arenas.clone();
        let known = self.resources.associations.get_mut(&association);
        let known = known.expect("the host registers with live associations");
        let outbox = self.outbox.clone();
        known.change_memory(move |domain| {
            let outcome = arenas.iter().try_for_each(|arena| domain.register(arena));
            let outcome = outcome.map_err(|error| {
                let what = format!("cannot register memory with {}", domain.device());
                let fix = "raise the memlock limit (LimitMEMLOCK=infinity), or lower queue_depth, \
                           io_queues or max_io_kib in umpath.toml";
                Failure::new(what, error.to_string(), fix)
            });
            let _ = outbox.send(Message::Registered(volume, association, outcome));
        });
    }

    /// Associations that live on let go of the memory of a volume that is gone.
    fn unregister(&mut self, volume: VolumeKey) {
        let Some(served) = self.resources.volumes.remove(&volume) else {
            return;
        };
        for association in self.resources.associations.values_mut() {
            let arenas = served.arenas.clone();
            association.change_memory(move |domain| {
                for arena in &arenas {
                    domain.unregister(arena);
                }
            });
        }
    }

    fn start_device(&mut self, volume: VolumeKey) {
        let outbox = self.outbox.clone();
        let served = self.resources.served(volume);
        let name = served.record.name.clone();
        let failure = move |error: umpath_ublk::Error| {
            Failure::new(
                format!("cannot start the block device of {name}"),
                error.to_string(),
                "dmesg tells more",
            )
        };
        let (explain, shell) = (failure.clone(), outbox.clone());
        let done = Box::new(move |outcome: Result<(), umpath_ublk::Error>| {
            let _ = shell.send(Message::Started(volume, outcome.map_err(explain)));
        });
        let device = served.device.as_mut().expect("a block device to start");
        if let Err(error) = device.start(done) {
            let _ = outbox.send(Message::Started(volume, Err(failure(error))));
        }
    }

    fn remove(&mut self, removal: u64, volume: VolumeKey, force: bool) {
        let mut device = self.resources.take_device(volume);
        let record = self.resources.served(volume).record.clone();
        let keeper = self.context.keeper.clone();
        self.elsewhere(move || {
            let failure = |error: &umpath_ublk::Error, fix: &str| {
                let what = format!("cannot remove /dev/ublkb{}", record.device);
                Failure::new(what, error.to_string(), fix)
            };
            let (device, outcome) = match device.remove(!force) {
                Ok(Removed::Deleted) => {
                    drop(device);
                    keeper.remove(&record);
                    (None, RemovalOutcome::Deleted)
                }
                Ok(Removed::Stopped(error)) => {
                    drop(device);
                    let failure = failure(&error, "dmesg tells more");
                    (None, RemovalOutcome::Stopped(failure))
                }
                Err(error) => {
                    let failure = failure(&error, "unmount and close it first, or --force");
                    (Some(device), RemovalOutcome::Kept(failure))
                }
            };
            Message::Removed(removal, volume, device, outcome)
        });
    }
}

/// Deletes a block device that has stopped, if the driver still has it: its number may belong to
/// another one by now.
fn sweep(record: &VolumeRecord) -> Result<(), umpath_ublk::Error> {
    let mut control = Control::open()?;
    match control.info(record.device)? {
        Some(info) if info.cookie == record.cookie => control.delete_in_use(record.device),
        _ => Ok(()),
    }
}

/// Ends this process at once, as if it had been killed.
fn leave_to_successor(why: &str) -> ! {
    // Past the log, which is written by a thread that would not get to it.
    eprintln!(
        "{why}; umpathd ends, so that the next one takes over all block devices with their requests \
         (start it again if nothing does)"
    );
    std::process::exit(EXIT_SOFTWARE)
}
