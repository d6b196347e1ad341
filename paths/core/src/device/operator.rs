//! What an operator may ask of a volume by hand.
//!
//! Each takes effect at once, holds until it is taken back or its cause is gone, and leaves an event.
//! Requests in flight are not disturbed: a path failed by hand gets nothing new.

use core::time::Duration;

use umpath_policies::PathId;

use super::{Device, DeviceConfig};
use crate::event::EventKind;

/// Why an operator's wish has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unchanged {
    /// There is no such path.
    #[error("the volume has no path {0}")]
    NoPath(PathId),
    /// There is no such group.
    #[error("the volume has {0} priority groups")]
    NoGroup(usize),
    /// None of the group's paths can carry I/O.
    #[error("no path of the group is usable")]
    GroupUnusable,
}

impl Device {
    /// Sends nothing new on a path until it is [reinstated](Self::reinstate_path), whatever becomes
    /// of its association.
    pub fn fail_path(&mut self, path: PathId, now: Duration) -> Result<(), Unchanged> {
        let known = self.path_mut(path).ok_or(Unchanged::NoPath(path))?;
        known.failed = true;
        let association = known.association();
        self.event(now, Some(path), association, EventKind::PathFailed);
        self.settle(now);
        Ok(())
    }

    /// A path is as good as new: neither failed by hand nor held for its faults.
    pub fn reinstate_path(&mut self, path: PathId, now: Duration) -> Result<(), Unchanged> {
        let known = self.path_mut(path).ok_or(Unchanged::NoPath(path))?;
        known.failed = false;
        known.damping.pardon();
        let association = known.association();
        self.event(now, Some(path), association, EventKind::PathReinstated);
        self.settle(now);
        Ok(())
    }

    /// Prefers a path, or does not.
    pub fn prefer(&mut self, path: PathId, on: bool, now: Duration) -> Result<(), Unchanged> {
        let known = self.path_mut(path).ok_or(Unchanged::NoPath(path))?;
        known.config.preferred = on;
        let association = known.association();
        self.event(now, Some(path), association, EventKind::Preferred(on));
        self.settle(now);
        Ok(())
    }

    /// Makes a group carry the I/O; `group` counts from 0, in the table's order. It stays, whatever
    /// the failback policy says, until none of its paths is usable or the best group is chosen.
    pub fn switch_group(&mut self, group: usize, now: Duration) -> Result<(), Unchanged> {
        let groups = &self.table.groups;
        let entry = groups.get(group).ok_or(Unchanged::NoGroup(groups.len()))?;
        let usable = entry
            .paths
            .iter()
            .filter_map(|at| self.table.paths.get(usize::from(*at)))
            .find(|path| path.usable)
            .ok_or(Unchanged::GroupUnusable)?;
        let (path, association) = (usable.path, usable.association);
        self.active.choose(path);
        self.event(now, Some(path), Some(association), EventKind::GroupChosen);
        self.settle(now);
        Ok(())
    }

    /// Policies from now on. Shape (`lba_shift`, `lanes`) stays as it was.
    pub fn set_config(&mut self, config: DeviceConfig, now: Duration) {
        let DeviceConfig {
            lba_shift, lanes, ..
        } = self.config;
        let shared = self.config.shared_with_other_hosts;
        self.config = DeviceConfig {
            lba_shift,
            lanes,
            ..config
        };
        if shared != config.shared_with_other_hosts {
            self.publish_ghosts(now);
        }
        self.expired = false;
        self.no_hope = false;
        self.event(now, None, None, EventKind::PolicyChanged);
        self.settle(now);
    }
}
