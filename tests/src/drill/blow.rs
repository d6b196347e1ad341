//! What is done to the primary, how it is undone, and what a stall it may cost.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::bed::{Hand, Network, Side, load};

use super::array::{Array, PRIMARY};

/// A way to lose the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// The host's end is unplugged: it sees its carrier go.
    LinkDown,
    /// Every packet is lost in both directions, links stay up.
    Blackhole,
    /// The target's process gets SIGKILL.
    TargetKill,
    /// The target's process gets SIGSTOP: its NIC goes on acknowledging.
    TargetStop,
}

impl Blow {
    /// All, in the order they are drilled.
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

    /// The longest stall that passes.
    pub(super) fn budget(self) -> Duration {
        Duration::from_millis(match self {
            Self::LinkDown => 100,
            Self::Blackhole | Self::TargetKill => 500,
            Self::TargetStop => 1000,
        })
    }

    /// Undoes what [`Hands::strike`] did.
    pub(super) fn mend(self, network: &Network, array: &mut Array) -> Result<()> {
        match self {
            Self::LinkDown | Self::Blackhole => network.cable(PRIMARY).restore(),
            Self::TargetKill => array.revive_primary(network),
            Self::TargetStop => array.signal_primary(Signal::CONT),
        }
    }
}

/// What strikes, ready to.
#[derive(Debug)]
pub(super) struct Hands {
    link: Hand,
    /// One at each end. The host's first: what the target hears last it can still answer, so that it
    /// does not find out by an answer that nobody takes.
    loss: [(Hand, String); 2],
}

impl Hands {
    /// Gets ready.
    pub(super) fn on(network: &Network) -> Result<Self> {
        load(&["sch_netem"])?;
        let end = |place, side| -> Result<_> {
            Ok((Hand::on(place, "tc")?, network.cable(PRIMARY).netdev(side)))
        };
        Ok(Self {
            link: Hand::on(network.switch(), "ip")?,
            loss: [
                end(network.host(), Side::Host)?,
                end(network.array(), Side::Array)?,
            ],
        })
    }

    /// Strikes.
    pub(super) fn strike(
        &mut self,
        blow: Blow,
        network: &Network,
        array: &mut Array,
    ) -> Result<()> {
        match blow {
            Blow::LinkDown => {
                let port = network.cable(PRIMARY).port(Side::Host);
                self.link.line(&format!("link set {port} down"))
            }
            Blow::Blackhole => self.loss.iter_mut().try_for_each(|(hand, netdev)| {
                hand.line(&format!("qdisc replace dev {netdev} root netem loss 100%"))
            }),
            Blow::TargetKill => array.kill_primary(),
            Blow::TargetStop => array.signal_primary(Signal::STOP),
        }
    }
}
