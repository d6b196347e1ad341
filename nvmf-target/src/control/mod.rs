//! The run-time socket: verbs in, answers out, one JSON line each.
//!
//! A verb and the configuration file build the same types and go through the same
//! [`apply::Operator`], so whatever can be configured can be changed, with the same checks and the
//! same complaints.

mod apply;
mod client;
mod fences;
mod server;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use umpath_rdma::ListenError;

use crate::array::{ChangeError, Report};
use crate::config::{self, ConfigError};
use crate::fault::{Fault, FaultError, Rule};
use crate::fence::FenceError;
use crate::media::OpenError;
use crate::model::AnaState;

pub use apply::Operator;
pub use client::{CallError, call};
pub use server::{Server, ServerError};

/// Where the socket is unless stated.
pub const SOCKET: &str = "/run/umpath/target.sock";

/// A verb.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verb {
    /// Makes sure that a transport can be used.
    TransportCreate {
        /// `rdma`.
        trtype: String,
    },
    /// Adds a subsystem.
    SubsystemCreate {
        /// As in the configuration file.
        subsystem: Box<config::Subsystem>,
    },
    /// Removes a subsystem.
    SubsystemDelete {
        /// NVMe qualified name.
        nqn: String,
    },
    /// Makes a subsystem reachable at an address, which is opened if need be.
    ListenerAdd {
        /// The subsystem.
        nqn: String,
        /// The address.
        address: SocketAddr,
        /// Port identifier when the address is new; the lowest free one when absent.
        port: Option<u16>,
    },
    /// Takes a subsystem off an address, which is shut when nothing is left on it.
    ListenerRemove {
        /// The subsystem.
        nqn: String,
        /// The address.
        address: SocketAddr,
    },
    /// Adds a namespace.
    NamespaceAdd {
        /// The subsystem.
        nqn: String,
        /// As in the configuration file; `nsid` 0 takes the lowest free one.
        namespace: Box<config::Namespace>,
    },
    /// Removes a namespace.
    NamespaceRemove {
        /// The subsystem.
        nqn: String,
        /// The namespace.
        nsid: u32,
    },
    /// Lets a host connect.
    HostAdd {
        /// The subsystem.
        nqn: String,
        /// The host; any when absent.
        host: Option<String>,
    },
    /// Takes a host's permission away.
    HostRemove {
        /// The subsystem.
        nqn: String,
        /// The host; "any" when absent.
        host: Option<String>,
    },
    /// Sets the state of an ANA group.
    AnaSet {
        /// The subsystem.
        nqn: String,
        /// Where.
        at: Place,
        /// The group.
        group: u32,
        /// The state.
        state: AnaState,
    },
    /// Makes commands misbehave from now on.
    FaultAdd {
        /// Which, and how.
        fault: Fault,
    },
    /// Ends one fault, or all.
    FaultClear {
        /// Its number; all when absent.
        id: Option<u32>,
    },
    /// Reports the faults in force.
    FaultList,
    /// Reports everything.
    Show,
}

/// A port, named in one of two ways.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// By its identifier.
    Port(u16),
    /// By its address.
    Listener(SocketAddr),
}

/// What a verb gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done; what there is to say about it.
    Done(String),
    /// The answer to [`Verb::Show`].
    Report(Box<Report>),
    /// The answer to [`Verb::FaultList`].
    Faults(Vec<Rule>),
    /// It was not done.
    Failed(String),
}

/// Why a verb or a part of the configuration was not carried out.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The values make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The array refused.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The fault makes no sense.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A backing store cannot be used.
    #[error("namespace {nsid}: {source}")]
    Media {
        /// The namespace.
        nsid: u32,
        /// Cause.
        source: OpenError,
    },
    /// The fence cannot be used.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Cause.
        source: ListenError,
    },
    /// Anything else that is the caller's to change.
    #[error("{0}")]
    Refused(String),
}
