//! The order fence by time: when a controller that lost us has certainly stopped.

use core::time::Duration;

/// What an association was promised by its controller. Fixed when it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FenceTerms {
    kato: Duration,
    traffic_based: bool,
    quiesce: Duration,
}

impl FenceTerms {
    /// Terms from what was agreed: `kato` as sent in Connect, `kas_units` (KAS of Identify
    /// Controller, 100 ms each), `traffic_based` (CTRATT.TBKAS) and `quiesce` (CQT).
    ///
    /// The controller rounds KATO up to its granularity (NVMe Base 2.1 §3.9), so the fence does as
    /// well; rounding a rounded value changes nothing. `None` where time is no fence: no keep-alive
    /// timer was asked for, or the controller has none (KAS 0).
    pub fn new(
        kato: Duration,
        kas_units: u16,
        traffic_based: bool,
        quiesce: Duration,
    ) -> Option<Self> {
        if kato.is_zero() || kas_units == 0 {
            return None;
        }
        let unit_ms = u128::from(kas_units) * 100;
        let kato_ms = kato.as_nanos().div_ceil(1_000_000).div_ceil(unit_ms) * unit_ms;
        let kato = Duration::from_millis(u64::try_from(kato_ms).unwrap_or(u64::MAX));
        Some(Self {
            kato,
            traffic_based,
            quiesce,
        })
    }

    /// KATO as the controller uses it.
    pub fn kato(&self) -> Duration {
        self.kato
    }
}

/// How much slower than ours a controller's clock may run, in thousandths.
pub const CLOCK_ERROR_PERMILLE: u32 = 100;

/// When an association that was given up executes nothing more, by the host's clock.
///
/// `silent_at`: when the last of the association's queue pairs was in the error state. `n` is 2 with
/// command-based, 3 with traffic-based keep-alive. `e` is the clock error, a tenth
/// ([`CLOCK_ERROR_PERMILLE`]).
///
/// `silent_at + (n x KATO + CQT) / (1 - e)`
///
/// *Claim.* After this moment no command of the association is executed, even if the controller
/// stood still for a while and found capsules waiting when it went on, and even if its clock loses a
/// tenth of the time meanwhile.
///
/// *Proof.* What the controller counts as KATO takes `K = KATO / (1 - e)` by our clock at most: a clock
/// that runs at nine tenths of the speed needs ten ninths of the time. A queue pair in the error state
/// sends nothing and retransmits nothing (IBTA 10.3.1), so no capsule is sent after `silent_at`. This
/// is why every queue pair counts: with traffic-based keep-alive any command restarts the timer.
/// 1. Let `t <= silent_at` be the last moment at which the controller started its timer anew while it
///    was awake and we were sending. If it sleeps afterwards, capsules of ours may wait for it. It looks
///    at its timer before it looks at them (assumed below), so it takes them only if the timer has
///    not expired for good when it wakes.
/// 2. Command-based: the timer expires at `t + K`. A keep-alive found waiting before that
///    restarts it once more, until `t + 2 x K` at the latest; nothing is left to restart it again.
/// 3. Traffic-based: the timer is not restarted by a command; at expiry the controller checks whether
///    there was any since the timer was started, and if so starts it once more, from that moment on.
///    What came before the sleep lets it start once more at `t + K`, what was found waiting at
///    `t + 2 x K`; nothing else came, so it expires at `t + 3 x K` at the latest.
/// 4. Both are at most `silent_at + n x K`. On expiry the controller ends the association, and has
///    stopped the commands it had accepted within CQT, which it counts by the same clock.
///
/// Both at once is the worst case, and it is reached: a controller with the slowest clock that sleeps
/// until just before its timer expires. The margin for the clock is therefore needed for each of the
/// `n` times KATO; a controller that did not sleep would leave a whole KATO for it.
///
/// The wait that NVMe Base 2.1 §9.6 prescribes counts from the
/// last *answered* keep-alive, which is never later than `silent_at`; it is not enough, because
/// a keep-alive whose answer was lost restarts the timer as well.
///
/// *Assumes* that the controller checks the timer before it takes commands and before it touches
/// media, by a clock that runs while it sleeps and is at most a tenth wrong, and that KATO here is the
/// controller's: see [`FenceTerms::new`].
pub fn order_fence_at(silent_at: Duration, terms: &FenceTerms) -> Duration {
    let n = if terms.traffic_based { 3 } else { 2 };
    let wait = terms.kato.saturating_mul(n).saturating_add(terms.quiesce);
    silent_at.saturating_add(by_slowest_clock(wait))
}

