//! Process shutdown.
//!
//! The first request starts an orderly stop: nothing new is accepted, unused volumes are removed
//! and their controllers shut down. A volume in use is still served, and checked every second until
//! it is unused; so `systemctl stop` with something mounted waits instead of pulling the disk from
//! under a file system. A second request stops at once and leaves volumes in use to the next
//! process: their requests wait for it.
//!
//! A volume of an earlier process that cannot be taken over is left to the next one in any case, with
//! its record: nobody here serves it, and the driver may not speak for as long as it likes.

use std::time::Duration;

use umpath_protocol::{DisconnectTarget, EventKind};
use umpath_session::StableId;

use super::{Host, PathRecord};
use crate::events::Subject;
use crate::order::Order;
use crate::volume::Volume;

/// Interval between usage checks during a stop.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A stop in progress.
#[derive(Debug)]
pub(super) struct Stopping {
    /// Time of the next usage check.
    check_at: Duration,
    /// Do not wait for volumes in use.
    at_once: bool,
}

impl Stopping {
    pub(super) fn poll_timeout(&self) -> Duration {
        self.check_at
    }
}

impl Host {
    /// The process is asked to stop.
    pub fn handle_stop(&mut self, now: Duration) {
        self.begin(now);
        self.stop();
        self.settle();
    }

    fn stop(&mut self) {
        let check_at = self.fx.now + CHECK_EVERY;
        if let Some(stopping) = &mut self.stopping {
            stopping.at_once = true;
            return self.abandon();
        }
        self.fx.event(EventKind::Stopping, Subject::default(), "");
        self.stopping = Some(Stopping {
            check_at,
            at_once: false,
        });
        self.remove_unused();
    }

    /// Whether the process may exit.
    pub fn is_over(&self) -> bool {
        let Some(stopping) = &self.stopping else {
            return false;
        };
        let left = self.volumes.values().all(Volume::is_left);
        stopping.at_once || left && self.paths.is_empty()
    }

    pub(super) fn check_whether_unused(&mut self) {
        let now = self.fx.now;
        let due = |stopping: &&mut Stopping| stopping.check_at <= now;
        if let Some(stopping) = self.stopping.as_mut().filter(due) {
            stopping.check_at = now + CHECK_EVERY;
            self.remove_unused();
        }
    }

    /// Removes every unused volume, then the paths to subsystems of which none is left. A volume in
    /// use may need a path that does not serve it yet.
    fn remove_unused(&mut self) {
        self.volumes.values_mut().for_each(Volume::leave);
        if !self.removals.is_empty() {
            return;
        }
        let names: Vec<String> = self
            .volumes
            .values()
            .filter(|volume| !volume.is_left())
            .map(|volume| volume.name().to_owned())
            .collect();
        for name in names {
            self.disconnect(&DisconnectTarget::Device(name), false, None);
        }
        let needed = |nqn: &str| {
            let mut volumes = self.volumes.values();
            volumes.any(|volume| volume.nqn() == nqn && !volume.is_left())
        };
        let idle = |(path, record): (&u32, &PathRecord)| {
            (!record.ending && !needed(record.spec.nqn.as_str())).then_some(*path)
        };
        let idle: Vec<u32> = self.paths.iter().filter_map(idle).collect();
        for path in idle {
            self.end_path(path);
        }
    }

    /// Leaves volumes in use to the next process.
    fn abandon(&mut self) {
        let ids: Vec<StableId> = self.volumes.keys().copied().collect();
        for id in ids {
            let volume = self.volumes.get_mut(&id).expect("a volume that is there");
            if volume.begin_removal() {
                tracing::warn!(
                    volume = volume.name(),
                    "in use: its requests wait for the next umpathd"
                );
                self.fx.order(Order::Abandon(volume.key()));
            }
        }
    }
}
