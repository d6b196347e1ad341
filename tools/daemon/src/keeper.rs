//! Volumes on disk: what the next umpathd needs to take this one's block devices over.
//!
//! One file a volume in `volumes/` of the state directory, written before the block device appears
//! and removed after it has gone, so that a device of ours without a file never outlives us. A file
//! without its device (the machine was restarted, or the end came between the two steps) says so
//! itself: the driver keeps a random cookie with each device, and only a device with the file's
//! cookie is the file's.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use umpath_core::BlockLimits;
use umpath_protocol::{ConnectOptions, Portal};
use umpath_session::{NamespaceFacts, StableId};

use crate::durable;
use crate::volume::VolumeSpec;

/// Raised when a field changes its meaning. A file of another version is left alone.
const VERSION: u32 = 1;

/// A path as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) portal: Portal,
    pub(crate) nqn: String,
    pub(crate) options: ConnectOptions,
}

/// What is kept of a volume. What the configuration decides is not: it is read anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeRecord {
    version: u32,
    /// Number of the block device.
    pub(crate) device: u32,
    /// What the driver keeps with it.
    pub(crate) cookie: u64,
    pub(crate) id: StableId,
    pub(crate) name: String,
    pub(crate) nqn: String,
    pub(crate) serial: String,
    pub(crate) model: String,
    pub(crate) firmware: String,
    pub(crate) nsid: u32,
    pub(crate) namespace: NamespaceFacts,
    pub(crate) limits: BlockLimits,
    pub(crate) paths: Vec<Asked>,
}

impl VolumeRecord {
    /// The record of a volume whose block device has just been made.
    pub(crate) fn new(spec: &VolumeSpec, device: u32, cookie: u64) -> Self {
        Self {
            version: VERSION,
            device,
            cookie,
            id: spec.id,
            name: spec.name.clone(),
            nqn: spec.nqn.clone(),
            serial: spec.serial.clone(),
            model: spec.model.clone(),
            firmware: spec.firmware.clone(),
            nsid: spec.nsid,
            namespace: spec.namespace.clone(),
            limits: spec.limits.clone(),
            paths: Vec::new(),
        }
    }
}

/// The files.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    dir: PathBuf,
    /// To the thread that writes what nobody waits for, in order.
    later: Sender<VolumeRecord>,
}

impl Keeper {
    /// Opens the folder, making it where there is none.
    pub(crate) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let dir = state_dir.join("volumes");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (later, records) = channel::<VolumeRecord>();
        let writer = dir.clone();
        std::thread::Builder::new()
            .name("umpath-keeper".into())
            .spawn(move || {
                for record in records {
                    // Removed meanwhile: a late note must not bring it back.
                    if file(&writer, &record.id).exists()
                        && let Err(error) = write(&writer, &record)
                    {
                        tracing::warn!("{error:#}; a restart will not know all paths");
                    }
                }
            })
            .context("cannot start the thread that keeps volumes")?;
        Ok(Self { dir, later })
    }

    /// Writes a volume's file; it is on disk when this returns.
    pub(crate) fn write(&self, record: &VolumeRecord) -> anyhow::Result<()> {
        write(&self.dir, record)
    }

    /// Writes a volume's file again, some time, if it still exists then.
    pub(crate) fn rewrite(&self, record: VolumeRecord) {
        // The thread lives as long as any sender.
        let _ = self.later.send(record);
    }

    /// The volume is gone. A file that another volume of the same identity has written since stays.
    pub(crate) fn remove(&self, record: Option<&VolumeRecord>) {
        let Some(record) = record else { return };
        let path = file(&self.dir, &record.id);
        if read(&path).is_ok_and(|known| known.cookie != record.cookie) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }

    /// Every volume there is a file of. A file that cannot be understood is named and left alone.
    pub(crate) fn load(&self) -> Vec<VolumeRecord> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "json")
            })
            .collect();
        paths.sort();
        paths
            .iter()
            .filter_map(|path| match read(path) {
                Ok(record) => Some(record),
                Err(error) => {
                    tracing::error!(
                        "{error:#}: if its block device still exists, nobody serves it; \
                         see `umpath list` and /sys/block/ublkb*"
                    );
                    None
                }
            })
            .collect()
    }
}

fn file(dir: &Path, id: &StableId) -> PathBuf {
    dir.join(format!("{id}.json"))
}

fn read(path: &Path) -> anyhow::Result<VolumeRecord> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let record: VolumeRecord =
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        record.version == VERSION,
        "{} was written by another version of umpathd ({}, this one writes {VERSION})",
        path.display(),
        record.version
    );
    Ok(record)
}

fn write(dir: &Path, record: &VolumeRecord) -> anyhow::Result<()> {
    durable::write_json(&file(dir, &record.id), record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> VolumeRecord {
        VolumeRecord {
            version: VERSION,
            device: 3,
            cookie: 77,
            id: StableId::Uuid([7; 16]),
            name: "vol1".into(),
            nqn: "nqn.2026-11.example:a".into(),
            serial: "S".into(),
            model: "M".into(),
            firmware: "1".into(),
            nsid: 1,
            namespace: crate::shape::sample(7),
            limits: BlockLimits {
                size_bytes: 4 << 30,
                logical_block_bytes: 4096,
                physical_block_bytes: 4096,
                io_min_bytes: 4096,
                io_opt_bytes: 1 << 17,
                max_io_bytes: 1 << 20,
                volatile_cache: true,
                read_only: false,
                discard: None,
                write_zeroes_max_bytes: 1 << 20,
            },
            paths: Vec::new(),
        }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("umpathd-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        folder
    }

    #[test]
    fn what_was_written_is_read_until_it_is_removed() {
        let folder = folder("keeper");
        let keeper = Keeper::open(&folder).unwrap();
        let record = record();
        keeper.write(&record).unwrap();
        assert_eq!(keeper.load(), std::slice::from_ref(&record));
        let successor = VolumeRecord {
            cookie: record.cookie + 1,
            ..record.clone()
        };
        keeper.write(&successor).unwrap();
        keeper.remove(Some(&record));
        assert_eq!(keeper.load(), std::slice::from_ref(&successor));
        keeper.remove(Some(&successor));
        keeper.remove(Some(&successor));
        assert!(keeper.load().is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn files_of_strangers_are_left_alone() {
        let folder = folder("keeper-strangers");
        let keeper = Keeper::open(&folder).unwrap();
        let future = VolumeRecord {
            version: VERSION + 1,
            ..record()
        };
        keeper.write(&future).unwrap();
        std::fs::write(folder.join("volumes/half.json"), "{\"version\": 1,").unwrap();
        std::fs::write(folder.join("volumes/note.txt"), "hello").unwrap();
        assert!(keeper.load().is_empty());
        assert_eq!(
            std::fs::read_dir(folder.join("volumes")).unwrap().count(),
            3
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
