//! What the status of a refused Fabrics Connect means.
//!
//! NVMe over Fabrics 1.1 §3.3 (Base 2.x §6.3): on "Connect Invalid Parameters" completion dword 0
//! points at the offending field: IPO in bits 15:0, and IATTR bit 0 (dword bit 16) set if the offset
//! counts in the Connect data rather than in the command.

use std::fmt;

use umpath_nvme::command::ConnectResponse;
use umpath_nvme::{ConnectData, Cqe, Status};

/// Why a controller refused a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The subsystem does not admit this host NQN.
    HostNotAllowed,
    /// The port does not serve this subsystem NQN.
    UnknownSubsystem,
    /// The controller named does not exist (I/O queues: the association is gone).
    UnknownController,
    /// The host identifier is not acceptable, or differs from the one this host NQN uses elsewhere.
    HostId,
    /// The queue identifier is out of range or taken.
    QueueId,
    /// The queue size is out of range.
    QueueSize,
    /// The keep-alive timeout is not acceptable.
    KeepAliveTimeout,
    /// Another field was found invalid.
    Field {
        /// Whether the offset counts in the Connect data (else in the command).
        in_data: bool,
        /// Byte offset.
        offset: u16,
    },
    /// All controllers are taken, or the controller is still cleaning up.
    Busy,
    /// Authentication is demanded.
    AuthenticationRequired,
    /// The Connect record format is not understood.
    Format,
    /// Discovery has to be done again.
    RestartDiscovery,
    /// Anything else; the status says what.
    Other,
}

/// Offset of the host identifier in the Connect data.
const HOST_ID: u16 = 0;
/// Offsets in the Connect command.
const QUEUE_ID: u16 = 42;
const SQ_SIZE: u16 = 44;
const KATO: u16 = 48;

impl Refusal {
    /// The meaning of a status other than success.
    pub(crate) fn of(cqe: &Cqe) -> Self {
        match ConnectResponse::parse(cqe) {
            ConnectResponse::InvalidParameter { offset, in_data } => Self::field(in_data, offset),
            _ => Self::status(cqe.status()),
        }
    }

    fn status(status: Status) -> Self {
        match status.code() {
            Status::HOST_ID_FORMAT_INCONSISTENT => Self::HostId,
            Status::KEEP_ALIVE_INVALID => Self::KeepAliveTimeout,
            Status::CONNECT_INCOMPATIBLE_FORMAT => Self::Format,
            Status::CONNECT_CONTROLLER_BUSY => Self::Busy,
            Status::CONNECT_RESTART_DISCOVERY => Self::RestartDiscovery,
            Status::CONNECT_INVALID_HOST => Self::HostNotAllowed,
            Status::AUTHENTICATION_REQUIRED => Self::AuthenticationRequired,
            _ => Self::Other,
        }
    }

    fn field(in_data: bool, offset: u16) -> Self {
        match (in_data, offset) {
            (true, HOST_ID) => Self::HostId,
            (true, ConnectData::CNTLID_OFFSET) => Self::UnknownController,
            (true, ConnectData::SUBNQN_OFFSET) => Self::UnknownSubsystem,
            (true, ConnectData::HOSTNQN_OFFSET) => Self::HostNotAllowed,
            (false, QUEUE_ID) => Self::QueueId,
            (false, SQ_SIZE) => Self::QueueSize,
            (false, KATO) => Self::KeepAliveTimeout,
            _ => Self::Field { in_data, offset },
        }
    }

    /// Whether waiting alone may lift it.
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::Busy | Self::UnknownController | Self::QueueId | Self::Other
        )
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::HostNotAllowed => {
                "add this host's NQN (/etc/nvme/hostnqn) to the subsystem's allowed hosts"
            }
            Self::UnknownSubsystem => {
                "check the subsystem NQN: umpath discover lists those this port serves"
            }
            Self::HostId => {
                "make /etc/nvme/hostid unique to this host, one for each host NQN, and not zero"
            }
            Self::UnknownController | Self::QueueId | Self::Busy | Self::Other => {
                "if it persists, check the array"
            }
            Self::QueueSize => "ask for shallower queues (io_depth)",
            Self::KeepAliveTimeout => "use a keep-alive timeout the array supports (kato)",
            Self::AuthenticationRequired => "allow this host without DH-HMAC-CHAP on the array",
            Self::RestartDiscovery => "discover again and connect to what is listed then",
            Self::Field { .. } | Self::Format => {
                "check the array's firmware: it does not accept a standard Connect command"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostNotAllowed => "the subsystem does not allow this host",
            Self::UnknownSubsystem => "the port does not serve this subsystem NQN",
            Self::UnknownController => "no such controller",
            Self::HostId => "the host identifier is not acceptable",
            Self::QueueId => "the queue identifier is out of range or in use",
            Self::QueueSize => "the queue size is out of range",
            Self::KeepAliveTimeout => "the keep-alive timeout is not acceptable",
            Self::Field { in_data, offset } => {
                let place = if *in_data { "data" } else { "command" };
                return write!(f, "byte {offset} of the Connect {place} is invalid");
            }
            Self::Busy => "no free controller",
            Self::AuthenticationRequired => {
                "in-band authentication is demanded, which is not supported yet"
            }
            Self::Format => "the Connect format is not understood",
            Self::RestartDiscovery => "discovery has to be repeated",
            Self::Other => "unexpected status",
        })
    }
}
