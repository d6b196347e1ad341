//! Associations on disk: what the next umpathd must fence before it may write.
//!
//! The next umpathd gets the requests of a dead one again and cannot tell which were sent already,
//! so every association that may have carried one is an association whose writes may still be
//! executed. One file for each in `associations/` of the state directory: on disk before the first
//! request goes out on it, removed when it is fenced or has ended with nothing in flight. A file too
//! many costs a pause at the next start; one too few could cost data.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use umpath_core::AssociationId;
use umpath_core::association::{FenceTerms, quiesce_floor};
use umpath_nvme::command::Instance;
use umpath_session::ControllerFacts;

use crate::{clock, durable};

/// Raised when a field changes its meaning.
const VERSION: u32 = 1;

/// What a fence needs to know of an association.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AssociationRecord {
    version: u32,
    /// The subsystem.
    pub(crate) nqn: String,
    /// The path, for humans.
    pub(crate) address: String,
    cntlid: u16,
    ciu: u8,
    cirn: u64,
    /// Absent: the controller has no keep-alive timer.
    kato_ms: Option<u64>,
    traffic_based: bool,
    cqt_ms: u64,
}

impl AssociationRecord {
    /// The record of an association that has just become ready.
    pub(crate) fn new(nqn: &str, address: String, facts: &ControllerFacts) -> Self {
        Self {
            version: VERSION,
            nqn: nqn.to_owned(),
            address,
            cntlid: facts.cntlid,
            ciu: facts.ciu,
            cirn: facts.cirn,
            kato_ms: facts.kato.map(|kato| kato.as_millis() as u64),
            traffic_based: facts.traffic_based,
            cqt_ms: facts.cqt.as_millis() as u64,
        }
    }

    /// The incarnation to be fenced.
    pub(crate) fn instance(&self) -> Instance {
        Instance {
            cntlid: self.cntlid,
            ciu: self.ciu,
            cirn: self.cirn,
        }
    }

    /// What its controller promised about ending by itself.
    pub(crate) fn terms(&self) -> Option<FenceTerms> {
        let kato = Duration::from_millis(self.kato_ms?);
        // Rounded to the controller's granularity already.
        let unit = 1;
        let cqt = Duration::from_millis(self.cqt_ms);
        let floor = quiesce_floor(None, cqt);
        FenceTerms::new(kato, unit, self.traffic_based, cqt, floor)
    }
}

/// The files.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
    /// Tells this run's files from those of others.
    run: u64,
}

impl Records {
    /// Opens the folder, making it where there is none.
    pub(crate) fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let dir = state_dir.join("associations");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self {
            dir,
            run: clock::unix_ms(),
        })
    }

    /// The file of an association of this run.
    pub(crate) fn file(&self, association: AssociationId) -> PathBuf {
        self.dir.join(format!("{}-{association}.json", self.run))
    }

    /// Writes an association's file; it is on disk when this returns.
    pub(crate) fn write(
        &self,
        association: AssociationId,
        record: &AssociationRecord,
    ) -> anyhow::Result<()> {
        durable::write_json(&self.file(association), record)
    }

    /// Every association an earlier run has left. A file that cannot be understood is an error: it
    /// stands for writes that nobody would wait for.
    pub(crate) fn load(&self) -> anyhow::Result<Vec<(PathBuf, AssociationRecord)>> {
        let entries = std::fs::read_dir(&self.dir)
            .with_context(|| format!("cannot read {}", self.dir.display()))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|known| known == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        paths
            .into_iter()
            .map(|path| {
                let record = read(&path).with_context(|| {
                    format!(
                        "{} names an association that may still execute writes, and cannot be \
                         understood; remove it once every controller of that subsystem has \
                         certainly stopped serving this host (some keep-alive timeouts after \
                         umpathd ended)",
                        path.display()
                    )
                })?;
                Ok((path, record))
            })
            .collect()
    }
}

/// An association is fenced, or nothing was in flight on it. A file that stays costs a pause at the
/// next start.
pub(crate) fn forget(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
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

    fn record(kato_ms: Option<u64>) -> AssociationRecord {
        AssociationRecord {
            version: VERSION,
            nqn: "nqn.2026-11.example:a".into(),
            address: "rdma,10.0.0.1:4420".into(),
            cntlid: 7,
            ciu: 3,
            cirn: u64::MAX,
            kato_ms,
            traffic_based: true,
            cqt_ms: 50,
        }
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
        let wanted = record(Some(1_000));
        records.write(AssociationId(4), &wanted).unwrap();
        let next = Records::open(&folder).unwrap();
        let left = next.load().unwrap();
        assert_eq!(left, [(records.file(AssociationId(4)), wanted.clone())]);
        assert_eq!(left[0].1.instance().cirn, u64::MAX);
        let terms = left[0].1.terms().unwrap();
        assert_eq!(terms.kato(), Duration::from_secs(1));
        forget(&left[0].0);
        forget(&left[0].0);
        assert!(next.load().unwrap().is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn without_a_keep_alive_timer_time_is_no_fence() {
        assert_eq!(record(None).terms(), None);
    }

    #[test]
    fn a_file_nobody_understands_is_not_passed_over() {
        let folder = folder("records-strangers");
        let records = Records::open(&folder).unwrap();
        std::fs::write(folder.join("associations/half.new"), "{").unwrap();
        assert!(records.load().unwrap().is_empty(), "never in force");
        std::fs::write(folder.join("associations/half.json"), "{").unwrap();
        let error = format!("{:#}", records.load().unwrap_err());
        assert!(error.contains("half.json") && error.contains("remove it"));
        let future = AssociationRecord {
            version: VERSION + 1,
            ..record(None)
        };
        std::fs::remove_file(folder.join("associations/half.json")).unwrap();
        records.write(AssociationId(1), &future).unwrap();
        assert!(records.load().is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
