//! What every part of the daemon may know.

use crate::config::Config;
use crate::identity::Identity;
use crate::keeper::Keeper;
use crate::links::Links;
use crate::records::Records;
use crate::settings::InForce;

/// What every part of the daemon may know.
#[derive(Debug)]
pub(crate) struct Context {
    /// The configuration in force.
    pub(crate) config: Config,
    /// Who this host is.
    pub(crate) identity: Identity,
    /// `discovery.conf`.
    pub(crate) discovery_conf: std::path::PathBuf,
    /// Links of RDMA devices.
    pub(crate) links: Links,
    /// Volumes, names and numbers on disk.
    pub(crate) keeper: Keeper,
    /// Files of associations.
    pub(crate) records: Records,
    /// Order fences are not waited for: data are at risk. For drills only.
    pub(crate) unfenced: bool,
}

impl Context {
    /// The configuration, as the host asks for it.
    pub(crate) fn settings(&self) -> InForce {
        InForce {
            config: self.config.clone(),
            unfenced: self.unfenced,
        }
    }
}
