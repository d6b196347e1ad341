//! The array: a primary (optimized) and a standby controller of one volume.
//!
//! Either two `umpath-target` processes on one file, or Linux nvmet as the primary with an
//! `umpath-target` as its standby, both on one disk, so that writes can be slow below the primary
//! only. nvmet cannot export two subsystems with one NQN; a host cannot tell the difference.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::bed::{AnaState, Network, NullDisk, Nvmet, Side, SlowDisk, TargetProcess};

pub(super) const NQN: &str = "nqn.2026-11.io.umpath:drill";
/// Cable and port number of the primary controller.
pub(super) const PRIMARY: u8 = 1;
/// Cable and port number of the standby controller.
pub(super) const STANDBY: u8 = 2;
pub(super) const SIZE_MIB: u64 = 256;
const SERIAL: &str = "UMPATHDRILL1";
const UUID: &str = "6b0e7b6e-2f0c-4c55-9a3e-0d1f5c0a7e12";
const NGUID: &str = "6b0e7b6e2f0c4c559a3e0d1f5c0a7e12";

/// The targets that make up the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrays {
    /// Two `umpath-target` processes.
    Umpath,
    /// nvmet as the primary, with delayed writes, and `umpath-target` as the standby.
    KernelPrimary {
        /// Delay of the primary's writes, milliseconds.
        late_ms: u32,
    },
}

/// The running array. Its parts are dropped in this order, before the network they use.
#[derive(Debug)]
pub(super) struct Array {
    primary: Primary,
    standby: TargetProcess,
    /// The disk below nvmet and the standby.
    _disk: Option<NullDisk>,
}

#[derive(Debug)]
enum Primary {
    Umpath(TargetProcess),
    /// Declared in drop order: the export goes before its disk.
    Kernel {
        _export: Nvmet,
        slow: SlowDisk,
    },
}

impl Array {
    /// Starts both controllers. `more`: further lines for the `[[subsystem]]` of `umpath-target`.
    pub(super) fn start(
        arrays: Arrays,
        network: &Network,
        work: &Path,
        more: &str,
    ) -> Result<Self> {
        let launch = |number, store: &str| {
            let config = config(network, number, store, more);
            TargetProcess::start(network.array(), work, name(number), &config)
        };
        match arrays {
            Arrays::Umpath => {
                let disk = work.join("disk");
                let store = format!(
                    r#"type = "file", path = "{}", size = "{SIZE_MIB}MiB""#,
                    disk.display()
                );
                Ok(Self {
                    primary: Primary::Umpath(launch(PRIMARY, &store)?),
                    standby: launch(STANDBY, &store)?,
                    _disk: None,
                })
            }
            Arrays::KernelPrimary { late_ms } => {
                let disk = NullDisk::make("umpath0", SIZE_MIB as u32)?;
                let slow = SlowDisk::make("umpath-slow", disk.device(), late_ms)?;
                let primary = Primary::Kernel {
                    _export: nvmet(network, &slow)?,
                    slow,
                };
                let store = format!(r#"type = "block", path = "{}""#, disk.device().display());
                Ok(Self {
                    primary,
                    standby: launch(STANDBY, &store)?,
                    _disk: Some(disk),
                })
            }
        }
    }

    fn primary(&mut self) -> Result<&mut TargetProcess> {
        match &mut self.primary {
            Primary::Umpath(process) => Ok(process),
            Primary::Kernel { .. } => bail!("the kernel's target is not a process"),
        }
    }

    /// Signals the primary.
    pub(super) fn signal_primary(&mut self, signal: Signal) -> Result<()> {
        self.primary()?.signal(signal)
    }

    /// Kills the primary and reaps it.
    pub(super) fn kill_primary(&mut self) -> Result<()> {
        self.primary()?.kill()
    }

    /// Starts a killed primary again.
    pub(super) fn revive_primary(&mut self, network: &Network) -> Result<()> {
        self.primary()?.start_again(network.array())
    }

    /// Whether all target processes are still running.
    pub(super) fn running(&mut self) -> bool {
        let primary = match &mut self.primary {
            Primary::Umpath(process) => process.running(),
            Primary::Kernel { .. } => true,
        };
        primary && self.standby.running()
    }

    /// Runs `umpath-target WORDS` against the primary.
    pub(super) fn primary_verb(&self, words: &[&str]) -> Result<String> {
        match &self.primary {
            Primary::Umpath(process) => process.verb(words),
            Primary::Kernel { .. } => bail!("the kernel's target has no verbs"),
        }
    }

    /// How often our primary logged that it discarded expired commands, over all runs so far.
    pub(super) fn primary_refusals(&self) -> Option<usize> {
        match &self.primary {
            Primary::Umpath(process) => {
                Some(process.printed().matches("were not executed").count())
            }
            Primary::Kernel { .. } => None,
        }
    }

    /// Writes that the kernel's primary has issued and that have not reached the disk.
    pub(super) fn primary_writes_in_flight(&self) -> Option<u64> {
        match &self.primary {
            Primary::Umpath(_) => None,
            Primary::Kernel { slow, .. } => slow.writes_in_flight(),
        }
    }
}

/// nvmet with the identity of our standby.
fn nvmet(network: &Network, slow: &SlowDisk) -> Result<Nvmet> {
    let nvmet = Nvmet::start(network, NQN, &slow.device(), &[AnaState::Optimized])?;
    let subsystem = Path::new("/sys/kernel/config/nvmet/subsystems").join(NQN);
    for (file, value) in [
        ("attr_serial", SERIAL),
        ("namespaces/1/enable", "0"),
        ("namespaces/1/device_uuid", UUID),
        ("namespaces/1/device_nguid", NGUID),
        ("namespaces/1/enable", "1"),
    ] {
        fs::write(subsystem.join(file), value)
            .with_context(|| format!("nvmet refuses {value} for {file}"))?;
    }
    Ok(nvmet)
}

fn name(number: u8) -> &'static str {
    if number == PRIMARY {
        "target-primary"
    } else {
        "target-standby"
    }
}

fn config(network: &Network, number: u8, store: &str, more: &str) -> String {
    format!(
        r#"[process]
cntlid = {{ first = {first}, last = {last} }}
[[port]]
id = {number}
traddr = "{address}"
[[subsystem]]
nqn = "{NQN}"
serial = "{SERIAL}"
allow_any_host = true
ports = [{number}]
{more}
[[subsystem.namespace]]
nsid = 1
uuid = "{UUID}"
nguid = "{NGUID}"
backend = {{ {store} }}
[[subsystem.ana]]
port = {number}
state = "{state}"
"#,
        first = u16::from(number) * 1000,
        last = u16::from(number) * 1000 + 999,
        address = network.cable(number).address(Side::Array),
        state = if number == PRIMARY {
            "optimized"
        } else {
            "non-optimized"
        },
    )
}
