//! Link state of one port of an RDMA device.
//!
//! A device reports events for all its ports. Only one of them carries an association; events of
//! the others, which may never have had a cable, do not affect it.

use std::time::Duration;

use umpath_rdma::DeviceEventKind;

use super::{CLASS, Link, attribute};

/// When each source reported the port down.
#[derive(Debug)]
pub(super) struct Port {
    /// Port number, from 1.
    number: u8,
    port_down: Option<Duration>,
    carrier_down: Option<Duration>,
}

impl Port {
    /// A port whose state is not known yet.
    pub(super) fn new(number: u8) -> Self {
        Self {
            number,
            port_down: None,
            carrier_down: None,
        }
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }

    /// Its directory in sysfs.
    pub(super) fn folder(&self, device: &str) -> String {
        format!("{CLASS}/{device}/ports/{}", self.number)
    }

    /// Reads its state from sysfs.
    pub(super) fn read_sysfs(&mut self, device: &str, now: Duration) {
        let state = attribute(&format!("{}/state", self.folder(device)));
        self.state(state.as_deref(), now);
    }

    /// The sysfs `state` attribute, `1: DOWN`.
    fn state(&mut self, state: Option<&str>, now: Duration) {
        if state.is_some_and(|state| state.ends_with("DOWN")) {
            self.port_down.get_or_insert(now);
        }
    }

    /// Handles an event of the device or one of its ports; `false` if the device has failed.
    pub(super) fn event(&mut self, kind: DeviceEventKind, now: Duration) -> bool {
        match kind {
            DeviceEventKind::PortError { port } if port == self.number => {
                self.port_down.get_or_insert(now);
            }
            DeviceEventKind::PortActive { port } if port == self.number => self.port_down = None,
            DeviceEventKind::DeviceFatal => return false,
            DeviceEventKind::PortError { .. }
            | DeviceEventKind::PortActive { .. }
            | DeviceEventKind::AddressesChanged { .. }
            | DeviceEventKind::Other(_) => {}
        }
        true
    }

    /// The network interface under it gained or lost its carrier.
    pub(super) fn carrier(&mut self, carries: bool, now: Duration) {
        self.carrier_down = (!carries).then(|| self.carrier_down.unwrap_or(now));
    }

    /// Down while either source says so, since the first report.
    pub(super) fn link(&self) -> Link {
        let down = self.port_down.into_iter().chain(self.carrier_down).min();
        down.map_or(Link::Up, Link::Down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_becomes_of_another_port_of_the_device_changes_nothing() {
        let mut second = Port::new(2);
        assert!(second.event(DeviceEventKind::PortError { port: 1 }, ms(1)));
        assert_eq!(second.link(), Link::Up);
        assert!(second.event(DeviceEventKind::PortError { port: 2 }, ms(2)));
        assert_eq!(second.link(), Link::Down(ms(2)));
        assert!(second.event(DeviceEventKind::PortActive { port: 1 }, ms(3)));
        assert_eq!(second.link(), Link::Down(ms(2)));
        assert!(second.event(DeviceEventKind::PortActive { port: 2 }, ms(4)));
        assert_eq!(second.link(), Link::Up);
    }

    #[test]
    fn a_broken_device_is_broken_for_every_port() {
        for number in [1, 2] {
            assert!(!Port::new(number).event(DeviceEventKind::DeviceFatal, ms(1)));
        }
    }

    #[test]
    fn a_port_is_looked_for_in_its_own_folder() {
        let folder = Port::new(2).folder("mlx4_0");
        assert_eq!(folder, "/sys/class/infiniband/mlx4_0/ports/2");
        for (state, link) in [
            (Some("1: DOWN"), Link::Down(ms(7))),
            (Some("4: ACTIVE"), Link::Up),
            (None, Link::Up),
        ] {
            let mut port = Port::new(2);
            port.state(state, ms(7));
            assert_eq!(port.link(), link);
        }
    }

    #[test]
    fn a_link_is_down_since_the_first_that_said_so_until_both_say_otherwise() {
        let mut port = Port::new(1);
        port.carrier(false, ms(1));
        port.carrier(false, ms(2));
        port.event(DeviceEventKind::PortError { port: 1 }, ms(3));
        assert_eq!(port.link(), Link::Down(ms(1)));
        port.carrier(true, ms(4));
        assert_eq!(port.link(), Link::Down(ms(3)));
        port.event(DeviceEventKind::PortActive { port: 1 }, ms(5));
        assert_eq!(port.link(), Link::Up);
    }
}
