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

/// When an association that was given up executes nothing more, by the host's clock.
///
/// `last_answered`: when the answer to the last *answered* keep-alive reached us (or the answer to
/// Connect, before the first keep-alive). `qp_error_at`: when the last of the association's queue
/// pairs was in the error state. `n` is 2 with command-based, 3 with traffic-based keep-alive.
///
/// `max(last_answered + n x KATO, qp_error_at + (n - 1) x KATO) + CQT`
///
/// *Claim.* After this moment no command of the association is executed.
///
/// *Proof.* Let `r` be the last moment at which anything of ours restarted the controller's
/// keep-alive timer.
/// 1. `r <= qp_error_at`. A queue pair in the error state sends nothing and retransmits nothing
///    (IBTA 10.3.1), so no capsule arrives after it. Keep-alives that were never answered are
///    covered: whenever they were sent, they arrived by then. This is why the last *answered*
///    keep-alive alone would not do, and why every queue pair counts, not the admin queue's only:
///    with traffic-based keep-alive any command restarts the timer.
/// 2. Command-based: the timer expires at the latest at `r + KATO`. Traffic-based: the timer is
///    not restarted by a command; at expiry the controller looks whether there was any since the
///    timer was started, and if so starts it once more. A command right after a start is therefore
///    good for up to `2 x KATO`: expiry at the latest at `r + 2 x KATO`. Both are
///    `r + (n - 1) x KATO <= qp_error_at + (n - 1) x KATO`.
/// 3. On expiry the controller ends the association, and has stopped the commands it had accepted
///    within CQT.
///
/// The first term adds nothing to this proof. It is the wait that NVMe Base 2.1 §9.6 prescribes
/// for hosts that do not know when their last packet left; keeping the larger of the two means
/// never being less careful than the specification. After an early conviction (as usual: a few
/// hundred milliseconds after the last answer) it leaves nearly one KATO of slack, for packets that
/// the fabric still carries and for clocks that differ. After a late one, when KATO has passed
/// already, the two terms meet and CQT is the only slack.
///
/// *Assumes* that the controller checks the timer before it touches media, and that KATO here is
/// the controller's: see [`FenceTerms::new`].
pub fn order_fence_at(
    last_answered: Duration,
    qp_error_at: Duration,
    terms: &FenceTerms,
) -> Duration {
    let n = if terms.traffic_based { 3 } else { 2 };
    let by_answer = last_answered.saturating_add(terms.kato.saturating_mul(n));
    let by_silence = qp_error_at.saturating_add(terms.kato.saturating_mul(n - 1));
    by_answer.max(by_silence).saturating_add(terms.quiesce)
}

/// Collects the times of a teardown until the fence is known.
#[derive(Debug, Clone)]
pub struct OrderFence {
    terms: Option<FenceTerms>,
    last_answered: Duration,
    /// Queue pairs not yet in the error state.
    queues_open: u32,
    silent_at: Duration,
}

impl OrderFence {
    /// Begins when the association is given up. `queues`: queue pairs that were ever connected,
    /// the admin queue's included. `terms`: `None` where time is no fence.
    #[must_use]
    pub fn new(terms: Option<FenceTerms>, last_answered: Duration, queues: u32) -> Self {
        Self {
            terms,
            last_answered,
            queues_open: queues,
            silent_at: Duration::ZERO,
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
        (self.queues_open == 0).then(|| order_fence_at(self.last_answered, self.silent_at, terms))
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
    fn the_later_term_wins_and_quiescing_comes_on_top() {
        let command = FenceTerms::new(ms(1_000), 1, false, ms(50)).unwrap();
        let traffic = FenceTerms::new(ms(1_000), 1, true, ms(50)).unwrap();
        assert_eq!(order_fence_at(ms(10_000), ms(10_400), &command), ms(12_050));
        assert_eq!(order_fence_at(ms(10_000), ms(11_400), &command), ms(12_450));
        assert_eq!(order_fence_at(ms(10_000), ms(10_400), &traffic), ms(13_050));
        assert_eq!(order_fence_at(ms(10_000), ms(11_400), &traffic), ms(13_450));
        assert_eq!(
            order_fence_at(Duration::MAX, ms(1), &traffic),
            Duration::MAX
        );
    }

    #[test]
    fn no_fence_while_a_queue_pair_may_send_or_without_a_timer() {
        let terms = FenceTerms::new(ms(1_000), 1, false, ms(0));
        let mut fence = OrderFence::new(terms, ms(500), 3);
        fence.queue_silent(ms(700));
        fence.queue_silent(ms(2_000));
        assert_eq!(fence.at(), None);
        fence.queue_silent(ms(900));
        assert_eq!(fence.at(), Some(ms(3_000)));
        let mut never = OrderFence::new(None, ms(0), 1);
        never.queue_silent(ms(1));
        assert_eq!(never.at(), None);
    }

    /// Plays a controller against the formula: keep-alives arrive or not, the timer expires, and
    /// nothing may execute after the fence.
    #[test]
    fn a_controller_that_honours_kato_never_outlives_the_fence() {
        let kato = 1_000_u64;
        for traffic_based in [false, true] {
            let terms = FenceTerms::new(ms(kato), 1, traffic_based, ms(100)).unwrap();
            for answered in (0..1_000_u64).step_by(130) {
                for error_after in (0..1_500).step_by(170) {
                    for arrives in (0..=error_after).step_by(90) {
                        for start in (0..kato).step_by(110) {
                            let last = answered + arrives;
                            let expiry = if traffic_based {
                                // The timer was started up to KATO before the last command.
                                last.saturating_sub(start) + 2 * kato
                            } else {
                                last + kato
                            };
                            let fence =
                                order_fence_at(ms(answered), ms(answered + error_after), &terms);
                            assert!(fence >= ms(expiry + 100));
                        }
                    }
                }
            }
        }
    }
}
