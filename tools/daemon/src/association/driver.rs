//! A sans-IO session on real queue pairs.
//!
//! Decided here: how a session's orders become connections, capsules and buffers, and how their
//! ends become its inputs. A session has at most one command with data outstanding on a queue, so each
//! queue has one buffer: [`DATA_MAX`] bytes for the admin queue, Connect's data for the others.
//!
//! Making a connection takes calls that block for milliseconds (queue pairs, memory regions). They
//! run on other threads, one step at a time for each queue: the keep-alives of an association must
//! not wait for its own I/O queues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use umpath_nvme::Cqe;
use umpath_rdma::{
    CmEvent, ConnectError, ConnectParams, Connecting, Domain, HostQueue, Progress, QueueError,
};
use umpath_session::{
    AdminData, Controller, DATA_MAX, Discovery, Event, IO_QUEUES_MAX, Output, TransportSource,
};
use umpath_transport::{Arena, Data};

use crate::clock;
use crate::readiness::Readiness;

/// What [`Controller`] and [`Discovery`] have in common.
pub(crate) trait Session: Send {
    fn poll_output(&mut self) -> Option<Output>;
    fn poll_timeout(&self) -> Option<Duration>;
    fn handle_timeout(&mut self, now: Duration);
    fn handle_queue_connected(&mut self, qid: u16, now: Duration);
    fn handle_queue_failed(&mut self, qid: u16, source: TransportSource);
    fn handle_response(&mut self, qid: u16, cqe: &Cqe, data: &[u8], now: Duration);
}

/// Forwards to the inherent methods of the same names.
macro_rules! session {
    ($($type:ty),+) => {$(
        impl Session for $type {
            fn poll_output(&mut self) -> Option<Output> {
                self.poll_output()
            }
            fn poll_timeout(&self) -> Option<Duration> {
                self.poll_timeout()
            }
            fn handle_timeout(&mut self, now: Duration) {
                self.handle_timeout(now);
            }
            fn handle_queue_connected(&mut self, qid: u16, now: Duration) {
                self.handle_queue_connected(qid, now);
            }
            fn handle_queue_failed(&mut self, qid: u16, source: TransportSource) {
                self.handle_queue_failed(qid, source);
            }
            fn handle_response(&mut self, qid: u16, cqe: &Cqe, data: &[u8], now: Duration) {
                self.handle_response(qid, cqe, data, now);
            }
        }
    )+};
}

session!(Controller, Discovery);

/// Size of the data of Fabrics Connect, the only data on an I/O queue before it is ready.
const CONNECT_BYTES: u32 = 1024;

/// A timer that fires later than this says more about this machine than about the fabric.
const LATE: Duration = Duration::from_millis(100);

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

/// The session has ended: everything that was open, to be torn down by the caller.
#[derive(Debug)]
pub(crate) struct Halt {
    /// The admin queue, where one was connected.
    pub(crate) queues: Vec<HostQueue>,
}

/// The end of an established connection, as the connection manager told it.
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

/// A session and the queues it runs on.
#[derive(Debug)]
pub(crate) struct Driver<S> {
    session: S,
    /// Template for every connection; `qid` and the like are filled in for each.
    params: ConnectParams,
    readiness: Readiness<Key>,
    /// Connections that wait for the peer.
    connecting: Vec<(u16, Connecting)>,
    /// Connections that another thread works on.
    stepping: JoinSet<Stepped>,
    queues: Vec<HostQueue>,
    arena: Arc<Arena>,
    domain: Option<Arc<Domain>>,
    /// Data an I/O queue's capsule may carry; 0 before the controller said so.
    in_capsule_bytes: u32,
    /// Bytes expected back, by queue and command identifier.
    expected: HashMap<(u16, u16), u32>,
}

