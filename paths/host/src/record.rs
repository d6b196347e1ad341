//! What must survive this process: the associations its successor must fence before it writes, and
//! the volumes it takes over.
//!
//! Decided here: what is recorded. The host orders when it must be durable; the shell decides how
//! it is written.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use umpath_core::AssociationId;
use umpath_core::association::{FenceTerms, quiesce_floor};
use umpath_nvme::Nqn;
use umpath_nvme::command::Instance;
use umpath_session::ControllerFacts;

pub use crate::spec::Asked;
use crate::spec::{VolumeFacts, VolumeSpec};

/// Incremented when a field changes its meaning.
pub const VERSION: u32 = 1;

/// Key of an association record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// An association of this process.
    Own(AssociationId),
    /// An association of an earlier process, by the number the shell gave it.
    Inherited(u64),
}

/// What fencing an association requires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssociationRecord {
    /// [`VERSION`].
    pub version: u32,
    /// NQN of the subsystem whose writes wait.
    #[serde(with = "nqn_in_words")]
    pub nqn: Nqn,
    /// Address of the path, for display only.
    pub address: String,
    cntlid: u16,
    ciu: u8,
    cirn: u64,
    /// Absent if the controller has no keep-alive timer.
    kato_ms: Option<u64>,
    traffic_based: bool,
    cqt_ms: u64,
}

impl AssociationRecord {
    /// The record of an association that has just become ready.
    #[must_use]
    pub fn new(nqn: &Nqn, address: String, facts: &ControllerFacts) -> Self {
        Self {
            version: VERSION,
            nqn: nqn.clone(),
            address,
            cntlid: facts.cntlid,
            ciu: facts.ciu,
            cirn: facts.cirn,
            kato_ms: facts.kato.map(|kato| kato.as_millis() as u64),
            traffic_based: facts.traffic_based,
            cqt_ms: facts.cqt.as_millis() as u64,
        }
    }

    /// The controller incarnation to fence.
    pub fn instance(&self) -> Instance {
        Instance {
            cntlid: self.cntlid,
            ciu: self.ciu,
            cirn: self.cirn,
        }
    }

    /// What its controller promised about ending by itself.
    pub fn terms(&self, floor: Option<Duration>) -> Option<FenceTerms> {
        let kato = Duration::from_millis(self.kato_ms?);
        // Already rounded to the controller's granularity.
        let unit = 1;
        let cqt = Duration::from_millis(self.cqt_ms);
        let floor = quiesce_floor(floor, cqt);
        FenceTerms::new(kato, unit, self.traffic_based, cqt, floor)
    }
}

/// An NQN as a string: a record without a valid one does not say whose writes must wait.
mod nqn_in_words {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use umpath_nvme::Nqn;

    pub(super) fn serialize<S: Serializer>(nqn: &Nqn, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(nqn.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Nqn, D::Error> {
        let words = String::deserialize(from)?;
        let wrong = |error| D::Error::custom(format!("{words:?} is no NQN: {error}"));
        words.parse().map_err(wrong)
    }
}

/// The record of a volume. Configured settings are left out: they are read anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// [`VERSION`].
    pub version: u32,
    /// Number of the block device.
    pub device: u32,
    /// Cookie the driver stores with it.
    pub cookie: u64,
    /// What it is.
    #[serde(flatten)]
    pub facts: VolumeFacts,
    /// Paths to reconnect.
    pub paths: Vec<Asked>,
}

impl Deref for VolumeRecord {
    type Target = VolumeFacts;

    fn deref(&self) -> &VolumeFacts {
        &self.facts
    }
}

impl VolumeRecord {
    /// The record of a volume whose block device has just been made.
    #[must_use]
    pub fn new(spec: &VolumeSpec, device: u32, cookie: u64) -> Self {
        Self {
            version: VERSION,
            device,
            cookie,
            facts: spec.facts.clone(),
            paths: spec.paths.clone(),
        }
    }
}

/// What the volume files of an earlier process are. Files are called by their names, with a reason.
#[derive(Debug, Default)]
pub struct Judged {
    /// Records to be taken over.
    pub in_force: Vec<VolumeRecord>,
    /// Further files of those volumes, which are of no use.
    pub copies: Vec<(String, String)>,
    /// Only somebody who knows can say whose block devices these name. Without them their namespaces would
    /// get second ones.
    pub doubtful: Vec<(String, String)>,
}

/// Judges volume files, each by its name without the extension: people copy, rename and edit them.
///
/// A volume has one file, named after its identity; under another name it would never be written again
/// or removed. Of two volumes that claim one block device neither is believed: its requests would go to
/// the namespace of whichever came first.
#[must_use]
pub fn judge(files: impl IntoIterator<Item = (String, VolumeRecord)>) -> Judged {
    let mut judged = Judged::default();
    let (named, misnamed): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|(name, record)| *name == record.id.to_string());
    let device = |record: &VolumeRecord| (record.device, record.cookie);
    let mut claims = BTreeMap::new();
    for (_, record) in &named {
        *claims.entry(device(record)).or_insert(0) += 1;
    }
    for (name, record) in misnamed {
        let id = record.id;
        if named.iter().any(|(_, other)| other.id == id) {
            let why = format!("the file of its volume is {id}.json; remove this one");
            judged.copies.push((name, why));
        } else {
            let why = format!(
                "the file of its volume, {id}.json, is missing; if this is it, call it that"
            );
            judged.doubtful.push((name, why));
        }
    }
    for (name, record) in named {
        if claims.get(&device(&record)) == Some(&1) {
            judged.in_force.push(record);
            continue;
        }
        let why = format!(
            "another volume claims its block device ublkb{} too; remove the file of the one that does \
             not have it",
            record.device
        );
        judged.doubtful.push((name, why));
    }
    judged
}
