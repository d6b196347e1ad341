//! The order fence by time: when a controller that lost contact with us has certainly stopped.
//!
//! Decided here: how long that takes, and which queue pairs have to be silent before it counts. Not
//! decided here: when a queue pair is silent, which the host observes, and what happens when the fence
//! stands.
//!
//! Time proves that a controller has stopped if it honours its keep-alive timer. It does not prove
//! - that a *backend* has finished that obeys no timer. Linux nvmet hands a command to its block
//!   device as soon as it arrives; when the timer expires it ends the queue pairs and waits for the
//!   device. Such a command has the whole wait, `n x KATO` and the quiesce floor, to reach the medium.
//!   A device that is stuck for longer (suspended, in error recovery, a disk across a network that is
//!   down) executes it afterwards;
//! - that a *machine that was paused* (a virtual machine, a debugger) checks its timer before it goes
//!   on with the commands it had.
//!
//! For such an array, set `quiesce_floor` above the longest time its backend may take.

use core::fmt::Debug;
use core::time::Duration;
use std::collections::BTreeSet;

/// How much slower than ours a controller's clock may run, in thousandths.
pub const CLOCK_ERROR_PERMILLE: u32 = 100;

/// The time granted to a controller to finish what it had accepted where it reports none (CQT is 0, as
/// with Linux nvmet).
///
/// Half a second is longer than a healthy disk or solid-state drive takes for what it was given,
/// queueing and internal housekeeping included, and short against `n x KATO`, which comes first. It does
/// not cover error recovery of a disk, which takes as long as the driver's timeout (30 s in Linux).
pub const QUIESCE_FLOOR_DEFAULT: Duration = Duration::from_millis(500);

/// The quiesce floor for a controller that reports `cqt`: what is configured, or
/// [`QUIESCE_FLOOR_DEFAULT`] where nothing is and the controller reports none either.
pub fn quiesce_floor(configured: Option<Duration>, cqt: Duration) -> Duration {
    let unreported = if cqt.is_zero() {
        QUIESCE_FLOOR_DEFAULT
    } else {
        Duration::ZERO
    };
    configured.unwrap_or(unreported)
}

/// What an association was promised by its controller. Fixed when it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FenceTerms {
    kato: Duration,
    traffic_based: bool,
    /// By our clock.
    quiesce: Duration,
}

impl FenceTerms {
    /// Terms from what was agreed: `kato` as sent in Connect, `kas_units` (KAS of Identify
    /// Controller, 100 ms each), `traffic_based` (CTRATT.TBKAS) and `cqt` (CQT). `quiesce_floor`: what
    /// the controller is granted to quiesce even if it asks for less ([`quiesce_floor`]).
    ///
    /// The controller rounds KATO up to its granularity (NVMe Base 2.1 §3.9), so the fence does as
    /// well; rounding a rounded value changes nothing. `None` where time is no fence: no keep-alive
    /// timer was asked for, or the controller has none (KAS 0).
    pub fn new(
        kato: Duration,
        kas_units: u16,
        traffic_based: bool,
        cqt: Duration,
        quiesce_floor: Duration,
    ) -> Option<Self> {
        if kato.is_zero() || kas_units == 0 {
            return None;
        }
        let unit_ms = u128::from(kas_units) * 100;
        let kato_ms = kato.as_nanos().div_ceil(1_000_000).div_ceil(unit_ms) * unit_ms;
        let kato = u64::try_from(kato_ms).map_or(Duration::MAX, Duration::from_millis);
        Some(Self {
            kato,
            traffic_based,
            quiesce: by_slowest_clock(cqt).max(quiesce_floor),
        })
    }

    /// KATO as the controller uses it.
    pub fn kato(&self) -> Duration {
        self.kato
    }

    /// Starts of its timer that have to run out after our last queue pair fell silent.
    fn periods(&self) -> u32 {
        if self.traffic_based { 4 } else { 2 }
    }
}

