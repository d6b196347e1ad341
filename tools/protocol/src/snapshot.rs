//! Volumes, priority groups and paths at one moment.

use serde::{Deserialize, Serialize};

/// Everything the daemon knows at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The daemon itself.
    pub daemon: DaemonView,
    /// Volumes, by name.
    pub volumes: Vec<Volume>,
    /// Associations, by path number, whether or not they are up.
    pub associations: Vec<Association>,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonView {
    /// Package version.
    pub version: String,
    /// Process.
    pub pid: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Name presented to controllers.
    pub hostnqn: String,
    /// Identifier presented to controllers.
    pub hostid: String,
    /// RDMA devices seen, `rxe0`.
    pub rdma_devices: Vec<String>,
    /// How a lost controller is noticed, one line for each way.
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
    /// It waits for so many milliseconds, then fails.
    QueueForMs(u64),
}

/// One volume: a namespace and its block device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Name, from the configuration or the bindings file.
    pub name: String,
    /// Stable identity, `uuid.…` or `eui.…`.
    pub id: String,
    /// Block device without `/dev/`.
    pub device: String,
    /// Subsystem the namespace belongs to.
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
    /// Bytes of the namespace in use, as the namespace reports it.
    pub used_bytes: u64,
    /// Logical block size in bytes.
    pub block_bytes: u32,
    /// Write protected.
    pub read_only: bool,
    /// The controllers report ANA.
    pub ana: bool,
    /// Grouping policy, in the words of `docs/policies.md`.
    pub grouping: String,
    /// Path selector with its arguments, `queue-length 0`.
    pub selector: String,
    /// Failback policy, `immediate`, `manual` or seconds.
    pub failback: String,
    /// What happens without a path.
    pub no_path: NoPath,
    /// I/O would wait, or is waiting, if there were no path now.
    pub queueing: bool,
    /// Priority groups, best first.
    pub groups: Vec<Group>,
    /// Times a path was lost.
    pub path_faults: u64,
    /// Times the I/O moved to another group.
    pub group_switches: u64,
    /// Requests in flight or waiting, all queues.
    pub in_flight: u64,
}

/// What a group is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// It carries the I/O.
    Active,
    /// It could.
    Enabled,
    /// None of its paths can carry I/O.
    Disabled,
}

impl GroupState {
    /// The word `multipath -ll` uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// A priority group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Priority of the group.
    pub priority: i64,
    /// What it is doing.
    pub state: GroupState,
    /// Holds the paths that are kept out: the last resort.
    pub marginal: bool,
    /// Its paths.
    pub paths: Vec<Path>,
}

/// ANA state of a path's namespace.
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
    /// The word listings use.
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

/// What a path is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// It can carry I/O.
    Ready,
    /// The association lives, but its ANA state forbids I/O.
    Standby,
    /// There is evidence against it; it gets no new I/O.
    Suspect,
    /// The association is gone; it is being connected again.
    Connecting,
    /// It was failed by request.
    Failed,
    /// It keeps failing: kept out for a while.
    Held,
    /// It was kept out and is tried with a few requests.
    Probation,
}

impl PathState {
    /// Device-mapper's, the checker's and the device's word for this state.
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
    /// Number of the path, the same for all volumes of its association.
    pub id: u32,
    /// Controller identifier, 0 before the first connection.
    pub cntlid: u16,
    /// Namespace identifier.
    pub nsid: u32,
    /// Transport, `rdma`.
    pub transport: String,
    /// Address and service, `192.168.10.14:4420`.
    pub address: String,
    /// ANA state.
    pub ana: AnaView,
    /// ANA group of the namespace, 0 without ANA.
    pub ana_group: u32,
    /// What it is doing.
    pub state: PathState,
    /// Priority.
    pub priority: i64,
    /// Preferred by configuration.
    pub preferred: bool,
    /// Requests in flight, all queues.
    pub in_flight: u64,
}

/// One association, or the attempt to have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Association {
    /// Number of the path.
    pub path: u32,
    /// Transport, `rdma`.
    pub transport: String,
    /// Address and service, `192.168.10.14:4420`.
    pub address: String,
    /// Local address, empty when the kernel chooses.
    pub host_address: String,
    /// RDMA device in use, empty while not connected.
    pub rdma_device: String,
    /// Subsystem.
    pub nqn: String,
    /// Serial number, empty before the first connection.
    pub serial: String,
    /// Model number, empty before the first connection.
    pub model: String,
    /// Controller identifier, 0 before the first connection.
    pub cntlid: u16,
    /// What it is doing: `live`, `suspect`, `connecting`, `draining`, `deleting`.
    pub state: String,
    /// Keep-alive timeout in force, milliseconds.
    pub kato_ms: u32,
    /// Volumes it serves, by name.
    pub volumes: Vec<String>,
    /// I/O queues open.
    pub io_queues: u32,
    /// Times it was connected.
    pub connects: u64,
    /// Why it is not live, empty when it is.
    pub last_error: String,
}
