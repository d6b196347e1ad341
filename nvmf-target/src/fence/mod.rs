//! Fences: boards shared by the processes that serve one store, and what proves a process' end.
//!
//! A fence is a small file every such process maps; its layout is
//! [`Memory`](crate::gate::board::Memory)'s. A process owns one row of it. Two kinds of lock,
//! all belonging to open file descriptions, say what became of the owner:
//!
//! - one byte of the fence file, locked as long as the process lives;
//! - one byte of every backing store, locked on the very description through which it submits its
//!   I/O. A request in flight keeps that description open, also when its process was killed, and
//!   the kernel drops such locks only with the last reference. So when this lock is free, nothing
//!   the process ever submitted to that store is under way any more.
//!
//! A process whose locks are all free is over: its count of commands on the media will never fall,
//! and means nothing. Only who has the very same stores open can say so, which a mark of them
//! beside the count says; a process that died with commands counted on other stores keeps its row
//! until one with the same stores comes. A process that is merely stopped keeps its locks, and its
//! count is believed; a command it had counted and not yet submitted would still come when it
//! continues.
//!
//! The file belongs on a memory file system: every command writes to its mapping, and a disk would
//! make it wait for writeback. [`default_path`] is under `/run` and depends on the store itself, so
//! that a primary and a standby find each other without being configured. It may be removed when no
//! target runs; the truth is in the locks.
//!
//! Limits: the processes must run under one kernel, and reach a block device through the same node.
//! Processes that do not share a fence cannot reset each other's controllers, and say so.

mod lock;
mod map;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::fstat;
use thiserror::Error;
use uuid::Uuid;

use crate::gate::board::{Board, Memory, PROCESSES_MAX, Witness};
use crate::media::Media;
use lock::{is_free, try_lock, wait_lock};

/// How long a dead process' I/O may keep its row.
const ROW_TIMEOUT: Duration = Duration::from_secs(5);
/// The byte that is locked while a row is being chosen.
const TURN: u64 = 1 << 60;
const ROWS: u64 = TURN + 16;
const STORES: u64 = 1 << 61;

/// Why a fence cannot be used.
#[derive(Debug, Error)]
pub enum FenceError {
    /// The file cannot be opened, sized, locked or mapped.
    #[error("{path}: cannot {action}: {source}; name a writable file with fence = \"...\"")]
    File {
        /// The fence.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{0} is not a fence of this version: remove it while no target runs, or name another")]
    Foreign(PathBuf),
    /// Every row has an owner, or I/O of one that ended.
    #[error(
        "{path}: {PROCESSES_MAX} processes use this fence, or were killed with I/O on other stores"
    )]
    Full {
        /// The fence.
        path: PathBuf,
    },
    /// The store's lock cannot be had.
    #[error("namespace {nsid}: the store's lock is taken: is it in this subsystem twice?")]
    Store {
        /// The namespace.
        nsid: u32,
    },
}

/// One subsystem's fence in this process.
#[derive(Debug)]
pub struct Fence {
    file: File,
    path: PathBuf,
    /// Tells this fence's locks on a store from another's.
    mark: u64,
    memory: &'static Memory,
    row: usize,
    stores: Mutex<Vec<(u32, Arc<Media>)>>,
}

/// Where the fence of a subsystem on this store is kept unless the configuration says otherwise.
pub fn default_path(nqn: &str, store: (u64, u64)) -> PathBuf {
    let name = format!("{nqn}\n{}\n{}", store.0, store.1);
    let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    PathBuf::from(format!("/run/umpath-target/{name}.fence"))
}

