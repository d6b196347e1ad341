//! What the command line may ask.

use serde::{Deserialize, Serialize};

use crate::Steer;

/// Where a controller listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    /// Transport, `rdma`.
    pub transport: String,
    /// Address of the controller's port.
    pub traddr: String,
    /// Service (port number); 4420 when absent.
    #[serde(default)]
    pub trsvcid: Option<String>,
    /// Local address to connect from.
    #[serde(default)]
    pub host_traddr: Option<String>,
    /// Local interface to connect from.
    #[serde(default)]
    pub host_iface: Option<String>,
}

/// What a person may choose for a connection; absent means the configured default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectOptions {
    /// Host NQN to present.
    pub hostnqn: Option<String>,
    /// Host identifier to present.
    pub hostid: Option<String>,
    /// I/O queues for each volume.
    pub nr_io_queues: Option<u16>,
    /// Entries of each I/O queue.
    pub queue_size: Option<u16>,
    /// Keep-alive timeout, milliseconds.
    pub kato_ms: Option<u32>,
    /// Delay before the first reconnect, milliseconds.
    pub reconnect_delay_ms: Option<u64>,
    /// Give a lost path up after this long, milliseconds; absent: never.
    pub ctrl_loss_tmo_ms: Option<u64>,
    /// Name of the volume, when the path brings a new one.
    pub alias: Option<String>,
    /// The path is preferred over others of its class.
    pub preferred: bool,
    /// Priority where the volume's prioritizer is `weighted`; 1 when absent.
    pub weight: Option<i32>,
    /// Throughput relative to other paths, 0 to 100, for `service-time`; 1 when absent.
    pub throughput: Option<u8>,
}

/// What `disconnect` removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectTarget {
    /// Every path to a subsystem.
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
        /// Host NQN to present, when not the machine's.
        hostnqn: Option<String>,
    },
    /// Add a path to a subsystem.
    Connect {
        /// Where.
        portal: Portal,
        /// Which subsystem.
        nqn: String,
        /// How.
        options: ConnectOptions,
    },
    /// Add a path to every subsystem a portal shows.
    ConnectAll {
        /// The portal; absent: every line of `discovery.conf`.
        portal: Option<Portal>,
        /// How.
        options: ConnectOptions,
    },
    /// Remove paths, and the volumes that are left without any.
    Disconnect {
        /// What to remove.
        target: DisconnectTarget,
        /// Remove volumes even while they are in use.
        force: bool,
    },
    /// Volumes, groups and paths.
    Snapshot,
    /// The event log.
    Events,
    /// Counters of the volumes.
    Stats,
    /// The configuration in force.
    Config,
    /// Choose whether I/O waits while a volume has no path.
    Queueing {
        /// A volume by name or device; absent: all.
        volume: Option<String>,
        /// Wait (`true`) or fail (`false`).
        on: bool,
    },
    /// Do something to paths, groups or policies by hand.
    Steer(Steer),
}

impl Request {
    /// True when the request changes something, which only root may.
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
