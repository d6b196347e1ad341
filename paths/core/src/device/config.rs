//! What a volume and its paths are given from outside: policies, settings, and new associations.

use core::time::Duration;

use umpath_policies::{
    AnaState, ControllerKey, DampingConfig, Failback, Grouping, Ranking, SelectorConfig,
};

use crate::table::{AssociationId, CommandLimits, PATHS_MAX, PathId};

/// What becomes of I/O while no path is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoPath {
    /// It waits for as long as it takes.
    #[default]
    Queue,
    /// It fails.
    Fail,
    /// It waits for so long, then fails.
    QueueFor(Duration),
}

/// Policies of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceConfig {
    /// log2 of the logical block size.
    pub lba_shift: u8,
    /// Lanes of the volume, numbered from 0.
    pub lanes: u16,
    /// How paths of the active group share the I/O.
    pub selector: SelectorConfig,
    /// How paths are put into groups.
    pub grouping: Grouping,
    /// What a path is worth.
    pub ranking: Ranking,
    /// When I/O moves back to a better group.
    pub failback: Failback,
    /// What becomes of I/O without a path.
    pub no_path: NoPath,
    /// How paths that keep failing are kept out.
    pub damping: DampingConfig,
    /// How long a lost path counts as on its way back: so long I/O waits for it, whatever
    /// [`no_path`](Self::no_path) says.
    pub fast_io_fail: Duration,
    /// Other hosts write to the namespace, and nothing here keeps them off a ghost's blocks: ghosts
    /// wait for their order fence.
    pub shared_with_other_hosts: bool,
    /// Removing the last path fails what waits, whatever [`no_path`](Self::no_path) says.
    pub flush_on_last_del: bool,
}

/// What is configured for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathConfig {
    /// Preferred among its equals.
    pub preferred: bool,
    /// Priority for the `weighted` prioritizer.
    pub weight: i32,
    /// Throughput relative to the other paths, 0 to 100, for `service-time`; 0: last resort.
    pub throughput: u8,
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            preferred: false,
            weight: 1,
            throughput: 1,
        }
    }
}

/// A new association as a volume sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Its number, never used before.
    pub association: AssociationId,
    /// Namespace identifier at this controller.
    pub nsid: u32,
    /// What one command may ask.
    pub limits: CommandLimits,
    /// ANA state of the namespace; `None`: the controller reports none.
    pub ana: Option<AnaState>,
    /// ANA group of the namespace, 0 without ANA.
    pub ana_group: u32,
    /// Which controller this is.
    pub controller: Option<ControllerKey>,
    /// NUMA node of the device it leaves the machine by, if known.
    pub node: Option<u16>,
}

/// An input that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Only numbers below [`PATHS_MAX`] name paths.
    #[error("a volume has at most {PATHS_MAX} paths; there is no path {0}")]
    OutOfRange(PathId),
    /// The number is taken.
    #[error("the volume has a path {0} already")]
    Exists(PathId),
}
