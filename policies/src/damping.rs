//! Flap damping: how long a path that keeps failing is kept out, and how it comes back.
//!
//! One mechanism for what dm-multipath spreads over `delay_*_checks`, `san_path_err_*` and
//! `marginal_path_*`. Faults are counted and forgotten one by one; a path with more than it is
//! allowed is *held*: it belongs to the group of last resort, for twice as long each time. Then it
//! is on *probation*: a trickle of requests shows whether it is sound. Losing the connection and
//! being an [outlier](crate::Outliers) are faults alike; an outlier is held the first time already.
//!
//! One incident is one fault: what is lost several times within a second is counted once, and what
//! happens during a hold neither counts nor makes the hold longer, because the path carries nothing.
//!
//! Not decided here: that the last path of a volume is never kept out, which grouping sees to.

use core::time::Duration;

/// Losses within this time of the one that was counted belong to it.
const INCIDENT: Duration = Duration::from_secs(1);

/// Settings of flap damping and outlier ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DampingConfig {
    /// Losses that are forgiven before the next one holds a path.
    pub threshold: u32,
    /// The first hold.
    pub hold: Duration,
    /// The longest hold; zero: paths are never held.
    pub hold_max: Duration,
    /// One fault is forgotten after so long without another.
    pub forget: Duration,
    /// A path is an outlier when median and 99th percentile of its latency exceed those of the best
    /// by this factor; 0: not checked.
    pub outlier_factor: u32,
    /// How long latencies are gathered before they are compared.
    pub window: Duration,
    /// Windows in a row that make an outlier, and that a probation lasts.
    pub windows: u32,
}

impl Default for DampingConfig {
    fn default() -> Self {
        Self {
            threshold: 2,
            hold: Duration::from_secs(1),
            hold_max: Duration::from_secs(300),
            forget: Duration::from_secs(60),
            outlier_factor: 3,
            window: Duration::from_secs(1),
            windows: 3,
        }
    }
}

/// What a path may carry, as far as damping is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// Everything.
    #[default]
    Sound,
    /// Nothing while another path is usable, until this moment.
    Held {
        /// When probation begins.
        until: Duration,
    },
    /// A trickle, until this moment.
    Probation {
        /// When it is sound.
        until: Duration,
    },
}

/// Why a path is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its connection was lost, or it went silent for a while.
    Lost,
    /// It answers much later than others.
    Outlier,
}

/// The record of one path.
#[derive(Debug, Clone, Default)]
pub struct Damping {
    faults: u32,
    /// How many of them held it.
    holds: u32,
    /// When the last fault was counted or forgotten.
    counted_at: Duration,
    /// When the last loss was counted.
    lost_at: Option<Duration>,
    standing: Standing,
}

impl Damping {
    /// Where the path stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// It is held or on probation.
    pub fn is_marginal(&self) -> bool {
        self.standing != Standing::Sound
    }

    /// A fault happened. `Some`: the path is held for so long from now on.
    pub fn fault(
        &mut self,
        config: &DampingConfig,
        fault: Fault,
        now: Duration,
    ) -> Option<Duration> {
        self.forget(config, now);
        if self.is_known(fault, now) {
            // It is not over yet, so nothing is forgotten meanwhile.
            self.counted_at = now;
            return None;
        }
        self.faults = self.faults.saturating_add(1);
        self.counted_at = now;
        if fault == Fault::Lost {
            self.lost_at = Some(now);
        }
        let forgiven = match fault {
            Fault::Lost => config.threshold,
            Fault::Outlier => 0,
        };
        if self.faults <= forgiven || config.hold_max.is_zero() {
            return None;
        }
        let factor = 1_u32.checked_shl(self.holds).unwrap_or(u32::MAX);
        let hold = config.hold.saturating_mul(factor).min(config.hold_max);
        self.holds = self.holds.saturating_add(1);
        self.standing = Standing::Held {
            until: now.saturating_add(hold),
        };
        Some(hold)
    }

    /// A fault belongs to one that was counted: the path is held for that, or was lost a moment ago.
    fn is_known(&self, fault: Fault, now: Duration) -> bool {
        let held = matches!(self.standing, Standing::Held { until } if now < until);
        let lost = self.lost_at.is_some_and(|at| now < at + INCIDENT);
        held || (fault == Fault::Lost && lost)
    }

    /// Time has passed. `true`: the standing changed.
    pub fn handle_timeout(&mut self, config: &DampingConfig, now: Duration) -> bool {
        let before = self.standing;
        if let Standing::Held { until } = self.standing
            && until <= now
        {
            let probation = config.window.saturating_mul(config.windows);
            self.standing = Standing::Probation {
                until: now.saturating_add(probation),
            };
        }
        if let Standing::Probation { until } = self.standing
            && until <= now
        {
            self.standing = Standing::Sound;
        }
        self.standing != before
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.standing {
            Standing::Sound => None,
            Standing::Held { until } | Standing::Probation { until } => Some(until),
        }
    }

    /// An operator says it is sound: nothing is held against it.
    pub fn pardon(&mut self) {
        *self = Self::default();
    }

