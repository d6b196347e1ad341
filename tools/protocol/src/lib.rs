//! The control protocol of `umpathd`: requests and replies.
//!
//! A request is one line of JSON, and so is its reply; a connection may carry several requests in
//! sequence. This crate defines only the types. The daemon decides who may ask (peer credentials)
//! and how long an answer may take; the command line decides how a listing looks on a terminal.
//!
//! Listings carry data, not text: every view (`list`, `-ll`, `show maps`) is rendered from the same
//! [`Snapshot`] of volumes, groups and paths, so views cannot disagree.

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

/// Default path of the daemon's socket.
pub const DEFAULT_SOCKET: &str = "/run/umpath/umpathd.sock";

/// Longest request line the daemon accepts, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Result for one path of a connect or disconnect request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathOutcome {
    /// The path's number, as `show paths` prints it.
    pub path: u32,
    /// NQN of the path's subsystem.
    pub nqn: String,
    /// Transport and address, `rdma,192.168.10.14:4420`.
    pub address: String,
    /// Volumes the path serves (or served), by name.
    pub volumes: Vec<String>,
    /// Block devices of those volumes, `ublkb0`.
    pub devices: Vec<String>,
    /// `true` if the path existed before and nothing was changed.
    pub already: bool,
    /// Namespaces of the subsystem that could not be used, and why.
    pub refused: Vec<Failure>,
    /// Namespaces of the subsystem that the configuration ignores, with the entry that names each.
    #[serde(default)]
    pub ignored: Vec<Failure>,
}

/// The daemon's answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Discovery log pages, one per portal.
    Discovery(Vec<DiscoveryListing>),
    /// Paths connected, and what could not be connected.
    Connected {
        /// Paths that are up now.
        paths: Vec<PathOutcome>,
        /// What failed; empty if every requested path is up.
        failures: Vec<Failure>,
        /// Ignored subsystems, and ignored namespaces of subsystems without others, with the entry
        /// that names each.
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
    /// Current state of all volumes, groups and paths.
    Snapshot(Box<Snapshot>),
    /// The contents of the event log.
    Events(EventListing),
    /// I/O counters of the volumes.
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
    /// The request itself.
    pub request: Request,
}

/// One line from the daemon to the command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyLine {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// The result of the request.
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
