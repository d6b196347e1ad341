//! Pulls and restores a cable.

use anyhow::Result;

use crate::bed::{Iproute, Network, Side, unix_ms};

/// Takes the switch port of the host's end of a cable down and up: the host's carrier follows.
#[derive(Debug)]
pub(super) struct Switch {
    ip: Iproute,
    port: String,
}

impl Switch {
    pub(super) fn on(network: &Network, cable: u8) -> Result<Self> {
        Ok(Self {
            ip: Iproute::on(network.switch(), "ip")?,
            port: network.cable(cable).port(Side::Host),
        })
    }

    /// Sets the link state; returns the time, milliseconds since 1970.
    pub(super) fn set(&mut self, state: &str) -> Result<u64> {
        let at = unix_ms();
        self.ip.line(&format!("link set {} {state}", self.port))?;
        Ok(at)
    }
}
