//! Why a session could not be had, split by blame: the peer, the transport, or the caller.
//!
//! `Display` says what failed and why, [`SessionError::remedy`] what to do about it. NVMe status is
//! kept whole; the transport's own error stays reachable through `source`.

use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::Status;

use crate::refusal::Refusal;
use crate::step::Step;

/// The transport's own error, whatever its type.
pub type TransportSource = Arc<dyn std::error::Error + Send + Sync>;

/// Why a session ended or could not begin.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// The controller refused, failed or talked nonsense.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The way to the controller failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The configuration cannot work.
    #[error(transparent)]
    Caller(#[from] ConfigError),
}

/// The controller's fault.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// Fabrics Connect was refused.
    #[error("controller refused queue {qid}: {refusal}; it answered: {status}")]
    Refused {
        /// Queue being connected.
        qid: u16,
        /// What the status means here.
        refusal: Refusal,
        /// The status as received.
        status: Status,
    },
    /// Connect succeeded, but the controller demands authentication next.
    #[error("controller demands in-band authentication on queue {qid}, which is not supported yet")]
    AuthenticationRequired {
        /// Queue being connected.
        qid: u16,
    },
    /// A command of the bring-up failed.
    #[error("could not {step}: {status}")]
    Command {
        /// What was being done.
        step: Step,
        /// The status as received.
        status: Status,
    },
    /// A command was not answered in time.
    #[error("could not {step}: no answer within {} ms", after.as_millis())]
    Unanswered {
        /// What was being done.
        step: Step,
        /// How long the session waited.
        after: Duration,
    },
    /// An answer breaks the specification.
    #[error("could not {step}: {fault}")]
    Garbage {
        /// What was being done.
        step: Step,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A completion names a command that is not outstanding.
    #[error("controller completed command {cid:#06x} on queue {qid}, which is not outstanding")]
    UnexpectedCompletion {
        /// Queue it arrived on.
        qid: u16,
        /// Command identifier it names.
        cid: u16,
    },
    /// The controller did not become ready.
    #[error("controller not ready {} ms after it was enabled", after.as_millis())]
    NotReady {
        /// What CAP.TO allows.
        after: Duration,
    },
    /// CSTS.CFS is set.
    #[error("controller reports a fatal internal error (CSTS.CFS)")]
    Fatal,
    /// CAP.MPSMIN excludes pages of 4 KiB.
    #[error("controller needs memory pages of at least {bytes} bytes; this host uses 4096")]
    PageSize {
        /// Smallest page it accepts.
        bytes: u64,
    },
    /// A keep-alive was answered with an error.
    #[error("controller refused a keep-alive: {status}")]
    KeepAlive {
        /// The status as received.
        status: Status,
    },
    /// The controller grants no I/O queue.
    #[error(
        "controller grants {granted} I/O queues of {asked} asked, at least {needed} are needed"
    )]
    TooFewQueues {
        /// What it grants.
        granted: u16,
        /// What was asked.
        asked: u16,
        /// What the configuration insists on.
        needed: u16,
    },
    /// The discovery log changed during every attempt to read it.
    #[error("discovery log changed during each of {attempts} attempts to read it")]
    DiscoveryUnstable {
        /// Attempts made.
        attempts: u32,
    },
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Fewer bytes than the structure needs.
    #[error("the answer has {got} bytes where {needed} are needed")]
    Short {
        /// Bytes received.
        got: usize,
        /// Bytes the structure needs.
        needed: usize,
    },
    /// Controller identifier outside `0..=FFEFh`.
    #[error("controller identifier {0:#06x} is reserved")]
    ControllerId(u16),
    /// Identify Controller names another controller than Connect did.
    #[error("Connect gave controller {connected:#06x}, Identify says {identified:#06x}")]
    ControllerIdMismatch {
        /// From Connect.
        connected: u16,
        /// From Identify Controller.
        identified: u16,
    },
    /// Identify Controller names another subsystem than the one asked for.
    #[error("the controller says it belongs to subsystem {0:?}")]
    SubsystemMismatch(String),
    /// A text field holds bytes that are not printable ASCII.
    #[error("the {0} is not printable ASCII")]
    NotAscii(&'static str),
    /// Not an I/O controller.
    #[error("controller type {0} is not an I/O controller")]
    ControllerType(u8),
    /// NN is zero.
    #[error("the controller supports no namespaces (NN is 0)")]
    NoNamespaces,
    /// Queue entry sizes exclude 64-byte commands or 16-byte completions.
    #[error("queue entry sizes (SQES {sqes:#04x}, CQES {cqes:#04x}) exclude 64 and 16 bytes")]
    EntrySizes {
        /// SQES field.
        sqes: u8,
        /// CQES field.
        cqes: u8,
    },
    /// Capsule sizes cannot carry a command or a completion.
    #[error("capsule sizes (IOCCSZ {ioccsz}, IORCSZ {iorcsz}) cannot carry a command")]
    CapsuleSizes {
        /// IOCCSZ, units of 16 bytes.
        ioccsz: u32,
        /// IORCSZ, units of 16 bytes.
        iorcsz: u32,
    },
    /// A namespace list is not strictly ascending or exceeds NN.
    #[error("namespace {nsid} is out of order or out of range in the namespace list")]
    NamespaceOrder {
        /// The offending identifier.
        nsid: u32,
    },
    /// The controller claims ANA, but its limits contradict each other.
    #[error("ANA limits are contradictory ({groups} groups, {namespaces} namespaces)")]
    AnaLimits {
        /// NANAGRPID.
        groups: u32,
        /// MNAN, or NN where MNAN is zero.
        namespaces: u32,
    },
    /// The ANA log would be larger than the session or MDTS allows.
    #[error("the ANA log takes {bytes} bytes, more than one command can transfer ({limit})")]
    AnaTooLarge {
        /// Size by the controller's own limits.
        bytes: u64,
        /// Largest transfer.
        limit: u32,
    },
    /// The ANA log ends before what its counts promise.
    #[error("the ANA log is shorter than its counts say")]
    AnaTruncated,
    /// The ANA log changed during every attempt to read it.
    #[error("the ANA log changed during each of {attempts} attempts to read it")]
    AnaUnstable {
        /// Attempts made.
        attempts: u32,
    },
    /// The ANA log holds a reserved state.
    #[error("ANA group {group} is in a reserved state")]
    AnaState {
        /// The group.
        group: u32,
    },
    /// The ANA log names a group twice, an invalid group, or a namespace in two groups.
    #[error("the ANA log contradicts itself at group {group}")]
    AnaContradiction {
        /// Group where it was noticed.
        group: u32,
    },
    /// The discovery log announces more records than are read.
    #[error("the discovery log announces {records} records; at most {limit} are read")]
    DiscoveryTooLong {
        /// Records announced.
        records: u64,
        /// Records read at most.
        limit: u64,
    },
    /// A namespace descriptor list breaks the specification.
    #[error("{0}")]
    Descriptors(umpath_nvme::identify::DescriptorError),
    /// The discovery log has an unknown record format.
    #[error("discovery log record format {0} is unknown")]
    DiscoveryFormat(u16),
}

