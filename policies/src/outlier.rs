//! Outlier ejection: which path is so much slower than its equals that it is better not used.
//!
//! Latencies are counted into a [`Histogram`] for each path and compared window by window. A path
//! whose median *and* 99th percentile exceed those of the best path by the configured factor, and by
//! more than noise, for several windows in a row, is an outlier. What follows is
//! [damping](crate::Damping)'s decision. Only paths of one class should be compared: that a
//! non-optimized path is slower is known.

use core::time::Duration;

use crate::{DampingConfig, PathId};

/// Buckets of a histogram: two to an octave from 8 us on, the last one open.
pub const LATENCY_BUCKETS: usize = 32;

/// log2 of half the first bucket's width in nanoseconds.
const UNIT_SHIFT: u32 = 12;

/// Fewer answers in a window say nothing.
const ANSWERS_MIN: u32 = 8;

/// A difference smaller than this is noise, whatever the factor.
const NOISE: Duration = Duration::from_micros(500);

/// Answers counted by latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram(pub [u32; LATENCY_BUCKETS]);

impl Histogram {
    /// The bucket of a latency.
    #[inline]
    pub fn bucket(latency_ns: u32) -> usize {
        let units = latency_ns >> UNIT_SHIFT;
        if units < 2 {
            return 0;
        }
        let octave = units.ilog2();
        let half = units >> (octave - 1) & 1;
        ((2 * octave + half - 1) as usize).min(LATENCY_BUCKETS - 1)
    }

    /// The smallest latency above a bucket, nanoseconds.
    fn ceiling_ns(bucket: usize) -> u64 {
        let octave = bucket.div_ceil(2);
        let units: u64 = match bucket {
            0 => 2,
            _ if bucket % 2 == 1 => 3 << (octave - 1),
            _ => 2 << octave,
        };
        units << UNIT_SHIFT
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut difference = *self;
        for (count, before) in difference.0.iter_mut().zip(before.0) {
            *count = count.wrapping_sub(before);
        }
        difference
    }

    /// How many were counted.
    pub fn answers(&self) -> u32 {
        self.0
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The latency that so many per mille stay below, to the accuracy of a bucket.
    pub fn quantile(&self, per_mille: u32) -> Duration {
        let wanted = u64::from(self.answers()) * u64::from(per_mille);
        let mut sum = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            sum += u64::from(*count) * 1000;
            if *count > 0 && sum >= wanted {
                return Duration::from_nanos(Self::ceiling_ns(bucket));
            }
        }
        Duration::ZERO
    }
}

/// One path's answers in a window.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The path.
    pub path: PathId,
    /// Its answers.
    pub answers: Histogram,
}

/// How many windows in a row each path was far behind.
#[derive(Debug, Clone, Default)]
pub struct Outliers {
    behind: Vec<(PathId, u32)>,
}