/// How long a controller takes by our clock for a `time` that it counts by the slowest clock granted.
fn by_slowest_clock(time: Duration) -> Duration {
    let error = u128::from(CLOCK_ERROR_PERMILLE);
    let lost = (time.as_nanos() * error).div_ceil(1000 - error);
    let lost = u64::try_from(lost).map_or(Duration::MAX, Duration::from_nanos);
    time.saturating_add(lost)
}

/// Collects the times of a teardown until the fence is known.
#[derive(Debug, Clone)]
pub struct OrderFence {
    terms: Option<FenceTerms>,
    /// Queue pairs not yet in the error state.
    queues_open: u32,
    silent_at: Duration,
}

impl OrderFence {
    /// Begins when the association is given up. `queues`: queue pairs that were ever connected,
    /// the admin queue's included. `terms`: `None` where time is no fence.
    #[must_use]
    pub fn new(terms: Option<FenceTerms>, queues: u32) -> Self {
        Self {
            terms,
            queues_open: queues,
            silent_at: Duration::ZERO,
        }
    }

    /// Of an association none of whose queue pairs has sent anything since `at`.
    #[must_use]
    pub fn silent_since(terms: Option<FenceTerms>, at: Duration) -> Self {
        Self {
            terms,
            queues_open: 0,
            silent_at: at,
        }
    }

    /// One more queue pair went into the error state (or was destroyed) at `at`.
    pub fn queue_silent(&mut self, at: Duration) {
        self.queues_open = self.queues_open.saturating_sub(1);
        self.silent_at = self.silent_at.max(at);
    }

