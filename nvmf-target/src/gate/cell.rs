//! What gates and boards are made of: atomics in a fixed layout, in memory of this process alone or
//! mapped by every process that serves the same store.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use umpath_nvme::command::Instance;

use crate::sync::{AtomicU32, AtomicU64};

/// Processes that may serve one subsystem.
pub const PROCESSES_MAX: usize = if cfg!(all(test, feature = "loom")) {
    2
} else {
    4
};
/// Controllers of one subsystem that one process may have; for loom no more than it must explore.
pub(super) const CELLS_EACH: usize = if cfg!(all(test, feature = "loom")) {
    1
} else {
    256
};

/// The gate of one controller incarnation.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Cell {
    /// Controller identifier (15:0), instance uniquifier (23:16), in use once (24).
    pub(super) identity: AtomicU64,
    pub(super) cirn: AtomicU64,
    pub(super) host: AtomicU64,
    /// What the gate admits; see [`Gate`](super::Gate).
    pub(super) epoch: AtomicU64,
    /// How many incarnations had this cell: the upper half of their epochs.
    pub(super) generation: AtomicU64,
    /// The order in which its process took cells.
    pub(super) taken: AtomicU64,
    /// Commands counted by the gate.
    pub(super) in_flight: AtomicU32,
    /// The keep-alive timer of this incarnation ran out.
    pub(super) lost: AtomicU32,
}

pub(super) const USED: u64 = 1 << 24;

impl Cell {
    pub(super) fn instance(&self) -> Option<Instance> {
        let identity = self.identity.load(SeqCst);
        (identity & USED != 0).then(|| Instance {
            cntlid: identity as u16,
            ciu: (identity >> 16) as u8,
            cirn: self.cirn.load(SeqCst),
        })
    }

    pub(super) fn is_retired(&self) -> bool {
        let epoch = self.epoch.load(SeqCst);
        (epoch == 0 || epoch == CONDEMNED) && self.in_flight.load(SeqCst) == 0
    }
}

/// One process.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Row {
    /// A mark of the backing stores it has open for the subsystem.
    pub(super) stores: AtomicU32,
    /// Rises when another process condemned one of its cells.
    pub(super) condemned: AtomicU32,
    /// Rises when one of its controllers lost its host.
    pub(super) losses: AtomicU32,
}

/// Names this layout, and its version in the last byte.
const LAYOUT: u64 = u64::from_be_bytes(*b"umpathF\x01");

/// The layout, all zero when nobody used it yet.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Memory {
    /// [`LAYOUT`] once somebody used it.
    layout: AtomicU64,
    pub(super) rows: [Row; PROCESSES_MAX],
    pub(super) cells: [Cell; PROCESSES_MAX * CELLS_EACH],
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            layout: AtomicU64::new(0),
            rows: std::array::from_fn(|_| Row::default()),
            cells: std::array::from_fn(|_| Cell::default()),
        }
    }
}

/// Where the memory is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Own(Arc<Memory>),
    Shared(&'static Memory),
}

impl Deref for Place {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        match self {
            Self::Own(memory) => memory,
            Self::Shared(memory) => memory,
        }
    }
}

/// The epoch of a gate that admits nothing any more.
pub(super) const CONDEMNED: u64 = u64::MAX;

/// Where an epoch keeps its cell's generation: 32 bits of controllers in one cell, 32 bits of
/// resets of one of them.
pub(super) const GENERATION_SHIFT: u32 = 32;

/// The first epoch of a generation.
pub(super) const fn first_epoch(generation: u64) -> u64 {
    generation << GENERATION_SHIFT | 1
}

impl Memory {
    /// Whether the memory is unused or has this layout; it has from then on.
    pub fn claim_layout(&self) -> bool {
        let claimed = self.layout.compare_exchange(0, LAYOUT, SeqCst, SeqCst);
        matches!(claimed, Ok(_) | Err(LAYOUT))
    }

    /// The stores that the last owner of `row` had open, by their mark.
    pub fn stores(&self, row: usize) -> usize {
        self.rows[row].stores.load(SeqCst) as usize
    }

    /// Whether no command is counted in `row`: then a dead owner has nothing on any store.
    pub fn is_idle(&self, row: usize) -> bool {
        let mut counts = self.of_row(row).iter();
        counts.all(|cell| cell.in_flight.load(SeqCst) == 0)
    }

    /// The cells of a row. Rows and cells are named by their owners' own indices, which no other process
    /// and no host provides: one out of range is a bug.
    pub(super) fn of_row(&self, row: usize) -> &[Cell] {
        &self.cells[row * CELLS_EACH..][..CELLS_EACH]
    }

    pub(super) fn cell(&self, index: usize) -> &Cell {
        &self.cells[index]
    }
}
