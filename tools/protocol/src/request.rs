//! Requests of the command line.

use serde::{Deserialize, Serialize};

use crate::Steer;

/// Address of a discovery or I/O controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    /// Transport, `rdma`.
    pub transport: String,
    /// Address of the controller's port.
    pub traddr: String,
    /// Service (port number); 4420 if absent.
    #[serde(default)]
    pub trsvcid: Option<String>,
    /// Local address to connect from.
    #[serde(default)]
    pub host_traddr: Option<String>,
    /// Local interface to connect from.
    #[serde(default)]
    pub host_iface: Option<String>,
}

/// User-selectable connection options; an absent one takes the configured default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectOptions {
    /// Host NQN to present.
    pub hostnqn: Option<String>,
    /// Host identifier to present.
    pub hostid: Option<String>,
    /// I/O queues per volume.
    pub nr_io_queues: Option<u16>,
    /// Entries per I/O queue.
    pub queue_size: Option<u16>,
    /// Keep-alive timeout, milliseconds.
    pub kato_ms: Option<u32>,
    /// Delay before the first reconnect, milliseconds.
    pub reconnect_delay_ms: Option<u64>,
    /// Time after which a lost path is given up, milliseconds; absent: never.
    pub ctrl_loss_tmo_ms: Option<u64>,
    /// Name of the volume, if the path brings a new one.
    pub alias: Option<String>,
    /// Prefer the path over others of its class.
    pub preferred: bool,
    /// Priority if the volume's prioritizer is `weighted`; 1 if absent.
    pub weight: Option<i32>,
    /// Throughput relative to other paths, 0 to 100, for `service-time`; 1 if absent.
    pub throughput: Option<u8>,
}

/// What `disconnect` removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectTarget {
    /// All paths to the subsystem with this NQN.
    Nqn(String),
    /// A volume with all its paths, by block device or by name.
    Device(String),
    /// One path, by number, address or address and port.
    Path(String),
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Read the discovery log of a portal, or of all in `discovery.conf`.
    Discover {
        /// The portal; absent: every line of `discovery.conf`.
        portal: Option<Portal>,
        /// Host NQN to present instead of the machine's.
        hostnqn: Option<String>,
    },
    /// Add a path to a subsystem.
    Connect {
        /// Address of the controller.
        portal: Portal,
        /// NQN of the subsystem.
        nqn: String,
        /// Options for the new path.
        options: ConnectOptions,
    },
    /// Add a path to every subsystem in a portal's discovery log.
    ConnectAll {
        /// The portal; absent: every line of `discovery.conf`.
        portal: Option<Portal>,
        /// Options for every new path.
        options: ConnectOptions,
    },
    /// Remove paths, and volumes left without a path.
    Disconnect {
        /// Subsystem, volume or path.
        target: DisconnectTarget,
        /// Remove volumes even while in use.
        force: bool,
    },
    /// List volumes, groups and paths.
    Snapshot,
    /// List the event log.
    Events,
    /// List the volumes' counters.
    Stats,
    /// Show the configuration in force.
    Config,
    /// Choose whether I/O waits while a volume has no path.
    Queueing {
        /// A volume by name or device; absent: all.
        volume: Option<String>,
        /// Wait (`true`) or fail (`false`).
        on: bool,
    },
    /// Change paths, groups or policies by hand.
    Steer(Steer),
}

impl Request {
    /// Whether the request changes something, which only root may do.
    pub fn changes(&self) -> bool {
        match self {
            Self::Snapshot | Self::Events | Self::Stats | Self::Config => false,
            Self::Discover { .. }
            | Self::Connect { .. }
            | Self::ConnectAll { .. }
            | Self::Disconnect { .. }
            | Self::Queueing { .. }
            | Self::Steer(_) => true,
        }
    }
}
