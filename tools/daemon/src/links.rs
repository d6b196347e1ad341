//! Links of RDMA devices: one watcher for each device, shared by its associations.
//!
//! Two sources say whether a device has a link: its own port events, and the carrier of the network
//! interface under it. A link is down while either says so; whichever tells first counts. Either
//! reaches every association on the device within a wake-up of its task. What it means for them is
//! `umpath_core::association`'s decision.

mod carrier;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use umpath_rdma::{AsyncEvents, DeviceEventKind, VerbsError};

use carrier::{LinkNews, News};

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
        let (sender, receiver) = watch::channel(Link::Up);
        tokio::spawn(Watcher::new(events, sender).run());
        links.insert(device.to_owned(), receiver.clone());
        Ok(receiver)
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

/// What a descriptor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Port,
    Carrier,
}

/// The network interface under a device.
#[derive(Debug)]
struct Interface {
    name: String,
    index: u32,
    news: LinkNews,
}

impl Interface {
    /// The interface of the first port, where it has one and its news can be had.
    fn of(device: &str) -> Option<Self> {
        let name = attribute(&format!("{CLASS}/{device}/ports/1/gid_attrs/ndevs/0"))?;
        let index = attribute(&format!("/sys/class/net/{name}/ifindex"))?;
        let news = LinkNews::open().inspect_err(|error| {
            tracing::warn!(
                device,
                "no news of network links ({error}): port events must tell"
            );
        });
        Some(Self {
            index: index.parse().ok()?,
            name,
            news: news.ok()?,
        })
    }

    /// Whether it can carry anything now. An interface that is switched off has no carrier to read.
    fn carries(&self) -> bool {
        attribute(&format!("/sys/class/net/{}/carrier", self.name)).as_deref() == Some("1")
    }
}

fn attribute(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// Watches one device.
#[derive(Debug)]
struct Watcher {
    events: AsyncEvents,
    interface: Option<Interface>,
    port_down: Option<Duration>,
    carrier_down: Option<Duration>,
    link: watch::Sender<Link>,
}

impl Watcher {
    /// Listens first and looks then: nothing that happens in between is missed. It looks at single
    /// small files: a list of all devices would read their whole address tables, on a thread that
    /// has keep-alives to send.
    fn new(events: AsyncEvents, link: watch::Sender<Link>) -> Self {
        let device = events.device().to_owned();
        let interface = Interface::of(&device);
        let mut watcher = Self {
            events,
            interface,
            port_down: None,
            carrier_down: None,
            link,
        };
        // "1: DOWN"
        let port = attribute(&format!("{CLASS}/{device}/ports/1/state"));
        if port.is_some_and(|state| state.ends_with("DOWN")) {
            watcher.port_down = Some(clock::now());
        }
        watcher.look_at_carrier();
        watcher.tell();
        watcher
    }

    /// Runs until the device is gone.
    async fn run(mut self) {
        let mut readiness = Readiness::new();
        let mut watched = readiness.watch(Source::Port, self.events.fd());
        if let (Ok(()), Some(interface)) = (&watched, &self.interface) {
            watched = readiness.watch(Source::Carrier, interface.news.fd());
        }
        if let Err(error) = watched {
            let device = self.events.device();
            tracing::warn!(device, "cannot watch the device's link: {error}");
            return;
        }
        loop {
            match readiness.ready().await {
                Source::Port => {
                    if !self.port_events() {
                        self.link.send_replace(Link::Fatal);
                        // A device that returns is a new one: the next association looks again.
                        return;
                    }
                }
                Source::Carrier => self.carrier_news(),
            }
            self.tell();
        }
    }

    /// Takes the device's events; `false` when it is gone.
    fn port_events(&mut self) -> bool {
        loop {
            match self.events.handle_readable() {
                Ok(None) => return true,
                Ok(Some(event)) => {
                    tracing::debug!(device = event.device, "{:?}", event.kind);
                    match event.kind {
                        DeviceEventKind::PortError { .. } => {
                            self.port_down.get_or_insert_with(clock::now);
                        }
                        DeviceEventKind::PortActive { .. } => self.port_down = None,
                        DeviceEventKind::DeviceFatal => return false,
                        DeviceEventKind::AddressesChanged { .. } | DeviceEventKind::Other(_) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(device = self.events.device(), "device events: {error}");
                    return false;
                }
            }
        }
    }

    fn carrier_news(&mut self) {
        let Some(interface) = &self.interface else {
            return;
        };
        match interface.news.read() {
            Ok(news) => {
                for item in news {
                    match item {
                        News::Carries { index, carries } if index == interface.index => {
                            self.carrier_down = since(self.carrier_down, !carries);
                        }
                        News::Carries { .. } => {}
                        News::Lost => {
                            self.carrier_down = since(self.carrier_down, !interface.carries());
                        }
                    }
                }
            }
            Err(error) => {
                let device = self.events.device();
                tracing::warn!(
                    device,
                    "news of network links: {error}; port events must tell"
                );
                self.carrier_down = None;
            }
        }
    }

    fn look_at_carrier(&mut self) {
        if let Some(interface) = &self.interface {
            self.carrier_down = since(self.carrier_down, !interface.carries());
        }
    }

    fn tell(&self) {
        let down = self.port_down.into_iter().chain(self.carrier_down).min();
        let link = down.map_or(Link::Up, Link::Down);
        self.link.send_if_modified(|known| {
            let same = matches!(
                (&*known, &link),
                (Link::Up, Link::Up) | (Link::Down(_), Link::Down(_))
            );
            if !same {
                tracing::debug!(device = self.events.device(), ?link, "link");
                *known = link;
            }
            !same
        });
    }
}

/// Since when something is down: since before, or now; or not at all.
fn since(before: Option<Duration>, down: bool) -> Option<Duration> {
    down.then(|| before.unwrap_or_else(clock::now))
}
