//! Queue pairs: both ends, and what crosses between them.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use umpath_core::AssociationId;
use umpath_nvme::{Cqe, Sqe};
use umpath_target::controller::view::IoAccess;

use super::clock::Nanos;
use super::host::{LaneAt, Port};
use super::plan::REQUEST_BLOCKS;
use super::store::StoreId;

/// A queue pair's number.
pub(crate) type QpId = usize;

/// A command's data: one stamp for each block.
pub(crate) type Values = [u64; REQUEST_BLOCKS];

/// An association of one life of the host: a process counts its own from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Assoc {
    pub(crate) life: u32,
    pub(crate) id: AssociationId,
}

impl fmt::Display for Assoc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.life, self.id)
    }
}

/// The host's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostEnd {
    Open,
    /// Sends nothing any more; its NIC may still touch memory.
    Error,
    /// Touches nothing any more.
    Drained,
}

/// The target's end.
#[derive(Debug)]
pub(crate) enum TargetEnd {
    Closed,
    /// No Connect yet.
    Fresh,
    Admin {
        cntlid: u16,
    },
    Io {
        cntlid: u16,
        access: IoAccess<StoreId>,
    },
}

/// Direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToTarget = 0,
    ToHost = 1,
}

#[derive(Debug)]
pub(crate) struct Qp {
    pub(crate) path: usize,
    pub(crate) association: Assoc,
    pub(crate) qid: u16,
    /// Commands it can hold.
    pub(crate) depth: u16,
    pub(crate) process: usize,
    /// Which life of the process.
    pub(crate) life: u32,
    pub(crate) host: HostEnd,
    /// The host has sent something on it.
    pub(crate) sent: bool,
    pub(crate) silent_at: Nanos,
    pub(crate) target: TargetEnd,
    /// The queue thread that has it, or had it last.
    pub(crate) lane: Option<LaneAt>,
    /// Its end in that thread.
    pub(crate) port: Option<Rc<Port>>,
    /// When the last packet arrives, by way.
    pub(super) last: [Nanos; 2],
    /// Its flow is lost in the fabric.
    pub(crate) cut: u32,
    pub(crate) cut_since: Nanos,
    /// Its marker does not come.
    pub(crate) marker_lost: bool,
    /// Packets that are being repeated, by way.
    pub(super) waiting: [VecDeque<Packet>; 2],
    /// Since when a sender has had no acknowledgement, by way.
    pub(super) unacknowledged: [Option<Nanos>; 2],
}

/// What crosses the fabric.
#[derive(Debug)]
pub(crate) enum Packet {
    /// A capsule of a session, with the data it brings.
    Admin {
        sqe: Sqe,
        data: Vec<u8>,
    },
    /// Its answer, with the data it brings.
    AdminAnswer {
        cqe: Cqe,
        data: Vec<u8>,
    },
    /// A capsule of a lane. `values`: in-capsule data.
    Capsule {
        sqe: Sqe,
        copy: u32,
        values: Option<Values>,
    },
    /// RDMA READ of a write's data, and its answer.
    Fetch {
        command: usize,
        copy: u32,
    },
    Fetched {
        command: usize,
        values: Values,
    },
    /// RDMA WRITE of a read's data, if any, and the response.
    Response {
        cqe: Cqe,
        copy: u32,
        values: Option<Values>,
    },
    /// The connection is over. `counts`: a controller may take it for traffic.
    Goodbye {
        counts: bool,
    },
}
