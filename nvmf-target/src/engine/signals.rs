//! SIGTERM and SIGINT as something to poll for.

#![expect(unsafe_code)]
// UNSAFETY: rustix has no signal masks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Readable when the process was asked to end.
#[derive(Debug)]
pub struct EndSignals(OwnedFd);

impl EndSignals {
    /// Takes the signals out of normal delivery. Call it before any thread is started: threads
    /// inherit the mask.
    pub fn take() -> io::Result<Self> {
        // SAFETY: `set` is plain data, initialised by sigemptyset before use; the calls keep no
        // pointer; a successful signalfd is a descriptor nobody else owns.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            let error =
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
