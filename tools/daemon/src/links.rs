//! Links of RDMA devices: one watcher for each device, shared by its associations.
//!
//! A port event reaches every association on the device within a wake-up of its task. What it means
//! for them is `umpath_core::association`'s decision.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use umpath_rdma::{AsyncEvents, DeviceEventKind, VerbsError};

use crate::clock;
use crate::readiness::Readiness;

/// RDMA devices in sysfs.
const CLASS: &str = "/sys/class/infiniband";

/// What is known of a device's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// The port is active, as far as anyone said.
    Up,
    /// The port lost its link at this time.
    Down(Duration),
    /// The device is broken or gone.
    Fatal,
}

/// The watchers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links(Arc<Mutex<HashMap<String, watch::Receiver<Link>>>>);

impl Links {
    /// The link of a device; starts watching it on the first call.
    pub(crate) fn of(&self, device: &str) -> Result<watch::Receiver<Link>, VerbsError> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(device)
            && link.has_changed().is_ok()
        {
            return Ok(link.clone());
        }
        let events = AsyncEvents::open(device)?;
        let (sender, receiver) = watch::channel(initial(device));
        tokio::spawn(watch_device(events, sender));
        links.insert(device.to_owned(), receiver.clone());
        Ok(receiver)
    }
}

/// The state before the first event. One small file: a list of all devices would read their whole
/// address tables, on a thread that has keep-alives to send.
fn initial(device: &str) -> Link {
    let state = Path::new(CLASS).join(device).join("ports/1/state");
    match std::fs::read_to_string(state) {
        // "1: DOWN"
        Ok(text) if text.trim().ends_with("DOWN") => Link::Down(clock::now()),
        _ => Link::Up,
    }
}

/// The NUMA node a device sits on; `None` where the machine does not say, as for soft-RoCE over an
/// interface without hardware.
pub(crate) fn node_of(device: &str) -> Option<u16> {
    let own = Path::new(CLASS).join(device);
    let below = std::fs::read_to_string(own.join("parent")).ok();
    let below = below.map(|name| Path::new("/sys/class/net").join(name.trim()));
    std::iter::once(own)
        .chain(below)
        .filter_map(|folder| std::fs::read_to_string(folder.join("device/numa_node")).ok())
        // "-1": the firmware does not know.
        .find_map(|text| text.trim().parse().ok())
}

/// Names of the RDMA devices this process can see.
pub(crate) fn device_names() -> Vec<String> {
    let entries = std::fs::read_dir(CLASS).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Runs until the device is gone.
async fn watch_device(mut events: AsyncEvents, link: watch::Sender<Link>) {
    let mut readiness = Readiness::new();
    if let Err(error) = readiness.watch((), events.fd()) {
        tracing::warn!(
            device = events.device(),
            "cannot watch the device's events: {error}"
        );
        return;
    }
    loop {
        readiness.ready().await;
        loop {
            match events.handle_readable() {
                Ok(None) => break,
                Ok(Some(event)) => {
                    tracing::debug!(device = event.device, "{:?}", event.kind);
                    match event.kind {
                        DeviceEventKind::PortError { .. } => {
                            link.send_replace(Link::Down(clock::now()));
                        }
                        DeviceEventKind::PortActive { .. } => {
                            link.send_replace(Link::Up);
                        }
                        DeviceEventKind::DeviceFatal => {
                            link.send_replace(Link::Fatal);
                            // A device that returns is a new one: the next association looks again.
                            return;
                        }
                        DeviceEventKind::AddressesChanged { .. } | DeviceEventKind::Other(_) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(device = events.device(), "device events: {error}");
                    link.send_replace(Link::Fatal);
                    return;
                }
            }
        }
    }
}
