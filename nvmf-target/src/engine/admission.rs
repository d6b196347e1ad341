//! From a connection request to a queue, on threads of their own.
//!
//! To accept is to find the host's hardware address, and where the host is gone by then the kernel
//! waits a second for it to answer. Such requests come in crowds: everything that arrived while the
//! target stood still. So neither timers nor other hosts wait for them. Threads start on demand, up to a
//! limit; how many requests wait for one, `pending_connects` limits.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::warn;
use umpath_rdma::{ConnectRequest, Domain, LocalError, TargetParams, TargetQueue};
use umpath_transport::Arena;

use super::hub::Hub;
use crate::model::PortId;

/// Requests accepted at the same time. Whoever fills it with hosts that are gone delays others by a
/// second for each 64 of them.
const THREADS_MAX: usize = 64;
/// What a thread that accepts needs.
const STACK_BYTES: usize = 256 << 10;

/// Turns requests into queues.
#[derive(Debug)]
pub(super) struct Admission {
    hub: Arc<Hub>,
    /// Data memory of every reactor, registered in every domain.
    arenas: Vec<Arc<Arena>>,
    /// One for each device. Hosts never learn a key of it: the target alone reads and writes.
    domains: Mutex<HashMap<String, Arc<Domain>>>,
    pending: Mutex<Pending<Job>>,
}

#[derive(Debug)]
struct Job {
    port: PortId,
    request: ConnectRequest,
    params: TargetParams,
}

/// Requests without a thread, and how many threads there are.
#[derive(Debug)]
struct Pending<T> {
    waiting: VecDeque<T>,
    threads: usize,
}

impl<T> Pending<T> {
    fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            threads: 0,
        }
    }

    /// Adds a request; true when the caller is to start a thread for it.
    fn add(&mut self, request: T) -> bool {
        self.waiting.push_back(request);
        let more = self.threads < THREADS_MAX;
        self.threads += usize::from(more);
        more
    }

    /// The next request for a thread, which ends when there is none.
    fn next(&mut self) -> Option<T> {
        let next = self.waiting.pop_front();
        self.threads -= usize::from(next.is_none());
        next
    }

    /// A thread could not be started. Returns the requests that nobody will take.
    fn not_started(&mut self) -> VecDeque<T> {
        self.threads -= 1;
        if self.threads == 0 {
            std::mem::take(&mut self.waiting)
        } else {
            VecDeque::new()
        }
    }
}

impl Admission {
    pub(super) fn new(hub: Arc<Hub>, arenas: Vec<Arc<Arena>>) -> Arc<Self> {
        Arc::new(Self {
            hub,
            arenas,
            domains: Mutex::default(),
            pending: Mutex::new(Pending::new()),
        })
    }

    /// Forgets what it keeps of devices; queues that use it go on.
    pub(super) fn forget_devices(&self) {
        self.domains.lock().clear();
    }

    /// Accepts a request, in time, and gives the queue to a reactor.
    pub(super) fn admit(
        self: &Arc<Self>,
        port: PortId,
        request: ConnectRequest,
        params: TargetParams,
    ) {
        self.hub.pending_connects().enter();
        let job = Job {
            port,
            request,
            params,
        };
        if !self.pending.lock().add(job) {
            return;
        }
        let own = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("admission".into())
            .stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || own.work()) {
            // Dropping a request refuses it.
            let refused = self.pending.lock().not_started();
            warn!(%error, refused = refused.len(), "no thread to accept connections with");
            for _ in refused {
                self.hub.pending_connects().leave();
            }
        }
    }

    fn work(&self) {
        loop {
            let Some(job) = self.pending.lock().next() else {
                return;
            };
            self.accept(job);
        }
    }

    fn accept(&self, job: Job) {
        let Job {
            port,
            request,
            params,
        } = job;
        let (peer, device) = (request.peer_address(), request.device());
        match self.queue(&device, request, params) {
            Ok(queue) => self.hub.adopt(port, queue),
            Err(error) => {
                warn!(?peer, %device, %error, "a connection could not be accepted");
                self.hub.pending_connects().leave();
            }
        }
    }

    fn queue(
        &self,
        device: &str,
        request: ConnectRequest,
        params: TargetParams,
    ) -> Result<TargetQueue, LocalError> {
        let domain = self.domain(device, &request)?;
        let queue = request.accept(params, Some(Arc::clone(&domain)));
        if queue.as_ref().is_err_and(is_of_the_device) {
            let mut domains = self.domains.lock();
            if domains
                .get(device)
                .is_some_and(|kept| Arc::ptr_eq(kept, &domain))
            {
                domains.remove(device);
            }
        }
        queue
    }

    fn domain(&self, device: &str, request: &ConnectRequest) -> Result<Arc<Domain>, LocalError> {
        let mut domains = self.domains.lock();
        if let Some(domain) = domains.get(device) {
            return Ok(Arc::clone(domain));
        }
        let domain = request.new_domain()?;
        for arena in &self.arenas {
            domain.register(arena)?;
        }
        domains.insert(device.to_owned(), Arc::clone(&domain));
        Ok(domain)
    }
}

/// Whether an error is about a device that is gone, or another one under the same name, and not about
/// a host that is gone.
fn is_of_the_device(error: &LocalError) -> bool {
    match error {
        LocalError::Verbs(error) => {
            [libc::EXDEV, libc::ENODEV, libc::EIO].contains(&error.raw_os_error())
        }
        LocalError::Register(_) | LocalError::Arena(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_start_up_to_a_limit_and_end_without_work() {
        let mut pending = Pending::new();
        let started = (0..3 * THREADS_MAX).filter(|request| pending.add(*request));
        assert_eq!(started.count(), THREADS_MAX);
        for request in 0..3 * THREADS_MAX {
            assert_eq!(pending.next(), Some(request), "in order, and none is lost");
        }
        for left in (0..THREADS_MAX).rev() {
            assert_eq!(pending.next(), None);
            assert_eq!(pending.threads, left);
        }
        assert!(pending.add(0), "the next one gets a thread again");
    }

    #[test]
    fn requests_are_refused_only_when_no_thread_is_left() {
        let mut pending = Pending::new();
        assert!(pending.add(1));
        assert!(pending.add(2));
        assert!(pending.not_started().is_empty(), "the first one takes both");
        assert_eq!(pending.not_started(), [1, 2]);
        assert!(pending.add(3));
    }
}