impl Outliers {
    /// Compares one window of paths of one class. Calls `eject` for each outlier.
    pub fn judge(
        &mut self,
        config: &DampingConfig,
        windows: &[Window],
        mut eject: impl FnMut(PathId),
    ) {
        self.behind
            .retain(|(path, _)| windows.iter().any(|window| window.path == *path));
        let judged = || {
            windows
                .iter()
                .filter(|window| window.answers.answers() >= ANSWERS_MIN)
        };
        let least = |per_mille| judged().map(|w| w.answers.quantile(per_mille)).min();
        let (Some(median), Some(tail)) = (least(500), least(990)) else {
            return;
        };
        let exceeds = |value: Duration, best: Duration| {
            value > best.saturating_mul(config.outlier_factor) && value > best + NOISE
        };
        for window in judged() {
            let answers = &window.answers;
            let is_behind = config.outlier_factor > 0
                && exceeds(answers.quantile(500), median)
                && exceeds(answers.quantile(990), tail);
            let known = self
                .behind
                .iter()
                .position(|(path, _)| *path == window.path);
            match (is_behind, known) {
                (false, Some(at)) => {
                    self.behind.swap_remove(at);
                }
                (false, None) => {}
                (true, None) => self.behind.push((window.path, 1)),
                (true, Some(at)) => {
                    if let Some((_, count)) = self.behind.get_mut(at) {
                        *count += 1;
                    }
                }
            }
        }
        self.behind.retain(|(path, count)| {
            let stays = *count < config.windows.max(1);
            if !stays {
                eject(*path);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(path: u8, answers: u32, latency_us: u32, tail_us: u32) -> Window {
        let mut counts = [0; LATENCY_BUCKETS];
        counts[Histogram::bucket(latency_us * 1000)] += answers - answers / 20;
        counts[Histogram::bucket(tail_us * 1000)] += answers / 20;
        Window {
            path: PathId(path),
            answers: Histogram(counts),
        }
    }

    fn ejected(rounds: &[[Window; 2]]) -> Vec<u8> {
        let mut outliers = Outliers::default();
        let mut ejected = Vec::new();
        for round in rounds {
            outliers.judge(&DampingConfig::default(), round, |path| {
                ejected.push(path.0);
            });
        }
        ejected
    }

    #[test]
    fn a_bucket_holds_what_lies_below_its_ceiling() {
        let mut last = 0;
        for latency_ns in (0..200).map(|step| 1000_u32 * step * step) {
            let bucket = Histogram::bucket(latency_ns);
            assert!(bucket >= last && bucket < LATENCY_BUCKETS);
            last = bucket;
            if bucket < LATENCY_BUCKETS - 1 {
                assert!(
                    u64::from(latency_ns) < Histogram::ceiling_ns(bucket),
                    "{latency_ns}"
                );
            }
            if bucket > 0 {
                let floor = Histogram::ceiling_ns(bucket - 1);
                assert!(u64::from(latency_ns) >= floor, "{latency_ns} in {bucket}");
            }
        }
        assert_eq!(Histogram::bucket(u32::MAX), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_counts() {
        let window = window(0, 1000, 100, 9_000).answers;
        let median = window.quantile(500).as_micros();
        assert!((100..150).contains(&median), "{median}");
        let tail = window.quantile(990).as_micros();
        assert!((9_000..13_500).contains(&tail), "{tail}");
        assert_eq!(Histogram::default().quantile(500), Duration::ZERO);
    }

    #[test]
    fn median_and_p99_above_3x_the_best_for_3_windows_is_an_outlier() {
        let slow = [window(0, 500, 300, 900), window(1, 500, 3_000, 9_000)];
        assert_eq!(ejected(&[slow, slow]), []);
        assert_eq!(ejected(&[slow, slow, slow]), [1]);
        let fine = [window(0, 500, 300, 900), window(1, 500, 400, 1_000)];
        assert_eq!(ejected(&[slow, slow, fine, slow]), [], "not in a row");
        let twice = [window(0, 500, 3_000, 9_000), window(1, 500, 8_000, 27_000)];
        assert_eq!(ejected(&[twice; 5]), [], "less than 3 times as slow");
    }

    #[test]
    fn a_bad_median_or_a_bad_p99_alone_is_none() {
        let tail = [window(0, 500, 300, 900), window(1, 500, 300, 90_000)];
        assert_eq!(ejected(&[tail; 5]), []);
        let median = [window(0, 500, 300, 9_000), window(1, 500, 3_000, 9_000)];
        assert_eq!(ejected(&[median; 5]), []);
    }

    #[test]
    fn too_few_answers_and_noise_say_nothing() {
        let few = [window(0, 500, 300, 900), window(1, 7, 30_000, 90_000)];
        assert_eq!(ejected(&[few; 5]), []);
        let noise = [window(0, 500, 20, 20), window(1, 500, 200, 300)];
        assert_eq!(ejected(&[noise; 5]), []);
        let alone = [window(0, 7, 300, 900), window(1, 500, 30_000, 90_000)];
        assert_eq!(ejected(&[alone; 5]), [], "nobody to compare with");
    }
}
