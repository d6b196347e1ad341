//! The hand on the cable: a running `ip` that waits for its next line.
//!
//! Starting `ip` takes tens of milliseconds under emulation, which would blur the moment of the
//! pull; a line to one that already runs takes one or two.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::bed::{Network, Side};

use super::clock;

/// Takes the host's end of one cable down and up: the array sees its carrier go, the host its link.
///
/// Not the array's end: on Linux 7.2 a goodbye sent over an interface that is down leaves the
/// management queue pair of its soft-RoCE device in error for good. A target says goodbye when the
/// keep-alive timer runs out, and could never be connected to again; umpathd keeps silent on a link
/// that is down.
#[derive(Debug)]
pub(super) struct Switch {
    ip: Child,
    netdev: String,
}

impl Switch {
    /// A hand on this cable.
    pub(super) fn on(network: &Network, cable: u8) -> Result<Self> {
        let mut command = Command::new("ip");
        if let Some(name) = network.host().name() {
            command.args(["-n", name]);
        }
        let ip = command
            .args(["-force", "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start `ip -batch -`")?;
        let netdev = network.cable(cable).netdev(Side::Host);
        Ok(Self { ip, netdev })
    }

    /// Sets the link and returns when, in milliseconds since 1970.
    pub(super) fn set(&mut self, state: &str) -> Result<u64> {
        let input = self.ip.stdin.as_mut().context("`ip` has no input")?;
        let line = format!("link set {} {state}\n", self.netdev);
        let at = clock::unix_ms();
        input
            .write_all(line.as_bytes())
            .context("`ip -batch -` has ended")?;
        Ok(at)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        drop(self.ip.stdin.take());
        drop(self.ip.wait());
    }
}
