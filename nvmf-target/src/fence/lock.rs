//! Locks of single bytes that belong to an open file description (`F_OFD_*`, see fcntl(2)): they
//! end with its last reference, whoever holds that.

#![expect(unsafe_code)]
// UNSAFETY: fcntl with a lock structure; rustix offers only the locks that belong to processes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

fn request(kind: libc::c_int, byte: u64) -> io::Result<libc::flock> {
    let start = i64::try_from(byte).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: 1,
        l_pid: 0,
    })
}

fn fcntl(fd: BorrowedFd<'_>, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the structure is live and exclusive.
    match unsafe { libc::fcntl(fd.as_raw_fd(), command, std::ptr::from_mut(lock)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Locks a byte if nobody else has; says whether it did.
pub(super) fn try_lock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    match fcntl(fd, libc::F_OFD_SETLK, &mut request(libc::F_WRLCK, byte)?) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Locks a byte, after whoever has it.
pub(super) fn wait_lock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    fcntl(fd, libc::F_OFD_SETLKW, &mut request(libc::F_WRLCK, byte)?)
}

/// Unlocks a byte; one that cannot be unlocked stays locked until the description ends.
pub(super) fn unlock(fd: BorrowedFd<'_>, byte: u64) {
    if let Ok(mut lock) = request(libc::F_UNLCK, byte) {
        let _ = fcntl(fd, libc::F_OFD_SETLK, &mut lock);
    }
}

/// Whether nobody else has a byte locked.
pub(super) fn is_free(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    let mut lock = request(libc::F_WRLCK, byte)?;
    fcntl(fd, libc::F_OFD_GETLK, &mut lock)?;
    Ok(i32::from(lock.l_type) == libc::F_UNLCK)
}
