//! The path table: what the control side publishes to every lane about the volume's paths.
//!
//! A table is an immutable snapshot, published only when something in it changed. It states which
//! paths may be used, in which groups, under which limits; the lane decides which of them takes
//! the next request, and adds what only it knows: whether it has a connected queue, whether that
//! queue is full, whether the controller has just refused the namespace.

use core::fmt;
use core::time::Duration;

use umpath_policies::{AnaState, Priority, SelectorConfig};

pub use umpath_policies::{PATHS_MAX, PathId};

/// One incarnation of a connection to one controller. Never used again, unlike a [`PathId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssociationId(pub u64);

impl fmt::Display for AssociationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one command may ask of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLimits {
    /// Most bytes of data in a command (MDTS and what the transport can move).
    pub transfer_bytes_max: u32,
    /// Most blocks of a Write Zeroes; 0: not supported.
    pub write_zeroes_blocks_max: u32,
    /// Write Zeroes may deallocate (the namespace reads deallocated blocks as zeroes).
    pub write_zeroes_deallocate: bool,
    /// Most blocks in one range of a Dataset Management; 0: not supported.
    pub discard_blocks_max: u32,
    /// Command Retry Delay Times 1 to 3 of Identify Controller.
    pub retry_delays: [Duration; 3],
}

impl Default for CommandLimits {
    /// What every controller can do: 128 KiB transfers, no Write Zeroes, no deallocation.
    fn default() -> Self {
        Self {
            transfer_bytes_max: 128 * 1024,
            write_zeroes_blocks_max: 0,
            write_zeroes_deallocate: false,
            discard_blocks_max: 0,
            retry_delays: [Duration::ZERO; 3],
        }
    }
}

/// What selectors know of a path beyond its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steering {
    /// Throughput relative to the others, 0 to 100.
    pub throughput: u8,
    /// NUMA node of its device, if known.
    pub node: Option<u16>,
    /// It was ejected and is being tried: a trickle of requests, unless there is no other.
    pub probation: bool,
}

impl Default for Steering {
    fn default() -> Self {
        Self {
            throughput: 1,
            node: None,
            probation: false,
        }
    }
}

/// A path in the table. Only paths with a live association are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathEntry {
    /// Its number.
    pub path: PathId,
    /// The association that carries it.
    pub association: AssociationId,
    /// It may carry new I/O. Decided by [`Device`](crate::Device) alone.
    pub usable: bool,
    /// Namespace identifier at this controller.
    pub nsid: u32,
    /// What its controller accepts.
    pub limits: CommandLimits,
    /// Its priority.
    pub priority: Priority,
    /// ANA state of the namespace, if the controller reports any.
    pub ana: Option<AnaState>,
    /// Counts the readings of the ANA state. A lane that was refused with an ANA status leaves the
    /// path alone until it sees a higher number.
    pub ana_epoch: u32,
    /// For the selector.
    pub steering: Steering,
}

/// A priority group in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEntry {
    /// Positions in [`PathTable::paths`], in configuration order.
    pub paths: Vec<u8>,
    /// Mean priority of its usable paths.
    pub priority: Priority,
}

/// What becomes of I/O while the table holds no usable path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNoPath {
    /// It waits for the next table.
    Queue,
    /// It fails.
    Fail,
}

/// The snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTable {
    /// Grows with every table of a volume.
    pub generation: u64,
    /// log2 of the logical block size, the same on all paths.
    pub lba_shift: u8,
    /// Paths with a live association, at most [`PATHS_MAX`].
    pub paths: Vec<PathEntry>,
    /// Groups, best first; every listed path is in exactly one.
    pub groups: Vec<GroupEntry>,
    /// The group that carries the I/O, a position in `groups`; `None` without a usable path.
    pub active: Option<usize>,
    /// What becomes of I/O without a usable path.
    pub on_no_path: OnNoPath,
    /// How the active group's paths share the I/O.
    pub selector: SelectorConfig,
}

impl PathTable {
    /// The table before any path is there: everything waits.
    #[must_use]
    pub fn empty(lba_shift: u8) -> Self {
        Self {
            generation: 0,
            lba_shift,
            paths: Vec::new(),
            groups: Vec::new(),
            active: None,
            on_no_path: OnNoPath::Queue,
            selector: SelectorConfig::default(),
        }
    }

    /// The entry of `path`.
    pub fn entry(&self, path: PathId) -> Option<&PathEntry> {
        self.paths.iter().find(|entry| entry.path == path)
    }

    /// Some path may carry new I/O.
    pub fn has_usable(&self) -> bool {
        self.paths.iter().any(|entry| entry.usable)
    }
}
