//! The control socket of `umpathd`: what can be asked and what comes back.
//!
//! One request is one line of JSON, and so is its reply; a connection may carry several, one after
//! the other. Only the shapes are decided here. Who may ask (peer credentials), how long an answer
//! may take, and how a listing looks on a terminal are the daemon's and the command line's affair.
//!
//! Listings are facts, not pictures: [`Snapshot`] is the one description of volumes, groups and
//! paths from which every view (`list`, `-ll`, `show maps`) is drawn, so that no two views disagree.

#![forbid(unsafe_code)]

mod discovery;
mod event;
mod failure;
mod request;
mod snapshot;
mod stats;
mod steer;

pub use discovery::{DiscoveryListing, DiscoveryRecord};
pub use event::{Event, EventKind, EventListing, Timeline, TimelineMark};
pub use failure::Failure;
pub use request::{ConnectOptions, DisconnectTarget, Portal, Request};
pub use snapshot::{
    AnaView, Association, DaemonView, Group, GroupState, NoPath, Path, PathState, Snapshot, Volume,
};
pub use stats::{HeldStats, StatsListing, VolumeStats};
pub use steer::Steer;

use serde::{Deserialize, Serialize};

/// Version of this protocol and of every JSON listing derived from it.
pub const VERSION: u32 = 1;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/umpath/umpathd.sock";

/// The longest request line the daemon reads, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// What was done for one path of a connect or disconnect request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathOutcome {
    /// The path's number, as `show paths` prints it.
    pub path: u32,
    /// Subsystem the path leads to.
    pub nqn: String,
    /// Transport and address, `rdma,192.168.10.14:4420`.
    pub address: String,
    /// Volumes the path serves (or served), by name.
    pub volumes: Vec<String>,
    /// Block devices of those volumes, `ublkb0`.
    pub devices: Vec<String>,
    /// True when the path existed before and nothing was changed.
    pub already: bool,
    /// Namespaces of the subsystem that could not be used.
    pub refused: Vec<Failure>,
    /// Namespaces of the subsystem that the configuration leaves alone, and the entry that does.
    #[serde(default)]
    pub ignored: Vec<Failure>,
}

/// The daemon's answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Discovery log pages, one for each portal asked.
    Discovery(Vec<DiscoveryListing>),
    /// Paths connected, and what could not be connected.
    Connected {
        /// Paths that are up now.
        paths: Vec<PathOutcome>,
        /// What failed; empty when everything asked for is up.
        failures: Vec<Failure>,
        /// Subsystems, and namespaces beside which there is no other, that the configuration leaves
        /// alone, and the entry that does.
        #[serde(default)]
        ignored: Vec<Failure>,
    },
    /// Paths removed, and what could not be removed.
    Disconnected {
        /// Paths that are gone now.
        paths: Vec<PathOutcome>,
        /// Volumes whose block device was deleted.
        deleted: Vec<String>,
    },
    /// Everything the daemon knows about volumes, groups and paths.
    Snapshot(Box<Snapshot>),
    /// The event log.
    Events(EventListing),
    /// Counters.
    Stats(StatsListing),
    /// The configuration in force, as TOML.
    Config(String),
    /// The change was made.
    Done(String),
    /// The request failed.
    Failed(Failure),
}

/// One line from the command line to the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestLine {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What is asked.
    pub request: Request,
}

/// One line from the daemon to the command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyLine {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What came of it.
    pub reply: Reply,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_line() {
        let line = RequestLine {
            version: VERSION,
            request: Request::Connect {
                portal: Portal {
                    transport: "rdma".into(),
                    traddr: "192.168.1.1".into(),
                    trsvcid: None,
                    host_traddr: None,
                    host_iface: None,
                },
                nqn: "GB00051104bbf912".into(),
                options: ConnectOptions {
                    kato_ms: Some(500),
                    ..ConnectOptions::default()
                },
            },
        };
        let text = serde_json::to_string(&line).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(serde_json::from_str::<RequestLine>(&text).unwrap(), line);
    }

    #[test]
    fn only_views_are_open_to_everyone() {
        assert!(!Request::Snapshot.changes());
        assert!(!Request::Stats.changes());
        assert!(
            Request::Queueing {
                volume: None,
                on: true
            }
            .changes()
        );
        assert!(
            Request::Discover {
                portal: None,
                hostnqn: None
            }
            .changes()
        );
    }

    #[test]
    fn words_match_the_json() {
        let json = serde_json::to_string(&EventKind::BufferFenced).unwrap();
        assert_eq!(json.trim_matches('"'), EventKind::BufferFenced.word());
    }
}
