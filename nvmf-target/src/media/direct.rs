//! Whether a file can bypass the page cache at a given block size, found out by trying.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pread};

/// A buffer aligned for any device's direct I/O.
#[repr(C, align(4096))]
struct Aligned([u8; 4096]);

/// Opens `path` with `O_DIRECT` if one block can then be read.
///
/// Alignment rules differ between file systems and kernels; reading a block at the largest
/// block-aligned offset that is not page-aligned tells what no flag does everywhere.
pub(super) fn try_open(path: &Path, block_bytes: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::DIRECT;
    let fd = open(path, flags, Mode::empty())?;
    let mut buffer = Box::new(Aligned([0; 4096]));
    let block = buffer
        .0
        .get_mut(..block_bytes as usize)
        .ok_or(Errno::INVAL)?;
    let offset = if block_bytes < 4096 {
        u64::from(block_bytes)
    } else {
        0
    };
    pread(&fd, block, offset)?;
    Ok(fd)
}
