//! How a volume appears to the block layer: its size, block sizes, cache and the largest requests.
//!
//! Kept over a restart of the daemon, so a field's name is part of what is on disk.

use serde::{Deserialize, Serialize};

/// Deallocation as the namespace offers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Discard {
    /// Largest request, bytes; a multiple of the logical block.
    pub max_bytes: u64,
    /// Unit that is worth deallocating, bytes; at least the logical block.
    pub granularity_bytes: u32,
}

/// Everything the block layer has to know of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BlockLimits {
    /// Capacity, bytes; a multiple of the logical block.
    pub size_bytes: u64,
    /// Logical block, bytes: a power of two from 512 to the page size (4,096).
    pub logical_block_bytes: u32,
    /// Unit written without read-modify-write, bytes: a power of two, at least the logical block.
    pub physical_block_bytes: u32,
    /// Preferred smallest request, bytes: a power of two.
    pub io_min_bytes: u32,
    /// Preferred request, bytes: a power of two; the physical block when the namespace has none.
    pub io_opt_bytes: u32,
    /// Largest read or write, bytes: a multiple of 4,096. The lane splits what a path cannot take.
    pub max_io_bytes: u32,
    /// The namespace may lose acknowledged writes on power loss until flushed. Only then does the
    /// kernel send FLUSH and FUA.
    pub volatile_cache: bool,
    /// Writes are refused.
    pub read_only: bool,
    /// Deallocation, if the namespace has it.
    pub discard: Option<Discard>,
    /// Largest Write Zeroes request, bytes; 0 when the namespace has none.
    pub write_zeroes_max_bytes: u64,
}
