//! Namespaces: what is on the medium, and what the application may see of it.

use umpath_session::StableId;
use umpath_target::model::{Geometry, Nguid, derive_uuid};
use umpath_target::subsystem::Namespace;

use super::array::{LBA_SHIFT, NQN};
use super::checker::{Checker, stamp};
use super::plan::VolumePlan;

/// A namespace's place among all of a run; its number (NSID) is one more.
pub(crate) type StoreId = usize;

/// How much a namespace may grow.
pub(crate) const GROWTH: u64 = 8;

/// A namespace.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) id: StableId,
    /// As the array says.
    pub(crate) blocks: u64,
    /// The array has it.
    pub(crate) exists: bool,
    pub(crate) checker: Checker,
    pub(crate) medium: Medium,
}

impl Store {
    pub(crate) fn new(store: StoreId, plan: &VolumePlan, cache: bool) -> Self {
        let most = plan.blocks + GROWTH;
        Self {
            id: StableId::Uuid(derive_uuid(NQN, nsid_of(store)).into_bytes()),
            blocks: plan.blocks,
            exists: plan.from_start,
            checker: Checker::new(store, most, cache),
            medium: Medium::new(store, most),
        }
    }

    /// As the array presents it now.
    pub(crate) fn namespace(&self, store: StoreId, cache: bool) -> Namespace<StoreId> {
        let nsid = nsid_of(store);
        Namespace {
            nsid,
            ana_group: nsid,
            uuid: derive_uuid(NQN, nsid),
            nguid: Nguid([7 + store as u8; 16]),
            eui64: None,
            geometry: Geometry {
                block_bytes: 1 << LBA_SHIFT,
                blocks: self.blocks,
                volatile_cache: cache,
            },
            media: store,
            description: String::new(),
        }
    }
}

pub(crate) fn nsid_of(store: StoreId) -> u32 {
    store as u32 + 1
}

/// What is on the disk.
#[derive(Debug)]
pub(crate) struct Medium {
    /// What reads return.
    pub(crate) seen: Vec<u64>,
    /// What outlives the power.
    pub(crate) durable: Vec<u64>,
    /// Through which process a block was last written.
    pub(crate) through: Vec<usize>,
}

impl Medium {
    fn new(store: StoreId, blocks: u64) -> Self {
        let seen: Vec<u64> = (0..blocks).map(|lba| stamp(store, 0, lba)).collect();
        Self {
            durable: seen.clone(),
            through: vec![0; seen.len()],
            seen,
        }
    }
}