impl<S: Session> Driver<S> {
    /// A driver for a session.
    pub(crate) fn new(session: S, params: ConnectParams) -> Result<Self, ConnectError> {
        let arena = Arena::new(
            1,
            DATA_MAX as u32 + u32::from(IO_QUEUES_MAX) * CONNECT_BYTES,
        )
        .map_err(umpath_rdma::LocalError::from)?;
        Ok(Self {
            session,
            params,
            readiness: Readiness::new(),
            connecting: Vec::new(),
            stepping: JoinSet::new(),
            queues: Vec::new(),
            arena,
            domain: None,
            in_capsule_bytes: 0,
            expected: HashMap::new(),
        })
    }

    /// The session, for calls that this driver does not make itself. Call [`Self::pump`] after.
    pub(crate) fn session(&mut self) -> &mut S {
        &mut self.session
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

    /// Carries out every order of the session and returns its reports. Call after every other call.
    pub(crate) fn pump(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::OpenQueue { qid, cntlid, depth } => self.open(qid, cntlid, depth),
                Output::Send { qid, sqe, data } => {
                    if let Err(source) = self.send(qid, sqe, &data) {
                        self.session.handle_queue_failed(qid, source);
                    }
                }
                Output::Event(event) => {
                    if let Event::Identified(facts) = &event {
                        // Data may travel in a capsule only where it directly follows the command.
                        let adjacent = facts.in_capsule_offset == 0;
                        self.in_capsule_bytes = if adjacent { facts.in_capsule_bytes } else { 0 };
                    }
                    events.push(event);
                }
                // The last event follows; whoever gets it halts the driver.
                Output::CloseAll => {}
            }
        }
        events
    }

    /// Waits for the next thing to happen and handles it. Cancelling it loses nothing.
    pub(crate) async fn step(&mut self) {
        let wake = self
            .connecting
            .iter()
            .map(|(_, connecting)| tokio::time::Instant::from_std(connecting.deadline()))
            .chain(self.session.poll_timeout().map(clock::instant))
            .min();
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
            None => self.time_passed(),
        }
    }

    /// Hands over the I/O queues; from now on only the admin queue is watched.
    pub(crate) fn take_io_queues(&mut self) -> Vec<HostQueue> {
        let (io, admin) = self
            .queues
            .drain(..)
            .partition(|queue: &HostQueue| queue.qid() != 0);
        self.queues = admin;
        let io: Vec<HostQueue> = io;
        for queue in &io {
            self.readiness.forget(Key::Completions(queue.qid()));
            self.readiness.forget(Key::Connection(queue.qid()));
        }
        io
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
        }
    }

    fn open(&mut self, qid: u16, cntlid: u16, depth: u16) {
        let params = ConnectParams {
            qid,
            cntlid,
            depth,
            in_capsule_bytes: self.in_capsule_bytes,
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
            Ok(()) => self.session.handle_queue_connected(qid, clock::now()),
            Err(source) => self.session.handle_queue_failed(qid, source),
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

    fn send(
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
        let now = clock::now();
        for cqe in responses {
            let len = self.expected.remove(&(qid, cqe.cid.get())).unwrap_or(0);
            let mut bytes = vec![0; len as usize];
            // In range: the same slot and length were accepted when the command was sent.
            let _ = self.arena.read_at(0, buffer(qid).0, &mut bytes);
            self.session.handle_response(qid, &cqe, &bytes, now);
        }
        if let Err(error) = outcome {
            self.session.handle_queue_failed(qid, Arc::new(error));
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
        self.session.handle_queue_failed(qid, end);
    }

    fn time_passed(&mut self) {
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
        let now = clock::now();
        let Some(due) = self.session.poll_timeout().filter(|due| *due <= now) else {
            return;
        };
        let late = now.saturating_sub(due);
        if late > LATE {
            // The controller counts this time against us: a loss that follows is this machine's.
            tracing::warn!(
                "a timer of {} fired {} ms late: this machine is overloaded",
                self.params.traddr,
                late.as_millis()
            );
        }
        self.session.handle_timeout(now);
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
