//! Making, taking over, starting and removing block devices, as the daemon does it with the driver.

use umpath_core::LaneCommand;
use umpath_host::record::VolumeRecord;
use umpath_host::{DeviceFacts, LaneNews, RemovalOutcome, VolumeKey, VolumeSpec};
use umpath_protocol::Failure;

use super::{LaneActor, LaneAt, SimQp, Work, failure};
use crate::sim::array::LBA_SHIFT;
use crate::sim::blockdev::{BlockDevice, State};
use crate::sim::clock::{MICRO, duration};
use crate::sim::mutant::Mutant;
use crate::sim::plan::FaultKind;
use crate::sim::workload::Client;
use crate::sim::world::World;

/// What the end of a device's queue threads leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is removed; the number of the removal.
    Removed(u64),
    /// Nobody ever saw it.
    Discarded,
    /// It waits for the next server.
    Abandoned,
}

impl World {
    /// A block device is made with its queue threads, and put on record before.
    pub(super) fn build(&mut self, spec: &VolumeSpec) {
        let outcome = self.try_build(spec);
        if outcome.is_err() {
            self.ends_half_way(spec, spec.queues.min(self.plan.driver_queues));
        }
        let now = duration(self.now);
        self.host.core.handle_built(spec.key(), outcome, now);
    }

    fn try_build(&mut self, spec: &VolumeSpec) -> Result<DeviceFacts, Failure> {
        if self.has_fault(FaultKind::DriverFails) {
            return Err(failure("the driver makes no device"));
        }
        if self.has_fault(FaultKind::DiskFull) {
            return Err(failure("the disk is full"));
        }
        let store = self.stores.iter().position(|store| store.id == spec.id);
        let store = store.ok_or_else(|| failure("no such namespace"))?;
        self.check_one_device(store);
        self.check_record(spec.id);
        self.check_cache(spec);
        let facts = self.new_device(spec);
        let record = VolumeRecord::new(spec, facts.device, facts.cookie);
        if !self.is(Mutant::VolumeUnrecorded) {
            self.disk.volumes.insert(spec.id, record);
        }
        let device = self.devices.len() - 1;
        for queue in 0..facts.queues {
            let lane = self.new_lane(queue, &spec.shared);
            self.devices[device].lanes.push(lane);
        }
        self.devices[device].state = State::Made;
        self.begin_to_serve(spec.key(), device);
        Ok(facts)
    }

    fn begin_to_serve(&mut self, volume: VolumeKey, device: usize) {
        let mut served = self.host.served.keys();
        if served.any(|known| known.id == volume.id) {
            self.absurd(&format!("volume {volume} has two block devices"));
        }
        self.host.served.insert(volume, device);
    }

    /// An attempt fails after some of its queue threads began: they end, and say so.
    fn ends_half_way(&mut self, spec: &VolumeSpec, queues: u16) {
        let begun = self.host_chance.below(u64::from(queues)) as u16;
        for queue in 0..begun {
            let news = LaneNews::Ended {
                had: Vec::new(),
                failure: None,
            };
            let now = duration(self.now);
            self.host.core.handle_lane(spec.key(), queue, news, now);
        }
    }

    /// The driver makes a block device.
    pub(super) fn new_device(&mut self, spec: &VolumeSpec) -> DeviceFacts {
        let store = self.stores.iter().position(|store| store.id == spec.id);
        let queues = spec.queues.min(self.plan.driver_queues);
        let number = self.free_number();
        let cookie = self.host_chance.draw();
        let tags = vec![Client::new(); usize::from(self.plan.tags)];
        self.devices.push(BlockDevice {
            number,
            cookie,
            volume: spec.key(),
            store: store.unwrap_or_default(),
            blocks: spec.limits.size_bytes >> LBA_SHIFT,
            state: State::Dead,
            queues: vec![tags; usize::from(queues)],
            lanes: Vec::new(),
            closed_until: 0,
            ending: None,
            dying_since: 0,
            table: None,
            pathless_since: None,
            adopted_at: None,
            scanned: 0,
            changes: Vec::new(),
        });
        DeviceFacts {
            device: number,
            queues,
            cookie,
        }
    }

    /// A block device of an earlier life gets queue threads.
    pub(super) fn recover(&mut self, spec: &VolumeSpec, number: u32, cookie: u64) {
        let mut outcome = self.try_recover(spec, number, cookie);
        if outcome.is_err()
            && let Some(device) = self.device_of(number, cookie)
        {
            self.ends_half_way(spec, self.devices[device].queues.len() as u16);
        }
        if self.is(Mutant::SecondDevice) && outcome.is_err() {
            outcome = self.try_build(spec);
        }
        let now = duration(self.now);
        self.host.core.handle_built(spec.key(), outcome, now);
    }

    fn try_recover(
        &mut self,
        spec: &VolumeSpec,
        number: u32,
        cookie: u64,
    ) -> Result<DeviceFacts, Failure> {
        if self.has_fault(FaultKind::DriverBusy) {
            return Err(failure("the device is busy"));
        }
        let found = self.device_of(number, cookie);
        let device = found.ok_or_else(|| failure("no such device"))?;
        let queues = self.devices[device].queues.len() as u16;
        let mut lanes = Vec::new();
        for queue in 0..queues {
            lanes.push(self.new_lane(queue, &spec.shared));
        }
        let known = &mut self.devices[device];
        known.lanes = lanes;
        known.volume = spec.key();
        known.table = None;
        known.pathless_since = Some(self.now);
        known.adopted_at = Some(self.now);
        self.begin_to_serve(spec.key(), device);
        Ok(DeviceFacts {
            device: number,
            queues,
            cookie,
        })
    }

