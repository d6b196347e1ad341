//! The faults injected into the primary, how each is undone, and the stall it may cause.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::bed::{Iproute, Network, Side, load};

use super::array::{Array, PRIMARY};

/// A way to lose the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The host's end is unplugged: the host loses its carrier.
    LinkDown,
    /// Every packet is lost in both directions; links stay up.
    Blackhole,
    /// The target's process gets SIGKILL.
    TargetKill,
    /// The target's process gets SIGSTOP; its NIC goes on acknowledging.
    TargetStop,
}

impl Fault {
    /// All faults, in drill order.
    pub(super) const ALL: [Self; 4] = [
        Self::LinkDown,
        Self::Blackhole,
        Self::TargetKill,
        Self::TargetStop,
    ];

    /// The drill's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LinkDown => "link-down",
            Self::Blackhole => "blackhole",
            Self::TargetKill => "target-kill",
            Self::TargetStop => "target-stop",
        }
    }

    /// Longest stall with which the drill passes.
    pub(super) fn budget(self) -> Duration {
        Duration::from_millis(match self {
            Self::LinkDown => 100,
            Self::Blackhole | Self::TargetKill => 500,
            Self::TargetStop => 1000,
        })
    }

    /// Undoes [`Injector::inject`].
    pub(super) fn undo(self, network: &Network, array: &mut Array) -> Result<()> {
        match self {
            Self::LinkDown | Self::Blackhole => network.cable(PRIMARY).restore(),
            Self::TargetKill => array.revive_primary(network),
            Self::TargetStop => array.signal_primary(Signal::CONT),
        }
    }
}

/// Running helper processes that inject a fault without delay.
#[derive(Debug)]
pub(super) struct Injector {
    link: Iproute,
    /// One at each end. The host's end is cut first: the target can still answer the last packets
    /// it received, so it does not learn of the loss from an unacknowledged response.
    loss: [(Iproute, String); 2],
}

impl Injector {
    /// Starts the helper processes.
    pub(super) fn on(network: &Network) -> Result<Self> {
        load(&["sch_netem"])?;
        let end = |place, side| -> Result<_> {
            Ok((
                Iproute::on(place, "tc")?,
                network.cable(PRIMARY).netdev(side),
            ))
        };
        Ok(Self {
            link: Iproute::on(network.switch(), "ip")?,
            loss: [
                end(network.host(), Side::Host)?,
                end(network.array(), Side::Array)?,
            ],
        })
    }

    pub(super) fn inject(
        &mut self,
        fault: Fault,
        network: &Network,
        array: &mut Array,
    ) -> Result<()> {
        match fault {
            Fault::LinkDown => {
                let port = network.cable(PRIMARY).port(Side::Host);
                self.link.line(&format!("link set {port} down"))
            }
            Fault::Blackhole => self.loss.iter_mut().try_for_each(|(tc, netdev)| {
                tc.line(&format!("qdisc replace dev {netdev} root netem loss 100%"))
            }),
            Fault::TargetKill => array.kill_primary(),
            Fault::TargetStop => array.signal_primary(Signal::STOP),
        }
    }
}
