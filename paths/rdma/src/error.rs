//! What can go wrong, split by whose fault it is.
//!
//! Connecting ends in one [`ConnectError`]; an established queue in one [`QueueError`], after which
//! the queue is only good for draining. Both say what failed, why, and what to do.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use umpath_nvme::rdma::RejectReason;
use umpath_transport::ArenaError;

use crate::domain::RegisterError;
use crate::management::DeadDevice;
use crate::verbs::VerbsError;

/// RDMA cannot be used on this machine at all.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The libraries are not there.
    #[error(
        "rdma-core is not installed (librdmacm.so.1, libibverbs.so.1): install librdmacm1 and ibverbs-providers (Debian, Ubuntu) or librdmacm and libibverbs (Fedora, RHEL)"
    )]
    Library,
    /// The kernel side is not loaded.
    #[error(
        "the kernel has no RDMA connection manager ({source}): `modprobe rdma_ucm`, and for soft-RoCE `modprobe rdma_rxe`"
    )]
    Module {
        /// What rdma-core said.
        source: VerbsError,
    },
    /// rdma-core works, but there is nothing to work with.
    #[error(
        "there is no RDMA device here: plug one in, or for soft-RoCE `rdma link add rxe0 type rxe netdev <interface>` (devices belong to a network namespace: `rdma link show`)"
    )]
    NoDevice,
    /// Something else, permissions for instance.
    #[error("the RDMA connection manager cannot be opened: {0}")]
    Open(#[from] VerbsError),
}

impl Unavailable {
    pub(crate) fn explain(source: VerbsError) -> Self {
        match source.raw_os_error() {
            libc::EOPNOTSUPP => Self::Library,
            _ if !std::path::Path::new("/sys/class/misc/rdma_cm").exists() => {
                Self::Module { source }
            }
            libc::ENODEV => Self::NoDevice,
            _ => Self::Open(source),
        }
    }
}

/// How far a connection had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Finding the local device and the neighbour.
    Address,
    /// Finding the route.
    Route,
    /// Waiting for the peer's answer.
    Handshake,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "resolving the address",
            Self::Route => "resolving the route",
            Self::Handshake => "waiting for the connection to be accepted",
        })
    }
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No RDMA at all.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A parameter makes no sense.
    #[error("{0}")]
    Caller(&'static str),
    /// No RDMA device owns the address traffic to the peer would leave from.
    #[error(
        "no RDMA device reaches {traddr}{}: the interface with the route to it has none; for \
         soft-RoCE: `rdma link add rxe0 type rxe netdev <interface>`; RDMA devices here: {devices}",
        from.map(|a| format!(" from {a}")).unwrap_or_default()
    )]
    NoDevice {
        /// The peer.
        traddr: SocketAddr,
        /// The local address asked for.
        from: Option<std::net::IpAddr>,
        /// The devices there are, in words.
        devices: String,
        /// What the connection manager said.
        source: VerbsError,
    },
    /// The address cannot be reached from here.
    #[error("{traddr} cannot be reached while {phase}: {source}; check the cable, the address and `ip route get {}`", traddr.ip())]
    Unreachable {
        /// The peer.
        traddr: SocketAddr,
        /// How far it came.
        phase: Phase,
        /// What the connection manager said.
        source: VerbsError,
    },
    /// Nothing listens there.
    #[error(
        "{traddr} refused the connection: nothing listens on that port for RDMA; check the port (trsvcid) and that the target listens on RDMA"
    )]
    Refused {
        /// The peer.
        traddr: SocketAddr,
    },
    /// The NVMe target refused the queue and said why.
    #[error("{traddr} rejected queue {qid}: {reason}; {}", reject_advice(*reason))]
    Rejected {
        /// The peer.
        traddr: SocketAddr,
        /// The queue.
        qid: u16,
        /// Reason the peer gave.
        reason: RejectReason,
    },
    /// Refused below NVMe, with a connection manager reason code.
    #[error("{traddr} rejected the connection with CM reason {code} ({})", cm_reason(*code))]
    CmRejected {
        /// The peer.
        traddr: SocketAddr,
        /// InfiniBand CM reject reason.
        code: i32,
    },
    /// The peer accepted with bytes that are not an NVMe reply.
    #[error(
        "{traddr} accepted the connection but its reply is not NVMe over RDMA: is another service on that port?"
    )]
    BadReply {
        /// The peer.
        traddr: SocketAddr,
    },
    /// The time was up.
    #[error("{traddr} did not answer within {} ms while {phase}; check the cable, the MTU (`ping -M do -s 4000 {}`) and the target{}", after.as_millis(), traddr.ip(), silence_advice(*phase))]
    TimedOut {
        /// The peer.
        traddr: SocketAddr,
        /// How far it came.
        phase: Phase,
        /// How long it was given.
        after: Duration,
    },
    /// This side's device makes no connections any more.
    #[error("the connection to {traddr} was never requested: {device}")]
    DeviceDead {
        /// The peer.
        traddr: SocketAddr,
        /// The device.
        device: DeadDevice,
    },
    /// The peer is reached through another device than the association's domain is on.
    #[error(
        "{traddr} is reached through {found}, but this association's memory is registered with {expected}: all queues of an association use one device"
    )]
    OtherDevice {
        /// The peer.
        traddr: SocketAddr,
        /// The device the route leads to.
        found: String,
        /// The domain's device.
        expected: String,
    },
    /// This side had no resources.
    #[error(transparent)]
    Local(#[from] LocalError),
}

