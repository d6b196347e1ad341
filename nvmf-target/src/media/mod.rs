//! Backing stores: where a namespace's blocks are kept.
//!
//! A [`Media`] turns one command into a sequence of steps: either done at once, or an `io_uring`
//! entry to submit, whose result is fed back. It owns its file and nothing else: the ring, the
//! data buffer and the decision whether a step may be submitted at all (the controller's gate)
//! belong to the caller, who asks the gate before *every* step. Ranges were checked against the
//! geometry by the command set; a [`Job`] carries byte positions that are in range.
//!
//! Errors: a store's own failure becomes an NVMe status here, once; nothing is retried except
//! interrupted and short transfers.

mod direct;
mod job;
mod open;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{FileType, fstat};
use thiserror::Error;

use crate::model::Geometry;

pub use job::{Job, Operation, Step};

/// A backing store as namespaces and commands share it.
pub type SharedMedia = Arc<Media>;

/// A backing store.
#[derive(Debug)]
pub struct Media {
    geometry: Geometry,
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// Reads zeroes, forgets writes.
    Null,
    /// An anonymous file in memory, served without the ring.
    Memory(OwnedFd),
    /// A file or block device, served through the ring.
    File(File),
}

#[derive(Debug)]
struct File {
    fd: OwnedFd,
    path: PathBuf,
    direct: bool,
    /// Cleared for good when the store refuses to zero a range by itself; then zeroes are written.
    zero_range: AtomicBool,
    /// Cleared for good when the store refuses to deallocate; then deallocation does nothing.
    punch_hole: AtomicBool,
}

/// Why a backing store cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A system call on the store failed.
    #[error("{path}: cannot {action}: {source}; {advice}")]
    Store {
        /// The file or device.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: rustix::io::Errno,
        /// What to do about it.
        advice: &'static str,
    },
    /// The store exists, and is not usable as configured.
    #[error("{path}: {why}")]
    Unsuitable {
        /// The file or device.
        path: PathBuf,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl Media {
    /// Block size, capacity and cache.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The description through which all I/O of a file or device goes.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.store {
            Store::File(file) => Some(file.fd.as_fd()),
            Store::Null | Store::Memory(_) => None,
        }
    }

    /// What tells this file or device from every other of the machine.
    pub fn identity(&self) -> Option<(u64, u64)> {
        let about = fstat(self.file()?).ok()?;
        let is_block = FileType::from_raw_mode(about.st_mode) == FileType::BlockDevice;
        Some(if is_block {
            (u64::MAX, about.st_rdev)
        } else {
            (about.st_dev, about.st_ino)
        })
    }

    /// A short description for people.
    pub fn describe(&self) -> String {
        match &self.store {
            Store::Null => "null".to_owned(),
            Store::Memory(_) => "memory".to_owned(),
            Store::File(file) => {
                let how = if file.direct { "direct" } else { "buffered" };
                format!("{} ({how})", file.path.display())
            }
        }
    }
}

impl File {
    fn raw(&self) -> io_uring::types::Fd {
        io_uring::types::Fd(self.fd.as_raw_fd())
    }
}
