//! What is there when the daemon begins: associations and volumes of earlier processes, and what the
//! configuration wants to stand. Blocks for a few reads and system calls, before anything runs.

use umpath_host::Found;
use umpath_host::record::{Asked, VolumeRecord};
use umpath_ublk::{Control, State};

use super::{Shell, Wanted};
use crate::clock;
use crate::config::{DiscoveryLine, read_discovery_conf};
use crate::connect_all;

impl Shell {
    pub(super) fn start(&mut self) {
        self.inherit();
        self.adopt();
        self.stand();
    }

    /// Associations of earlier processes: fenced before anything is written.
    fn inherit(&mut self) {
        for (number, record) in self.context.records.inherited() {
            self.host.handle_inherited(number, &record, clock::now());
        }
    }

    /// Volumes of earlier processes, and the paths they had.
    fn adopt(&mut self) {
        let records = std::mem::take(&mut self.recorded);
        let devices = block_devices();
        if records.is_empty() && devices.is_empty() {
            return;
        }
        let mut control = Control::open().inspect_err(|error| {
            tracing::error!("cannot look for the last umpathd's block devices: {error}");
        });
        if let Ok(control) = &mut control {
            let known = |device: &u32| records.iter().any(|record| record.device == *device);
            for device in devices.into_iter().filter(|device| !known(device)) {
                if is_orphan(control, device) {
                    self.host.handle_orphan(device, clock::now());
                }
            }
        }
        for record in records {
            let found = match &mut control {
                Ok(control) => find(control, &record),
                // The host asks again.
                Err(_) => Found::Unknown,
            };
            self.adopt_if(record, found);
        }
    }

    /// Reports a recorded volume to the host; if that takes it over, its paths are wanted.
    fn adopt_if(&mut self, record: VolumeRecord, found: Found) {
        let paths = record.paths.clone();
        let adopted = self
            .host
            .handle_recorded_volume(record, found, clock::now());
        for asked in paths.into_iter().filter(|_| adopted) {
            let (standing, rediscovered, reply) = (true, false, None);
            self.connect(Wanted {
                asked,
                standing,
                rediscovered,
                reply,
            });
        }
    }

    /// What the configuration wants to stand.
    fn stand(&mut self) {
        let context = self.context.clone();
        for entry in &context.config.connect {
            for portal in entry.portals() {
                let line = DiscoveryLine {
                    portal,
                    options: entry.options(),
                };
                for nqn in &entry.nqns {
                    let mut asked = Asked {
                        portal: line.portal.clone(),
                        nqn: nqn.clone(),
                        options: line.options.clone(),
                        number: None,
                    };
                    // In the order of the file, whichever is up first.
                    asked.number = Some(self.host.reserve(&asked));
                    let (context, outbox) = (context.clone(), self.outbox.clone());
                    tokio::spawn(connect_all::keep_path(context, outbox, asked));
                }
                if entry.nqns.is_empty() {
                    self.keep(line);
                }
            }
        }
        if context.config.control.discovery_conf {
            match read_discovery_conf(&context.discovery_conf) {
                Ok(lines) => lines.into_iter().for_each(|line| self.keep(line)),
                Err(why) => tracing::warn!("{why}"),
            }
        }
    }

    fn keep(&self, line: DiscoveryLine) {
        let (context, outbox) = (self.context.clone(), self.outbox.clone());
        tokio::spawn(connect_all::keep_portal(context, outbox, line));
    }
}

/// Numbers of the block devices of the driver.
fn block_devices() -> Vec<u32> {
    let entries = std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten();
    let number = |name: String| name.strip_prefix("ublkb")?.parse().ok();
    entries
        .filter_map(|entry| number(entry.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Its server died, and its requests wait for another one.
fn is_orphan(control: &mut Control, device: u32) -> bool {
    let info = control.info(device).ok().flatten();
    info.is_some_and(|info| matches!(info.state, State::Quiesced | State::FailIo))
}

/// Whether a recorded block device exists. Blocks.
pub(super) fn ask_driver(record: &VolumeRecord) -> Found {
    match Control::open() {
        Ok(mut control) => find(&mut control, record),
        Err(error) => {
            tracing::error!(volume = record.name, "{error}");
            Found::Unknown
        }
    }
}

/// What the driver says of a recorded block device.
fn find(control: &mut Control, record: &VolumeRecord) -> Found {
    match control.info(record.device) {
        Ok(Some(info)) if info.cookie != record.cookie => Found::Gone,
        Ok(Some(info)) if info.state == State::Dead => Found::Dead,
        Ok(Some(info)) => Found::Waiting {
            queues: info.queues,
        },
        Ok(None) => Found::Gone,
        Err(error) => {
            tracing::error!(volume = record.name, "{error}");
            Found::Unknown
        }
    }
}
