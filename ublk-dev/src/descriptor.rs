//! The request descriptors the driver writes and a queue thread reads.
//!
//! One page-aligned table per queue, shared read-only through the character device, one entry for
//! each tag. An entry is valid from the completion that announces its tag until that tag is
//! committed. Its content comes from the kernel and is checked all the same: an unknown operation
//! is answered with an error, not guessed.

// UNSAFETY: maps memory the kernel writes to.
#![expect(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use libublk::sys;
use rustix::mm::{MapFlags, ProtFlags};

/// One request as the driver describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Descriptor {
    /// `UBLK_IO_OP_*`.
    pub(crate) op: u8,
    /// The write must reach stable media before it completes.
    pub(crate) fua: bool,
    /// Zeroed blocks must stay allocated.
    pub(crate) no_unmap: bool,
    /// 512-byte sectors.
    pub(crate) sectors: u32,
    /// First 512-byte sector.
    pub(crate) start_sector: u64,
}

/// A queue's descriptor table.
pub(crate) struct Descriptors {
    table: NonNull<sys::ublksrv_io_desc>,
    depth: u16,
    bytes: usize,
}

// SAFETY: the mapping is not tied to a thread, and is only read.
unsafe impl Send for Descriptors {}

impl Descriptors {
    /// Maps the table of `queue`.
    pub(crate) fn map(device: BorrowedFd<'_>, queue: u16, depth: u16) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let entry = size_of::<sys::ublksrv_io_desc>();
        let bytes = (usize::from(depth) * entry).next_multiple_of(page);
        // Tables lie at a fixed distance, made for the deepest queue there can be.
        let distance = (sys::UBLK_MAX_QUEUE_DEPTH as usize * entry).next_multiple_of(page);
        let offset = sys::UBLKSRV_CMD_BUF_OFFSET as usize + usize::from(queue) * distance;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ,
                MapFlags::SHARED | MapFlags::POPULATE,
                device,
                offset as u64,
            )
        }?;
        let table = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            table,
            depth,
            bytes,
        })
    }

    /// The request of a tag whose completion has been seen.
    pub(crate) fn read(&self, tag: u16) -> Descriptor {
        assert!(tag < self.depth, "tag {tag} is beyond the queue");
        // SAFETY: within the table (checked). The driver wrote the entry before it posted the
        // completion and leaves it alone until the tag is committed; volatile because the compiler
        // cannot see that it changes between two requests.
        let raw = unsafe { self.table.as_ptr().add(usize::from(tag)).read_volatile() };
        Descriptor::from_raw(&raw)
    }
}

impl Descriptor {
    fn from_raw(raw: &sys::ublksrv_io_desc) -> Self {
        // The flag constants are given in place, above the operation's 8 bits.
        Self {
            op: raw.op_flags as u8,
            fua: raw.op_flags & sys::UBLK_IO_F_FUA != 0,
            no_unmap: raw.op_flags & sys::UBLK_IO_F_NOUNMAP != 0,
            sectors: raw.nr_sectors,
            start_sector: raw.start_sector,
        }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: our own mapping; nothing borrows from it.
        let unmapped = unsafe { rustix::mm::munmap(self.table.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_and_flags_share_a_word() {
        let raw = sys::ublksrv_io_desc {
            op_flags: sys::UBLK_IO_OP_WRITE | sys::UBLK_IO_F_FUA | sys::UBLK_IO_F_META,
            nr_sectors: 8,
            start_sector: 1 << 40,
            addr: 0,
        };
        let d = Descriptor::from_raw(&raw);
        assert_eq!(u32::from(d.op), sys::UBLK_IO_OP_WRITE);
        assert!(d.fua && !d.no_unmap);
        assert_eq!((d.sectors, d.start_sector), (8, 1 << 40));
    }
}
