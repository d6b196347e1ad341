//! Namespaces: what is on the medium, and what the application may see of it.

use umpath_session::StableId;
use umpath_target::model::{Geometry, Nguid, derive_uuid};
use umpath_target::subsystem::Namespace;

use super::array::{LBA_SHIFT, NQN};
use super::checker::{Checker, stamp};
use super::plan::VolumePlan;

/// A namespace's place among all of a run; its number (NSID) is one more at first.
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
    /// The number (NSID) it has now.
    pub(crate) nsid: u32,
    pub(crate) checker: Checker,
    pub(crate) medium: Medium,
}

impl Store {
    pub(crate) fn new(store: StoreId, plan: &VolumePlan, cache: bool) -> Self {
        let most = plan.blocks + GROWTH;
        Self {
            id: StableId::Uuid(derive_uuid(NQN, first_nsid(store)).into_bytes()),
            blocks: plan.blocks,
            exists: plan.from_start,
            nsid: first_nsid(store),
            checker: Checker::new(store, most, cache),
            medium: Medium::new(store, most),
        }
    }

    /// As the array presents it now.
    pub(crate) fn namespace(&self, store: StoreId, cache: bool) -> Namespace<StoreId> {
        Namespace {
            nsid: self.nsid,
            ana_group: ana_group_of(store),
            uuid: derive_uuid(NQN, first_nsid(store)),
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

/// The number a namespace has until somebody changes it.
pub(crate) fn first_nsid(store: StoreId) -> u32 {
    store as u32 + 1
}

/// Each namespace is alone in its ANA group, whatever its number.
pub(crate) fn ana_group_of(store: StoreId) -> u32 {
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
