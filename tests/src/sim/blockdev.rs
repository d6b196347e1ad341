//! The ublk driver: block devices, which outlive the process that serves them.
//!
//! A device whose server dies keeps every request, and gives them to the next server once that one
//! has taken it over. A device that nobody ever saw dies with its server.

use std::sync::Arc;

use umpath_core::PathTable;
use umpath_host::record::VolumeRecord;
use umpath_host::{Found, VolumeKey};

use super::clock::Nanos;
use super::host::{Ending, LaneActor, LaneAt};
use super::plan::FaultKind;
use super::store::StoreId;
use super::workload::Client;
use super::world::World;

/// How far a block device has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody has seen it yet.
    Made,
    /// It is there, and served.
    Live,
    /// It is there, and waits for a server.
    Waiting,
    /// It is being removed: nothing is accepted any more.
    Dying,
    /// Its server died before anybody saw it.
    Dead,
    /// It is gone.
    Gone,
}

/// A block device.
#[derive(Debug)]
pub(crate) struct BlockDevice {
    /// As in `ublkbN`; given again when the device is gone.
    pub(crate) number: u32,
    pub(crate) cookie: u64,
    /// The volume that serves it, or did last.
    pub(crate) volume: VolumeKey,
    pub(crate) store: StoreId,
    pub(crate) blocks: u64,
    pub(crate) state: State,
    /// Tags of each queue.
    pub(crate) queues: Vec<Vec<Client>>,
    /// Queue threads of the life that serves it.
    pub(crate) lanes: Vec<LaneActor>,
    /// The application does not have it open until then.
    pub(crate) closed_until: Nanos,
    /// What the end of its queue threads leads to.
    pub(crate) ending: Option<Ending>,
    /// Its removal began at this time.
    pub(crate) dying_since: Nanos,
    /// The last table ordered.
    pub(crate) table: Option<Arc<PathTable>>,
    /// Since when the tables have had no usable path.
    pub(crate) pathless_since: Option<Nanos>,
    /// It was taken over, and has had no usable path since then.
    pub(crate) adopted_at: Option<Nanos>,
    /// Blocks that the present scan has read.
    pub(crate) scanned: u64,
    /// When its tables changed, of late.
    pub(crate) changes: Vec<Nanos>,
}

impl BlockDevice {
    /// Somebody has it open.
    pub(crate) fn is_open(&self, now: Nanos) -> bool {
        now >= self.closed_until
            || self
                .queues
                .iter()
                .flatten()
                .any(|client| client.op.is_some())
    }

    /// Somebody may use it, now or when it is served again.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self.state, State::Live | State::Waiting)
    }
}

impl World {
    /// A number that no device has.
    pub(crate) fn free_number(&self) -> u32 {
        let taken = |number: u32| {
            let mut devices = self.devices.iter();
            devices.any(|device| device.number == number && device.state != State::Gone)
        };
        let most = self.devices.len() as u32;
        (0..=most).find(|number| !taken(*number)).unwrap_or(most)
    }

    /// What the driver says of a recorded device, where it says anything.
    pub(crate) fn driver_says(&mut self, record: &VolumeRecord) -> Found {
        let most = if self.has_fault(FaultKind::DriverBusy) {
            50
        } else {
            5
        };
        if self.host_chance.percent(most) {
            return Found::Unknown;
        }
        let there =
            |device: &&BlockDevice| device.number == record.device && device.state != State::Gone;
        match self.devices.iter().find(there) {
            Some(device) if device.cookie != record.cookie => Found::Gone,
            Some(device) if device.state == State::Dead => Found::Dead,
            Some(device) => Found::Waiting {
                queues: device.queues.len() as u16,
            },
            None => Found::Gone,
        }
    }

    /// The device of a number and cookie, by its place among all.
    pub(crate) fn device_of(&self, number: u32, cookie: u64) -> Option<usize> {
        let mut devices = self.devices.iter();
        devices.position(|device| {
            (device.number, device.cookie) == (number, cookie) && device.state != State::Gone
        })
    }

    /// The device that stands for a namespace now.
    pub(crate) fn device_for(&self, store: StoreId) -> Option<usize> {
        let serves = |device: &BlockDevice| device.store == store && device.is_there();
        self.devices.iter().rposition(serves)
    }

    /// Every queue thread of the host.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneAt> {
        let devices = self.devices.iter().enumerate();
        devices.flat_map(|(device, known)| {
            (0..known.lanes.len()).map(move |queue| LaneAt { device, queue })
        })
    }
}
