//! The hand on the cable.

use anyhow::Result;

use crate::bed::{Hand, Network, Side};

use super::clock;

/// Takes the port of the host's end of one cable down and up: the host sees its carrier go.
#[derive(Debug)]
pub(super) struct Switch {
    hand: Hand,
    port: String,
}

impl Switch {
    /// A hand on this cable.
    pub(super) fn on(network: &Network, cable: u8) -> Result<Self> {
        Ok(Self {
            hand: Hand::on(network.switch(), "ip")?,
            port: network.cable(cable).port(Side::Host),
        })
    }

    /// Sets the link and returns when, in milliseconds since 1970.
    pub(super) fn set(&mut self, state: &str) -> Result<u64> {
        let at = clock::unix_ms();
        self.hand.line(&format!("link set {} {state}", self.port))?;
        Ok(at)
    }
}
