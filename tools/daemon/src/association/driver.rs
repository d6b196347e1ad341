//! The queue pairs of a sans-IO session.
//!
//! Decided here: how a session's orders become connections, capsules and buffers, and how their
//! ends become its inputs ([`Happened`]). A session has at most one command with data outstanding on a queue, so each
//! queue has one buffer: [`DATA_MAX`] bytes for the admin queue, Connect's data for the others.
//!
//! Making a connection takes calls that block for milliseconds (queue pairs, memory regions). They
//! run on other threads, one step at a time for each queue: the keep-alives of an association must
//! not wait for its own I/O queues.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::task::JoinSet;
use umpath_nvme::Cqe;
use umpath_rdma::{
    CmEvent, ConnectError, ConnectParams, Connecting, Domain, HostQueue, Progress, QueueError,
};
use umpath_session::{AdminData, DATA_MAX, IO_QUEUES_MAX, TransportSource};
use umpath_transport::{Arena, Data};

use crate::readiness::Readiness;

/// Size of the data of Fabrics Connect, the only data on an I/O queue before it is ready.
const CONNECT_BYTES: u32 = 1024;

/// Where the buffer of a queue lies in the driver's only slot, and how large it is.
fn buffer(qid: u16) -> (u32, u32) {
    match u32::from(qid) {
        0 => (0, DATA_MAX as u32),
        qid => (DATA_MAX as u32 + (qid - 1) * CONNECT_BYTES, CONNECT_BYTES),
    }
}

/// What a descriptor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// A connection being made.
    Connecting(u16),
    /// Completions of a queue.
    Completions(u16),
    /// The connection manager's events for a queue.
    Connection(u16),
}

/// An input for the session.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A queue is open.
    Connected(u16),
    /// A queue could not be opened, or was lost.
    Failed(u16, TransportSource),
    /// A command was answered, with the bytes its data buffer holds.
    Response {
        /// On this queue.
        qid: u16,
        /// The completion.
        cqe: Cqe,
        /// What the controller wrote.
        data: Vec<u8>,
    },
}

impl Happened {
    fn qid(&self) -> u16 {
        match self {
            Self::Connected(qid) | Self::Failed(qid, _) | Self::Response { qid, .. } => *qid,
        }
    }
}

/// The session has ended: everything that was open, to be torn down by the caller.
#[derive(Debug)]
pub(crate) struct Halt {
    /// The admin queue, where one was connected, and I/O queues that were not handed over.
    pub(crate) queues: Vec<HostQueue>,
    /// Queues that were closed before, while other threads destroy them.
    pub(crate) closing: JoinSet<()>,
}

/// The end of an established connection, as the connection manager reported it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum ConnectionEnd {
    #[error("the controller closed the connection")]
    Disconnected,
    #[error("the RDMA device is being removed")]
    DeviceRemoved,
}

/// A step of a connection in the making, done.
#[derive(Debug)]
struct Stepped {
    qid: u16,
    outcome: Result<(Connecting, Progress), TransportSource>,
}

/// The queues of one session.
#[derive(Debug)]
pub(crate) struct Driver {
    /// Template for every connection; `qid` and the like are filled in for each.
    params: ConnectParams,
    readiness: Readiness<Key>,
    /// Connections that wait for the peer.
    connecting: Vec<(u16, Connecting)>,
    /// Connections that another thread works on.
    stepping: JoinSet<Stepped>,
    queues: Vec<HostQueue>,
    /// Closed queues that other threads destroy.
    closing: JoinSet<()>,
    arena: Arc<Arena>,
    domain: Option<Arc<Domain>>,
    /// Bytes expected back, by queue and command identifier.
    expected: HashMap<(u16, u16), u32>,
    happened: VecDeque<Happened>,
}

impl Driver {
    /// A driver without queues.
    pub(crate) fn new(params: ConnectParams) -> Result<Self, ConnectError> {
        let arena = Arena::new(
            1,
            DATA_MAX as u32 + u32::from(IO_QUEUES_MAX) * CONNECT_BYTES,
        )
        .map_err(umpath_rdma::LocalError::from)?;
        Ok(Self {
            params,
            readiness: Readiness::new(),
            connecting: Vec::new(),
            stepping: JoinSet::new(),
            queues: Vec::new(),
            closing: JoinSet::new(),
            arena,
            domain: None,
            expected: HashMap::new(),
            happened: VecDeque::new(),
        })
    }

    /// The association's protection domain, once the admin queue is connected.
    pub(crate) fn domain(&self) -> Option<&Arc<Domain>> {
        self.domain.as_ref()
    }

    /// The device's port the association runs over, once the admin queue is connected.
    pub(crate) fn port(&self) -> Option<u8> {
        let admin = self.queues.iter().find(|queue| queue.qid() == 0);
        admin.map(HostQueue::port)
    }

