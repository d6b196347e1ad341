//! Bounds of `[defaults]` that a key's type does not express. Each message starts with its key,
//! which is how its place in the file is found.

use super::Defaults;

/// Upper bound for all times: one day.
const DAY_MS: u64 = 86_400_000;

impl Defaults {
    /// Every value that is out of bounds.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut mistakes: Vec<String> = self
            .timers()
            .into_iter()
            .chain(self.sizes())
            .chain(self.policies())
            .filter(|(_, value, low, high)| !(low..=high).contains(&value))
            .map(|(key, value, low, high)| format!("{key} = {value} is outside {low}..={high}"))
            .collect();
        if self.kato_ms < self.heartbeat_ms.saturating_mul(2) {
            mistakes.push(format!(
                "kato_ms = {} is shorter than two heartbeats (heartbeat_ms = {}): lower \
                 heartbeat_ms or raise kato_ms",
                self.kato_ms, self.heartbeat_ms
            ));
        }
        if !self.max_io_kib.is_multiple_of(4) {
            mistakes.push(format!(
                "max_io_kib = {} is not a multiple of 4",
                self.max_io_kib
            ));
        }
        if self.outlier_factor == 1 {
            mistakes.push(
                "outlier_factor = 1 makes every path but the best an outlier; 0 turns it off, 2 or \
                 more sets it"
                    .to_owned(),
            );
        }
        mistakes
    }

    fn timers(&self) -> Vec<Bound> {
        vec![
            ("heartbeat_ms", self.heartbeat_ms, 10, 60_000),
            ("heartbeats_missed", self.heartbeats_missed.into(), 1, 1000),
            ("kato_ms", self.kato_ms, 100, 600_000),
            ("link_down_grace_ms", self.link_down_grace_ms, 0, 60_000),
            ("io_silence_ms", self.io_silence_ms, 10, 60_000),
            ("io_stuck_ms", self.io_stuck_ms, 10, 600_000),
            // Queue threads report commands that are at least two seconds old.
            ("io_slow_ms", self.io_slow_ms, 2000, 3_600_000),
            ("io_timeout_ms", self.io_timeout_ms, 2000, 3_600_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 100, 600_000),
            ("command_timeout_ms", self.command_timeout_ms, 100, 600_000),
            ("ack_timeout_ms", self.ack_timeout_ms.into(), 0, 60_000),
            ("drain_deadline_ms", self.drain_deadline_ms, 1, 60_000),
            (
                "quiesce_floor_ms",
                self.quiesce_floor_ms.unwrap_or(0),
                0,
                600_000,
            ),
            ("reconnect_first_ms", self.reconnect_first_ms, 0, 600_000),
            ("reconnect_delay_ms", self.reconnect_delay_ms, 10, 600_000),
            (
                "reconnect_delay_max_ms",
                self.reconnect_delay_max_ms,
                self.reconnect_delay_ms,
                3_600_000,
            ),
            ("rediscover_ms", self.rediscover_ms, 1000, DAY_MS),
        ]
    }

    fn sizes(&self) -> Vec<Bound> {
        vec![
            ("io_queues", self.io_queues.into(), 0, 64),
            ("queue_depth", self.queue_depth.into(), 2, 1024),
            ("max_io_kib", self.max_io_kib.into(), 4, 32 * 1024),
            ("poll_us", self.poll_us.into(), 0, 100_000),
            ("retry_count", self.retry_count.into(), 0, 6),
        ]
    }

    fn policies(&self) -> Vec<Bound> {
        vec![
            ("rr_min_io", self.rr_min_io.into(), 1, 1_000_000),
            ("fast_io_fail_ms", self.fast_io_fail_ms, 0, DAY_MS),
            ("flap_threshold", self.flap_threshold.into(), 0, 1000),
            ("flap_hold_ms", self.flap_hold_ms, 1, DAY_MS),
            ("flap_hold_max_ms", self.flap_hold_max_ms, 0, DAY_MS),
            ("flap_forget_ms", self.flap_forget_ms, 1, DAY_MS),
            ("outlier_factor", self.outlier_factor.into(), 0, 1000),
            ("outlier_window_ms", self.outlier_window_ms, 100, 60_000),
            ("outlier_windows", self.outlier_windows.into(), 1, 1000),
        ]
    }
}

/// Key, value, least and greatest valid value.
type Bound = (&'static str, u64, u64, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_bounds_and_every_mistake_is_named() {
        assert_eq!(Defaults::default().mistakes(), Vec::<String>::new());
        let wrong = Defaults {
            retry_count: 7,
            max_io_kib: 3,
            kato_ms: 110,
            outlier_factor: 1,
            ..Defaults::default()
        };
        let mistakes = wrong.mistakes();
        for key in ["retry_count", "max_io_kib", "kato_ms", "outlier_factor"] {
            assert!(
                mistakes.iter().any(|why| why.starts_with(key)),
                "{key}: {mistakes:?}"
            );
        }
    }
}
