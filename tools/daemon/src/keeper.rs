//! Volumes on disk: what the next umpathd needs to take this one's block devices over.
//!
//! One file a volume in `volumes/` of the state directory, written before the block device appears
//! and removed after it has gone, so that a device of ours without a file never outlives us. A file
//! without its device (the machine was restarted, or the end came between the two steps) says so
//! itself: the driver keeps a random cookie with each device, and only a device with the file's
//! cookie is the file's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::Context as _;
use umpath_host::record::{VERSION, VolumeRecord};
use umpath_session::StableId;

use crate::durable;

/// Names given to identities, and numbers given to paths, in the state directory.
const NAMES: &str = "bindings";
const NUMBERS: &str = "path-numbers";

/// How long after a failure something is written again.
const AGAIN: Duration = Duration::from_secs(5);
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// A job for the thread that writes what nobody waits for.
#[derive(Debug)]
enum Job {
    Volume(Box<VolumeRecord>),
    Names(Vec<(String, String)>),
    Numbers(Vec<(String, u32)>),
}

/// What was kept besides volumes.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Pairs of name and identity.
    pub(crate) names: Vec<(String, String)>,
    /// Pairs of what a path is, and its number.
    pub(crate) numbers: Vec<(String, u32)>,
}

/// The files.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    state_dir: PathBuf,
    /// To the thread that writes what nobody waits for, in order.
    later: Sender<Job>,
}

