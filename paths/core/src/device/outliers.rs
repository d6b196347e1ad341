//! Windows of latency, path by path: who is compared with whom. The verdict is
//! [`Outliers`](umpath_policies::Outliers)', the consequence
//! [`Damping`](umpath_policies::Damping)'s.

use core::time::Duration;

use umpath_policies::{Fault, Histogram, PathId, Priority, Window};

use super::Device;
use crate::shared::VolumeShared;
use crate::table::PATHS_MAX;

/// What had been counted when the last window ended.
#[derive(Debug, Default)]
pub(super) struct Windows {
    ends_at: Duration,
    counted: [Histogram; PATHS_MAX],
}

impl Device {
    /// When to call [`end_window`](Self::end_window); `None` while there is nothing to compare.
    pub fn window_ends(&self) -> Option<Duration> {
        let usable = self.table.paths.iter().filter(|path| path.usable).count();
        (self.config.damping.outlier_factor > 0 && usable > 1).then_some(self.windows.ends_at)
    }

    /// A window is over: compares the latencies its paths had. Paths of one priority are compared,
    /// and one that is on probation with the sound ones.
    pub fn end_window(&mut self, shared: &VolumeShared, now: Duration) {
        let length = self.config.damping.window;
        // After a pause without a check the counts span more than one window and are worth nothing.
        let whole = now <= self.windows.ends_at.saturating_add(length);
        self.windows.ends_at = now.saturating_add(length);
        let mut windows: Vec<(Priority, Window)> = Vec::new();
        for entry in &self.table.paths {
            let now_counted = shared.latencies(entry.path);
            let Some(counted) = self.windows.counted.get_mut(entry.path.index()) else {
                continue;
            };
            let answers = now_counted.since(&core::mem::replace(counted, now_counted));
            let path = entry.path;
            if entry.usable {
                windows.push((entry.priority, Window { path, answers }));
            }
        }
        if !whole {
            return;
        }
        for path in self.outliers_among(&windows) {
            // One of them at least stays.
            let others = windows.iter().any(|(_, window)| {
                window.path != path
                    && self
                        .path(window.path)
                        .is_some_and(|known| !known.damping.is_marginal())
            });
            if others {
                self.fault(path, Fault::Outlier, now);
            }
        }
        self.settle(now);
    }

    /// Compares within the priority that carries the I/O; others answer nothing worth comparing.
    fn outliers_among(&mut self, windows: &[(Priority, Window)]) -> Vec<PathId> {
        let carrying = self.table.active.and_then(|at| self.table.groups.get(at));
        let Some(entry) = carrying
            .and_then(|group| group.paths.first())
            .and_then(|at| self.table.paths.get(usize::from(*at)))
        else {
            return Vec::new();
        };
        let class: Vec<Window> = windows
            .iter()
            .filter(|(priority, _)| *priority == entry.priority)
            .map(|(_, window)| *window)
            .collect();
        let mut ejected = Vec::new();
        self.outliers
            .judge(&self.config.damping, &class, |path| ejected.push(path));
        ejected
    }
}
