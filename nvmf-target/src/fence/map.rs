//! Mapping a fence file.

#![expect(unsafe_code)]
// UNSAFETY: a shared file mapping read as a structure of atomics.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::gate::board::Memory;

/// Maps the file for the rest of the process' life. It holds at least one [`Memory`].
///
/// Whoever cuts the file short while it is mapped ends its users with SIGBUS; it is made readable
/// and writable for its owner only.
pub(super) fn memory(fd: BorrowedFd<'_>) -> io::Result<&'static Memory> {
    // SAFETY: no address is asked for, so nothing mapped before is replaced.
    let start = unsafe {
        mmap(
            std::ptr::null_mut(),
            size_of::<Memory>(),
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            fd,
            0,
        )
    }?;
    // SAFETY: the mapping is page aligned, as long as a `Memory` and never unmapped; a `Memory`
    // consists of atomics, for which every pattern of bits is valid and which other processes may
    // change at any time.
    Ok(unsafe { &*start.cast::<Memory>() })
}
