//! Setting each contender up over the same export.
//!
//! Everything a [`Contender`] needs is a guard inside the [`Lineup`], so dropping the lineup
//! removes all devices, the topmost first.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use umpath_tests::bed::{ConnectOptions, KernelHost, Network, Place, Side};

use crate::contender::{Contender, Half, NQN, PATHS, QUEUES, SERVICE};
use crate::kernel::{choose_queue_depth, path_devices};
use crate::map::Map;
use crate::null::NullVolume;
use crate::ours::Daemon;

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
