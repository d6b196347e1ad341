//! The file that the targets of a case serve as one namespace, and how they serve it.

use std::fs;

use anyhow::Result;

use super::rig::Target;
use crate::bed::Network;

/// The file; deleted when dropped.
#[derive(Debug)]
pub(super) struct Disk {
    nqn: &'static str,
    path: &'static str,
    size: &'static str,
}

impl Disk {
    /// Targets make the file, of this size, when they begin.
    pub(super) fn new(nqn: &'static str, path: &'static str, size: &'static str) -> Self {
        Self { nqn, path, size }
    }

    /// A target that serves it on port `port`, in this ANA state.
    pub(super) fn serve(&self, network: &Network, port: u8, state: &str) -> Result<Target> {
        self.serve_with(network, port, state, "")
    }

    /// As [`serve`](Self::serve), with more keys of `[[subsystem]]`, one a line.
    pub(super) fn serve_with(
        &self,
        network: &Network,
        port: u8,
        state: &str,
        keys: &str,
    ) -> Result<Target> {
        let Self { nqn, path, size } = self;
        let subsystem = format!(
            "[[subsystem]]\nnqn = \"{nqn}\"\nallow_any_host = true\nports = [{port}]\n{keys}\
             [[subsystem.namespace]]\nnsid = 1\n\
             backend = {{ type = \"file\", path = \"{path}\", size = \"{size}\" }}\n\
             [[subsystem.ana]]\nport = {port}\nstate = \"{state}\"\n"
        );
        Target::start(network, port, &subsystem)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(fs::remove_file(self.path));
    }
}
