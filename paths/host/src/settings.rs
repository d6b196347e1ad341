//! What the host asks of the configuration.

use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use umpath_session::{NamespaceFacts, StableId};

use crate::policy::VolumePolicy;

/// The configuration in force, as far as it decides something here.
pub trait Settings: Debug + Send + Sync {
    /// The policies of volumes of which nothing else is said.
    fn default_policy(&self) -> VolumePolicy;

    /// The policies of this volume, behind controllers of this model.
    fn policy(&self, volume: &StableId, model: &str) -> VolumePolicy;

    /// The name this volume is to have.
    fn alias(&self, volume: &StableId) -> Option<String>;

    /// Whether this volume prefers paths to this address.
    fn prefers(&self, volume: &StableId, address: IpAddr) -> bool;

    /// The entry that leaves a subsystem alone, as it stands in the file.
    fn ignored_subsystem(&self, nqn: &str) -> Option<String>;

    /// The entry that leaves a namespace alone, behind a controller of this model.
    fn ignored_namespace(&self, model: &str, namespace: &NamespaceFacts) -> Option<String>;

    /// Largest request the kernel may make.
    fn max_io_bytes(&self) -> u32;

    /// The least time an array is given to quiesce, whatever it promises; `None`: the core's default,
    /// where it promises nothing.
    fn quiesce_floor(&self) -> Option<Duration>;

    /// Order fences are not waited for: data are at risk. For drills only.
    fn unfenced(&self) -> bool {
        false
    }
}