/// When an association that was given up executes nothing more, by the host's clock.
///
/// `silent_at`: when the last of the association's queue pairs was in the error state. `n` is 2 with
/// command-based, 4 with traffic-based keep-alive. `e` is the clock error, a tenth
/// ([`CLOCK_ERROR_PERMILLE`]).
///
/// `silent_at + n x KATO / (1 - e) + max(CQT / (1 - e), quiesce floor)`
///
/// *Claim.* After this moment no command of the association is executed, even if the controller
/// stood still for a while and found capsules waiting when it went on, even if its clock loses a
/// tenth of the time meanwhile, and even if it takes the end of our queue pairs for traffic.
///
/// *What restarts the timer.* What the controller counts as KATO takes `K = KATO / (1 - e)` by our
/// clock at most: a clock that runs at nine tenths of the speed needs ten ninths of the time. A queue
/// pair in the error state sends nothing and retransmits nothing (IBTA 10.3.1), so no capsule is sent
/// after `silent_at`. This is why every queue pair counts. A disconnect is not the queue pair's but the
/// connection manager's, which repeats it until the connection is destroyed; it may arrive up to one
/// KATO after `silent_at` (assumed below). Linux nvmet counts it as traffic when the queue pair's
/// teardown is through (`nvmet_sq_destroy`).
///
/// *Command-based.* Only a Keep Alive restarts the timer, and the last one arrives by `silent_at`.
/// If the controller is awake then, the timer expires at `silent_at + K`. If it is asleep, let `t` be
/// when the timer was last started before it fell asleep. It checks its timer before it takes what
/// waits, so it takes the Keep Alive only if it wakes before `t + K`; the timer then expires
/// before `t + 2 x K`, and `t <= silent_at`.
///
/// *Traffic-based.* The timer runs in periods of `K`: at the end of one the controller starts another if
/// there was traffic in it. Let `last <= silent_at + KATO` be when the last of our traffic arrives.
/// 1. It is awake at `last`: the period that `last` falls into began at `s <= last`. That traffic starts
///    one more period and nothing comes in that, so the timer expires at `s + 2 x K`.
/// 2. It is asleep at `last`: the period in which it fell asleep began at `s <= last`. Traffic that it
///    had taken in this period starts another at `s + K`; what it finds waiting when it wakes in that
///    one starts another at `s + 2 x K`, in which nothing comes. If it wakes later, it has expired.
///    So the timer expires at `s + 3 x K` at the latest.
/// 3. `s + 3 x K <= silent_at + KATO + 3 x K <= silent_at + 4 x K`.
///
/// On expiry the controller ends the association, and has stopped the commands it had accepted within
/// CQT, which it counts by the same clock. The way of the last packet through the fabric is part of
/// that time.
///
/// The worst case is reached: the slowest clock *and* a sleep until just before the timer expires. Each
/// of the `n` times KATO therefore needs the margin for the clock.
///
/// The wait that NVMe Base 2.1 §9.6 prescribes counts from the last *answered* keep-alive, which is
/// never later than `silent_at`; it is not enough, because a keep-alive whose answer was lost restarts
/// the timer as well.
///
/// *Assumes* of the controller that it checks the timer before it takes commands and before it touches
/// media, by a clock that runs while it sleeps and is at most a tenth wrong, and that KATO here is the
/// controller's ([`FenceTerms::new`]). Of the connections it assumes that all of them have ended for the
/// controller within one KATO after `silent_at`, whether by our disconnect or because the controller's own
/// packets were not acknowledged. Disconnects that come later, because the port was down until then,
/// are covered as well if the controller does not stand still meanwhile and they come within one KATO
/// of each other: the first finds the timer expired, or comes at the latest in the period after the one
/// that `silent_at` falls into; the last comes at the latest in the period after that one, and starts a
/// fourth, in which nothing comes.
pub fn order_fence_at(silent_at: Duration, terms: &FenceTerms) -> Duration {
    let timer = by_slowest_clock(terms.kato.saturating_mul(terms.periods()));
    silent_at
        .saturating_add(timer)
        .saturating_add(terms.quiesce)
}

