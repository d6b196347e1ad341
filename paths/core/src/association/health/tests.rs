//! Evidence in, verdicts out.

use proptest::prelude::*;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn health() -> Health {
    Health::new(HealthConfig::default(), Patience::default(), ms(0))
}

/// Keep-alives are missed at heartbeats of 100 ms, `count` of them by `at`.
fn miss(health: &mut Health, count: u32, at: u64) {
    for nth in 1..=count {
        let since = u64::from(count - nth) * 100;
        health.keep_alive_missed(nth, ms(at.saturating_sub(since)));
    }
}

fn answered(at: u64) -> Pulse {
    Pulse {
        in_flight: 0,
        unanswered_since: None,
        answered: ms(at),
    }
}

fn silent(since: u64) -> Pulse {
    Pulse {
        in_flight: 1,
        unanswered_since: Some(ms(since)),
        answered: ms(0),
    }
}

#[test]
fn what_breaks_while_the_link_is_down_is_the_link_s_fault() {
    let mut health = health();
    health.link_down(ms(1));
    health.queue_failed(ms(2));
    let why = Conviction::LinkDown;
    assert_eq!(health.verdict(ms(2)), Some(Verdict::Convict(why)));
}

#[test]
fn a_link_that_comes_back_within_the_grace_costs_nothing() {
    let mut health = health();
    health.link_down(ms(10));
    assert_eq!(
        health.verdict(ms(10)),
        Some(Verdict::Suspect(Suspicion::LinkDown))
    );
    assert_eq!(health.verdict(ms(19)), None);
    assert_eq!(health.poll_timeout(), Some(ms(20)));
    health.link_up(ms(19));
    assert_eq!(health.verdict(ms(19)), Some(Verdict::Clear));
    assert_eq!(health.verdict(ms(500)), None);
}

#[test]
fn the_arrays_word_is_a_suspicion_and_with_ours_a_conviction() {
    let mut health = health();
    health.host_lost(ms(10));
    let suspect = Verdict::Suspect(Suspicion::HostLost);
    assert_eq!(health.verdict(ms(10)), Some(suspect));
    // It meant an earlier incarnation: this one answers us.
    health.keep_alive_answered(ms(15), ms(20));
    assert_eq!(health.verdict(ms(20)), Some(Verdict::Clear));
    miss(&mut health, 3, 300);
    health.verdict(ms(300));
    health.host_lost(ms(310));
    let convict = Verdict::Convict(Conviction::HostLost);
    assert_eq!(health.verdict(ms(310)), Some(convict));
}

#[test]
fn a_link_that_stays_down_convicts_once_at_the_end_of_the_grace() {
    let mut health = health();
    health.link_down(ms(10));
    health.link_down(ms(15));
    health.verdict(ms(15));
    assert_eq!(
        health.verdict(ms(20)),
        Some(Verdict::Convict(Conviction::LinkDown))
    );
    assert_eq!(health.verdict(ms(999)), None);
    assert_eq!(health.poll_timeout(), None);
}

#[test]
fn missed_keep_alives_alone_only_suspect() {
    let mut health = health();
    health.keep_alive_missed(1, ms(100));
    health.keep_alive_missed(2, ms(200));
    assert_eq!(health.verdict(ms(200)), None);
    health.keep_alive_missed(3, ms(300));
    let suspect = Verdict::Suspect(Suspicion::KeepAlivesMissed(3));
    assert_eq!(health.verdict(ms(300)), Some(suspect));
    assert_eq!(health.poll_timeout(), Some(ms(320)));
    health.keep_alive_missed(4, ms(400));
    assert_eq!(health.verdict(ms(400)), None);
    health.keep_alive_answered(ms(405), ms(410));
    assert_eq!(health.verdict(ms(410)), Some(Verdict::Clear));
}

#[test]
fn missed_keep_alives_and_silent_io_convict() {
    let mut health = health();
    miss(&mut health, 3, 300);
    health.pulse(silent(101), ms(300));
    assert!(matches!(health.verdict(ms(300)), Some(Verdict::Suspect(_))));
    health.pulse(silent(150), ms(301));
    health.pulse(silent(101), ms(301));
    let why = Conviction::Silent {
        missed: 3,
        io: ms(200),
    };
    assert_eq!(health.verdict(ms(301)), Some(Verdict::Convict(why)));
}

