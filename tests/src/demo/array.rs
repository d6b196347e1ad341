//! The array: a primary and a standby controller with one volume behind both.
//!
//! Ours is two `umpath-target` processes in a namespace of their own, on one file. The kernel's is
//! nvmet in the initial namespace (it supports no other), with two ports on one null_blk disk. The
//! difference also determines how long a fence by time may take.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;

use crate::bed::{AnaState, Network, NullDisk, Nvmet, Side, TargetProcess, unix_ms};

use super::Target;

pub(super) const NQN: &str = "nqn.2026-11.io.umpath:demo";
/// Cable and port number of the primary controller.
pub(super) const PRIMARY: u8 = 1;
/// Cable and port number of the standby controller.
pub(super) const STANDBY: u8 = 2;
const SERVICE: u16 = 4420;
const SIZE_MIB: u32 = 512;

/// The stall limit, and its reason.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    /// Keep-alive timeout requested from the controllers.
    pub(super) kato_ms: u64,
    /// Longest stall with which the demo passes.
    pub(super) stall_ms: u64,
    /// Where that limit comes from.
    pub(super) reason: &'static str,
}

impl Allowance {
    /// The allowance for a target.
    pub(super) fn of(target: Target) -> Self {
        match target {
            Target::Umpath => Self {
                kato_ms: 300,
                stall_ms: 1000,
                reason: "the promise for a target with a short keep-alive timeout. The standby \
                         resets the lost controller (CCR), or time fences it: 2 x 300 ms KATO \
                         + 100 ms CQT and a ninth for its clock; the rest is noticing and sending \
                         again",
            },
            Target::Kernel => Self {
                kato_ms: 1000,
                stall_ms: 6000,
                reason: "nvmet knows no CCR, counts KATO in whole seconds and restarts its timer \
                         with any traffic, teardown included: it can be taken for dead 4 x KATO = \
                         4000 ms, a ninth for its clock and 500 ms for its disk after the loss. \
                         Until then a write over one that was lost on its way waits; \
                         all else goes on at once, see fio's number",
            },
        }
    }
}

/// The running array.
#[derive(Debug)]
pub(super) enum Array {
    /// Two processes on one file.
    Umpath(Box<[TargetProcess; 2]>),
    /// Two ports of the kernel's target. Declared in drop order: the export goes before its disk.
    Kernel(Nvmet, NullDisk),
}

impl Array {
    /// Starts both controllers.
    pub(super) fn start(target: Target, network: &Network, work: &Path) -> Result<Self> {
        match target {
            Target::Umpath => {
                let controller = |number, state| {
                    let config = config(network, work, number, state);
                    TargetProcess::start(network.array(), work, name(number), &config)
                };
                Ok(Self::Umpath(Box::new([
                    controller(PRIMARY, "optimized")?,
                    controller(STANDBY, "non-optimized")?,
                ])))
            }
            Target::Kernel => {
                let disk = NullDisk::make("umpath0", SIZE_MIB)?;
                let states = [AnaState::Optimized, AnaState::NonOptimized];
                let nvmet = Nvmet::start(network, NQN, disk.device(), &states)?;
                Ok(Self::Kernel(nvmet, disk))
            }
        }
    }

    /// A one-line description of what runs.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Umpath(controllers) => format!(
                "two umpath-target processes ({}, {}) serve one file of {SIZE_MIB} MiB",
                controllers[0].id(),
                controllers[1].id()
            ),
            Self::Kernel(_, disk) => format!(
                "Linux nvmet serves {} ({SIZE_MIB} MiB, null_blk) through two ports",
                disk.device().display()
            ),
        }
    }

    /// The second failover's fault, for the timeline's title and for the log.
    pub(super) fn fault(&self) -> (&'static str, &'static str) {
        match self {
            Self::Umpath(_) => ("killed", "the primary's process gets SIGKILL"),
            Self::Kernel(..) => ("cut off", "the primary's port is taken from the subsystem"),
        }
    }

    /// Ends the primary abruptly; returns the time, milliseconds since 1970.
    pub(super) fn kill_primary(&mut self) -> Result<u64> {
        let at = unix_ms();
        match self {
            Self::Umpath(controllers) => controllers[0].kill()?,
            Self::Kernel(nvmet, _) => nvmet.withdraw(PRIMARY.into())?,
        }
        Ok(at)
    }

    pub(super) fn revive_primary(&mut self, network: &Network) -> Result<()> {
        match self {
            Self::Umpath(controllers) => controllers[0].start_again(network.array()),
            Self::Kernel(nvmet, _) => nvmet.offer(PRIMARY.into()),
        }
    }

    /// The last output of a controller process that ended by itself.
    pub(super) fn casualty(&mut self) -> Option<String> {
        let Self::Umpath(controllers) = self else {
            return None;
        };
        controllers.iter_mut().find_map(TargetProcess::casualty)
    }
}

/// The address a controller listens on.
pub(super) fn address(network: &Network, number: u8) -> IpAddr {
    IpAddr::V4(network.cable(number).address(Side::Array))
}

fn name(number: u8) -> &'static str {
    if number == PRIMARY {
        "target-primary"
    } else {
        "target-standby"
    }
}

fn config(network: &Network, work: &Path, number: u8, state: &str) -> String {
    format!(
        r#"[process]
cntlid = {{ first = {first}, last = {last} }}
[[port]]
id = {number}
traddr = "{address}"
trsvcid = {SERVICE}
[[subsystem]]
nqn = "{NQN}"
serial = "UMPATHDEMO1"
allow_any_host = true
ports = [{number}]
[[subsystem.namespace]]
nsid = 1
uuid = "6b0e7b6e-2f0c-4c55-9a3e-0d1f5c0a7e11"
nguid = "6b0e7b6e2f0c4c559a3e0d1f5c0a7e11"
backend = {{ type = "file", path = "{disk}", size = "{SIZE_MIB}MiB" }}
[[subsystem.ana]]
port = {number}
state = "{state}"
"#,
        first = u16::from(number) * 1000,
        last = u16::from(number) * 1000 + 999,
        address = address(network, number),
        disk = work.join("disk").display(),
    )
}
