//! NVMe over RDMA queue pairs, both ends, and the safe verbs they are made of.
//!
//! Decided here: how a connection is set up and taken down, how capsules and data become work
//! requests, when a command's buffers are the device's and when they are the caller's again, and
//! what a transport failure is called. Not decided here: which path carries a command, what is
//! retried, and what a failure means for a path. No call waits for the peer; threads are started only to
//! let go of things (`retire`, `verbs::linger`).
//!
//! | piece | end | is |
//! |---|---|---|
//! | [`Domain`] | both | a protection domain and the arenas registered in it; one per association |
//! | [`Connecting`] | host | a connection being set up: feed it readiness, get a [`HostQueue`] |
//! | [`HostQueue`] | host | command capsules out, responses in |
//! | [`Listener`], [`ConnectRequest`] | target | who wants to connect, and with what |
//! | [`TargetQueue`] | target | command capsules in, RDMA READ and WRITE, responses out |
//! | [`AsyncEvents`] | both | port and device events of one device |
//! | [`DeadDevice`] | both | a soft-RoCE device that makes no connections any more |
//!
//! Every descriptor handed out (`*_fd`) is non-blocking and readable when the matching `handle_*`
//! or `take_*` call has something to do. A queue is `Send` and owned by one thread at a time.
//!
//! rdma-core is loaded when the program starts, not linked: on a machine without it every entry
//! point reports [`Unavailable`] in words.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod chain;
mod connect;
mod device;
mod domain;
mod drain;
mod endpoint;
mod error;
mod host;
mod listen;
mod management;
mod netlink;
mod retire;
mod slots;
mod target;
mod transport;
mod verbs;

pub use connect::{ConnectParams, Connecting, Progress};
pub use device::{AsyncEvents, DeviceEvent, DeviceEventKind, RdmaDevice, rdma_devices};
pub use domain::{Domain, RegisterError};
pub use error::{
    ConnectError, ListenError, LocalError, Phase, QueueError, TransportError, Unavailable, WcStatus,
};
pub use host::HostQueue;
pub use listen::{ConnectRequest, Listener, TargetParams};
pub use management::{DeadDevice, ReplaceError};
pub use target::{CapsuleSlot, Remote, TargetEvent, TargetQueue};
pub use verbs::VerbsError;

/// What the connection manager said about an established connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CmEvent {
    /// The handshake is complete (target side; the host's queue exists only after it).
    Established,
    /// The peer closed the connection, or the connection manager found it gone.
    Disconnected,
    /// The device is being removed: drop every queue and domain on it.
    DeviceRemoved,
    /// The local address moved to another device; the connection may go on, but not for long.
    AddressChanged,
    /// The connection's timewait is over; nothing of it can arrive any more.
    TimewaitOver,
}

impl CmEvent {
    fn from_raw(event: &verbs::RawCmEvent) -> Option<Self> {
        use verbs::RawCmEvent as Raw;
        match event {
            Raw::Established { .. } => Some(Self::Established),
            Raw::Disconnected
            | Raw::ConnectError(_)
            | Raw::Unreachable(_)
            | Raw::Rejected { .. } => Some(Self::Disconnected),
            Raw::DeviceRemoval => Some(Self::DeviceRemoved),
            Raw::AddressChange => Some(Self::AddressChanged),
            Raw::TimewaitExit => Some(Self::TimewaitOver),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send<T: Send>() {}
    fn sync<T: Sync>() {}

    #[test]
    fn queues_move_between_threads_and_domains_are_shared() {
        send::<HostQueue>();
        send::<TargetQueue>();
        send::<Connecting>();
        send::<ConnectRequest>();
        send::<Listener>();
        send::<AsyncEvents>();
        send::<Domain>();
        sync::<Domain>();
    }
}
