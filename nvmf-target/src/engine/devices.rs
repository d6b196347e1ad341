//! The devices that ports listen on, and what is done about a dead one.
//!
//! A [`DeadDevice`] is a fault of soft-RoCE that no call reports, so every device is checked regularly,
//! on a thread of its own. Decided here: a dead device is replaced as soon as it has a link and nobody
//! has a connection over it, unless `rdma.replace_dead_devices` is off; until then the log and `show`
//! say what is wrong. The listeners on it are notified of its removal and open again by themselves.
//! Why a target may do that and a host may not: docs/decisions/0010.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{info, warn};
use umpath_rdma::{DeadDevice, ReplaceError};

use crate::model::PortId;

/// How often the devices are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The device of each port, and what happened to devices.
#[derive(Debug)]
pub(super) struct Devices {
    may_replace: bool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    ports: BTreeMap<PortId, String>,
    troubles: BTreeMap<String, String>,
    replaced: BTreeMap<String, u32>,
}

impl Devices {
    /// `may_replace`: whether dead devices are deleted and added again.
    pub(super) fn new(may_replace: bool) -> Self {
        Self {
            may_replace,
            known: Mutex::default(),
        }
    }

    /// A port listens on this device from now on.
    pub(super) fn listens(&self, port: PortId, device: String) {
        self.known.lock().ports.insert(port, device);
    }

    /// A port does not listen any more.
    pub(super) fn stopped(&self, port: PortId) {
        self.known.lock().ports.remove(&port);
    }

    /// What is wrong with a port's device.
    pub(super) fn trouble(&self, port: PortId) -> Option<String> {
        let known = self.known.lock();
        known.troubles.get(known.ports.get(&port)?).cloned()
    }

    /// How often a port's device was replaced.
    pub(super) fn replaced(&self, port: PortId) -> u32 {
        let known = self.known.lock();
        let device = known.ports.get(&port);
        let count = device.and_then(|device| known.replaced.get(device));
        count.copied().unwrap_or(0)
    }

    fn names(&self) -> BTreeSet<String> {
        self.known.lock().ports.values().cloned().collect()
    }

    /// Remembers what is wrong with a device; true when that is news.
    fn report(&self, device: &str, trouble: Option<&str>) -> bool {
        let troubles = &mut self.known.lock().troubles;
        let known = match trouble {
            Some(trouble) => troubles.insert(device.to_owned(), trouble.to_owned()),
            None => troubles.remove(device),
        };
        known.as_deref() != trouble
    }

    fn count_replaced(&self, device: &str) {
        let replaced = &mut self.known.lock().replaced;
        *replaced.entry(device.to_owned()).or_insert(0) += 1;
    }
}

/// Starts to check the devices, until the process ends.
pub(super) fn watch(devices: Arc<Devices>) -> io::Result<()> {
    if devices.may_replace {
        info!(
            "a soft-RoCE device of a port that makes no connections any more will be deleted and \
             added again (rdma.replace_dead_devices)"
        );
    }
    let thread = std::thread::Builder::new().name("devices".into());
    let started = thread.spawn(move || {
        let mut lost = BTreeMap::new();
        loop {
            for device in devices.names() {
                check(&devices, &mut lost, device);
            }
            std::thread::sleep(CHECK_INTERVAL);
        }
    });
    started.map(drop)
}

/// `lost`: devices that were deleted and could not be added again, to be tried once more.
fn check(devices: &Devices, lost: &mut BTreeMap<String, DeadDevice>, device: String) {
    let Some(dead) = lost.remove(&device).or_else(|| DeadDevice::find(&device)) else {
        devices.report(&device, None);
        return;
    };
    if !devices.may_replace {
        let trouble = format!("{dead}; it is left alone: rdma.replace_dead_devices is false");
        if devices.report(&device, Some(&trouble)) {
            warn!("{trouble}");
        }
        return;
    }
    match dead.replace() {
        Ok(()) => {
            devices.report(&device, None);
            devices.count_replaced(&device);
            warn!(
                "{device} was deleted and added again (rdma.replace_dead_devices): it made no \
                 connections any more, because soft-RoCE left its management queue pair in the error \
                 state when a message could not be sent"
            );
        }
        Err(error) => {
            let trouble = format!("{dead}; {error}");
            if devices.report(&device, Some(&trouble)) {
                warn!("{trouble}");
            }
            if matches!(error, ReplaceError::Lost(_)) {
                lost.insert(device, dead);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_shows_the_trouble_of_its_device_as_long_as_it_lasts() {
        let (first, second) = (PortId(1), PortId(2));
        let devices = Devices::new(true);
        for port in [first, second] {
            devices.listens(port, "rxe0".to_owned());
        }
        assert_eq!(devices.names().len(), 1, "each device is checked once");
        assert!(devices.report("rxe0", Some("dead")));
        assert!(!devices.report("rxe0", Some("dead")), "no news");
        assert_eq!(devices.trouble(first).as_deref(), Some("dead"));
        devices.listens(second, "rxe1".to_owned());
        assert_eq!(devices.trouble(second), None);
        assert!(devices.report("rxe0", None));
        assert!(!devices.report("rxe0", None));
        assert_eq!(devices.trouble(first), None);
        devices.stopped(first);
        assert_eq!(devices.names().len(), 1);
    }

    #[test]
    fn a_port_shows_how_often_its_device_was_replaced() {
        let (first, second) = (PortId(1), PortId(2));
        let devices = Devices::new(true);
        devices.listens(first, "rxe0".to_owned());
        devices.listens(second, "rxe1".to_owned());
        devices.count_replaced("rxe0");
        devices.count_replaced("rxe0");
        assert_eq!((devices.replaced(first), devices.replaced(second)), (2, 0));
        devices.stopped(first);
        assert_eq!(devices.replaced(first), 0);
    }
}