    /// The next thing that happened, if something has. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Happened {
        loop {
            if let Some(happened) = self.happened.pop_front() {
                return happened;
            }
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let deadlines = self
            .connecting
            .iter()
            .map(|(_, connecting)| connecting.deadline());
        let wake = deadlines.min().map(tokio::time::Instant::from_std);
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let key = tokio::select! {
            biased;
            key = self.readiness.ready() => Some(key),
            Some(stepped) = self.stepping.join_next() => {
                // A step that panicked has been reported, and its session runs into the timeout.
                if let Ok(stepped) = stepped {
                    self.stepped(stepped);
                }
                return;
            }
            () = timer => None,
        };
        match key {
            Some(Key::Connecting(qid)) => self.connection_progress(qid),
            Some(Key::Completions(qid)) => self.completions(qid),
            Some(Key::Connection(qid)) => self.connection_event(qid),
            None => self.connections_late(),
        }
    }

    fn failed(&mut self, qid: u16, source: TransportSource) {
        self.happened.push_back(Happened::Failed(qid, source));
    }

    /// Hands over queues; they are not watched here any more.
    pub(crate) fn take_queues(&mut self, qids: &[u16]) -> Vec<HostQueue> {
        let (taken, kept) = self
            .queues
            .drain(..)
            .partition(|queue: &HostQueue| qids.contains(&queue.qid()));
        self.queues = kept;
        let taken: Vec<HostQueue> = taken;
        for queue in &taken {
            self.readiness.forget(Key::Completions(queue.qid()));
            self.readiness.forget(Key::Connection(queue.qid()));
        }
        taken
    }

    /// Closes a queue. Another one may get its identifier at once: what this one still had to say is
    /// dropped.
    pub(crate) fn close(&mut self, qid: u16) {
        let closed = self.take_queues(&[qid]);
        self.happened.retain(|happened| happened.qid() != qid);
        while self.closing.try_join_next().is_some() {}
        // Elsewhere: destroying one may wait for the kernel.
        self.closing.spawn_blocking(move || drop(closed));
    }

    /// Ends the driver and gives up everything it holds.
    pub(crate) fn halt(mut self) -> Halt {
        // Connections in the making go to another thread: destroying one may wait for the kernel.
        self.stepping.detach_all();
        let (connecting, arena) = (self.connecting, self.arena);
        if !connecting.is_empty() {
            tokio::task::spawn_blocking(move || drop((connecting, arena)));
        }
        Halt {
            queues: self.queues,
            closing: self.closing,
        }
    }

    /// Opens a queue.
    pub(crate) fn open(&mut self, qid: u16, cntlid: u16, depth: u16, in_capsule_bytes: u32) {
        let params = ConnectParams {
            qid,
            cntlid,
            depth,
            in_capsule_bytes,
            ..self.params.clone()
        };
        let domain = self.domain.clone();
        self.stepping.spawn_blocking(move || {
            let started = Connecting::start(params, domain);
            let outcome = started
                .map(|connecting| (connecting, Progress::Pending))
                .map_err(|error| Arc::new(error) as TransportSource);
            Stepped { qid, outcome }
        });
    }

    /// Another thread handles what has arrived for a connection. Nobody watches it meanwhile: it is
    /// watched anew after the step, which reports what is readable by then.
    fn connection_progress(&mut self, qid: u16) {
        self.readiness.forget(Key::Connecting(qid));
        let Some(index) = self.connecting.iter().position(|(known, _)| *known == qid) else {
            return;
        };
        let (_, mut connecting) = self.connecting.swap_remove(index);
        let arena = self.domain.is_none().then(|| self.arena.clone());
        self.stepping.spawn_blocking(move || {
            let outcome = progress(&mut connecting, arena.as_ref());
            Stepped {
                qid,
                outcome: outcome.map(|progress| (connecting, progress)),
            }
        });
    }

    fn stepped(&mut self, Stepped { qid, outcome }: Stepped) {
        let connected = match outcome {
            Ok((connecting, Progress::Pending)) => {
                let watched = self
                    .readiness
                    .watch(Key::Connecting(qid), connecting.fd())
                    .map_err(|_| ConnectError::Caller("no descriptor left: raise LimitNOFILE"));
                if watched.is_ok() {
                    self.connecting.push((qid, connecting));
                    return;
                }
                watched.map_err(|error| Arc::new(error) as TransportSource)
            }
            Ok((spent, Progress::Connected(queue))) => {
                tokio::task::spawn_blocking(move || drop(spent));
                self.adopt(queue)
            }
            Err(source) => Err(source),
        };
        match connected {
            Ok(()) => self.happened.push_back(Happened::Connected(qid)),
            Err(source) => self.failed(qid, source),
        }
    }

    fn adopt(&mut self, mut queue: HostQueue) -> Result<(), TransportSource> {
        let qid = queue.qid();
        if self.domain.is_none() {
            self.domain = Some(queue.domain().clone());
        }
        let io = |error: std::io::Error| -> TransportSource { Arc::new(error) };
        self.readiness
            .watch(Key::Completions(qid), queue.completion_fd())
            .map_err(io)?;
        self.readiness
            .watch(Key::Connection(qid), queue.cm_fd())
            .map_err(io)?;
        queue
            .arm()
            .map_err(|error| -> TransportSource { Arc::new(error) })?;
        self.queues.push(queue);
        Ok(())
    }

