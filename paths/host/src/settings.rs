//! What the host needs from the configuration.

use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use umpath_session::{NamespaceFacts, StableId};

use crate::policy::VolumePolicy;

/// The configuration in force, as far as it affects the host.
pub trait Settings: Debug + Send + Sync {
    /// The policies of volumes without settings of their own.
    fn default_policy(&self) -> VolumePolicy;

    /// The policies of this volume, behind controllers of this model.
    fn policy(&self, volume: &StableId, model: &str) -> VolumePolicy;

    /// The configured name of this volume.
    fn alias(&self, volume: &StableId) -> Option<String>;

    /// Whether this volume prefers paths to this address.
    fn prefers(&self, volume: &StableId, address: IpAddr) -> bool;

    /// The entry that ignores this subsystem, as written in the file.
    fn ignored_subsystem(&self, nqn: &str) -> Option<String>;

    /// The entry that ignores this namespace behind a controller of this model.
    fn ignored_namespace(&self, model: &str, namespace: &NamespaceFacts) -> Option<String>;

    /// Largest request the kernel may send, bytes.
    fn max_io_bytes(&self) -> u32;

    /// The least time an array is given to quiesce, whatever it promises; `None`: the core's default,
    /// where it promises nothing.
    fn quiesce_floor(&self) -> Option<Duration>;

    /// Do not wait for order fences: puts data at risk. For drills only.
    fn unfenced(&self) -> bool {
        false
    }
}
