//! One connected queue as its reactor sees it.

use std::time::{Duration, Instant};

use umpath_rdma::TargetQueue;
use umpath_transport::Drain;

use super::unacknowledged::Unacknowledged;
use crate::array::Connected;
use crate::controller::view::IoAccess;
use crate::media::SharedMedia;
use crate::model::PortId;
use crate::output::QueueId;

/// How long a device may take to flush a queue.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// How long a host may take from the connection to the Connect command.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// What a queue is for.
#[derive(Debug)]
pub(super) enum Role {
    /// Connected below NVMe only: the first command must be Connect.
    Fresh,
    /// The admin queue of a controller.
    Admin { cntlid: u16 },
    /// An I/O queue.
    Io {
        cntlid: u16,
        access: IoAccess<SharedMedia>,
    },
}

/// Whether a queue pair was let go of at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retired {
    /// No, or long ago.
    NotYet,
    /// Yes, and no device touches the buffers of its requests any more.
    Drained,
    /// Yes, and they are the device's until it is destroyed.
    Undrained,
}

/// One connected queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) id: QueueId,
    pub(super) port: PortId,
    /// 0 for the admin queue; meaningless while [fresh](Self::is_fresh).
    pub(super) qid: u16,
    pub(super) role: Role,
    /// `None` once it was let go of, while requests are still on the media.
    transport: Option<Box<TargetQueue>>,
    /// It was let go of undrained, and its buffers are the device's until it is destroyed.
    retiring: bool,
    /// Requests that refer to this queue.
    pub(super) requests: u32,
    /// Responses to requests that the host has not taken.
    pub(super) unacknowledged: Unacknowledged,
    /// Commands the controller's gate refused.
    pub(super) refused: u32,
    /// The completion channel will report the next completion.
    pub(super) armed: bool,
    closing: bool,
    /// When it connected; what a drain's times are counted from.
    since: Instant,
    entries: u16,
    /// `None` when the host wants no flow control.
    head: Option<u16>,
}

impl Queue {
    pub(super) fn new(id: QueueId, port: PortId, transport: Box<TargetQueue>) -> Self {
        Self {
            id,
            port,
            qid: 0,
            role: Role::Fresh,
            transport: Some(transport),
            retiring: false,
            requests: 0,
            unacknowledged: Unacknowledged::default(),
            refused: 0,
            armed: false,
            closing: false,
            since: Instant::now(),
            entries: 1,
            head: Some(0),
        }
    }

    /// The queue pair, unless it is being closed.
    pub(super) fn live(&mut self) -> Option<&mut TargetQueue> {
        if self.closing {
            None
        } else {
            self.transport.as_deref_mut()
        }
    }

    /// The queue pair as long as it exists.
    pub(super) fn transport(&mut self) -> Option<&mut TargetQueue> {
        self.transport.as_deref_mut()
    }

    /// The queue belongs to a controller now.
    pub(super) fn connected(&mut self, connected: Connected<SharedMedia>) {
        self.qid = connected.qid;
        self.entries = connected.entries;
        // The Connect itself was the first entry consumed.
        self.head = (!connected.no_flow_control).then_some(1 % connected.entries);
        let cntlid = connected.cntlid;
        self.role = match connected.io {
            Some(access) => Role::Io { cntlid, access },
            None => Role::Admin { cntlid },
        };
    }

    /// The controller the queue belongs to.
    pub(super) fn cntlid(&self) -> Option<u16> {
        match self.role {
            Role::Fresh => None,
            Role::Admin { cntlid } | Role::Io { cntlid, .. } => Some(cntlid),
        }
    }

    /// No Connect came yet.
    pub(super) fn is_fresh(&self) -> bool {
        matches!(self.role, Role::Fresh)
    }

    /// No Connect came in time.
    pub(super) fn is_overdue(&self) -> bool {
        self.is_fresh() && !self.closing && self.since.elapsed() > CONNECT_TIME
    }

    /// The host takes no responses, and with them holds memory that others wait for.
    pub(super) fn takes_nothing(&self, now: Instant) -> bool {
        !self.closing && self.unacknowledged.is_overdue(now)
    }

    /// Whether something is wrong with it, only a timeout shows.
    pub(super) fn is_watched(&self) -> bool {
        !self.closing && (self.is_fresh() || self.unacknowledged.any())
    }

    /// Counts a command taken from the submission queue.
    pub(super) fn consume(&mut self) {
        if let (Some(head), false) = (&mut self.head, matches!(self.role, Role::Fresh)) {
            *head = (*head + 1) % self.entries.max(1);
        }
    }

    /// SQHD of the next completion; FFFFh for a host that asked for no flow control.
    pub(super) fn head(&self) -> u16 {
        self.head.unwrap_or(0xffff)
    }

    /// Starts closing; false when that was done before.
    pub(super) fn begin_close(&mut self) -> bool {
        if std::mem::replace(&mut self.closing, true) {
            return false;
        }
        if let Some(transport) = self.transport.as_deref_mut() {
            transport.begin_drain(self.since.elapsed() + DRAIN_TIME);
        }
        true
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Lets go of the queue pair when it is drained or its time is up. A thread of its own destroys it,
    /// which can take seconds, and calls `done`.
    pub(super) fn try_retire(&mut self, done: impl FnOnce() + Send + 'static) -> Retired {
        let Some(transport) = self.transport.as_deref_mut().filter(|_| self.closing) else {
            return Retired::NotYet;
        };
        let drained = match transport.poll_drained(self.since.elapsed()) {
            Drain::Pending => return Retired::NotYet,
            Drain::Quiet => true,
            Drain::DeadlinePassed => false,
        };
        if let Some(transport) = self.transport.take() {
            self.retiring = !drained;
            transport.retire(done);
        }
        if drained {
            Retired::Drained
        } else {
            Retired::Undrained
        }
    }

    /// The queue pair is destroyed.
    pub(super) fn destroyed(&mut self) {
        self.retiring = false;
    }

    /// Nothing refers to the queue any more.
    pub(super) fn is_over(&self) -> bool {
        self.closing && self.transport.is_none() && !self.retiring && self.requests == 0
    }
}