/// How long a controller takes by our clock for a `time` that it counts by the slowest clock granted.
fn by_slowest_clock(time: Duration) -> Duration {
    let error = u128::from(CLOCK_ERROR_PERMILLE);
    let lost = (time.as_nanos() * error).div_ceil(1000 - error);
    let lost = u64::try_from(lost).map_or(Duration::MAX, Duration::from_nanos);
    time.saturating_add(lost)
}

/// Collects the times of a teardown until the fence is known.
///
/// `K` names queue pairs.
#[derive(Debug, Clone)]
pub struct OrderFence<K> {
    terms: Option<FenceTerms>,
    /// Queue pairs that may still send.
    awaited: BTreeSet<K>,
    silent_at: Duration,
}

impl<K: Ord + Debug> OrderFence<K> {
    /// Begins when the association is given up. `queues`: queue pairs that were ever connected,
    /// the admin queue's included. `terms`: `None` where time is no fence.
    #[must_use]
    pub fn new(terms: Option<FenceTerms>, queues: impl IntoIterator<Item = K>) -> Self {
        Self {
            terms,
            awaited: queues.into_iter().collect(),
            silent_at: Duration::ZERO,
        }
    }

    /// Of an association none of whose queue pairs has sent anything since `at`.
    #[must_use]
    pub fn silent_since(terms: Option<FenceTerms>, at: Duration) -> Self {
        Self {
            terms,
            awaited: BTreeSet::new(),
            silent_at: at,
        }
    }

    /// Whether this queue pair may still send.
    pub fn awaits(&self, queue: &K) -> bool {
        self.awaited.contains(queue)
    }

    /// A queue pair that is awaited went into the error state (or was destroyed) at `at`.
    pub fn queue_silent(&mut self, queue: &K, at: Duration) {
        assert!(self.awaited.remove(queue), "{queue:?} is not awaited");
        self.silent_at = self.silent_at.max(at);
    }

