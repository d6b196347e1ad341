//! A reactor's data memory: registered once, cut into runs of pages.

#![expect(unsafe_code)]
// UNSAFETY: the memory is shared with devices and the kernel and has no Rust owner.

use std::sync::Arc;

use umpath_transport::{Arena, ArenaError};

use super::pool::{Pool, Run, SLOT_BYTES};

/// Data memory and which of it is taken.
#[derive(Debug)]
pub(super) struct Buffers {
    arena: Arc<Arena>,
    pool: Pool,
}

/// A run of pages that belongs to one request until it is given back.
#[derive(Debug)]
pub(super) struct Buffer(Run);

impl Buffers {
    /// Memory of about `bytes`.
    pub(super) fn new(bytes: u64) -> Result<Self, ArenaError> {
        let slots = (bytes / u64::from(SLOT_BYTES)).clamp(1, 1 << 20) as u32;
        Ok(Self {
            arena: Arena::new(slots, SLOT_BYTES)?,
            pool: Pool::new(slots),
        })
    }

    /// The memory, to register it.
    pub(super) fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Takes room for `bytes`.
    pub(super) fn take(&mut self, bytes: u32) -> Option<Buffer> {
        self.pool.take(bytes).map(Buffer)
    }

    /// Gives a buffer back. No device and no ring entry may refer to it any more.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it must not be used afterwards"
    )]
    pub(super) fn give(&mut self, buffer: Buffer) {
        let Buffer(run) = buffer;
        self.pool.give(run);
    }
}

impl Buffer {
    /// Where the first `bytes` lie in the arena: slot, offset, length.
    pub(super) fn place(&self, bytes: u32) -> (u32, u32, u32) {
        (self.0.slot, self.0.offset, bytes)
    }

    /// The first `bytes`. The caller holds the buffer and sees to it that no device and no ring
    /// entry works on it as long as it uses the slice.
    pub(super) fn bytes<'a>(&'a mut self, arena: &'a Arena, bytes: u32) -> &'a mut [u8] {
        let Some(start) = arena.pointer(self.0.slot, self.0.offset, bytes) else {
            return &mut [];
        };
        // SAFETY: the range lies in the arena, which outlives the slice. `pool` gives a run out
        // once, and `&mut self` is its only owner, so no other slice of it exists until the borrow
        // ends. The memory was zeroed when it was mapped, so it is initialised.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), bytes as usize) }
    }
}
