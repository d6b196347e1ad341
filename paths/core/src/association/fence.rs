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
        quiesce_floor: Duration,
    ) -> Option<Self> {
        let quiesce = quiesce.max(quiesce_floor);
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

/// When an association that was given up executes nothing more, by the host's clock.
///
/// `silent_at`: when the last of the association's queue pairs was in the error state. `n` is 2 with
/// command-based, 3 with traffic-based keep-alive.
///
/// `silent_at + n x KATO + CQT`
///
/// *Claim.* After this moment no command of the association is executed, even if the controller
/// stood still for a while and found capsules waiting when it went on.
///
/// *Proof.* A queue pair in the error state sends nothing and retransmits nothing (IBTA 10.3.1), so
/// no capsule is sent after `silent_at`. This is why every queue pair counts: with traffic-based
/// keep-alive any command restarts the timer.
/// 1. Let `t <= silent_at` be the last moment at which the controller started its timer anew while it
///    was awake and we were sending. If it sleeps afterwards, capsules of ours may wait for it. It looks
///    at its timer before it looks at them (assumed below), so it takes them only if the timer has
///    not expired for good when it wakes.
/// 2. Command-based: the timer expires at `t + KATO`. A keep-alive found waiting before that
///    restarts it once more, until `t + 2 x KATO` at the latest; nothing is left to restart it again.
/// 3. Traffic-based: the timer is not restarted by a command; at expiry the controller looks whether
///    there was any since the timer was started, and if so starts it once more, from that moment on.
///    What came before the sleep lets it start once more at `t + KATO`, what was found waiting at
///    `t + 2 x KATO`; nothing else came, so it expires at `t + 3 x KATO` at the latest.
/// 4. Both are at most `silent_at + n x KATO`. On expiry the controller ends the association, and has
///    stopped the commands it had accepted within CQT.
///
/// A controller that never slept is dead a whole KATO earlier, which covers packets that the fabric
/// still carries and clocks that differ. The wait that NVMe Base 2.1 §9.6 prescribes counts from
/// the last *answered* keep-alive, which is never later than `silent_at`; it is not enough, because
/// a keep-alive whose answer was lost restarts the timer as well.
///
/// *Assumes* that the controller checks the timer before it takes commands and before it touches
/// media, by a clock that runs while it sleeps, and that KATO here is the controller's: see
/// [`FenceTerms::new`].
pub fn order_fence_at(silent_at: Duration, terms: &FenceTerms) -> Duration {
    let n = if terms.traffic_based { 3 } else { 2 };
    let wait = terms.kato.saturating_mul(n).saturating_add(terms.quiesce);
    silent_at.saturating_add(wait)
}

/// Collects the times of a teardown until the fence is known.
#[derive(Debug, Clone)]
pub struct OrderFence<K> {
    terms: Option<FenceTerms>,
    /// Queue pairs not yet in the error state.
    queues_open: std::collections::BTreeSet<K>,
    silent_at: Duration,
}

impl<K: Ord + std::fmt::Debug> OrderFence<K> {
    /// Begins when the association is given up. `queues`: queue pairs that were ever connected,
    /// the admin queue's included. `terms`: `None` where time is no fence.
    #[must_use]
    pub fn new(terms: Option<FenceTerms>, queues: impl IntoIterator<Item = K>) -> Self {
        Self {
            terms,
            queues_open: queues.into_iter().collect(),
            silent_at: Duration::ZERO,
        }
    }

    /// Of an association none of whose queue pairs has sent anything since `at`.
    #[must_use]
    pub fn silent_since(terms: Option<FenceTerms>, at: Duration) -> Self {
        Self {
            terms,
            queues_open: std::collections::BTreeSet::new(),
            silent_at: at,
        }
    }

    /// One more queue pair went into the error state (or was destroyed) at `at`.
    pub fn queue_silent(&mut self, queue: &K, at: Duration) {
        assert!(self.queues_open.remove(queue), "{queue:?} is not awaited");
        self.silent_at = self.silent_at.max(at);
    }

    /// Whether this queue pair may still send.
    pub fn awaits(&self, queue: &K) -> bool {
        self.queues_open.contains(queue)
    }

    /// When the fence stands; `None` while a queue pair may still send, and for ever where time is
    /// no fence.
    pub fn at(&self) -> Option<Duration> {
        let terms = self.terms.as_ref()?;
        self.queues_open
            .is_empty()
            .then(|| order_fence_at(self.silent_at, terms))
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
        let command = FenceTerms::new(ms(1_000), 1, false, ms(50)).unwrap();
        let traffic = FenceTerms::new(ms(1_000), 1, true, ms(50)).unwrap();
        assert_eq!(order_fence_at(ms(10_400), &command), ms(12_450));
        assert_eq!(order_fence_at(ms(10_400), &traffic), ms(13_450));
        assert_eq!(order_fence_at(Duration::MAX, &traffic), Duration::MAX);
        let silent = OrderFence::silent_since(Some(traffic), ms(10_400));
        assert_eq!(silent.at(), Some(ms(13_450)));
    }

    #[test]
    fn no_fence_while_a_queue_pair_may_send_or_without_a_timer() {
        let terms = FenceTerms::new(ms(1_000), 1, false, ms(0));
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

    /// When a controller that honours KATO ends the association: it executes what arrives in
    /// `arrivals`, but stands still from `stops` until `wakes`, and then looks at its timer first.
    fn dies_at(kato: u64, traffic_based: bool, arrivals: &[u64], stops: u64, wakes: u64) -> u64 {
        let awake = |at: u64| {
            if (stops..wakes).contains(&at) {
                wakes
            } else {
                at
            }
        };
        let (mut deadline, mut any) = (kato, false);
        // Moments at which it may look at its timer.
        for now in 0.. {
            if awake(now) != now {
                continue;
            }
            if deadline <= now {
                if !(traffic_based && std::mem::take(&mut any)) || deadline + kato <= now {
                    return now.min(awake(deadline));
                }
                deadline += kato;
            }
            if arrivals.iter().any(|at| awake(*at) == now) {
                any = true;
                if !traffic_based {
                    deadline = now + kato;
                }
            }
        }
        unreachable!("it dies of silence")
    }

    #[test]
    fn a_controller_that_honours_kato_never_outlives_the_fence() {
        let kato = 30;
        for traffic_based in [false, true] {
            let terms = FenceTerms::new(ms(kato * 100), 1, traffic_based, ms(0)).unwrap();
            let mut latest = 0;
            for silent in (0..3 * kato).step_by(7) {
                // Their answers may all have been lost.
                let arrivals: Vec<u64> = (0..=silent).rev().step_by(5).collect();
                for stops in (0..silent + 2 * kato).step_by(5) {
                    for lasts in (0..4 * kato).step_by(9) {
                        let wakes = stops + lasts;
                        let dies = dies_at(kato, traffic_based, &arrivals, stops, wakes);
                        // Otherwise it looked at its timer on waking and did nothing more.
                        if dies != wakes {
                            assert!(order_fence_at(ms(silent * 100), &terms) >= ms(dies * 100));
                            latest = latest.max(dies.saturating_sub(silent));
                        }
                    }
                }
            }
            // The fence is not longer than it must be: sleep costs nearly all of it.
            let n = if traffic_based { 3 } else { 2 };
            assert!(latest > n * kato - kato / 4, "{latest}");
        }
    }
}