#[test]
fn an_answer_to_one_volume_speaks_for_all() {
    let mut health = health();
    miss(&mut health, 3, 400);
    health.pulse(silent(10), ms(400));
    let idle = Pulse {
        in_flight: 0,
        unanswered_since: None,
        answered: ms(390),
    };
    health.pulse(idle, ms(400));
    assert!(matches!(health.verdict(ms(400)), Some(Verdict::Suspect(_))));
}

#[test]
fn an_unanswered_admin_command_is_a_second_signal() {
    let mut health = health();
    miss(&mut health, 3, 400);
    health.admin_waiting(Some(ms(150)));
    assert!(matches!(health.verdict(ms(400)), Some(Verdict::Convict(_))));
}

#[test]
fn silent_io_alone_convicts_nobody_and_steers_away() {
    let mut health = health();
    health.pulse(silent(0), ms(999));
    assert_eq!(health.verdict(ms(999)), None);
    health.pulse(silent(0), ms(1_000));
    let stuck = Verdict::Suspect(Suspicion::IoStuck);
    assert_eq!(health.verdict(ms(1_000)), Some(stuck));
    health.pulse(silent(0), ms(99_000));
    assert_eq!(health.verdict(ms(99_000)), None);
    health.pulse(silent(98_500), ms(99_001));
    assert_eq!(health.verdict(ms(99_001)), Some(Verdict::Clear));
}

/// On a machine where answers take 200 ms, 200 ms without one say nothing.
#[test]
fn slow_keep_alives_ask_for_more_silence() {
    let mut health = health();
    health.keep_alive_answered(ms(0), ms(200));
    miss(&mut health, 3, 400);
    health.pulse(silent(101), ms(499));
    assert!(matches!(health.verdict(ms(499)), Some(Verdict::Suspect(_))));
    health.pulse(silent(101), ms(501));
    assert!(matches!(health.verdict(ms(501)), Some(Verdict::Convict(_))));
}

#[test]
fn slowness_is_forgotten_and_asks_for_half_a_second_at_most() {
    let mut health = health();
    health.keep_alive_answered(ms(0), ms(700));
    assert_eq!(health.silence_needed(), SILENCE_MAX);
    health.keep_alive_answered(ms(5_699), ms(5_700));
    assert_eq!(
        health.silence_needed(),
        SILENCE_MAX,
        "at least five seconds"
    );
    health.keep_alive_answered(ms(10_699), ms(10_700));
    assert_eq!(health.silence_needed(), ms(200));
}

#[test]
fn hard_evidence_convicts_at_once() {
    for (report, why) in [
        (
            Health::session_failed as fn(&mut Health, Duration),
            Conviction::SessionFailed,
        ),
        (Health::queue_failed, Conviction::QueueFailed),
        (Health::queue_silent, Conviction::QueueSilent),
        (Health::device_fatal, Conviction::DeviceFatal),
    ] {
        let mut health = health();
        report(&mut health, ms(1));
        assert_eq!(health.verdict(ms(1)), Some(Verdict::Convict(why)));
    }
}

/// Tells of one command as a lane does, until `until`; the verdicts.
fn overdue(health: &mut Health, since: u64, until: u64) -> Vec<(u64, Verdict)> {
    let mut verdicts = Vec::new();
    for at in (since + 2000..=until).step_by(500) {
        health.keep_alive_answered(ms(at - 1), ms(at));
        health.pulse(
            Pulse {
                in_flight: 9,
                unanswered_since: Some(ms(at)),
                answered: ms(at),
            },
            ms(at),
        );
        health.io_overdue(ms(since), ms(at));
        verdicts.extend(health.verdict(ms(at)).map(|verdict| (at, verdict)));
    }
    verdicts
}

#[test]
fn a_command_never_answered_convicts_while_others_are_answered() {
    let mut health = health();
    assert_eq!(
        overdue(&mut health, 1000, 40_000),
        [
            (11_000, Verdict::Suspect(Suspicion::IoSlow(ms(10_000)))),
            (31_000, Verdict::Convict(Conviction::IoTimeout(ms(30_000)))),
        ]
    );
}

