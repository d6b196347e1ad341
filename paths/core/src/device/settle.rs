//! From what is known of the paths to the table: groups, the active one, and what becomes of I/O
//! without a path. Nothing here changes a path.

use core::time::Duration;
use std::sync::Arc;

use umpath_policies::{Group, PathFacts, Standing, Switch, group_paths};

use super::path::Path;
use super::{Device, DeviceOutput, NoPath};
use crate::event::EventKind;
use crate::table::{GroupEntry, OnNoPath, PathEntry, PathId, PathTable};

impl Device {
    /// Looks at everything, and publishes a table if it differs from the last.
    pub(super) fn settle(&mut self, now: Duration) {
        self.settled_at = now;
        let mut facts: Vec<PathFacts> = self
            .paths
            .iter()
            .filter(|path| path.live.is_some())
            .map(Path::facts)
            .collect();
        // Whatever the failback policy, a request should not queue behind a slow one.
        self.keep_out(&mut facts, Path::is_slow);
        // Where shaky paths form no group of their own, those held are not used.
        if !self.config.ranking.marginal_pathgroups {
            let held = |path: &Path| matches!(path.damping.standing(), Standing::Held { .. });
            self.keep_out(&mut facts, held);
        }
        let groups = group_paths(self.config.grouping, self.config.ranking, &facts);
        let (active, switch) = self.active.settle(self.config.failback, &groups, now);
        self.note_switch(active.and_then(|at| groups.get(at)), switch, now);
        let usable = active.is_some();
        self.note_usable(usable, now);
        let on_no_path = self.on_no_path(usable, now);
        let table = self.build(&groups, active, on_no_path);
        if table != *self.table {
            self.publish(table);
        }
    }

    /// Does not use these paths, unless there is no other: the last one is never kept out.
    fn keep_out(&self, facts: &mut [PathFacts], poor: impl Fn(&Path) -> bool) {
        let poor = |id| self.path(id).is_some_and(&poor);
        if facts.iter().any(|path| path.usable && !poor(path.id)) {
            for path in facts {
                path.usable &= !poor(path.id);
            }
        }
    }

    pub(super) fn publish(&mut self, mut table: PathTable) {
        table.generation += 1;
        self.table = Arc::new(table);
        self.outputs
            .push_back(DeviceOutput::Publish(Arc::clone(&self.table)));
    }

    fn build(&self, groups: &[Group], active: Option<usize>, on_no_path: OnNoPath) -> PathTable {
        let entries = groups.iter().flat_map(|group| &group.paths);
        let mut paths: Vec<PathEntry> = entries
            .filter_map(|ranked| self.path(ranked.id)?.entry(*ranked))
            .collect();
        paths.sort_by_key(|entry| entry.path);
        let position = |id: PathId| paths.iter().position(|entry| entry.path == id);
        let groups = groups
            .iter()
            .map(|group| GroupEntry {
                paths: group
                    .paths
                    .iter()
                    .filter_map(|ranked| position(ranked.id).map(|at| at as u8))
                    .collect(),
                priority: group.priority,
            })
            .collect();
        PathTable {
            generation: self.table.generation,
            lba_shift: self.config.lba_shift,
            paths,
            groups,
            active,
            on_no_path,
            selector: self.config.selector,
        }
    }

    fn note_switch(&mut self, group: Option<&Group>, switch: Switch, now: Duration) {
        let usable = group.and_then(|group| group.paths.iter().find(|path| path.usable));
        let path = usable.map(|path| path.id);
        let association = path.and_then(|id| self.path(id)?.association());
        match switch {
            Switch::Stay | Switch::First => {}
            Switch::Failover => self.event(now, path, association, EventKind::GroupSwitched),
            Switch::Failback => self.event(now, path, association, EventKind::FailedBack),
        }
    }

    fn note_usable(&mut self, usable: bool, now: Duration) {
        if usable == self.had_usable {
            return;
        }
        self.had_usable = usable;
        let kind = if usable {
            EventKind::PathAgain
        } else {
            EventKind::NoPath
        };
        self.event(now, None, None, kind);
    }

    /// What becomes of I/O now that `usable` says whether there is a path. A path that is merely
    /// suspect, refused for the moment or changing its ANA state is hoped for, and while there is
    /// hope nothing fails; a lost one is hoped for during `fast_io_fail`. One shaky path alone never causes an I/O error.
    fn on_no_path(&mut self, usable: bool, now: Duration) -> OnNoPath {
        let hope = self.hope();
        let hoped_for = |path: &Path| {
            path.is_hoped_for(now) || path.hoped_until(hope).is_some_and(|until| now < until)
        };
        if usable || self.paths.iter().any(hoped_for) {
            self.hopeless_since = None;
            self.expired = false;
        } else {
            self.hopeless_since.get_or_insert(now);
        }
        if self.flushes() {
            return OnNoPath::Fail;
        }
        match self.config.no_path {
            NoPath::Fail if self.hopeless_since.is_some() => OnNoPath::Fail,
            NoPath::QueueFor(_) => self.on_expiry(now),
            NoPath::Queue | NoPath::Fail => OnNoPath::Queue,
        }
    }

    /// The last path was removed, and what waits fails for that reason.
    fn flushes(&self) -> bool {
        self.config.flush_on_last_del && self.had_path && self.paths.is_empty()
    }

    fn on_expiry(&mut self, now: Duration) -> OnNoPath {
        if !self.expired && self.expires_at().is_some_and(|at| at <= now) {
            self.expired = true;
            self.event(now, None, None, EventKind::QueueingExpired);
            self.outputs.push_back(DeviceOutput::FailQueued);
        }
        if self.expired {
            OnNoPath::Fail
        } else {
            OnNoPath::Queue
        }
    }

    pub(super) fn expires_at(&self) -> Option<Duration> {
        match (self.config.no_path, self.hopeless_since) {
            (NoPath::QueueFor(wait), Some(since)) if !self.expired && !self.flushes() => {
                Some(since.saturating_add(wait))
            }
            _ => None,
        }
    }
}
