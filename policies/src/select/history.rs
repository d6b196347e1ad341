//! What a lane remembers of the latency of its paths, by kind and size of request.

use core::time::Duration;

use super::{Done, PATHS_MAX};
use crate::PathId;

/// Requests that take about equally long on a given path: kind and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeClass(u8);

impl SizeClass {
    /// How many there are.
    pub const COUNT: usize = 6;

    /// Up to 16 KiB, up to 128 KiB, larger; reads and writes apart.
    #[inline]
    pub fn of(bytes: u32, write: bool) -> Self {
        let size = match bytes {
            0..=0x4000 => 0,
            0x4001..=0x2_0000 => 1,
            _ => 2,
        };
        Self(size + if write { 3 } else { 0 })
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A new value counts for one part in so many: the average follows a change within some dozen
/// answers and is not led by the last few.
const WEIGHT: u32 = 32;
/// The same where the path had been silent for a while: the past is not worth much.
const WEIGHT_AFTER_SILENCE: u32 = 4;
/// Silence is so many times the average.
const SILENCE: u64 = 64;
/// A value above so many averages counts as this: one lost packet is no news about the rest.
const OUTLIER: u32 = 16;

#[derive(Debug, Clone, Copy)]
struct Row {
    answered: Duration,
    /// Requests sent before this say nothing.
    forgotten: Duration,
}

/// Averages of one class by path, nanoseconds; 0: unknown.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Means([u32; PATHS_MAX]);

impl Means {
    /// The average of a path.
    #[inline]
    pub(super) fn of(&self, path: PathId) -> u32 {
        self.0.get(path.index() % PATHS_MAX).copied().unwrap_or(0)
    }
}

/// Averages of one lane.
#[derive(Debug, Clone)]
pub(super) struct History {
    /// By class, so that a choice reads one cache line.
    means: [Means; SizeClass::COUNT],
    rows: [Row; PATHS_MAX],
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            means: [Means([0; PATHS_MAX]); SizeClass::COUNT],
            rows: [Row {
                answered: Duration::ZERO,
                forgotten: Duration::ZERO,
            }; PATHS_MAX],
        }
    }

    fn row(&self, path: PathId) -> Option<&Row> {
        self.rows.get(path.index() % PATHS_MAX)
    }

    fn row_mut(&mut self, path: PathId) -> Option<&mut Row> {
        self.rows.get_mut(path.index() % PATHS_MAX)
    }

    /// The averages of a class.
    #[inline]
    pub(super) fn means(&self, class: SizeClass) -> &Means {
        const NOTHING: &Means = &Means([0; PATHS_MAX]);
        self.means.get(class.index()).unwrap_or(NOTHING)
    }

    /// When the path last answered this lane.
    #[inline]
    pub(super) fn answered(&self, path: PathId) -> Duration {
        self.row(path).map_or(Duration::ZERO, |row| row.answered)
    }

    #[inline]
    pub(super) fn learn(&mut self, done: &Done) {
        let class = SizeClass::of(done.bytes, done.write);
        let Some(row) = self.row_mut(done.path) else {
            return;
        };
        if done.sent < row.forgotten {
            return;
        }
        let silent = done
            .at
            .saturating_sub(core::mem::replace(&mut row.answered, done.at));
        let means = self.means.get_mut(class.index());
        let Some(mean) = means.and_then(|means| means.0.get_mut(done.path.index() % PATHS_MAX))
        else {
            return;
        };
        let latency = done.latency_ns();
        *mean = if *mean == 0 {
            latency
        } else {
            let latency = latency.min(mean.saturating_mul(OUTLIER));
            let (old, new) = (u64::from(*mean), u64::from(latency));
            let weight = if silent.as_nanos() as u64 > old * SILENCE {
                u64::from(WEIGHT_AFTER_SILENCE)
            } else {
                u64::from(WEIGHT)
            };
            (((old * (weight - 1) + new) / weight) as u32).max(1)
        };
    }

    pub(super) fn forget(&mut self, path: PathId, now: Duration) {
        for means in &mut self.means {
            if let Some(mean) = means.0.get_mut(path.index() % PATHS_MAX) {
                *mean = 0;
            }
        }
        if let Some(row) = self.row_mut(path) {
            row.forgotten = now;
        }
    }
}