    /// When the fence stands; `None` while a queue pair may still send, and for ever where time is
    /// no fence.
    pub fn at(&self) -> Option<Duration> {
        let terms = self.terms.as_ref()?;
        self.awaited
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

    /// Terms in tenths of a millisecond, without a quiesce time.
    fn terms(kato: u64, traffic_based: bool) -> FenceTerms {
        FenceTerms {
            kato: tenths(kato),
            traffic_based,
            quiesce: Duration::ZERO,
        }
    }

    fn tenths(tenths: u64) -> Duration {
        Duration::from_micros(tenths * 100)
    }

    #[test]
    fn kato_is_rounded_up_to_the_granularity_once() {
        let terms = |kato, kas| FenceTerms::new(ms(kato), kas, false, ms(0), ms(0));
        assert_eq!(terms(1_500, 10).unwrap().kato(), ms(2_000));
        assert_eq!(terms(2_000, 10).unwrap().kato(), ms(2_000));
        assert_eq!(terms(1, 1).unwrap().kato(), ms(100));
        assert_eq!(terms(0, 10), None);
        assert_eq!(terms(1_000, 0), None);
        let fine = FenceTerms::new(Duration::from_micros(100_001), 1, false, ms(0), ms(0));
        assert_eq!(fine.unwrap().kato(), ms(200));
        let (most, longest) = (u16::MAX, Duration::MAX);
        let terms = FenceTerms::new(longest, most, true, longest, longest).unwrap();
        assert_eq!(order_fence_at(ms(1), &terms), Duration::MAX);
    }

    #[test]
    fn the_last_queue_pair_counts_and_quiescing_comes_on_top() {
        let command = FenceTerms::new(ms(900), 1, false, ms(45), ms(0)).unwrap();
        let traffic = FenceTerms::new(ms(900), 1, true, ms(45), ms(0)).unwrap();
        assert_eq!(order_fence_at(ms(10_400), &command), ms(12_450));
        assert_eq!(order_fence_at(ms(10_400), &traffic), ms(14_450));
        assert_eq!(order_fence_at(Duration::MAX, &traffic), Duration::MAX);
        let silent = OrderFence::<u8>::silent_since(Some(traffic), ms(10_400));
        assert_eq!(silent.at(), Some(ms(14_450)));
    }

    /// Linux nvmet reports a CQT of 0, and what it gave to its disk is on the way all the same.
    #[test]
    fn a_controller_that_reports_no_quiesce_time_is_granted_the_floor() {
        let wait = |cqt, floor| {
            let terms = FenceTerms::new(ms(900), 1, false, cqt, floor).unwrap();
            order_fence_at(ms(0), &terms)
        };
        let timer = ms(2_000);
        assert_eq!(wait(ms(0), ms(300)), timer + ms(300));
        assert_eq!(wait(ms(90), ms(300)), timer + ms(300));
        assert_eq!(
            wait(ms(900), ms(300)),
            timer + ms(1_000),
            "by its own clock"
        );
        assert_eq!(quiesce_floor(None, ms(0)), QUIESCE_FLOOR_DEFAULT);
        assert_eq!(quiesce_floor(None, ms(1)), ms(0), "it knows better");
        assert_eq!(quiesce_floor(Some(ms(70)), ms(0)), ms(70));
        assert!(QUIESCE_FLOOR_DEFAULT > ms(0));
    }

    #[test]
    fn no_fence_while_a_queue_pair_may_send_or_without_a_timer() {
        let terms = FenceTerms::new(ms(900), 1, false, ms(0), ms(0));
        let mut fence = OrderFence::new(terms, 0..3_u8);
        fence.queue_silent(&2, ms(700));
        fence.queue_silent(&0, ms(2_000));
        assert_eq!(fence.at(), None);
        assert!(fence.awaits(&1) && !fence.awaits(&0));
        fence.queue_silent(&1, ms(900));
        assert_eq!(fence.at(), Some(ms(4_000)));
        let mut never = OrderFence::new(None, [0_u8]);
        never.queue_silent(&0, ms(1));
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

    fn skews() -> impl Iterator<Item = i64> {
        let error = i64::from(CLOCK_ERROR_PERMILLE);
        (-error..=error).step_by(50)
    }

    /// In tenths of a millisecond.
    const KATO: u64 = 900;

    /// Capsules until `silent`, dense at the end, none of which may have been answered.
    fn capsules(silent: u64) -> Vec<u64> {
        let mut arrivals: Vec<u64> = (0..=silent).rev().step_by(200).collect();
        arrivals.extend((silent.saturating_sub(150)..=silent).step_by(15));
        arrivals.push(silent);
        arrivals.sort_unstable();
        arrivals
    }

    /// How long after `silent` a controller may live to which packets come at `arrivals`, however it
    /// sleeps. On waking after its time is over it checks its timer and does nothing more.
    fn longest_life(kato: u64, traffic_based: bool, silent: u64, arrivals: &[u64]) -> u64 {
        let mut longest = 0;
        for stops in (0..silent + 3 * kato).step_by(23) {
            for lasts in (0..4 * kato).step_by(311) {
                let wakes = stops + lasts;
                let target = Target {
                    kato,
                    traffic_based,
                    stops,
                    wakes,
                };
                let dies = target.dies_at(arrivals);
                if dies != wakes {
                    longest = longest.max(dies.saturating_sub(silent));
                }
            }
        }
        longest
    }

    /// Every clock that is at most a tenth wrong, and every sleep: the controller executes nothing
    /// when the fence stands.
    #[test]
    fn a_controller_that_honours_kato_never_outlives_the_fence() {
        for traffic_based in [false, true] {
            let wait = order_fence_at(ms(0), &terms(KATO, traffic_based));
            let mut longest = Duration::ZERO;
            for skew in skews() {
                for silent in (0..2 * KATO).step_by(130) {
                    let kato = kato_by(skew);
                    let life = longest_life(kato, traffic_based, silent, &capsules(silent));
                    assert!(tenths(life) <= wait, "skew {skew}, {life} after {silent}");
                    longest = longest.max(tenths(life));
                }
            }
            // Sleep and the slowest clock cost whole periods.
            let periods = if traffic_based { 3 } else { 2 };
            let without_sleep = by_slowest_clock(tenths(KATO)) * (periods - 1);
            assert!(longest > without_sleep + tenths(KATO) / 2, "{longest:?}");
        }
    }

    /// Linux nvmet counts the teardown of a queue pair as traffic, and a disconnect may be late.
    #[test]
    fn disconnects_that_count_as_traffic_never_carry_a_controller_past_the_fence() {
        let wait = order_fence_at(ms(0), &terms(KATO, true));
        let mut longest = Duration::ZERO;
        for skew in skews() {
            for silent in (0..2 * KATO).step_by(390).map(|at| at + 130) {
                for (first, last) in [(0, 300), (270, 300), (870, 900), (0, 900)] {
                    let mut arrivals = capsules(silent);
                    arrivals.extend([silent + first, silent + last]);
                    let life = longest_life(kato_by(skew), true, silent, &arrivals);
                    assert!(tenths(life) <= wait, "skew {skew}, {life} after {silent}");
                    longest = longest.max(tenths(life));
                }
            }
        }
        // They need nearly all of the KATO that is granted to them.
        assert!(longest + tenths(KATO) / 4 > wait, "{longest:?} of {wait:?}");
    }

    /// How long a traffic-based controller that never stands still lives after `silent`.
    fn life_awake(arrivals: &[u64], skew: i64, silent: u64) -> Duration {
        let target = Target {
            kato: kato_by(skew),
            traffic_based: true,
            stops: 0,
            wakes: 0,
        };
        tenths(target.dies_at(arrivals).saturating_sub(silent))
    }

    /// The port is down for any time, and then all connections end at once, or nearly.
    #[test]
    fn disconnects_of_any_time_find_a_controller_that_did_not_sleep_within_the_fence() {
        let wait = order_fence_at(ms(0), &terms(KATO, true));
        let mut longest = Duration::ZERO;
        for (skew, apart) in skews().flat_map(|skew| [0, 450, KATO].map(|apart| (skew, apart))) {
            for silent in (0..2 * KATO).step_by(77) {
                for first in (silent..silent + 6 * KATO).step_by(41) {
                    let mut arrivals = capsules(silent);
                    arrivals.extend([first, first + apart]);
                    let life = life_awake(&arrivals, skew, silent);
                    assert!(life <= wait, "skew {skew}, {life:?} after {silent}");
                    longest = longest.max(life);
                }
            }
        }
        assert!(longest + tenths(KATO) / 4 > wait, "{longest:?} of {wait:?}");
    }

    /// One disconnect arrives early, the port goes down, and the others arrive together when it is up.
    #[test]
    fn disconnects_of_which_one_is_early_and_the_others_late_stay_within_the_fence() {
        let wait = order_fence_at(ms(0), &terms(KATO, true));
        for (skew, early) in skews().flat_map(|skew| [0, 450, KATO].map(|early| (skew, early))) {
            for silent in (0..2 * KATO).step_by(77) {
                for late in (silent + early..silent + 6 * KATO).step_by(41) {
                    let mut arrivals = capsules(silent);
                    arrivals.extend([silent + early, late, late]);
                    let life = life_awake(&arrivals, skew, silent);
                    assert!(life <= wait, "skew {skew}, {life:?} after {silent}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "is not awaited")]
    fn a_queue_pair_cannot_fall_silent_twice() {
        let mut fence = OrderFence::new(None, [0_u8, 1]);
        fence.queue_silent(&0, ms(1));
        fence.queue_silent(&0, ms(2));
    }
}
