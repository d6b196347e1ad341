//! Protection domains: which memory one association may reach.
//!
//! One domain per association, so that a key given to one controller opens nothing to another. The
//! control thread adds arenas at any time; queue threads find keys in a copy of the table of their
//! own and look at the shared one only when it changed (one relaxed load for each command).
//!
//! Regions are at most 64 MiB each: some providers (and soft-RoCE) refuse larger ones, and a device
//! has few of them, so they are counted ([`Domain::regions`]).

#![expect(unsafe_code)]
// UNSAFETY: registering memory is a promise about its lifetime.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};
use umpath_transport::{Arena, PushError, SLOT_BYTES_MAX};

use crate::verbs::{Access, CmId, Mr, Pd, VerbsError};

/// Why memory could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The locked-memory limit is too small.
    #[error(
        "cannot register {wanted_bytes} bytes with {device}: the locked-memory limit (RLIMIT_MEMLOCK) \
         is {limit_bytes} bytes; raise it with LimitMEMLOCK=infinity in the service, `ulimit -l \
         unlimited` in the shell, or `* - memlock unlimited` in /etc/security/limits.conf"
    )]
    LockedMemory {
        /// The device.
        device: String,
        /// Bytes of the arena.
        wanted_bytes: usize,
        /// The limit in force.
        limit_bytes: u64,
        /// What the device said.
        source: VerbsError,
    },
    /// The device has no room for another region.
    #[error("{device} cannot register another memory region ({regions} in this domain): {source}")]
    Device {
        /// The device.
        device: String,
        /// Regions this domain has.
        regions: usize,
        /// What the device said.
        source: VerbsError,
    },
}

/// A protection domain and the arenas registered in it.
#[derive(Debug)]
pub struct Domain {
    pd: Arc<Pd>,
    device: String,
    access: Access,
    table: Mutex<Vec<Arc<Registered>>>,
    /// Changes whenever `table` does.
    generation: AtomicU64,
    /// Memory regions alive in this domain, whoever holds them.
    regions: Arc<AtomicUsize>,
}

/// An arena and its regions. Field order matters: regions go before the memory.
#[derive(Debug)]
pub(crate) struct Registered {
    chunks: Box<[Mr]>,
    chunk_bytes: usize,
    arena: Arc<Arena>,
    /// The domain's count, which includes `chunks`.
    regions: Arc<AtomicUsize>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.regions.fetch_sub(self.chunks.len(), Ordering::Relaxed);
    }
}

/// Where a device finds a range, and with which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) address: u64,
    pub(crate) local_key: u32,
    pub(crate) remote_key: u32,
}

impl Registered {
    fn find(&self, slot: u32, offset: u32, len: u32) -> Option<Keyed> {
        let position = self.arena.position(slot, offset, len)?;
        let region = self.chunks.get(position / self.chunk_bytes)?;
        Some(Keyed {
            address: self.arena.base().as_ptr() as u64 + position as u64,
            local_key: region.local_key(),
            remote_key: region.remote_key(),
        })
    }
}

impl Domain {
    pub(crate) fn new(id: &Arc<CmId>, access: Access) -> Result<Arc<Self>, VerbsError> {
        let device = id.device_name();
        Ok(Arc::new(Self {
            pd: Pd::new(id)?,
            device,
            access,
            table: Mutex::new(Vec::new()),
            generation: AtomicU64::new(0),
            regions: Arc::new(AtomicUsize::new(0)),
        }))
    }

    /// Name of the RDMA device the domain is on.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Registers an arena; nothing happens when it already is. Data of commands must lie in
    /// registered arenas. May take milliseconds: not for a data thread.
    pub fn register(&self, arena: &Arc<Arena>) -> Result<(), RegisterError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.iter().any(|entry| entry.arena.id() == arena.id()) {
            return Ok(());
        }
        let registered = self.register_with(arena, self.access);
        let entry = registered.map_err(|source| self.explain(source, arena.bytes()))?;
        table.push(Arc::new(entry));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Forgets an arena that no command uses any more. Queues let go of the memory at their next
    /// command.
    pub fn unregister(&self, arena: &Arc<Arena>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|entry| entry.arena.id() != arena.id());
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Memory regions alive in the domain: those of arenas, and those of its queues' own buffers
    /// (one for a host queue, two for a target queue).
    pub fn regions(&self) -> usize {
        self.regions.load(Ordering::Relaxed)
    }

