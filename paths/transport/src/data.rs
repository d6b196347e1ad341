//! Where a command's data lies.

use crate::arena::Arena;

/// A command's data.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// No data.
    None,
    /// The controller writes into this range.
    Read {
        /// Memory registered for the queue pair.
        arena: &'a Arena,
        /// Slot in it.
        slot: u32,
        /// First byte in the slot.
        offset: u32,
        /// Bytes.
        len: u32,
    },
    /// The controller reads from this range, which must not change until the command is over.
    Write {
        /// Memory registered for the queue pair.
        arena: &'a Arena,
        /// Slot in it.
        slot: u32,
        /// First byte in the slot.
        offset: u32,
        /// Bytes.
        len: u32,
    },
}