    /// A block device appears, or its requests come back.
    pub(super) fn start_device(&mut self, volume: VolumeKey) {
        let Some(device) = self.served(volume) else {
            return;
        };
        let fails = self.has_fault(FaultKind::DriverFails);
        let busy = self.has_fault(FaultKind::DriverBusy) && self.host_chance.percent(50);
        let outcome = match self.devices[device].state {
            State::Made if fails => Err(failure("the device does not start")),
            State::Made => {
                self.devices[device].state = State::Live;
                self.begin_work(device);
                Ok(())
            }
            State::Waiting if busy => Err(failure("its recovery does not end")),
            State::Waiting => {
                self.devices[device].state = State::Live;
                self.reissue(device);
                Ok(())
            }
            _ => Err(failure("the device is not there")),
        };
        let now = duration(self.now);
        self.host.core.handle_started(volume, outcome, now);
    }

    /// A block device is to be removed.
    pub(super) fn remove_device(&mut self, removal: u64, volume: VolumeKey, force: bool) {
        let Some(device) = self.served(volume) else {
            return;
        };
        let open = self.devices[device].is_open(self.now);
        if open && !force && self.devices[device].is_there() {
            let outcome = RemovalOutcome::Kept(failure("the device is in use"));
            let now = duration(self.now);
            return self.host.core.handle_removed(removal, volume, outcome, now);
        }
        let unseen = self.devices[device].state == State::Made;
        let fails = unseen && self.has_fault(FaultKind::DriverFails);
        if fails && self.host_chance.percent(50) {
            let outcome = RemovalOutcome::Kept(failure("the device does not go"));
            let now = duration(self.now);
            return self.host.core.handle_removed(removal, volume, outcome, now);
        }
        self.devices[device].state = State::Dying;
        self.devices[device].dying_since = self.now;
        self.devices[device].ending = Some(Ending::Removed(removal));
        self.tell_all_lanes(device, || LaneCommand::Close);
        self.ending_goes_on(device);
    }

    /// A block device nobody saw is dropped, or one in use is left alone: its threads end.
    pub(super) fn let_go(&mut self, volume: VolumeKey, ending: Ending) {
        let Some(device) = self.served(volume) else {
            return;
        };
        self.devices[device].ending = Some(ending);
        self.tell_all_lanes(device, || LaneCommand::Stop);
    }

    fn tell_all_lanes(&mut self, device: usize, command: impl Fn() -> LaneCommand<SimQp>) {
        for queue in 0..self.devices[device].lanes.len() {
            self.send_command(LaneAt { device, queue }, command());
        }
    }

    /// A queue thread of a device has ended.
    pub(super) fn thread_ended(&mut self, device: usize) {
        self.ending_goes_on(device);
    }

    /// A device that is to go goes on doing so: requests first, then threads, then the rest.
    pub(crate) fn ending_goes_on(&mut self, device: usize) {
        let known = &self.devices[device];
        let Some(ending) = known.ending else { return };
        let idle = known
            .queues
            .iter()
            .flatten()
            .all(|client| client.op.is_none());
        if matches!(ending, Ending::Removed(_)) && idle {
            for queue in 0..self.devices[device].lanes.len() {
                self.end_tags(LaneAt { device, queue });
            }
        }
        let fails = self.has_fault(FaultKind::DriverFails);
        let known = &mut self.devices[device];
        if !known.lanes.iter().all(LaneActor::is_over) {
            return;
        }
        known.ending = None;
        known.state = match ending {
            Ending::Removed(_) if fails => State::Dead,
            Ending::Removed(_) | Ending::Discarded => State::Gone,
            Ending::Abandoned => State::Waiting,
        };
        let (volume, cookie) = (known.volume, known.cookie);
        let (store, since) = (known.store, known.dying_since);
        if ending == Ending::Abandoned {
            return;
        }
        if known.state == State::Gone {
            self.disk.forget_volume(volume.id, cookie);
        }
        if let Ending::Removed(removal) = ending {
            // Number 0: nobody asked, it could not be started.
            if removal > 0 {
                self.taken_away(store, since);
            }
            // It comes by the channel that the threads' last reports came by, and after them.
            let lanes = self.devices[device].lanes.iter();
            let heard = lanes.map(|lane| lane.outbox_at).max().unwrap_or(0);
            let takes = self.host_chance.tail(50 * MICRO, self.plan.work_delay);
            let takes = takes.max(heard.saturating_sub(self.now) + MICRO);
            let outcome = if fails {
                RemovalOutcome::Stopped(failure("the device is not deleted"))
            } else {
                RemovalOutcome::Deleted
            };
            self.work(takes, Work::Removed(removal, volume, outcome));
        }
    }

    /// A block device that has stopped is deleted.
    pub(super) fn sweep(&mut self, record: &VolumeRecord) {
        let outcome = if self.has_fault(FaultKind::DriverFails) {
            Err(failure("the device is not deleted"))
        } else {
            if let Some(device) = self.device_of(record.device, record.cookie) {
                let known = &self.devices[device];
                let served = self.host.served.values().any(|at| *at == device);
                match known.state {
                    State::Dead => {}
                    // It cannot be taken over, and somebody insists.
                    State::Waiting if self.people.insist() && !served => {
                        let (store, since) = (known.store, known.dying_since);
                        self.fail_requests(device);
                        self.taken_away(store, since);
                    }
                    _ => self.absurd(&format!("device {device} is deleted while it serves")),
                }
                self.devices[device].state = State::Gone;
            }
            self.disk.forget_volume(record.id, record.cookie);
            Ok(())
        };
        let now = duration(self.now);
        self.host.core.handle_swept(record.id, outcome, now);
    }
}
