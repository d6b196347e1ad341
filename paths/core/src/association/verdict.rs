//! The causes of suspicions and convictions, and the verdicts.

use core::fmt;
use core::time::Duration;

/// What speaks against a path for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// The local link has no carrier.
    LinkDown,
    /// This many keep-alives in a row have no answer.
    KeepAlivesMissed(u32),
    /// The same, but I/O was answered meanwhile: the admin queue is deaf.
    AdminSilent(u32),
    /// Keep-alives are answered and I/O is not.
    IoStuck,
    /// A command has had no answer for this long; others may have.
    IoSlow(Duration),
    /// Another controller of the subsystem says that this one has lost us.
    HostLost,
}

impl Suspicion {
    /// Nothing new is sent there, not even on the last path. Otherwise the controller answers and
    /// only commands are late: then others are better, it is better than none, and it has not been
    /// away when that is over.
    #[must_use]
    pub fn stops(self) -> bool {
        !matches!(self, Self::AdminSilent(_) | Self::IoStuck | Self::IoSlow(_))
    }

    /// How much it keeps from a path; 0: there is none.
    pub(super) fn gravity(suspicion: Option<Self>) -> u8 {
        suspicion.map_or(0, |why| if why.stops() { 2 } else { 1 })
    }
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkDown => f.write_str("the local link is down"),
            Self::KeepAlivesMissed(count) => write!(f, "{count} keep-alives without an answer"),
            Self::AdminSilent(count) => write!(
                f,
                "{count} keep-alives without an answer, although I/O is answered"
            ),
            Self::IoStuck => f.write_str("I/O without an answer, although the controller lives"),
            Self::IoSlow(age) => {
                write!(f, "a command has had no answer for {} ms", age.as_millis())
            }
            Self::HostLost => f.write_str("another controller says that this one has lost us"),
        }
    }
}

/// Why an association is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conviction {
    /// The local link stayed down for the grace time.
    LinkDown,
    /// Keep-alives and I/O are both unanswered.
    Silent {
        /// Keep-alives in a row without an answer.
        missed: u32,
        /// How long I/O has had no answer.
        io: Duration,
    },
    /// A command had no answer for this long, whatever became of others.
    IoTimeout(Duration),
    /// Another controller says that this one has lost us, and our own evidence agrees.
    HostLost,
    /// The session ended: disconnected by the peer, a refused keep-alive, a KATO of silence.
    SessionFailed,
    /// An I/O queue pair failed.
    QueueFailed,
    /// An I/O queue pair is cut off from the controller, and what was in flight on it, or a failed
    /// replacement, keeps it from being replaced alone.
    QueueSilent,
    /// The RDMA device reported a fatal error or was removed.
    DeviceFatal,
    /// Somebody took the path out of the configuration.
    Operator,
}

impl fmt::Display for Conviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkDown => f.write_str("the local link stayed down"),
            Self::Silent { missed, io } => write!(
                f,
                "{missed} keep-alives and all I/O since {} ms without an answer",
                io.as_millis()
            ),
            Self::IoTimeout(age) => write!(
                f,
                "a command had no answer for {} ms (io_timeout_ms)",
                age.as_millis()
            ),
            Self::HostLost => f.write_str("it has lost us, as another controller says and we see"),
            Self::SessionFailed => f.write_str("the session with the controller ended"),
            Self::QueueFailed => f.write_str("an I/O queue pair failed"),
            Self::QueueSilent => f.write_str("an I/O queue pair is cut off from the controller"),
            Self::DeviceFatal => f.write_str("the RDMA device failed"),
            Self::Operator => f.write_str("it was taken out of the configuration"),
        }
    }
}

/// A change of the judgement, reported once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send nothing new there, or as little as possible ([`Suspicion::stops`]). Told again when it
    /// comes to the other.
    Suspect(Suspicion),
    /// The suspicion is over. Comes a little after the evidence has gone where suspicions follow each
    /// other.
    Clear,
    /// Give the association up.
    Convict(Conviction),
}
