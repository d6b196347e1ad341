//! How long to wait before trying a lost association again.
//!
//! Decided here: the length of each pause and when to give up. Not decided here: the clock, the
//! randomness (the host passes 64 bits for each draw, so that a seed replays every pause) and what
//! a retry consists of.
//!
//! The first retry after a loss is nearly immediate, because most losses are short. Later ones grow
//! exponentially to a cap, with jitter so that a hundred hosts do not return in step. A path that
//! comes up and falls again within `settle` goes on where it was: flapping never resets the pause.

use std::time::Duration;

/// Shape of an exponential backoff. Every pause lies in `[ceiling / 2, ceiling]`, where the ceiling
/// doubles from `base` to `cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Ceiling of the first pause.
    pub base: Duration,
    /// Ceiling no pause exceeds.
    pub cap: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(250),
            cap: Duration::from_secs(10),
        }
    }
}

/// Capped exponential backoff with jitter.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    draws: u32,
}

impl Backoff {
    /// A backoff that has not been drawn from.
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, draws: 0 }
    }

    /// The next pause; `random` is 64 uniformly distributed bits.
    pub fn draw(&mut self, random: u64) -> Duration {
        let factor = 1_u32.checked_shl(self.draws.min(31)).unwrap_or(u32::MAX);
        self.draws = self.draws.saturating_add(1);
        let ceiling = self.policy.base.saturating_mul(factor).min(self.policy.cap);
        let half = ceiling / 2;
        half + scale(ceiling.saturating_sub(half), random)
    }

    /// Starts over at `base`.
    pub fn reset(&mut self) {
        self.draws = 0;
    }

    /// Pauses drawn since the last reset.
    pub fn draws(&self) -> u32 {
        self.draws
    }
}

/// No retry is due sooner: one that is due at once, and fails at once, would make the host spin.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// `span` times a fraction in `[0, 1)` given by 64 random bits.
fn scale(span: Duration, random: u64) -> Duration {
    let nanos = span.as_nanos().min(u128::from(u64::MAX));
    Duration::from_nanos(((nanos * u128::from(random)) >> 64) as u64)
}

/// Knobs of [`Reconnect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconnectPolicy {
    /// Longest pause before the first retry after a loss.
    pub first: Duration,
    /// Pauses after that.
    pub backoff: BackoffPolicy,
    /// Least pause after a refusal that only an administrator can lift (wrong NQN, host not
    /// allowed): asking ten times a second would only fill the array's log.
    pub refused: Duration,
    /// An association that lived this long counts as healthy: the next loss starts from `first`.
    pub settle: Duration,
    /// Gives the path up this long after it was lost; `None` never does.
    pub ctrl_loss: Option<Duration>,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(20),
            backoff: BackoffPolicy::default(),
            refused: Duration::from_secs(5),
            settle: Duration::from_secs(5),
            ctrl_loss: None,
        }
    }
}

/// What [`Reconnect::failed`] decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again at this time.
    RetryAt(Duration),
    /// `ctrl_loss` has passed.
    GiveUp {
        /// How long the path has been down.
        down_for: Duration,
    },
}

/// Decides when the next attempt of one path is due.
#[derive(Debug, Clone)]
pub struct Reconnect {
    policy: ReconnectPolicy,
    backoff: Backoff,
    quick_retry_used: bool,
    /// Set from the first failure until an association is established.
    down_since: Option<Duration>,
    /// Set while an association is up.
    up_since: Option<Duration>,
    attempts: u32,
}

impl Reconnect {
    /// A path that has neither connected nor failed yet.
    pub fn new(policy: ReconnectPolicy) -> Self {
        Self {
            policy,
            backoff: Backoff::new(policy.backoff),
            quick_retry_used: false,
            down_since: None,
            up_since: None,
            attempts: 0,
        }
    }

    /// The association became ready.
    pub fn established(&mut self, now: Duration) {
        self.up_since = Some(now);
        self.down_since = None;
        self.attempts = 0;
    }

    /// An attempt failed, or the association was lost. `refused` says that the peer answered and
    /// said no (`SessionError::is_refusal`); `random` is 64 uniformly distributed bits.
    pub fn failed(&mut self, now: Duration, refused: bool, random: u64) -> Verdict {
        if let Some(up) = self.up_since.take()
            && now.saturating_sub(up) >= self.policy.settle
        {
            self.backoff.reset();
            self.quick_retry_used = false;
        }
        let down_since = *self.down_since.get_or_insert(now);
        let down_for = now.saturating_sub(down_since);
        if self.policy.ctrl_loss.is_some_and(|limit| down_for >= limit) {
            return Verdict::GiveUp { down_for };
        }
        self.attempts = self.attempts.saturating_add(1);
        let pause = if self.quick_retry_used || refused {
            self.backoff.draw(random)
        } else {
            scale(self.policy.first, random)
        };
        self.quick_retry_used = true;
        let least = if refused {
            self.policy.refused
        } else {
            Duration::ZERO
        };
        Verdict::RetryAt(now.saturating_add(pause.max(least).max(PAUSE_MIN)))
    }

