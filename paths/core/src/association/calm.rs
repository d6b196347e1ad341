//! Hysteresis of suspicions: raised at once, cleared a little later each time.
//!
//! An association that is suspected again soon after it was cleared is likely to be suspected once
//! more, and every change moves the I/O of its volumes. So the first suspicion in a while is cleared
//! as soon as its evidence is gone. Each later one is cleared only when the evidence has been gone for
//! twice as long as before, up to a bound, because a suspected last path of a volume carries nothing.
//! However often the evidence comes and goes, the verdict changes a few times a second at most.

use core::time::Duration;

/// For how long the evidence must be gone before the second suspicion in a row is taken back.
const CALM: Duration = Duration::from_millis(100);
/// The same at most.
const CALM_MAX: Duration = Duration::from_millis(250);
/// Suspicions further apart have nothing to do with each other.
const MEMORY: Duration = Duration::from_secs(10);

/// How long the present suspicion of an association lasts beyond its evidence.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Calm {
    /// Suspicions raised in a row before the present one.
    before: u32,
    raised_at: Option<Duration>,
    /// Since when the evidence is weaker than the suspicion.
    gone_since: Option<Duration>,
}

impl Calm {
    /// A suspicion is raised, or becomes a graver one.
    pub(super) fn raised(&mut self, now: Duration) {
        let in_a_row = self.raised_at.is_some_and(|at| now < at + MEMORY);
        self.before = if in_a_row { self.before + 1 } else { 0 };
        self.raised_at = Some(now);
        self.gone_since = None;
    }

    /// The evidence is as strong as the suspicion.
    pub(super) fn confirmed(&mut self) {
        self.gone_since = None;
    }

    /// The evidence is weaker than the suspicion, or gone. `true`: it has been for long enough.
    pub(super) fn gone(&mut self, now: Duration) -> bool {
        self.gone_since.get_or_insert(now);
        let over = self.over_at().is_some_and(|at| at <= now);
        if over {
            self.gone_since = None;
        }
        over
    }

    /// When the suspicion is over if no new evidence comes; `None` while it is confirmed.
    pub(super) fn over_at(&self) -> Option<Duration> {
        let needed = match self.before {
            0 => Duration::ZERO,
            before => CALM.saturating_mul(1 << (before - 1).min(8)).min(CALM_MAX),
        };
        self.gone_since.map(|since| since + needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_suspicion_in_a_row_lasts_longer_beyond_its_evidence() {
        let mut calm = Calm::default();
        let mut now = ms(1_000);
        let mut needed = Vec::new();
        for _ in 0..5 {
            calm.raised(now);
            let gone_at = now;
            while !calm.gone(now) {
                now += ms(1);
            }
            needed.push(now.saturating_sub(gone_at));
        }
        assert_eq!(needed, [ms(0), ms(100), ms(200), ms(250), ms(250)]);
        calm.raised(now + MEMORY);
        assert!(calm.gone(now + MEMORY), "long ago");
    }

    #[test]
    fn evidence_that_comes_again_starts_the_wait_anew() {
        let mut calm = Calm::default();
        calm.raised(ms(0));
        assert!(calm.gone(ms(1)));
        calm.raised(ms(10));
        assert!(!calm.gone(ms(20)));
        assert_eq!(calm.over_at(), Some(ms(120)));
        calm.confirmed();
        assert_eq!(calm.over_at(), None);
        assert!(!calm.gone(ms(125)));
        assert!(calm.gone(ms(225)));
    }
}
