//! The end of the daemon.
//!
//! The first SIGTERM begins an orderly end: nothing new is accepted, volumes that nobody uses are
//! removed, their controllers shut down. A volume in use is served on, and looked at every second,
//! until it is unused; so `systemctl stop` with something still mounted waits, instead of pulling
//! the disk from under a file system. A second SIGTERM stops at once and leaves volumes that are
//! in use to the next umpathd: their requests wait for it.

use std::time::Duration;

use tokio::sync::oneshot;
use umpath_protocol::{DisconnectTarget, EventKind, Reply};

use super::{Hub, USAGE_LOOK};
use crate::clock;
use crate::events::Subject;

/// An end under way.
#[derive(Debug)]
pub(super) struct Stopping {
    /// When usage is looked at next.
    pub(super) look_at: Duration,
    /// Volumes in use are not waited for.
    at_once: bool,
}

impl Hub {
    pub(super) fn stop(&mut self) {
        if let Some(stopping) = &mut self.stopping {
            stopping.at_once = true;
            self.abandon();
            return;
        }
        self.context
            .events
            .record(EventKind::Stopping, Subject::default(), "");
        self.stopping = Some(Stopping {
            look_at: clock::now() + USAGE_LOOK,
            at_once: false,
        });
        self.remove_unused();
    }

    /// Whether the daemon may end.
    pub(super) fn is_over(&self) -> bool {
        let Some(stopping) = &self.stopping else {
            return false;
        };
        stopping.at_once || self.volumes.is_empty() && self.paths.is_empty()
    }

    pub(super) fn look_whether_unused(&mut self, now: Duration) {
        let Some(stopping) = self
            .stopping
            .as_mut()
            .filter(|stopping| stopping.look_at <= now)
        else {
            return;
        };
        stopping.look_at = now + USAGE_LOOK;
        self.remove_unused();
    }

    /// Removes every volume nobody uses, then the paths that serve none.
    fn remove_unused(&mut self) {
        if !self.removals.is_empty() {
            return;
        }
        let devices: Vec<String> = self
            .volumes
            .values()
            .map(|volume| volume.name().to_owned())
            .collect();
        for device in devices {
            let (reply, answer) = oneshot::channel();
            self.disconnect(&DisconnectTarget::Device(device.clone()), false, reply);
            tokio::spawn(async move {
                if let Ok(Reply::Failed(failure)) = answer.await {
                    tracing::warn!("{device} is kept until it is unused: {failure}");
                }
            });
        }
        let idle: Vec<u32> = self
            .paths
            .keys()
            .filter(|path| !self.volumes.values().any(|volume| volume.has_path(**path)))
            .copied()
            .collect();
        for path in idle {
            self.end_path(path);
        }
    }

    /// Leaves what is in use to the next daemon.
    fn abandon(&mut self) {
        for volume in self.volumes.values_mut() {
            if let Some(device) = volume.take_device() {
                tracing::warn!(
                    volume = volume.name(),
                    "in use: its requests wait for the next umpathd"
                );
                // Waits for the queue threads to end, which they do at once.
                tokio::task::block_in_place(|| device.abandon());
            }
        }
    }
}