    fn forget(&mut self, config: &DampingConfig, now: Duration) {
        if config.forget.is_zero() {
            (self.faults, self.holds) = (0, 0);
        }
        while self.faults > 0 && now.saturating_sub(self.counted_at) >= config.forget {
            self.faults -= 1;
            self.holds = self.holds.saturating_sub(1);
            self.counted_at = self.counted_at.saturating_add(config.forget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lost(damping: &mut Damping, second: u32) -> Option<u64> {
        let held = damping.fault(&DampingConfig::default(), Fault::Lost, SECOND * second);
        held.map(|time| time.as_secs())
    }

    /// Lost again at the end of each hold, and 1 s after it was forgiven.
    #[test]
    fn hold_down_doubles_up_to_5_minutes() {
        // So long that nothing is forgotten meanwhile.
        let config = DampingConfig {
            forget: SECOND * 3_600,
            ..DampingConfig::default()
        };
        let (mut damping, mut now, mut holds) = (Damping::default(), SECOND, Vec::new());
        for _ in 0..13 {
            let held = damping.fault(&config, Fault::Lost, now);
            holds.push(held.map(|time| time.as_secs()));
            now += held.unwrap_or(SECOND);
        }
        let expected = [
            None,
            None,
            Some(1),
            Some(2),
            Some(4),
            Some(8),
            Some(16),
            Some(32),
            Some(64),
            Some(128),
            Some(256),
            Some(300),
            Some(300),
        ];
        assert_eq!(holds, expected);
    }

    /// A path that is lost and found again every 60 ms.
    #[test]
    fn one_incident_is_one_fault_and_a_hold_does_not_grow_while_it_lasts() {
        let config = DampingConfig::default();
        let mut damping = Damping::default();
        let mut holds = Vec::new();
        for ms in (0..5_000).step_by(60) {
            let now = SECOND + Duration::from_millis(ms);
            damping.handle_timeout(&config, now);
            let held = damping.fault(&config, Fault::Lost, now);
            holds.extend(held.map(|time| (ms, time.as_secs())));
        }
        // Two losses are forgiven, the third holds; what comes after the hold, holds twice as long.
        assert_eq!(holds, [(2_040, 1), (3_060, 2)]);
        let mut once = Damping::default();
        for ms in [0, 60, 999] {
            let now = SECOND + Duration::from_millis(ms);
            assert_eq!(once.fault(&config, Fault::Lost, now), None);
        }
        assert_eq!(once.faults, 1);
    }

    #[test]
    fn an_outlier_is_held_although_it_was_lost_a_moment_ago() {
        let config = DampingConfig::default();
        let mut damping = Damping::default();
        assert_eq!(damping.fault(&config, Fault::Lost, SECOND), None);
        let held = damping.fault(&config, Fault::Outlier, SECOND);
        assert_eq!(held, Some(SECOND));
        let again = damping.fault(&config, Fault::Outlier, SECOND * 3 / 2);
        assert_eq!(again, None, "it carries nothing");
    }

    #[test]
    fn hold_down_decays() {
        let mut damping = Damping::default();
        for second in 0..4 {
            lost(&mut damping, second);
        }
        assert_eq!(lost(&mut damping, 3 + 60), Some(2), "one was forgotten");
        assert_eq!(lost(&mut damping, 63 + 600), None, "all were");
    }

    #[test]
    fn probation_follows_every_hold() {
        let config = DampingConfig::default();
        let mut damping = Damping::default();
        let held = damping.fault(&config, Fault::Outlier, SECOND);
        assert_eq!(held, Some(SECOND), "an outlier is held at once");
        assert!(!damping.handle_timeout(&config, SECOND));
        assert_eq!(damping.poll_timeout(), Some(SECOND * 2));
        assert!(damping.handle_timeout(&config, SECOND * 2));
        let until = SECOND * 5;
        assert_eq!(damping.standing(), Standing::Probation { until });
        assert!(damping.is_marginal());
        assert!(damping.handle_timeout(&config, until));
        assert_eq!(damping.standing(), Standing::Sound);
        assert_eq!(damping.poll_timeout(), None);
    }

    #[test]
    fn a_fault_on_probation_holds_twice_as_long() {
        let config = DampingConfig::default();
        let mut damping = Damping::default();
        damping.fault(&config, Fault::Outlier, SECOND);
        damping.handle_timeout(&config, SECOND * 2);
        let held = damping.fault(&config, Fault::Outlier, SECOND * 3);
        assert_eq!(held, Some(SECOND * 2));
    }

    #[test]
    fn a_pardon_forgets_everything_and_zero_holds_nobody() {
        let mut damping = Damping::default();
        for second in 0..5 {
            lost(&mut damping, second);
        }
        damping.pardon();
        assert_eq!(lost(&mut damping, 5), None);
        let never = DampingConfig {
            hold_max: Duration::ZERO,
            ..DampingConfig::default()
        };
        for _ in 0..10 {
            assert_eq!(damping.fault(&never, Fault::Lost, SECOND), None);
        }
        assert!(!damping.is_marginal());
    }
}