    /// Something changed that makes an attempt worth making at once (link up, operator): the next
    /// failure starts from `first` again.
    pub fn encourage(&mut self) {
        self.backoff.reset();
        self.quick_retry_used = false;
    }

    /// Failures since the path was last up.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Since when the path has been down.
    pub fn down_since(&self) -> Option<Duration> {
        self.down_since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pause(reconnect: &mut Reconnect, now: Duration, random: u64) -> Duration {
        match reconnect.failed(now, false, random) {
            Verdict::RetryAt(at) => at.saturating_sub(now),
            Verdict::GiveUp { .. } => panic!("gave up without ctrl_loss"),
        }
    }

    #[test]
    fn the_first_retry_is_quick_and_flapping_does_not_make_it_quick_again() {
        let mut reconnect = Reconnect::new(ReconnectPolicy::default());
        let mut now = Duration::from_secs(100);
        reconnect.established(now);
        now += Duration::from_secs(60);
        assert!(pause(&mut reconnect, now, u64::MAX) <= Duration::from_millis(20));
        let mut last = Duration::ZERO;
        for _ in 0..6 {
            now += Duration::from_millis(500);
            reconnect.established(now);
            now += Duration::from_millis(500);
            let next = pause(&mut reconnect, now, u64::MAX / 2);
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
        reconnect.established(now);
        now += Duration::from_secs(5);
        assert!(pause(&mut reconnect, now, u64::MAX) <= Duration::from_millis(20));
    }

    #[test]
    fn a_refusal_waits_longer_and_ctrl_loss_ends_it() {
        let policy = ReconnectPolicy {
            ctrl_loss: Some(Duration::from_secs(30)),
            ..Default::default()
        };
        let mut reconnect = Reconnect::new(policy);
        let start = Duration::from_secs(1);
        assert_eq!(
            reconnect.failed(start, true, 0),
            Verdict::RetryAt(start + Duration::from_secs(5))
        );
        let wait = |reconnect: &mut Reconnect, seconds| {
            let now = start + Duration::from_secs(seconds);
            matches!(reconnect.failed(now, true, 0), Verdict::RetryAt(_))
        };
        assert!(wait(&mut reconnect, 29), "not before its time");
        reconnect.established(start + Duration::from_secs(29));
        assert!(wait(&mut reconnect, 40), "lost anew, counted anew");
        let start = start + Duration::from_secs(40);
        let later = start + Duration::from_secs(31);
        assert_eq!(
            reconnect.failed(later, true, 0),
            Verdict::GiveUp {
                down_for: Duration::from_secs(31)
            }
        );
    }

    proptest! {
        #[test]
        fn a_retry_is_never_due_at_once(
            policy_ms in (0_u64..50, 0_u64..50, 0_u64..50),
            attempts in prop::collection::vec((any::<bool>(), any::<bool>(), any::<u64>()), 1..30),
        ) {
            let (first, base, refused) = policy_ms;
            let ms = Duration::from_millis;
            let mut reconnect = Reconnect::new(ReconnectPolicy {
                first: ms(first),
                backoff: BackoffPolicy { base: ms(base), cap: ms(base) },
                refused: ms(refused),
                settle: ms(5),
                ctrl_loss: None,
            });
            let mut now = ms(0);
            for (up, refused, random) in attempts {
                if up {
                    reconnect.established(now);
                }
                // Random bits that are all 0 are as likely as others.
                for random in [random, 0] {
                    let verdict = reconnect.failed(now, refused, random);
                    let Verdict::RetryAt(at) = verdict else { panic!("{verdict:?}") };
                    prop_assert!(at > now);
                    now = at;
                }
            }
        }

        #[test]
        fn every_pause_is_between_half_the_ceiling_and_the_ceiling(
            base_ms in 1_u64..5_000, cap_ms in 1_u64..100_000, randoms in prop::collection::vec(any::<u64>(), 1..80)
        ) {
            let policy = BackoffPolicy {
                base: Duration::from_millis(base_ms),
                cap: Duration::from_millis(cap_ms),
            };
            let mut backoff = Backoff::new(policy);
            let mut ceiling = policy.base.min(policy.cap);
            for random in randoms {
                let pause = backoff.draw(random);
                prop_assert!(pause <= ceiling && pause >= ceiling / 2);
                ceiling = (ceiling * 2).min(policy.cap);
            }
        }
    }
}