impl Keeper {
    /// Opens the folder, making it where there is none.
    pub(crate) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let dir = state_dir.join("volumes");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (later, jobs) = channel();
        let state_dir = state_dir.to_owned();
        let folder = state_dir.clone();
        std::thread::Builder::new()
            .name("umpath-keeper".into())
            .spawn(move || keep(&folder, &jobs))
            .context("cannot start the thread that keeps volumes")?;
        Ok(Self { state_dir, later })
    }

    /// Names and numbers as they were kept.
    pub(crate) fn kept(&self) -> anyhow::Result<Kept> {
        let names = lines(&self.state_dir.join(NAMES))?;
        let numbers = lines(&self.state_dir.join(NUMBERS))?;
        let number = |(number, key): (String, String)| Some((key, number.parse().ok()?));
        Ok(Kept {
            names,
            numbers: numbers.into_iter().filter_map(number).collect(),
        })
    }

    /// Writes a volume's file; it is on disk when this returns.
    pub(crate) fn write(&self, record: &VolumeRecord) -> anyhow::Result<()> {
        durable::write_json(&file(&self.state_dir, &record.id), record)
    }

    /// Writes a volume's file again, some time, if it still exists then.
    pub(crate) fn rewrite(&self, record: VolumeRecord) {
        self.do_later(Job::Volume(Box::new(record)));
    }

    /// Keeps names, some time.
    pub(crate) fn save_names(&self, names: Vec<(String, String)>) {
        self.do_later(Job::Names(names));
    }

    /// Keeps numbers, some time.
    pub(crate) fn save_numbers(&self, numbers: Vec<(String, u32)>) {
        self.do_later(Job::Numbers(numbers));
    }

    fn do_later(&self, job: Job) {
        // The thread lives as long as any sender.
        let _ = self.later.send(job);
    }

    /// The volume is gone. A file that another volume of the same identity has written since stays.
    pub(crate) fn remove(&self, record: &VolumeRecord) {
        let path = file(&self.state_dir, &record.id);
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
        let folder = self.state_dir.join("volumes");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
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

/// Does jobs in order, for as long as there is anybody to ask. One that fails is tried again until a
/// later one of its kind takes its place.
fn keep(state_dir: &Path, jobs: &Receiver<Job>) {
    let mut failed: BTreeMap<String, Job> = BTreeMap::new();
    loop {
        let job = match jobs.recv_timeout(if failed.is_empty() { FOR_EVER } else { AGAIN }) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let due: Vec<Job> = match job {
            Some(job) => vec![job],
            None => std::mem::take(&mut failed).into_values().collect(),
        };
        for job in due {
            let kind = job.kind();
            match job.run(state_dir) {
                Ok(()) => drop(failed.remove(&kind)),
                Err(error) => {
                    if !failed.contains_key(&kind) {
                        tracing::warn!(
                            "{error:#}; trying again. Until then a restart would not know what \
                             has changed"
                        );
                    }
                    failed.insert(kind, job);
                }
            }
        }
    }
}

impl Job {
    /// A later job of the same kind makes an earlier one useless.
    fn kind(&self) -> String {
        match self {
            Self::Volume(record) => record.id.to_string(),
            Self::Names(_) => NAMES.to_owned(),
            Self::Numbers(_) => NUMBERS.to_owned(),
        }
    }

    fn run(&self, state_dir: &Path) -> anyhow::Result<()> {
        match self {
            Self::Volume(record) => {
                let path = file(state_dir, &record.id);
                // Removed meanwhile: a late note must not bring it back.
                if !path.exists() {
                    return Ok(());
                }
                durable::write_json(&path, record)
            }
            Self::Names(names) => {
                let lines = names.iter().map(|(name, id)| format!("{name} {id}"));
                write_lines(&state_dir.join(NAMES), "name identity", lines)
            }
            Self::Numbers(numbers) => {
                let lines = numbers
                    .iter()
                    .map(|(key, number)| format!("{number} {key}"));
                write_lines(&state_dir.join(NUMBERS), "number path", lines)
            }
        }
    }
}

fn write_lines(
    path: &Path,
    columns: &str,
    lines: impl Iterator<Item = String>,
) -> anyhow::Result<()> {
    let mut text = format!("# {columns}: written by umpathd\n");
    for line in lines {
        text += &line;
        text.push('\n');
    }
    durable::write(path, text.as_bytes())
}

/// The first word of each line, and the rest.
fn lines(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    Ok(pairs
        .map(|(first, rest)| (first.to_owned(), rest.trim().to_owned()))
        .collect())
}

fn file(state_dir: &Path, id: &StableId) -> PathBuf {
    state_dir.join("volumes").join(format!("{id}.json"))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As it stands in files of earlier releases.
    fn text() -> String {
        let text = r#"{"version": 1, "device": 3, "cookie": 77, "id": {"Uuid": [7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7]},
            "name": "vol1", "nqn": "nqn.2026-11.example:a", "serial": "S", "model": "M", "firmware": "1",
            "nsid": 1, "namespace": NAMESPACE, "limits": {"size_bytes": 4294967296,
            "logical_block_bytes": 4096, "physical_block_bytes": 4096, "io_min_bytes": 4096,
            "io_opt_bytes": 131072, "max_io_bytes": 1048576, "volatile_cache": true, "read_only": false,
            "discard": null, "write_zeroes_max_bytes": 1048576}, "paths": []}"#;
        text.replace("NAMESPACE", NAMESPACE)
    }

    fn record() -> VolumeRecord {
        serde_json::from_str(&text()).unwrap()
    }

    #[test]
    fn a_record_is_written_as_it_was_read() {
        let known: serde_json::Value = serde_json::from_str(&text()).unwrap();
        assert_eq!(serde_json::to_value(record()).unwrap(), known);
    }

    /// As earlier releases wrote it.
    const NAMESPACE: &str = r#"{"id": {"Uuid": [7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7]},
        "uuid": [7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7], "nguid": null, "eui64": null, "blocks": 1048576,
        "lba_shift": 12, "shared": true, "ana_group": 1, "write_protected": false,
        "deallocated_reads_zero": true, "write_zeroes_deallocates": true, "dealloc_granularity": 1,
        "dealloc_alignment": 1, "write_granularity": 1, "write_optimal": 3, "io_boundary": null}"#;

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
        keeper.remove(&record);
        assert_eq!(keeper.load(), std::slice::from_ref(&successor));
        keeper.remove(&successor);
        keeper.remove(&successor);
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

    #[test]
    fn names_and_numbers_are_there_for_the_next_run() {
        let folder = folder("keeper-names");
        let keeper = Keeper::open(&folder).unwrap();
        let names = vec![("vol1".to_owned(), "uuid.a".to_owned())];
        let numbers = vec![("rdma,10.0.0.1,4420,, nqn".to_owned(), 2)];
        Job::Names(names.clone()).run(&folder).unwrap();
        Job::Numbers(numbers.clone()).run(&folder).unwrap();
        let kept = keeper.kept().unwrap();
        assert_eq!((kept.names, kept.numbers), (names, numbers));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_late_note_does_not_bring_a_volume_back() {
        let folder = folder("keeper-late");
        let keeper = Keeper::open(&folder).unwrap();
        Job::Volume(Box::new(record())).run(&folder).unwrap();
        assert!(keeper.load().is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
