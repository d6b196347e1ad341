//! Data memory: one page-aligned mapping cut into equal slots.
//!
//! Decided here: alignment, huge page advice, bounds. Not decided here: who uses which slot; one
//! slot belongs to one ublk tag or one target command, and that owner alone knows when its bytes
//! are stable.
//!
//! The mapping is never given back in parts (`MADV_DONTNEED` on registered memory leaves a device
//! with pages nobody else sees), only as a whole when the last reference goes. Whoever registers it
//! with a device holds such a reference.

#![expect(unsafe_code)]
// UNSAFETY: the mapping is shared with devices and the kernel, so it cannot be a Rust slice.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The largest slot. Some devices register no more as one region, and a slot lies in one.
pub const SLOT_BYTES_MAX: u32 = 64 << 20;
const PAGE_BYTES: usize = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Why an arena could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The slot size is not a positive multiple of 4 KiB of at most 64 MiB, or there is no slot.
    #[error(
        "an arena of {slots} slots of {slot_bytes} bytes: slots are multiples of 4096, at most 64 MiB, and at least one"
    )]
    Shape {
        /// Slots asked for.
        slots: u32,
        /// Bytes of each.
        slot_bytes: u32,
    },
    /// The kernel refused the mapping.
    #[error("cannot map {bytes} bytes of data memory: {source}")]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// An access past the end of its slot.
    #[error("{len} bytes at offset {offset} of slot {slot} lie outside the arena")]
    OutOfRange {
        /// The slot.
        slot: u32,
        /// Offset in it.
        offset: u32,
        /// Bytes.
        len: u32,
    },
}

/// Page-aligned memory of `slots` x `slot_bytes`.
#[derive(Debug)]
pub struct Arena {
    id: u64,
    base: NonNull<u8>,
    slots: u32,
    slot_bytes: u32,
    mapped_bytes: usize,
}

// SAFETY: the arena is memory; copies in and out go through atomics, raw pointers are the caller's
// business.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps zeroed memory for `slots` slots of `slot_bytes` (a multiple of 4096, at most 64 MiB),
    /// touched now so that later use neither faults nor fails.
    pub fn new(slots: u32, slot_bytes: u32) -> Result<Arc<Self>, ArenaError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let bytes = slots as usize * slot_bytes as usize;
        let slot_size = slot_bytes as usize;
        if bytes == 0 || !slot_size.is_multiple_of(PAGE_BYTES) || slot_bytes > SLOT_BYTES_MAX {
            return Err(ArenaError::Shape { slots, slot_bytes });
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping replaces nothing.
        let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, protection, flags) }
            .map_err(|e| ArenaError::Map {
                bytes,
                source: e.into(),
            })?;
        let arena = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            // SAFETY: a successful mapping is never at address zero.
            base: unsafe { NonNull::new_unchecked(base.cast()) },
            slots,
            slot_bytes,
            mapped_bytes: bytes,
        };
        if bytes >= HUGE_PAGE_BYTES {
            // SAFETY: our own mapping. Huge pages are an advice, so a refusal is not an error.
            let _ = unsafe { rustix::mm::madvise(base, bytes, Advice::LinuxHugepage) };
        }
        // SAFETY: our own mapping.
        unsafe { rustix::mm::madvise(base, bytes, Advice::LinuxPopulateWrite) }
            .or_else(|e| {
                if e == rustix::io::Errno::INVAL {
                    Ok(())
                } else {
                    Err(e)
                }
            })
            .map_err(|e| ArenaError::Map {
                bytes,
                source: e.into(),
            })?;
        // A forked child must not share pages a device writes to.
        // SAFETY: our own mapping.
        let _ = unsafe { rustix::mm::madvise(base, bytes, Advice::LinuxDontFork) };
        Ok(Arc::new(arena))
    }

    /// Slots in the arena.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of a slot.
    pub fn slot_bytes(&self) -> u32 {
        self.slot_bytes
    }

    /// Bytes of the whole arena.
    pub fn bytes(&self) -> usize {
        self.mapped_bytes
    }

    /// The address of a slot's first byte, for the kernel or a device. Valid as long as the arena.
    pub fn slot_ptr(&self, slot: u32) -> Option<NonNull<u8>> {
        self.pointer(slot, 0, 0)
    }

    /// The address of `len` bytes at `offset` of `slot`, if they lie inside the slot.
    pub fn pointer(&self, slot: u32, offset: u32, len: u32) -> Option<NonNull<u8>> {
        let start = self.position(slot, offset, len)?;
        // SAFETY: `position` checked that the range lies inside the mapping.
        Some(unsafe { self.base.add(start) })
    }

    /// Copies bytes out of a slot, one at a time: meant for admin data and tests; bulk data is
    /// reached through [`Arena::pointer`]. Bytes a device or the kernel writes at the same time come out
    /// old or new.
    pub fn read_at(&self, slot: u32, offset: u32, out: &mut [u8]) -> Result<(), ArenaError> {
        let bytes = self.bytes_at(slot, offset, out.len())?;
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = from.load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Copies bytes into a slot.
    pub fn write_at(&self, slot: u32, offset: u32, data: &[u8]) -> Result<(), ArenaError> {
        for (to, from) in self.bytes_at(slot, offset, data.len())?.iter().zip(data) {
            to.store(*from, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fills bytes of a slot with zeroes.
    pub fn zero(&self, slot: u32, offset: u32, len: u32) -> Result<(), ArenaError> {
        for to in self.bytes_at(slot, offset, len as usize)? {
            to.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A number no other arena of this process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where a range starts, counted from the arena's first byte.
    pub fn position(&self, slot: u32, offset: u32, len: u32) -> Option<usize> {
        let end = offset.checked_add(len)?;
        (slot < self.slots && end <= self.slot_bytes)
            .then(|| slot as usize * self.slot_bytes as usize + offset as usize)
    }

    /// The arena's first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn bytes_at(&self, slot: u32, offset: u32, len: usize) -> Result<&[AtomicU8], ArenaError> {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let start = self
            .pointer(slot, offset, len)
            .ok_or(ArenaError::OutOfRange { slot, offset, len })?;
        // SAFETY: the range lies inside the mapping, which lives as long as `self`; within this
        // process it is only reached through atomics or through raw pointers whose users answer
        // for themselves.
        Ok(unsafe { std::slice::from_raw_parts(start.as_ptr().cast::<AtomicU8>(), len as usize) })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: our mapping; registrations hold a reference to the arena, so none is left.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_make_no_sense_are_refused() {
        for (slots, slot_bytes) in [(0, 4096), (1, 0), (1, 100), (1, (64 << 20) + 4096)] {
            assert!(matches!(
                Arena::new(slots, slot_bytes),
                Err(ArenaError::Shape { .. })
            ));
        }
    }

    #[test]
    fn bytes_stay_in_their_slot() {
        let arena = Arena::new(4, 8192).unwrap();
        arena.write_at(2, 8190, b"ab").unwrap();
        let mut out = [0; 2];
        arena.read_at(2, 8190, &mut out).unwrap();
        assert_eq!(&out, b"ab");
        arena.read_at(3, 0, &mut out).unwrap();
        assert_eq!(out, [0, 0]);
        assert!(arena.write_at(2, 8191, b"ab").is_err());
        assert!(arena.write_at(4, 0, b"a").is_err());
        assert!(arena.pointer(0, u32::MAX, 2).is_none());
    }
}