/// Whatever needs longer than the timeout would otherwise be sent again for ever.
#[test]
fn a_command_slower_than_the_timeout_is_given_twice_as_long_by_the_next_association() {
    let mut first = health();
    overdue(&mut first, 1000, 40_000);
    let mut next = Health::new(HealthConfig::default(), first.patience(), ms(32_000));
    let why = Conviction::IoTimeout(ms(60_000));
    assert_eq!(
        overdue(&mut next, 33_000, 99_000).last(),
        Some(&(93_000, Verdict::Convict(why)))
    );
}

#[test]
fn a_slow_command_and_then_silence_are_told_one_after_the_other() {
    let mut health = health();
    let slow = Verdict::Suspect(Suspicion::IoSlow(ms(10_000)));
    assert_eq!(overdue(&mut health, 0, 10_000), [(10_000, slow)]);
    miss(&mut health, 3, 10_300);
    let silent = Verdict::Suspect(Suspicion::KeepAlivesMissed(3));
    assert_eq!(health.verdict(ms(10_300)), Some(silent));
    health.keep_alive_missed(4, ms(10_400));
    assert_eq!(health.verdict(ms(10_400)), None);
    health.keep_alive_answered(ms(10_490), ms(10_500));
    assert_eq!(health.verdict(ms(10_500)), None, "the second in a row");
    assert_eq!(health.poll_timeout(), Some(ms(10_600)));
    assert_eq!(health.verdict(ms(10_600)), Some(slow));
    assert_eq!(health.verdict(ms(11_500)), None);
    assert_eq!(health.verdict(ms(11_600)), Some(Verdict::Clear));
}

/// An admin queue that answers, but takes more than three heartbeats each time.
#[test]
fn answers_to_keep_alives_that_come_late_are_no_silence() {
    let mut health = health();
    let mut reported = Vec::new();
    for beat in 4..1_000 {
        let at = beat * 100;
        health.keep_alive_missed(3, ms(at));
        reported.extend(health.verdict(ms(at)));
        health.keep_alive_answered(ms(at - 300), ms(at + 40));
        reported.extend(health.verdict(ms(at + 40)));
    }
    assert_eq!(reported, []);
    // When they stop, it is as silent as any other.
    miss(&mut health, 3, 100_300);
    assert!(matches!(
        health.verdict(ms(100_300)),
        Some(Verdict::Suspect(_))
    ));
}

/// The admin queue is deaf and I/O works: others are better, and the last path stays in use.
#[test]
fn a_deaf_admin_queue_steers_away_for_as_long_as_it_is_deaf() {
    let mut health = health();
    let mut reported = Vec::new();
    for at in (100..3_000).step_by(20) {
        if at % 100 == 0 {
            health.keep_alive_missed((at / 100) as u32, ms(at));
        }
        // Its last answer comes a second before the end: nothing is in flight any more.
        health.pulse(answered(at.min(2_000)), ms(at));
        // Not even a command that waits on the admin queue makes it two signals.
        health.admin_waiting(Some(ms(150)));
        reported.extend(health.verdict(ms(at)));
    }
    assert_eq!(reported, [Verdict::Suspect(Suspicion::AdminSilent(3))]);
    assert!(!Suspicion::AdminSilent(3).stops());
    // I/O that is sent and not answered is the second signal.
    health.pulse(
        Pulse {
            answered: ms(2_000),
            ..silent(3_000)
        },
        ms(3_200),
    );
    let verdict = health.verdict(ms(3_200));
    assert!(matches!(verdict, Some(Verdict::Convict(_))), "{verdict:?}");
}

#[test]
fn a_suspicion_of_silence_outlives_a_single_answer_to_io() {
    let mut health = health();
    miss(&mut health, 3, 300);
    let silent = Verdict::Suspect(Suspicion::KeepAlivesMissed(3));
    assert_eq!(health.verdict(ms(300)), Some(silent));
    for at in [310, 330, 350] {
        health.pulse(answered(310), ms(at));
        assert_eq!(health.verdict(ms(at)), None, "one answer");
    }
    health.pulse(answered(410), ms(410));
    let deaf = Verdict::Suspect(Suspicion::AdminSilent(3));
    assert_eq!(health.verdict(ms(410)), Some(deaf), "answers over a time");
    health.keep_alive_answered(ms(100), ms(450));
    assert_eq!(health.verdict(ms(450)), Some(Verdict::Clear));
}

