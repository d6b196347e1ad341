//! State of volumes, priority groups and paths at one moment.

use serde::{Deserialize, Serialize};

/// The state of the daemon and everything it serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version, process and host identity of the daemon.
    pub daemon: DaemonView,
    /// Volumes, sorted by name.
    pub volumes: Vec<Volume>,
    /// Associations by path number, up or not.
    pub associations: Vec<Association>,
}

/// The daemon process and its identity as a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonView {
    /// Package version.
    pub version: String,
    /// Process ID.
    pub pid: u32,
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// Host NQN presented to controllers.
    pub hostnqn: String,
    /// Host identifier presented to controllers.
    pub hostid: String,
    /// RDMA devices present, `rxe0`.
    pub rdma_devices: Vec<String>,
    /// How a lost controller is detected, one line per mechanism.
    #[serde(default)]
    pub detection: Vec<String>,
    /// Block devices (`ublkb3`) whose server died and that no record names: their users hang.
    #[serde(default)]
    pub orphans: Vec<String>,
}

/// What happens to I/O while a volume has no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoPath {
    /// It waits.
    Queue,
    /// It fails.
    Fail,
    /// It waits this many milliseconds, then fails.
    QueueForMs(u64),
}

/// One volume: a namespace and its block device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Name, from the configuration or the bindings file.
    pub name: String,
    /// Identity of the namespace, `uuid.…` or `eui.…`.
    pub id: String,
    /// Block device without `/dev/`.
    pub device: String,
    /// NQN of the namespace's subsystem.
    pub nqn: String,
    /// Serial number of the subsystem.
    pub serial: String,
    /// Model number of the subsystem.
    pub model: String,
    /// Firmware revision of the controller first seen.
    pub firmware: String,
    /// Namespace identifier.
    pub nsid: u32,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Bytes allocated in the namespace (NUSE).
    pub used_bytes: u64,
    /// Logical block size in bytes.
    pub block_bytes: u32,
    /// Whether the namespace is write protected.
    pub read_only: bool,
    /// Whether the controllers report ANA.
    pub ana: bool,
    /// Grouping policy, spelled as in `docs/policies.md`.
    pub grouping: String,
    /// Path selector with its argument count, `queue-length 0`.
    pub selector: String,
    /// Failback policy, `immediate`, `manual` or seconds.
    pub failback: String,
    /// Policy for I/O while there is no path.
    pub no_path: NoPath,
    /// Whether I/O waits, or would wait, while there is no path.
    pub queueing: bool,
    /// Priority groups, best first.
    pub groups: Vec<Group>,
    /// Number of path losses.
    pub path_faults: u64,
    /// Number of switches to another group.
    pub group_switches: u64,
    /// Requests in flight or waiting, over all queues.
    pub in_flight: u64,
}

/// State of a priority group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// Carries the I/O.
    Active,
    /// Could carry I/O and does not.
    Enabled,
    /// None of its paths can carry I/O.
    Disabled,
}

impl GroupState {
    /// The name in `multipath -ll`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// A priority group of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Priority, the higher the better.
    pub priority: i64,
    /// Whether it carries I/O, or could.
    pub state: GroupState,
    /// Whether it holds the marginal paths, the last resort.
    pub marginal: bool,
    /// Paths of the group.
    pub paths: Vec<Path>,
}

/// ANA state of a namespace on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnaView {
    /// The controller does not report ANA.
    None,
    /// Optimized.
    Optimized,
    /// Non-optimized.
    NonOptimized,
    /// Inaccessible.
    Inaccessible,
    /// Persistent loss.
    PersistentLoss,
    /// Change.
    Change,
}

impl AnaView {
    /// The name used in listings.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        }
    }
}

/// State of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// Can carry I/O.
    Ready,
    /// Its association is up, but its ANA state forbids I/O.
    Standby,
    /// Suspect: there is evidence against it, and it gets no new I/O.
    Suspect,
    /// Its association is lost; it is reconnecting.
    Connecting,
    /// Failed by request.
    Failed,
    /// Marginal: it keeps failing or is much slower than others.
    Held,
    /// Marginal, and being probed with a few requests.
    Probation,
}

impl PathState {
    /// The state as device-mapper, the path checker and the device report it.
    pub fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Ready => ("active", "ready", "running"),
            Self::Standby => ("active", "ghost", "running"),
            Self::Suspect => ("failed", "shaky", "running"),
            Self::Connecting => ("failed", "faulty", "connecting"),
            Self::Failed => ("failed", "ready", "running"),
            Self::Held => ("active", "shaky", "running"),
            Self::Probation => ("active", "delayed", "running"),
        }
    }
}

/// One path of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Path number, the same for all volumes of its association.
    pub id: u32,
    /// Controller identifier; 0 before the first connection.
    pub cntlid: u16,
    /// Namespace identifier on this controller.
    pub nsid: u32,
    /// Transport, `rdma`.
    pub transport: String,
    /// Address and service, `192.168.10.14:4420`.
    pub address: String,
    /// ANA state of the namespace on this path.
    pub ana: AnaView,
    /// ANA group of the namespace; 0 without ANA.
    pub ana_group: u32,
    /// Whether the path can carry I/O, or why not.
    pub state: PathState,
    /// Priority, the higher the better.
    pub priority: i64,
    /// Whether the configuration prefers it.
    pub preferred: bool,
    /// Requests in flight, over all queues.
    pub in_flight: u64,
}

/// One association, or the attempt to establish it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Association {
    /// Path number.
    pub path: u32,
    /// Transport, `rdma`.
    pub transport: String,
    /// Address and service, `192.168.10.14:4420`.
    pub address: String,
    /// Local address; empty if the kernel chooses it.
    pub host_address: String,
    /// RDMA device in use; empty while not connected.
    pub rdma_device: String,
    /// NQN of the subsystem.
    pub nqn: String,
    /// Serial number; empty before the first connection.
    pub serial: String,
    /// Model number; empty before the first connection.
    pub model: String,
    /// Controller identifier; 0 before the first connection.
    pub cntlid: u16,
    /// State: `live`, `suspect`, `connecting`, `draining` or `deleting`.
    pub state: String,
    /// Keep-alive timeout in force, milliseconds.
    pub kato_ms: u32,
    /// Volumes it serves, by name.
    pub volumes: Vec<String>,
    /// Number of open I/O queues.
    pub io_queues: u32,
    /// Number of successful connections.
    pub connects: u64,
    /// Why it is not live; empty if it is.
    pub last_error: String,
}