/// Why a listener does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No RDMA at all.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Another listener has the address.
    #[error("{address} is in use: another RDMA target listens there (`rdma resource show cm_id`)")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// No RDMA device has the address.
    #[error(
        "no RDMA device has the address {address}; for soft-RoCE: `rdma link add rxe0 type rxe \
         netdev <interface>`; RDMA devices here: {devices}"
    )]
    NoDevice {
        /// The address.
        address: SocketAddr,
        /// The devices there are, in words.
        devices: String,
        /// What the connection manager said.
        source: VerbsError,
    },
    /// The device the listener was on is gone.
    #[error("the RDMA device was removed")]
    DeviceRemoved,
    /// A local call failed.
    #[error(transparent)]
    Local(VerbsError),
}

/// This machine could not provide something.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A verbs call failed.
    #[error(transparent)]
    Verbs(#[from] VerbsError),
    /// Memory could not be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// Memory could not be mapped.
    #[error(transparent)]
    Arena(#[from] ArenaError),
}

/// Why an established queue is broken. It can only be drained and dropped.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The fabric or the peer's device failed a work request.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The peer sent something the protocol does not allow.
    #[error("the peer broke the protocol: {0}")]
    Peer(&'static str),
    /// The device reported what cannot be.
    #[error("the RDMA device or its driver is at fault: {0}")]
    Device(&'static str),
    /// A local call failed.
    #[error(transparent)]
    Local(#[from] VerbsError),
}

/// A work request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{work} failed: {status} (vendor code {vendor:#x})")]
pub struct TransportError {
    /// Which work: "SEND", "RECV", "RDMA READ", "RDMA WRITE".
    pub work: &'static str,
    /// Status of the completion.
    pub status: WcStatus,
    /// The device's own code.
    pub vendor: u32,
}

/// An `ibv_wc_status` other than success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WcStatus(pub u32);

impl WcStatus {
    /// Flushed: the queue pair was already in error.
    pub const FLUSHED: Self = Self(5);
    /// The peer no longer answers: all transport retries were used up.
    pub const RETRY_EXCEEDED: Self = Self(12);
}

impl fmt::Display for WcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "local length error",
            2 => "local queue pair error",
            4 => "local protection error",
            5 => "flushed, the queue pair was in error",
            6 => "memory window bind error",
            7 => "bad response from the peer",
            8 => "local access error",
            9 => "invalid request at the peer",
            10 => "the peer refused access to its memory",
            11 => "the peer could not complete it",
            12 => "no answer from the peer, transport retries used up",
            13 => "the peer had no receive posted, retries used up",
            16 => "the peer aborted",
            19 => "fatal device error",
            20 => "the peer timed out",
            21 => "general device error",
            code => return write!(f, "work completion status {code}"),
        })
    }
}

fn reject_advice(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::INVALID_HSQSIZE | RejectReason::INVALID_HRQSIZE => {
            "ask for a smaller queue (queue-size)"
        }
        RejectReason::INVALID_QID | RejectReason::NO_RESOURCES => {
            "ask for fewer I/O queues (nr-io-queues) or free some on the target"
        }
        RejectReason::INVALID_CNTLID => {
            "the target no longer knows this controller: connect its admin queue again"
        }
        RejectReason::INVALID_IRD | RejectReason::INVALID_ORD => {
            "the RDMA devices disagree on outstanding reads"
        }
        _ => "the two ends do not speak the same version of NVMe over RDMA",
    }
}

/// What to check when a request to connect is not answered. This side's device is not dead.
fn silence_advice(phase: Phase) -> &'static str {
    match phase {
        Phase::Address | Phase::Route => "",
        Phase::Handshake => {
            "; if the address answers a ping and the target runs, the target's RDMA device may have \
             failed: for soft-RoCE, `rdma resource show qp` there shows type GSI in state ERR, and the \
             device has to be deleted and added again"
        }
    }
}

/// InfiniBand Architecture 1.3, table "CM REJ reason codes".
fn cm_reason(code: i32) -> &'static str {
    match code {
        1 | 3 => "the peer's device has no queue pair or resources left",
        4 => "timeout",
        5 => "unsupported request",
        8 => "no such service: nothing listens there",
        10 => "stale connection: the peer has not yet forgotten an earlier one, try again",
        12 | 13 => "primary address is not the peer's",
        24 | 25 => "redirected to another port",
        28 => "refused by the service without an NVMe reason",
        _ => "see the InfiniBand specification, CM REJ",
    }
}