    /// When the fence stands; `None` while a queue pair may still send, and for ever where time is
    /// no fence.
    pub fn at(&self) -> Option<Duration> {
        let terms = self.terms.as_ref()?;
        (self.queues_open == 0).then(|| order_fence_at(self.silent_at, terms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn kato_is_rounded_up_to_the_granularity_once() {
        let terms = |kato, kas| FenceTerms::new(ms(kato), kas, false, ms(0));
        assert_eq!(terms(1_500, 10).unwrap().kato(), ms(2_000));
        assert_eq!(terms(2_000, 10).unwrap().kato(), ms(2_000));
        assert_eq!(terms(1, 1).unwrap().kato(), ms(100));
        assert_eq!(terms(0, 10), None);
        assert_eq!(terms(1_000, 0), None);
        let fine = FenceTerms::new(Duration::from_micros(100_001), 1, false, ms(0));
        assert_eq!(fine.unwrap().kato(), ms(200));
        assert!(FenceTerms::new(Duration::MAX, u16::MAX, true, Duration::MAX).is_some());
    }

    #[test]
    fn the_last_queue_pair_counts_and_quiescing_comes_on_top() {
        let command = FenceTerms::new(ms(900), 1, false, ms(45)).unwrap();
        let traffic = FenceTerms::new(ms(900), 1, true, ms(45)).unwrap();
        assert_eq!(order_fence_at(ms(10_400), &command), ms(12_450));
        assert_eq!(order_fence_at(ms(10_400), &traffic), ms(13_450));
        assert_eq!(order_fence_at(Duration::MAX, &traffic), Duration::MAX);
        let silent = OrderFence::silent_since(Some(traffic), ms(10_400));
        assert_eq!(silent.at(), Some(ms(13_450)));
    }

    #[test]
    fn no_fence_while_a_queue_pair_may_send_or_without_a_timer() {
        let terms = FenceTerms::new(ms(900), 1, false, ms(0));
        let mut fence = OrderFence::new(terms, 3);
        fence.queue_silent(ms(700));
        fence.queue_silent(ms(2_000));
        assert_eq!(fence.at(), None);
        fence.queue_silent(ms(900));
        assert_eq!(fence.at(), Some(ms(4_000)));
        let mut never = OrderFence::new(None, 1);
        never.queue_silent(ms(1));
        assert_eq!(never.at(), None);
    }

    #[test]
    fn the_clock_margin_rounds_up_and_never_overflows() {
        assert_eq!(by_slowest_clock(ms(900)), ms(1_000));
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(by_slowest_clock(nanosecond), nanosecond * 2);
        assert_eq!(by_slowest_clock(Duration::MAX), Duration::MAX);
        // A clock that loses a tenth has counted no more than the time itself.
        for time in (1..10_000).map(Duration::from_nanos) {
            assert!(by_slowest_clock(time) * 9 >= time * 10);
        }
    }

    /// A controller that honours KATO by its own clock, and stands still once.
    #[derive(Debug, Clone, Copy)]
    struct Target {
        /// What it takes for KATO, by our clock.
        kato: u64,
        traffic_based: bool,
        stops: u64,
        wakes: u64,
    }

    impl Target {
        /// When it gets to what happens at `at`.
        fn awake(self, at: u64) -> u64 {
            if (self.stops..self.wakes).contains(&at) {
                self.wakes
            } else {
                at
            }
        }

        /// When it ends the association to which packets come at `arrivals`, in rising order. On
        /// waking it checks its timer before it takes any.
        fn dies_at(self, arrivals: &[u64]) -> u64 {
            let (mut deadline, mut any) = (self.kato, false);
            let taken = arrivals.iter().map(|at| Some(self.awake(*at)));
            for taken in taken.chain([None]) {
                while taken.is_none_or(|taken| deadline <= taken) {
                    let checked = self.awake(deadline);
                    let restarts = self.traffic_based && std::mem::take(&mut any);
                    if !restarts || deadline + self.kato <= checked {
                        return checked;
                    }
                    deadline += self.kato;
                }
                any = true;
                if let Some(taken) = taken.filter(|_| !self.traffic_based) {
                    deadline = taken + self.kato;
                }
            }
            unreachable!("it dies of silence")
        }
    }

    /// What KATO takes by our clock where the controller's gains so many thousandths, rounded up.
    fn kato_by(skew: i64) -> u64 {
        (KATO * 1000).div_ceil(1000_u64.saturating_add_signed(skew))
    }

    /// In tenths of a millisecond.
    const KATO: u64 = 900;

    /// Every clock that is at most a tenth wrong, and every sleep: the controller executes nothing
    /// when the fence stands.
    #[test]
    fn a_controller_that_honours_kato_never_outlives_the_fence() {
        let time = |at: u64| Duration::from_micros(at * 100);
        let error = i64::from(CLOCK_ERROR_PERMILLE);
        for traffic_based in [false, true] {
            let terms = FenceTerms::new(time(KATO), 1, traffic_based, ms(0)).unwrap();
            // Exactly KATO: the fence is to be measured without its rounding.
            let terms = FenceTerms {
                kato: time(KATO),
                ..terms
            };
            let mut latest = Duration::ZERO;
            for skew in (-error..=error).step_by(25) {
                let kato = kato_by(skew);
                for silent in (0..3 * KATO).step_by(511) {
                    // Their answers may all have been lost.
                    let mut arrivals: Vec<u64> = (0..=silent).rev().step_by(15).collect();
                    arrivals.reverse();
                    for stops in (0..silent + 2 * kato).step_by(23) {
                        for lasts in (0..4 * kato).step_by(97) {
                            let wakes = stops + lasts;
                            let target = Target {
                                kato,
                                traffic_based,
                                stops,
                                wakes,
                            };
                            let dies = target.dies_at(&arrivals);
                            // Otherwise it checked its timer on waking and did nothing more.
                            if dies != wakes {
                                let fence = order_fence_at(time(silent), &terms);
                                assert!(fence >= time(dies), "skew {skew}, {target:?}");
                                latest = latest.max(time(dies.saturating_sub(silent)));
                            }
                        }
                    }
                }
            }
            // The fence is not longer than it must be: the slowest clock and sleep cost nearly all of it.
            let wait = order_fence_at(ms(0), &terms);
            assert!(latest + time(KATO) / 4 > wait, "{latest:?} of {wait:?}");
        }
    }
}