    pub(crate) fn pd(&self) -> &Arc<Pd> {
        &self.pd
    }

    /// Registers memory that only one queue's own work requests touch.
    pub(crate) fn register_buffers(&self, arena: &Arc<Arena>) -> Result<Buffers, RegisterError> {
        let registered = self.register_with(arena, Access::Local);
        let entry = registered.map_err(|source| self.explain(source, arena.bytes()))?;
        Ok(Buffers(entry))
    }

    fn register_with(&self, arena: &Arc<Arena>, access: Access) -> Result<Registered, VerbsError> {
        let chunk_bytes = chunk_bytes(arena.slot_bytes());
        let mut chunks = Vec::new();
        let mut start = 0;
        while start < arena.bytes() {
            let len = chunk_bytes.min(arena.bytes() - start);
            // SAFETY: `start` is inside the mapping. The mapping outlives the region: `Registered`
            // drops its regions before its reference to the arena, and so does an early return.
            let region = unsafe { self.pd.register(arena.base().add(start), len, access) }?;
            chunks.push(region);
            start += len;
        }
        self.regions.fetch_add(chunks.len(), Ordering::Relaxed);
        Ok(Registered {
            chunks: chunks.into(),
            chunk_bytes,
            arena: Arc::clone(arena),
            regions: Arc::clone(&self.regions),
        })
    }

    fn explain(&self, source: VerbsError, wanted_bytes: usize) -> RegisterError {
        let device = self.device.clone();
        match getrlimit(Resource::Memlock).current {
            Some(limit_bytes) if source.raw_os_error() == libc::ENOMEM => {
                RegisterError::LockedMemory {
                    device,
                    wanted_bytes,
                    limit_bytes,
                    source,
                }
            }
            _ => RegisterError::Device {
                device,
                regions: self.regions(),
                source,
            },
        }
    }
}

/// Bytes of each registered chunk of an arena: whole slots, at most what every device registers.
fn chunk_bytes(slot_bytes: u32) -> usize {
    (SLOT_BYTES_MAX / slot_bytes * slot_bytes) as usize
}

/// Memory of one queue: capsules and responses.
#[derive(Debug)]
pub(crate) struct Buffers(Registered);

impl Buffers {
    /// Where `len` bytes at `offset` of the memory's only slot lie, and their key.
    pub(crate) fn locate(&self, offset: u32, len: u32) -> Option<Keyed> {
        self.0.find(0, offset, len)
    }

    pub(crate) fn arena(&self) -> &Arc<Arena> {
        &self.0.arena
    }
}

/// A queue thread's copy of the table.
#[derive(Debug)]
pub(crate) struct KeyCache {
    domain: Arc<Domain>,
    generation: u64,
    entries: Vec<Arc<Registered>>,
}

impl KeyCache {
    pub(crate) fn new(domain: Arc<Domain>) -> Self {
        Self {
            domain,
            generation: u64::MAX,
            entries: Vec::new(),
        }
    }

    pub(crate) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// The keys of a range.
    pub(crate) fn find(
        &mut self,
        arena: &Arena,
        slot: u32,
        offset: u32,
        len: u32,
    ) -> Result<Keyed, PushError> {
        let generation = self.domain.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.refresh();
        }
        let mut entries = self.entries.iter();
        let entry = entries.find(|entry| entry.arena.id() == arena.id());
        let entry = entry.ok_or(PushError::NotRegistered)?;
        entry.find(slot, offset, len).ok_or(PushError::OutOfRange)
    }

    #[cold]
    fn refresh(&mut self) {
        let table = self
            .domain
            .table
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.generation = self.domain.generation.load(Ordering::Acquire);
        self.entries.clone_from(&table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_whole_slots() {
        assert_eq!(chunk_bytes(12 << 20), 60 << 20);
    }
}
