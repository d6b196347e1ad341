//! The contenders, and setting each of them up over the same export.
//!
//! Everything a [`Contender`] needs is a guard inside the [`Lineup`], so dropping the lineup
//! removes all devices, the topmost first.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use umpath_tests::bed::{ConnectOptions, KernelHost, Network, Place, Side};

use crate::kernel::{choose_queue_depth, path_devices};
use crate::map::Map;
use crate::null::NullVolume;
use crate::ours::Daemon;

pub(crate) const NQN: &str = "nqn.2026-11.io.umpath:bench";
/// Its service (port number).
pub(crate) const SERVICE: u16 = 4420;
/// Number of cables, and so of paths.
pub(crate) const PATHS: u8 = 2;
/// I/O queues of every contender, per path.
pub(crate) const QUEUES: &str = "2";

/// A device under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// `umpathd`: two paths, defaults.
    Ours,
    /// The kernel's own multipath, queue-depth.
    Native,
    /// dm-multipath, queue-length, over the kernel's host.
    Dm,
    /// One path of the kernel's host without multipath.
    Raw,
    /// Our ublk front end over a backend that moves no data: the upper bound of any ublk device.
    UblkNull,
}

impl Contender {
    /// Stable name, used in the table and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Native => "native",
            Self::Dm => "dm",
            Self::Raw => "raw",
            Self::UblkNull => "ublk_null",
        }
    }
}

/// Whether the kernel's host merges paths itself. dm-multipath needs one that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// `nvme_core.multipath=Y`.
    Native,
    /// `nvme_core.multipath=N`.
    Separate,
}

impl Half {
    /// The contenders of this half; the first is ours in both.
    pub fn contenders(self) -> &'static [Contender] {
        match self {
            Self::Native => &[Contender::Ours, Contender::Native, Contender::UblkNull],
            Self::Separate => &[Contender::Ours, Contender::Dm, Contender::Raw],
        }
    }

    /// The contender whose throughput is the divisor of the ratio.
    pub fn yardstick(self) -> Contender {
        match self {
            Self::Native => Contender::Native,
            Self::Separate => Contender::Dm,
        }
    }
}

/// The devices of one half, ready for use.
#[derive(Debug, Default)]
pub(crate) struct Lineup {
    /// The contenders that were set up, with their devices.
    pub(crate) devices: Vec<(Contender, PathBuf)>,
    /// Why others could not be set up.
    pub(crate) failures: Vec<String>,
    // Dropped in this order: the map before the paths below it.
    map: Option<Map>,
    null: Option<NullVolume>,
    daemon: Option<Daemon>,
    kernel: Option<KernelHost>,
}

impl Lineup {
    /// Sets up the contenders of `half`; records those that fail in `failures`.
    pub(crate) fn make(half: Half, network: &Network) -> Self {
        let mut lineup = Self::default();
        let wanted = half.contenders();
        for contender in wanted {
            let device = match contender {
                Contender::Ours => lineup.start_daemon(network),
                Contender::UblkNull => lineup.start_null(),
                Contender::Native => lineup.connect_native(network),
                Contender::Dm => lineup.connect_separate(network),
                Contender::Raw => lineup.first_path(),
            };
            match device {
                Ok(device) => lineup.devices.push((*contender, device)),
                Err(error) => lineup
                    .failures
                    .push(format!("{}: {error:#}", contender.name())),
            }
        }
        lineup
    }

    fn start_daemon(&mut self, network: &Network) -> Result<PathBuf> {
        let daemon = self
            .daemon
            .insert(Daemon::start(&Place::INITIAL, "# Defaults only.\n")?);
        for number in 1..=PATHS {
            daemon.connect(&network.cable(number).address(Side::Array).to_string())?;
        }
        daemon.device()
    }

    fn start_null(&mut self) -> Result<PathBuf> {
        let null = NullVolume::start()?;
        let device = null.device().to_path_buf();
        self.null = Some(null);
        Ok(device)
    }

    fn connect(&mut self, network: &Network) -> Result<&KernelHost> {
        let host = self.kernel.insert(KernelHost::new("rdma", NQN)?);
        let options = ConnectOptions {
            arguments: vec![format!("--nr-io-queues={QUEUES}")],
        };
        for number in 1..=PATHS {
            let address = network.cable(number).address(Side::Array).into();
            host.connect(address, SERVICE, &options)?;
        }
        Ok(host)
    }

    fn connect_native(&mut self, network: &Network) -> Result<PathBuf> {
        let host = self.connect(network)?;
        choose_queue_depth(NQN)?;
        host.device()
    }

    fn connect_separate(&mut self, network: &Network) -> Result<PathBuf> {
        let paths = path_devices(self.connect(network)?, PATHS)?;
        let map = Map::make("umpath-bench", &paths)?;
        let device = map.device().to_path_buf();
        self.map = Some(map);
        Ok(device)
    }

    /// The path below the map, which is never measured at the same time.
    fn first_path(&self) -> Result<PathBuf> {
        let host = self
            .kernel
            .as_ref()
            .context("the kernel's host is not connected")?;
        let paths = path_devices(host, PATHS)?;
        paths
            .into_iter()
            .next()
            .context("the kernel's host has no path")
    }
}
