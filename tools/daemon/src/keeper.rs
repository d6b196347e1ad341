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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use umpath_host::record::{self, VERSION, VolumeRecord};
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

/// What earlier runs have kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Every volume there is a file of.
    pub(crate) volumes: Vec<VolumeRecord>,
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
    /// Held while a volume's file is looked at and then written or removed: its successor may be doing so.
    files: Arc<Mutex<()>>,
}

impl Keeper {
    /// Opens the folder, making it where there is none.
    pub(crate) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let dir = state_dir.join("volumes");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (later, jobs) = channel();
        let state_dir = state_dir.to_owned();
        let (folder, files) = (state_dir.clone(), Arc::new(Mutex::new(())));
        let shared = files.clone();
        std::thread::Builder::new()
            .name("umpath-keeper".into())
            .spawn(move || keep(&folder, &shared, &jobs))
            .context("cannot start the thread that keeps volumes")?;
        Ok(Self {
            state_dir,
            later,
            files,
        })
    }

    /// What earlier runs have kept. A volume's file that cannot be understood, or that names a block device
    /// it may not have, is an error: that device may be in use, and its namespace would get a second one.
    /// A copy of one is not used.
    pub(crate) fn kept(&self) -> anyhow::Result<Kept> {
        let volumes = load(&self.state_dir.join("volumes"))?;
        let names = lines(&self.state_dir.join(NAMES))?;
        let numbers = lines(&self.state_dir.join(NUMBERS))?;
        let number = |(number, key): (String, String)| Some((key, number.parse().ok()?));
        Ok(Kept {
            volumes,
            names,
            numbers: numbers.into_iter().filter_map(number).collect(),
        })
    }

    /// Writes a volume's file; it is on disk when this returns.
    pub(crate) fn write(&self, record: &VolumeRecord) -> anyhow::Result<()> {
        let _files = taken(&self.files);
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
        let _files = taken(&self.files);
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
}

/// Nothing is half-done behind a lock that guards no data.
fn taken(files: &Mutex<()>) -> MutexGuard<'_, ()> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does jobs in order, for as long as there is anybody to ask. One that fails is tried again until a
/// later one of its kind takes its place.
fn keep(state_dir: &Path, files: &Mutex<()>, jobs: &Receiver<Job>) {
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
            let outcome = {
                let _files = taken(files);
                job.run(state_dir)
            };
            match outcome {
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
                match read(&path) {
                    // A late note must not overwrite what another device of that namespace wrote.
                    Ok(known) if known.cookie != record.cookie => Ok(()),
                    // Removed meanwhile: nor may it bring the volume back.
                    Err(error) if is_missing(&error) => Ok(()),
                    Ok(_) => durable::write_json(&path, record),
                    Err(error) => Err(error.context(format!("cannot read {}", path.display()))),
                }
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

/// Every volume there is a file of.
fn load(dir: &Path) -> anyhow::Result<Vec<VolumeRecord>> {
    let named = |path: PathBuf| {
        let name = path.file_stem().expect("what has an extension has a stem");
        let record = read(&path).with_context(|| {
            format!(
                "{} names a block device that may be in use, and cannot be understood; start the \
                 umpathd that wrote it, or remove it once that device has gone (/sys/block/ublkb*)",
                path.display()
            )
        })?;
        Ok((name.to_string_lossy().into_owned(), record))
    };
    let files = durable::json_files(dir)?.into_iter().map(named);
    let judged = record::judge(files.collect::<anyhow::Result<Vec<_>>>()?);
    let said = |(name, why): (String, String)| {
        let path = dir.join(format!("{name}.json"));
        format!("{} is not used: {why}", path.display())
    };
    for copy in judged.copies {
        tracing::error!("{}", said(copy));
    }
    let doubtful: Vec<String> = judged.doubtful.into_iter().map(said).collect();
    anyhow::ensure!(doubtful.is_empty(), "{}", doubtful.join("; "));
    Ok(judged.in_force)
}

fn read(path: &Path) -> anyhow::Result<VolumeRecord> {
    let record: VolumeRecord = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    anyhow::ensure!(
        record.version == VERSION,
        "it was written by another version of umpathd ({}, this one writes {VERSION})",
        record.version
    );
    Ok(record)
}

fn is_missing(error: &anyhow::Error) -> bool {
    let source = error.downcast_ref::<std::io::Error>();
    source.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
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

    fn loaded(keeper: &Keeper) -> Vec<VolumeRecord> {
        keeper.kept().unwrap().volumes
    }

    #[test]
    fn what_was_written_is_read_until_it_is_removed() {
        let folder = folder("keeper");
        let keeper = Keeper::open(&folder).unwrap();
        let record = record();
        keeper.write(&record).unwrap();
        assert_eq!(loaded(&keeper), std::slice::from_ref(&record));
        let successor = VolumeRecord {
            cookie: record.cookie + 1,
            ..record.clone()
        };
        keeper.write(&successor).unwrap();
        keeper.remove(&record);
        assert_eq!(loaded(&keeper), std::slice::from_ref(&successor));
        keeper.remove(&successor);
        keeper.remove(&successor);
        assert!(loaded(&keeper).is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_nobody_understands_is_not_passed_over() {
        let folder = folder("keeper-strangers");
        let keeper = Keeper::open(&folder).unwrap();
        std::fs::write(folder.join("volumes/note.txt"), "hello").unwrap();
        std::fs::write(folder.join("volumes/half.new"), "{\"version\": 1,").unwrap();
        assert!(loaded(&keeper).is_empty());
        let half = folder.join("volumes/half.json");
        std::fs::write(&half, "{\"version\": 1,").unwrap();
        let error = format!("{:#}", keeper.kept().unwrap_err());
        assert!(
            error.contains("half.json") && error.contains("remove it"),
            "{error}"
        );
        std::fs::remove_file(half).unwrap();
        let future = VolumeRecord {
            version: VERSION + 1,
            ..record()
        };
        keeper.write(&future).unwrap();
        let error = format!("{:#}", keeper.kept().unwrap_err());
        assert!(error.contains("another version"), "{error}");
        std::fs::remove_dir_all(folder.join("volumes")).unwrap();
        assert!(
            keeper.kept().is_err(),
            "a folder that cannot be read is no empty one"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// The daemon ended at an assertion, at every start.
    #[test]
    fn a_copy_of_a_file_is_not_used() {
        let folder = folder("keeper-copies");
        let keeper = Keeper::open(&folder).unwrap();
        keeper.write(&record()).unwrap();
        let own = file(&folder, &record().id);
        for copy in ["backup", "a.b", "uuid.07070707-0707-0707-0707-070707070708"] {
            std::fs::copy(&own, own.with_file_name(format!("{copy}.json"))).unwrap();
        }
        assert_eq!(loaded(&keeper), [record()]);
        std::fs::remove_file(&own).unwrap();
        let error = keeper.kept().unwrap_err().to_string();
        assert!(
            error.contains("backup.json is not used: the file of its volume"),
            "{error}"
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
        assert!(loaded(&keeper).is_empty());
        let mut successor = record();
        successor.cookie += 1;
        successor.facts.name = "vol2".to_owned();
        keeper.write(&successor).unwrap();
        Job::Volume(Box::new(record())).run(&folder).unwrap();
        assert_eq!(
            loaded(&keeper),
            [successor],
            "nor does it overwrite its successor"
        );
        std::fs::write(file(&folder, &record().id), "{").unwrap();
        assert!(Job::Volume(Box::new(record())).run(&folder).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
