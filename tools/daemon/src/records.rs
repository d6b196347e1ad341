//! Associations on disk: what the next umpathd must fence before it may write.
//!
//! The next umpathd gets the requests of a dead one again and cannot tell which were sent already,
//! so every association that may have carried one is an association whose writes may still be
//! executed. One file for each in `associations/` of the state directory: on disk before the first
//! request goes out on it, removed when it is fenced or has ended with nothing in flight. A file too
//! many costs a pause at the next start; one too few could cost data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use umpath_core::AssociationId;
use umpath_host::record::{AssociationRecord, RecordKey, VERSION};

use crate::durable;

/// The files.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
    /// Tells this run's files from those of others.
    run: uuid::Uuid,
    /// What earlier runs have left, by number.
    inherited: Arc<Vec<(PathBuf, AssociationRecord)>>,
}

impl Records {
    /// Opens the folder, making it where there is none, and reads what earlier runs have left. A file
    /// that cannot be understood is an error: it stands for writes that nobody would wait for.
    pub(crate) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let dir = state_dir.join("associations");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self {
            inherited: Arc::new(load(&dir)?),
            dir,
            run: uuid::Uuid::new_v4(),
        })
    }

    /// Every association an earlier run has left, by number.
    pub(crate) fn inherited(&self) -> Vec<(u64, AssociationRecord)> {
        let records = self.inherited.iter().map(|(_, record)| record.clone());
        (0..).zip(records).collect()
    }

    /// Writes an association's file; it is on disk when this returns.
    pub(crate) fn write(
        &self,
        association: AssociationId,
        record: &AssociationRecord,
    ) -> anyhow::Result<()> {
        durable::write_json(&self.file(association), record)
    }

    /// An association is fenced, or nothing was in flight on it. A file that stays costs a pause at
    /// the next start.
    pub(crate) fn forget(&self, key: &RecordKey) {
        let path = match key {
            RecordKey::Own(association) => self.file(*association),
            RecordKey::Inherited(number) => {
                let record = self.inherited.get(*number as usize);
                record.expect("a record that was inherited").0.clone()
            }
        };
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }

    /// The file of an association of this run.
    fn file(&self, association: AssociationId) -> PathBuf {
        self.dir
            .join(format!("{}-{association}.json", self.run.simple()))
    }
}

fn load(dir: &Path) -> anyhow::Result<Vec<(PathBuf, AssociationRecord)>> {
    let record = |path: PathBuf| {
        let record = read(&path).with_context(|| {
            format!(
                "{} names an association that may still execute writes, and cannot be understood; \
                 remove it once every controller of that subsystem has certainly stopped serving \
                 this host (some keep-alive timeouts after umpathd ended)",
                path.display()
            )
        })?;
        Ok((path, record))
    };
    durable::json_files(dir)?.into_iter().map(record).collect()
}

fn read(path: &Path) -> anyhow::Result<AssociationRecord> {
    let record: AssociationRecord = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    anyhow::ensure!(
        record.version == VERSION,
        "it was written by another version of umpathd ({}, this one writes {VERSION})",
        record.version
    );
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: u32) -> AssociationRecord {
        let text = format!(
            r#"{{"version": {version}, "nqn": "nqn.2026-11.example:a", "address": "rdma,10.0.0.1:4420",
            "cntlid": 7, "ciu": 3, "cirn": {}, "kato_ms": 1000, "traffic_based": true, "cqt_ms": 50}}"#,
            u64::MAX
        );
        serde_json::from_str(&text).unwrap()
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("umpathd-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_was_written_is_there_for_the_next_run_until_it_is_fenced() {
        let folder = folder("records");
        let records = Records::open(&folder).unwrap();
        assert_eq!(records.inherited(), []);
        let wanted = record(VERSION);
        records.write(AssociationId(4), &wanted).unwrap();
        let next = Records::open(&folder).unwrap();
        assert_eq!(next.inherited(), [(0, wanted)]);
        assert_eq!(next.inherited()[0].1.instance().cirn, u64::MAX);
        next.forget(&RecordKey::Inherited(0));
        next.forget(&RecordKey::Inherited(0));
        assert_eq!(Records::open(&folder).unwrap().inherited(), []);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// The runs were told apart by the clock: two that began in the same millisecond, or at the same
    /// wrong time after a boot, wrote and removed each other's files.
    #[test]
    fn runs_are_told_apart_whatever_the_clock_says() {
        let folder = folder("records-runs");
        let runs = [0; 2].map(|_| Records::open(&folder).unwrap());
        for run in &runs {
            run.write(AssociationId(1), &record(VERSION)).unwrap();
        }
        runs[0].forget(&RecordKey::Own(AssociationId(1)));
        assert_eq!(Records::open(&folder).unwrap().inherited().len(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_nobody_understands_is_not_passed_over() {
        let folder = folder("records-strangers");
        let records = Records::open(&folder).unwrap();
        std::fs::write(folder.join("associations/half.new"), "{").unwrap();
        assert_eq!(
            Records::open(&folder).unwrap().inherited(),
            [],
            "never in force"
        );
        std::fs::write(folder.join("associations/half.json"), "{").unwrap();
        let error = format!("{:#}", Records::open(&folder).unwrap_err());
        assert!(error.contains("half.json") && error.contains("remove it"));
        let nameless = serde_json::to_string(&record(VERSION)).unwrap();
        let nameless = nameless.replace("nqn.2026-11.example:a", "");
        std::fs::write(folder.join("associations/half.json"), nameless).unwrap();
        let error = format!("{:#}", Records::open(&folder).unwrap_err());
        assert!(error.contains("is no NQN"), "{error}");
        std::fs::remove_file(folder.join("associations/half.json")).unwrap();
        records
            .write(AssociationId(1), &record(VERSION + 1))
            .unwrap();
        assert!(Records::open(&folder).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