impl Fence {
    /// Opens a fence, creating it when it does not exist, and takes a row of it.
    pub fn open(path: &Path, stores: Vec<(u32, Arc<Media>)>) -> Result<Self, FenceError> {
        let failed = |action| {
            move |source| FenceError::File {
                path: path.to_owned(),
                action,
                source,
            }
        };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed("create the directory of it"))?;
        }
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.mode(0o600).open(path)
        };
        let file = open().map_err(failed("open"))?;
        wait_lock(file.as_fd(), TURN).map_err(failed("lock"))?;
        let about = file.metadata().map_err(failed("inspect"))?;
        if about.len() == 0 {
            let size = size_of::<Memory>() as u64;
            file.set_len(size).map_err(failed("size"))?;
        } else if about.len() != size_of::<Memory>() as u64 {
            return Err(FenceError::Foreign(path.to_owned()));
        }
        // A mapping keeps its description open for good, and the locks must not be that one's.
        let mapped = open().map_err(failed("open"))?;
        let again = mapped.metadata().map_err(failed("inspect"))?;
        if (again.dev(), again.ino()) != (about.dev(), about.ino()) {
            return Err(FenceError::Foreign(path.to_owned()));
        }
        let memory = map::memory(mapped.as_fd()).map_err(failed("map"))?;
        if !memory.claim_layout() {
            return Err(FenceError::Foreign(path.to_owned()));
        }
        let mark = fnv(&[about.dev(), about.ino()]);
        let row = choose_row(&file, memory, mark, &stores).ok_or_else(|| FenceError::Full {
            path: path.to_owned(),
        })?;
        Ok(Self {
            file,
            path: path.to_owned(),
            mark,
            memory,
            row,
            stores: Mutex::new(stores),
        })
    }

    /// The board on this fence. To be called once, before any other process is waited for.
    pub fn board(self: &Arc<Self>) -> Board {
        let witness: Arc<dyn Witness> = Arc::<Self>::clone(self);
        let board = Board::shared(self.memory, self.row, witness);
        board.set_stores(self.stores());
        // The row is in order: others may choose theirs.
        lock::unlock(self.file.as_fd(), TURN);
        board
    }

    /// A further store of the subsystem: to be declared before its first I/O.
    pub fn add_store(
        &self,
        board: &Board,
        nsid: u32,
        media: &Arc<Media>,
    ) -> Result<(), FenceError> {
        if media.file().is_none() {
            return Ok(());
        }
        let mut stores = self.stores.lock();
        // A namespace of this number that was removed: its lock goes with the last of its I/O.
        stores.retain(|(known, _)| *known != nsid);
        if !lock_stores(self.mark, &[(nsid, Arc::clone(media))], self.row) {
            return Err(FenceError::Store { nsid });
        }
        stores.push((nsid, Arc::clone(media)));
        board.set_stores(mark_of(&stores));
        Ok(())
    }

    /// A mark of the stores this process has open, as the board keeps it.
    pub fn stores(&self) -> usize {
        mark_of(&self.stores.lock())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Witness for Fence {
    fn is_over(&self, row: usize, stores: usize) -> bool {
        if !is_free(self.file.as_fd(), ROWS + row as u64).unwrap_or(false) {
            return false;
        }
        let own = self.stores.lock();
        mark_of(&own) == stores
            && own.iter().all(|(nsid, media)| {
                let byte = store_byte(self.mark, *nsid, row);
                media
                    .file()
                    .is_some_and(|fd| is_free(fd, byte).unwrap_or(false))
            })
    }
}

/// Takes a free row whose former owner's I/O is over. The caller holds the turn.
fn choose_row(
    file: &File,
    memory: &Memory,
    mark: u64,
    stores: &[(u32, Arc<Media>)],
) -> Option<usize> {
    (0..PROCESSES_MAX).find(|row| {
        let byte = ROWS + *row as u64;
        if !try_lock(file.as_fd(), byte).unwrap_or(false) {
            return false;
        }
        // Of I/O on other stores the locks of ours say nothing.
        let provable = memory.is_idle(*row) || memory.stores(*row) == mark_of(stores);
        let free = provable && lock_stores(mark, stores, *row);
        if !free {
            unlock_stores(mark, stores, *row);
            lock::unlock(file.as_fd(), byte);
        }
        free
    })
}

fn lock_stores(mark: u64, stores: &[(u32, Arc<Media>)], row: usize) -> bool {
    let deadline = Instant::now() + ROW_TIMEOUT;
    stores.iter().all(|(nsid, media)| {
        let Some(fd) = media.file() else { return true };
        loop {
            if try_lock(fd, store_byte(mark, *nsid, row)).unwrap_or(false) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    })
}

/// Gives up what [`lock_stores`] got before it failed, or nobody could ever call `row` over.
fn unlock_stores(mark: u64, stores: &[(u32, Arc<Media>)], row: usize) {
    for (nsid, media) in stores {
        if let Some(fd) = media.file() {
            lock::unlock(fd, store_byte(mark, *nsid, row));
        }
    }
}

/// Tells one set of stores from another, in any order: which namespaces, and which files their
/// locks are on.
fn mark_of(stores: &[(u32, Arc<Media>)]) -> usize {
    let mut words: Vec<[u64; 3]> = stores
        .iter()
        .filter_map(|(nsid, media)| {
            let about = fstat(media.file()?);
            let (device, inode) = about.map_or((u64::MAX, u64::MAX), |at| (at.st_dev, at.st_ino));
            Some([u64::from(*nsid), device, inode])
        })
        .collect();
    words.sort_unstable();
    let hash = fnv(words.as_flattened());
    (hash as u32 ^ (hash >> 32) as u32) as usize
}

fn store_byte(mark: u64, nsid: u32, row: usize) -> u64 {
    STORES | (mark & 0xffff_ffff) << 24 | u64::from(nsid & 0xffff) << 8 | row as u64
}

fn fnv(words: &[u64]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
