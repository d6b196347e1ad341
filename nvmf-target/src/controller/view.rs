//! What the I/O queues of one controller see: its namespaces, their states, and its gate.
//!
//! The control side publishes a whole new [`View`] at every change; a queue notices by comparing
//! one counter per command and takes the lock only when it moved.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use parking_lot::Mutex;
use umpath_nvme::command::Instance;

use crate::gate::{Epoch, Gate};
use crate::model::{AnaState, Geometry};

/// A namespace as one controller presents it. `M` is the host's handle of its backing store.
#[derive(Debug, Clone)]
pub struct NamespaceView<M> {
    /// Namespace identifier.
    pub nsid: u32,
    /// State of its ANA group on the controller's port.
    pub ana: AnaState,
    /// Block size, capacity and cache.
    pub geometry: Geometry,
    /// Its backing store.
    pub media: M,
}

/// The namespaces of one controller, ordered by identifier.
#[derive(Debug, Clone)]
pub struct View<M> {
    namespaces: Vec<NamespaceView<M>>,
}

impl<M> View<M> {
    /// A view of `namespaces`, in any order.
    pub fn new(mut namespaces: Vec<NamespaceView<M>>) -> Self {
        namespaces.sort_by_key(|namespace| namespace.nsid);
        Self { namespaces }
    }

    /// Finds a namespace.
    pub fn namespace(&self, nsid: u32) -> Option<&NamespaceView<M>> {
        let at = self
            .namespaces
            .binary_search_by_key(&nsid, |namespace| namespace.nsid)
            .ok()?;
        self.namespaces.get(at)
    }
}

/// Work a controller has done, for its SMART log.
#[derive(Debug, Default)]
pub struct Counters {
    /// Read commands completed.
    pub reads: AtomicU64,
    /// Write commands completed.
    pub writes: AtomicU64,
    /// Bytes read.
    pub read_bytes: AtomicU64,
    /// Bytes written.
    pub written_bytes: AtomicU64,
}

impl Counters {
    /// Counts a completed read.
    pub fn count_read(&self, bytes: u32) {
        self.reads.fetch_add(1, Relaxed);
        self.read_bytes.fetch_add(u64::from(bytes), Relaxed);
    }

    /// Counts a completed write.
    pub fn count_write(&self, bytes: u32) {
        self.writes.fetch_add(1, Relaxed);
        self.written_bytes.fetch_add(u64::from(bytes), Relaxed);
    }
}

/// What the queues of one controller share with its control side.
#[derive(Debug)]
pub struct Shared<M> {
    /// Which controller, and which incarnation of it.
    pub instance: Instance,
    /// The way to the media.
    pub gate: Gate,
    /// Work done.
    pub counters: Counters,
    generation: AtomicU64,
    view: Mutex<Arc<View<M>>>,
}

impl<M> Shared<M> {
    /// The shared part of a controller that shows `view` and reaches the media through `gate`.
    pub fn new(instance: Instance, gate: Gate, view: View<M>) -> Self {
        Self {
            instance,
            gate,
            counters: Counters::default(),
            generation: AtomicU64::new(0),
            view: Mutex::new(Arc::new(view)),
        }
    }

    /// Replaces the view; commands looked up from now on use it.
    pub fn publish(&self, view: View<M>) {
        *self.view.lock() = Arc::new(view);
        self.generation.fetch_add(1, Release);
    }
}

/// One I/O queue's access to its controller.
#[derive(Debug)]
pub struct IoAccess<M> {
    shared: Arc<Shared<M>>,
    epoch: Epoch,
    generation: u64,
    view: Arc<View<M>>,
}

impl<M> IoAccess<M> {
    /// Access under the gate's present epoch.
    pub fn new(shared: Arc<Shared<M>>) -> Self {
        let epoch = shared.gate.epoch();
        let generation = shared.generation.load(Acquire);
        let view = Arc::clone(&shared.view.lock());
        Self {
            shared,
            epoch,
            generation,
            view,
        }
    }

    /// The namespaces as of now.
    pub fn view(&mut self) -> &View<M> {
        let generation = self.shared.generation.load(Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.view = Arc::clone(&self.shared.view.lock());
        }
        &self.view
    }

    /// The epoch this queue was connected under.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The controller's shared part.
    pub fn shared(&self) -> &Arc<Shared<M>> {
        &self.shared
    }
}