    fn queue(&mut self, qid: u16) -> Option<&mut HostQueue> {
        self.queues.iter_mut().find(|queue| queue.qid() == qid)
    }

    /// Sends a command. Where that fails, so has the queue.
    pub(crate) fn send(&mut self, qid: u16, sqe: umpath_nvme::Sqe, data: &AdminData) {
        if let Err(source) = self.try_send(qid, sqe, data) {
            self.failed(qid, source);
        }
    }

    fn try_send(
        &mut self,
        qid: u16,
        sqe: umpath_nvme::Sqe,
        data: &AdminData,
    ) -> Result<(), TransportSource> {
        let arena = self.arena.clone();
        let cid = sqe.cid.get();
        let (offset, room) = buffer(qid);
        let bytes = match data {
            AdminData::None => 0,
            AdminData::ToController(bytes) => bytes.len() as u32,
            AdminData::FromController(len) => *len,
        };
        if bytes > room {
            return Err(Arc::new(ConnectError::Caller(
                "a command's data exceeds its buffer",
            )));
        }
        let data = match data {
            AdminData::None => Data::None,
            AdminData::ToController(bytes) => {
                arena
                    .write_at(0, offset, bytes)
                    .map_err(|e| Arc::new(e) as TransportSource)?;
                Data::Write {
                    arena: &arena,
                    slot: 0,
                    offset,
                    len: bytes.len() as u32,
                }
            }
            AdminData::FromController(len) => {
                // What a controller leaves out must not be an earlier answer.
                arena
                    .zero(0, offset, *len)
                    .map_err(|e| Arc::new(e) as TransportSource)?;
                self.expected.insert((qid, cid), *len);
                Data::Read {
                    arena: &arena,
                    slot: 0,
                    offset,
                    len: *len,
                }
            }
        };
        let queue = self.queue(qid).ok_or_else(|| {
            Arc::new(ConnectError::Caller("the queue is not open")) as TransportSource
        })?;
        queue
            .push(sqe, data)
            .map_err(|e| Arc::new(e) as TransportSource)?;
        queue.ring().map_err(|e| Arc::new(e) as TransportSource)
    }

    fn completions(&mut self, qid: u16) {
        let mut responses = Vec::new();
        let Some(queue) = self.queue(qid) else { return };
        let outcome = reap(queue, &mut responses);
        for cqe in responses {
            let len = self.expected.remove(&(qid, cqe.cid.get())).unwrap_or(0);
            let mut data = vec![0; len as usize];
            self.arena
                .read_at(0, buffer(qid).0, &mut data)
                .expect("the range was accepted when the command was sent");
            self.happened
                .push_back(Happened::Response { qid, cqe, data });
        }
        if let Err(error) = outcome {
            self.failed(qid, Arc::new(error));
        }
    }

    fn connection_event(&mut self, qid: u16) {
        let Some(queue) = self.queue(qid) else { return };
        let end: TransportSource = loop {
            match queue.cm_event() {
                Ok(None) => return,
                Ok(Some(CmEvent::Disconnected)) => break Arc::new(ConnectionEnd::Disconnected),
                Ok(Some(CmEvent::DeviceRemoved)) => break Arc::new(ConnectionEnd::DeviceRemoved),
                Ok(Some(
                    CmEvent::Established | CmEvent::AddressChanged | CmEvent::TimewaitOver,
                )) => {}
                Err(error) => break Arc::new(error),
            }
        };
        self.failed(qid, end);
    }

    fn connections_late(&mut self) {
        let now = std::time::Instant::now();
        let (late, going): (Vec<_>, Vec<_>) = self
            .connecting
            .drain(..)
            .partition(|(_, connecting)| connecting.deadline() <= now);
        self.connecting = going;
        for (qid, connecting) in late {
            self.readiness.forget(Key::Connecting(qid));
            self.stepping.spawn_blocking(move || {
                let again = connecting.time_out();
                let outcome = again
                    .map(|connecting| (connecting, Progress::Pending))
                    .map_err(|error| Arc::new(error) as TransportSource);
                Stepped { qid, outcome }
            });
        }
    }
}

/// Handles what has arrived for a connection. `arena`: to be registered with a new association.
fn progress(
    connecting: &mut Connecting,
    arena: Option<&Arc<Arena>>,
) -> Result<Progress, TransportSource> {
    let progress = connecting
        .handle_readable()
        .map_err(|error| Arc::new(error) as TransportSource)?;
    if let (Progress::Connected(queue), Some(arena)) = (&progress, arena) {
        queue
            .domain()
            .register(arena)
            .map_err(|error| Arc::new(error) as TransportSource)?;
    }
    Ok(progress)
}

/// Takes everything that has completed and leaves the queue armed.
fn reap(queue: &mut HostQueue, responses: &mut Vec<Cqe>) -> Result<(), QueueError> {
    queue.take_completion_events()?;
    queue.arm()?;
    queue.poll(|cqe| responses.push(cqe)).map(|_| ())
}