/// What may happen to an association, but for what convicts it at once.
#[derive(Debug, Clone)]
enum Evidence {
    Link(bool),
    Answered,
    Missed(u32),
    HostLost,
    Io(bool),
    Admin(bool),
    Overdue,
    Pass(u64),
}

fn evidence() -> impl Strategy<Value = Evidence> {
    prop_oneof![
        4 => any::<bool>().prop_map(Evidence::Link),
        3 => Just(Evidence::Answered),
        3 => (1_u32..9).prop_map(Evidence::Missed),
        1 => Just(Evidence::HostLost),
        3 => any::<bool>().prop_map(Evidence::Io),
        1 => any::<bool>().prop_map(Evidence::Admin),
        1 => Just(Evidence::Overdue),
        6 => (0_u64..60).prop_map(Evidence::Pass),
    ]
}

/// Most changes of the verdict within any second.
const CHANGES_MAX: usize = 12;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_verdict_changes_a_few_times_a_second_whatever_comes_in(
        history in prop::collection::vec(evidence(), 0..250)
    ) {
        // Never convicted: only reported suspicions count here.
        let never = Duration::from_secs(1 << 20);
        let config = HealthConfig {
            link_down_grace: never,
            io_silence: never,
            io_slow: ms(2_100),
            io_timeout: never,
            ..HealthConfig::default()
        };
        let mut health = Health::new(config, Patience::default(), ms(0));
        let (mut now, mut answered, mut reported) = (ms(0), ms(0), Vec::new());
        let mut busy = false;
        for evidence in history {
            match evidence {
                Evidence::Link(true) => health.link_up(now),
                Evidence::Link(false) => health.link_down(now),
                Evidence::Answered => health.keep_alive_answered(now, now),
                Evidence::Missed(count) => health.keep_alive_missed(count, now),
                Evidence::HostLost => health.host_lost = health.missed().is_none(),
                Evidence::Io(false) => (answered, busy) = (now, false),
                Evidence::Io(true) => busy = true,
                Evidence::Admin(waits) => health.admin_waiting(waits.then_some(now)),
                Evidence::Overdue => health.io_overdue(now.saturating_sub(ms(2_200)), now),
                Evidence::Pass(time) => now += ms(time),
            }
            if health.link_down_since.is_some() || health.missed().is_some() {
                health.host_lost = false;
            }
            let unanswered_since = busy.then_some(answered);
            health.pulse(Pulse { in_flight: u32::from(busy), unanswered_since, answered }, now);
            reported.extend(health.verdict(now).map(|verdict| (now, verdict)));
            let due = health.poll_timeout();
            prop_assert!(due.is_none_or(|due| due > now), "{due:?} at {now:?}");
        }
        prop_assert!(reported.iter().all(|(_, verdict)| !matches!(verdict, Verdict::Convict(_))));
        for (nth, (first, _)) in reported.iter().enumerate() {
            let same_second = reported[nth..].iter().filter(|(at, _)| *at < *first + ms(1_000));
            prop_assert!(same_second.count() <= CHANGES_MAX, "{reported:?}");
        }
    }
}

#[test]
fn a_command_answered_late_convicts_nobody() {
    let mut health = health();
    let reported = overdue(&mut health, 1000, 30_500);
    assert_eq!(reported.len(), 1, "{reported:?}");
    // Answered: no lane speaks of it any more, and it does not grow older meanwhile.
    assert_eq!(health.poll_timeout(), Some(ms(32_000)));
    assert_eq!(health.verdict(ms(31_500)), None);
    assert_eq!(health.verdict(ms(32_000)), Some(Verdict::Clear));
    assert_eq!(health.poll_timeout(), None);
}

#[test]
fn the_oldest_command_counts_and_is_forgotten_for_the_next() {
    let mut health = health();
    for at in [20_000, 20_500, 21_000] {
        health.io_overdue(ms(5000), ms(at));
        health.io_overdue(ms(9000), ms(at));
    }
    assert_eq!(health.oldest(), Some(ms(16_000)));
    // The older one was answered; the younger takes its place.
    health.io_overdue(ms(9000), ms(22_600));
    assert_eq!(health.oldest(), Some(ms(13_600)));
}