/// The transport's fault.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// A queue could not be opened.
    #[error("could not open queue {qid}")]
    Open {
        /// Queue being opened.
        qid: u16,
        /// Cause.
        source: TransportSource,
    },
    /// A queue was not opened in time.
    #[error("queue {qid} not open after {} ms", after.as_millis())]
    OpenTimeout {
        /// Queue being opened.
        qid: u16,
        /// How long the session waited.
        after: Duration,
    },
    /// An open queue was lost.
    #[error("queue {qid} was lost")]
    Lost {
        /// Queue lost.
        qid: u16,
        /// Cause.
        source: TransportSource,
    },
}

/// The caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No I/O queue asked for.
    #[error("an association needs at least one I/O queue, 0 configured")]
    NoIoQueues,
    /// More I/O queues than supported.
    #[error("{asked} I/O queues configured, at most {limit} are supported")]
    TooManyIoQueues {
        /// Configured.
        asked: u16,
        /// Largest.
        limit: u16,
    },
    /// More I/O queues insisted on than asked for.
    #[error("at least {least} I/O queues demanded, but only {asked} configured")]
    QueueBounds {
        /// Demanded.
        least: u16,
        /// Configured.
        asked: u16,
    },
    /// Queue depth out of range.
    #[error("I/O queue depth {0} is outside 2..=1024")]
    Depth(u16),
    /// Keep-alive timeout zero or beyond 32 bits of milliseconds.
    #[error("keep-alive timeout of {} ms is outside 1 ms..=24 h", .0.as_millis())]
    KatoRange(Duration),
    /// Heartbeat zero or too close to the keep-alive timeout.
    #[error(
        "keep-alive timeout of {} ms is shorter than two heartbeats of {} ms",
        kato.as_millis(), heartbeat.as_millis()
    )]
    KatoShort {
        /// Configured keep-alive timeout.
        kato: Duration,
        /// Configured heartbeat.
        heartbeat: Duration,
    },
    /// A timeout is zero.
    #[error("{0} must not be zero")]
    ZeroTimeout(&'static str),
}

impl SessionError {
    /// Whether the controller answered and said no for a reason that a quick retry cannot change.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Peer(PeerError::Refused { refusal, .. }) => !refusal.is_passing(),
            Self::Peer(
                PeerError::AuthenticationRequired { .. }
                | PeerError::PageSize { .. }
                | PeerError::TooFewQueues { .. }
                | PeerError::Garbage { .. },
            )
            | Self::Caller(_) => true,
            _ => false,
        }
    }

    /// What to do about it, in one sentence.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Peer(error) => error.remedy(),
            Self::Transport(TransportError::Open { .. } | TransportError::OpenTimeout { .. }) => {
                "check that the address and port are right (umpath discover), that the target \
                 listens there, and that cable, MTU (ping -s 8972 -M do) and routes work"
            }
            Self::Transport(TransportError::Lost { .. }) => "check cable, switch and target",
            Self::Caller(_) => "correct the option in umpath.toml or on the command line",
        }
    }
}

impl TransportError {
    pub(crate) fn queue_failed(opening: bool, qid: u16, source: TransportSource) -> Self {
        if opening {
            Self::Open { qid, source }
        } else {
            Self::Lost { qid, source }
        }
    }
}

impl PeerError {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Refused { refusal, .. } => refusal.remedy(),
            Self::AuthenticationRequired { .. } => {
                "allow this host without DH-HMAC-CHAP on the array"
            }
            Self::KeepAlive { .. } => "use a keep-alive timeout the array supports",
            Self::Unanswered { .. } | Self::NotReady { .. } | Self::Fatal => {
                "check the health of the array's controller"
            }
            Self::Command { .. } | Self::Garbage { .. } | Self::UnexpectedCompletion { .. } => {
                "check the array's firmware: this answer breaks the NVMe specification"
            }
            Self::PageSize { .. } => "this controller cannot be used from this host",
            Self::TooFewQueues { .. } => {
                "raise the array's limit on I/O queues or ask for fewer (io_queues)"
            }
            Self::DiscoveryUnstable { .. } => {
                "wait until the array's configuration stops changing, then discover again"
            }
        }
    }
}
