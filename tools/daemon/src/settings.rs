//! The configuration, as the host asks for it.

use std::net::IpAddr;
use std::time::Duration;

use umpath_host::policy::VolumePolicy;
use umpath_host::settings::Settings;
use umpath_session::{NamespaceFacts, StableId};

use crate::config::Config;

/// The configuration in force.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) config: Config,
    /// Order fences are not waited for: data are at risk. For drills only.
    pub(crate) unfenced: bool,
}

impl Settings for InForce {
    fn default_policy(&self) -> VolumePolicy {
        self.config.defaults.policy()
    }

    fn policy(&self, volume: &StableId, model: &str) -> VolumePolicy {
        self.config.policy(&volume.to_string(), model)
    }

    fn alias(&self, volume: &StableId) -> Option<String> {
        self.config.volume(&volume.to_string())?.alias.clone()
    }

    fn prefers(&self, volume: &StableId, address: IpAddr) -> bool {
        let entry = self.config.volume(&volume.to_string());
        entry.is_some_and(|entry| entry.prefers(address))
    }

    fn ignored_subsystem(&self, nqn: &str) -> Option<String> {
        let entry = self.config.ignored_subsystem(nqn)?;
        Some(entry.to_string())
    }

    fn ignored_namespace(&self, model: &str, namespace: &NamespaceFacts) -> Option<String> {
        let entry = self.config.ignored_namespace(model, namespace)?;
        Some(entry.to_string())
    }

    fn max_io_bytes(&self) -> u32 {
        self.config.defaults.max_io_kib * 1024
    }

    fn quiesce_floor(&self) -> Option<Duration> {
        self.config
            .defaults
            .quiesce_floor_ms
            .map(Duration::from_millis)
    }

    fn unfenced(&self) -> bool {
        self.unfenced
    }
}
