//! Link state of RDMA devices: one watcher per port in use, shared by its associations.
//!
//! Two sources report the link of a port: the device's events, and the carrier of the network
//! interface under the port. The link is down while either says so, from the first report on. Both
//! reach every association over the port within one wake-up of its task. `umpath_core::association`
//! decides what a lost link means.

mod carrier;
mod port;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use umpath_host::path::Link;
use umpath_rdma::{AsyncEvents, VerbsError};

use carrier::{LinkNews, News};
use port::Port;

use crate::clock;
use crate::readiness::Readiness;

/// RDMA devices in sysfs.
const CLASS: &str = "/sys/class/infiniband";

/// Link state by device and port.
type Watched = HashMap<(String, u8), watch::Receiver<Link>>;

/// All link watchers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links(Arc<Mutex<Watched>>);

impl Links {
    /// The link of a device's port, counted from 1; starts a watcher on the first call.
    pub(crate) fn of(&self, device: &str, port: u8) -> Result<watch::Receiver<Link>, VerbsError> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (device.to_owned(), port);
        if let Some(link) = links.get(&key)
            && link.has_changed().is_ok()
        {
            return Ok(link.clone());
        }
        let events = AsyncEvents::open(device)?;
        let (sender, receiver) = watch::channel(Link::Up);
        tokio::spawn(Watcher::new(events, Port::new(port), sender).run());
        links.insert(key, receiver.clone());
        Ok(receiver)
    }
}

/// Whether a port has no link at this moment. The kernel reports changes of a network interface late when
/// they follow each other within a second, and what breaks for want of a link may be known before.
pub(crate) fn is_down(device: &str, number: u8) -> bool {
    let (mut port, now) = (Port::new(number), clock::now());
    port.read_sysfs(device, now);
    if let Some(name) = interface_under(device, &port) {
        port.carrier(carries(&name), now);
    }
    matches!(port.link(), Link::Down(_))
}

/// The name of the network interface under a port.
fn interface_under(device: &str, port: &Port) -> Option<String> {
    attribute(&format!("{}/gid_attrs/ndevs/0", port.folder(device)))
}

/// Whether a network interface has a carrier. One that is down has no readable carrier file.
fn carries(name: &str) -> bool {
    attribute(&format!("/sys/class/net/{name}/carrier")).as_deref() == Some("1")
}

/// The NUMA node of a device; `None` if unknown, as for soft-RoCE over a virtual interface.
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

/// Names of the RDMA devices visible to this process.
pub(crate) fn device_names() -> Vec<String> {
    let entries = std::fs::read_dir(CLASS).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What a file descriptor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Device,
    Carrier,
}

/// The network interface under a port.
#[derive(Debug)]
struct Interface {
    name: String,
    index: u32,
    news: LinkNews,
}

impl Interface {
    /// The interface, if there is one and the kernel reports its changes.
    fn of(device: &str, port: &Port) -> Option<Self> {
        let name = interface_under(device, port)?;
        let index = attribute(&format!("/sys/class/net/{name}/ifindex"))?;
        let news = LinkNews::open().inspect_err(|error| {
            tracing::warn!(
                device,
                "cannot monitor network links ({error}): relying on RDMA port events"
            );
        });
        Some(Self {
            index: index.parse().ok()?,
            name,
            news: news.ok()?,
        })
    }
}

fn attribute(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// Watches one port.
#[derive(Debug)]
struct Watcher {
    events: AsyncEvents,
    interface: Option<Interface>,
    port: Port,
    link: watch::Sender<Link>,
}

impl Watcher {
    /// Subscribes to events before reading the state, so that no change is missed. It reads single
    /// small files: listing all devices would read their whole address tables, on a thread that has
    /// keep-alives to send.
    fn new(events: AsyncEvents, mut port: Port, link: watch::Sender<Link>) -> Self {
        let interface = Interface::of(events.device(), &port);
        port.read_sysfs(events.device(), clock::now());
        if let Some(interface) = &interface {
            port.carrier(carries(&interface.name), clock::now());
        }
        let watcher = Self {
            events,
            interface,
            port,
            link,
        };
        watcher.publish();
        watcher
    }

    /// Runs until the device is gone.
    async fn run(mut self) {
        let mut readiness = Readiness::new();
        let mut watched = readiness.watch(Source::Device, self.events.fd());
        if let (Ok(()), Some(interface)) = (&watched, &self.interface) {
            watched = readiness.watch(Source::Carrier, interface.news.fd());
        }
        if let Err(error) = watched {
            let device = self.events.device();
            tracing::warn!(device, "cannot monitor the device's link: {error}");
            return;
        }
        loop {
            match readiness.ready().await {
                Source::Device => {
                    if !self.device_events() {
                        self.link.send_replace(Link::Fatal);
                        // A device that returns is a new one: the next association starts a new
                        // watcher.
                        return;
                    }
                }
                Source::Carrier => self.carrier_news(),
            }
            self.publish();
        }
    }

    /// Handles the device's events; `false` when it is gone.
    fn device_events(&mut self) -> bool {
        loop {
            match self.events.handle_readable() {
                Ok(None) => return true,
                Ok(Some(event)) => {
                    tracing::debug!(device = event.device, "{:?}", event.kind);
                    if !self.port.event(event.kind, clock::now()) {
                        return false;
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
                            self.port.carrier(carries, clock::now());
                        }
                        News::Carries { .. } => {}
                        News::Lost => self.port.carrier(carries(&interface.name), clock::now()),
                    }
                }
            }
            Err(error) => {
                let device = self.events.device();
                tracing::warn!(
                    device,
                    "cannot monitor network links: {error}; relying on RDMA port events"
                );
                self.port.carrier(true, clock::now());
            }
        }
    }

    fn publish(&self) {
        let link = self.port.link();
        self.link.send_if_modified(|known| {
            let same = matches!(
                (&*known, &link),
                (Link::Up, Link::Up) | (Link::Down(_), Link::Down(_))
            );
            if !same {
                let (device, port) = (self.events.device(), self.port.number());
                tracing::debug!(device, port, ?link, "link");
                *known = link;
            }
            !same
        });
    }
}
