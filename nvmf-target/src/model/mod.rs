//! What the array is: names, identifiers and states that mean the same in every process serving it.
//!
//! Pure data and pure functions. Nothing here knows about queues, hosts' associations or devices.

mod ana;
mod identity;
mod names;

pub use ana::{AnaMap, AnaState};
pub use identity::{Eui64, Nguid, derive_nguid, derive_serial, derive_uuid};
pub use names::{DISCOVERY_NQN, check_nqn, check_text};

/// Highest ANA group identifier.
pub const ANA_GROUP_MAX: u32 = 128;
/// Highest namespace identifier, and the number of namespaces a subsystem may have.
pub const NSID_MAX: u32 = 1024;
/// Largest transfer of one command, as a power of two of 4 KiB pages: 1 MiB.
pub const MDTS_PAGES_LOG2: u8 = 8;
/// Largest transfer of one command in bytes.
pub const MDTS_BYTES: u32 = 4096 << MDTS_PAGES_LOG2;
/// Largest Write Zeroes, as a power of two of 4 KiB pages: 8 MiB.
pub const WZSL_PAGES_LOG2: u8 = 11;
/// Most ranges of one Dataset Management command.
pub const DSM_RANGES_MAX: u8 = 64;
/// Most blocks of one Dataset Management range.
pub const DSM_RANGE_BLOCKS_MAX: u32 = 1 << 18;

/// A port of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// What a backing store looks like to the command set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Logical block size in bytes, a power of two.
    pub block_bytes: u32,
    /// Capacity in blocks.
    pub blocks: u64,
    /// Completed writes may be lost on power failure until a flush.
    pub volatile_cache: bool,
}
