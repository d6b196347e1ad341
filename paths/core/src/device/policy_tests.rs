//! Policies of a volume: damping, outliers, timers, and what an operator asks by hand.

use umpath_policies::{
    Failback, Grouping, Prioritizer, Ranking, SelectorConfig, SelectorKind, Standing,
};

use super::regression_tests::{
    changing_for_too_long, flushed_with_the_last_path, lost_one_after_the_other,
};
use super::tests::{active_paths, config, kinds, ms, outputs, ready, two_paths};
use super::*;
use crate::shared::VolumeShared;
use crate::table::OnNoPath;

/// Two optimized paths in one group.
fn equal_paths(config: DeviceConfig) -> Device {
    let mut device = Device::new(config, ms(0));
    for number in 0..2 {
        device
            .add_path(PathId(number), PathConfig::default(), ms(0))
            .unwrap();
        let ready = ready(u64::from(number), AnaState::Optimized);
        device.path_ready(PathId(number), ready, ms(1));
    }
    outputs(&mut device);
    device
}

fn marginal_last(on: bool) -> DeviceConfig {
    DeviceConfig {
        ranking: Ranking {
            marginal_pathgroups: on,
            ..Ranking::default()
        },
        ..config()
    }
}

/// Loses path 0 and connects it again, `times` times, a second apart.
fn flap(device: &mut Device, times: u64) -> Duration {
    let mut now = ms(1_000);
    for round in 0..times {
        let before = if round == 0 { 0 } else { 100 + round - 1 };
        device.convict(AssociationId(before), Conviction::QueueFailed, now);
        now += ms(500);
        let again = ready(100 + round, AnaState::Optimized);
        device.path_ready(PathId(0), again, now);
        now += ms(500);
    }
    now
}

#[test]
fn failback_is_damped_by_the_flap_rules() {
    let mut device = two_paths(marginal_last(true));
    flap(&mut device, 2);
    assert_eq!(
        active_paths(&device),
        [PathId(0)],
        "two losses are forgiven"
    );
    let mut device = two_paths(marginal_last(true));
    flap(&mut device, 3);
    assert_eq!(active_paths(&device), [PathId(1)], "the third is not");
    assert!(kinds(&outputs(&mut device)).contains(&"held"));
    assert_eq!(device.table().groups.len(), 2, "the last resort");
}

#[test]
fn a_hold_ends_in_probation_and_probation_in_failback() {
    let mut device = two_paths(marginal_last(true));
    let now = flap(&mut device, 3);
    outputs(&mut device);
    let held_until = device.poll_timeout().unwrap();
    assert!(held_until <= now + ms(500));
    device.handle_timeout(held_until);
    assert_eq!(kinds(&outputs(&mut device)), ["probation", "publish"]);
    let entry = device.table().entry(PathId(0)).unwrap();
    assert!(entry.usable && entry.steering.probation);
    assert_eq!(active_paths(&device), [PathId(1)]);
    let sound_at = device.poll_timeout().unwrap();
    assert_eq!(sound_at, held_until + ms(3_000));
    device.handle_timeout(sound_at);
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["sound", "failed_back", "publish"]
    );
}

#[test]
fn without_marginal_pathgroups_a_held_path_is_not_used_unless_it_is_the_last() {
    let mut device = two_paths(marginal_last(false));
    flap(&mut device, 3);
    assert_eq!(active_paths(&device), [PathId(1)]);
    assert!(!device.table().entry(PathId(0)).unwrap().usable);
    device.convict(AssociationId(1), Conviction::QueueFailed, ms(5_000));
    assert_eq!(
        active_paths(&device),
        [PathId(0)],
        "the last one is never kept out"
    );
}

#[test]
fn a_suspicion_that_passes_counts_as_a_flap() {
    let mut device = two_paths(marginal_last(true));
    for round in 0..3 {
        device.suspect(AssociationId(0), Suspicion::LinkDown, ms(round * 1_000));
        device.clear(AssociationId(0), ms(round * 1_000 + 50));
    }
    assert_eq!(active_paths(&device), [PathId(1)]);
}

/// Suspected and cleared every 60 ms for a second: that is one fault, and holds nothing.
#[test]
fn a_path_that_is_suspected_and_cleared_again_and_again_has_flapped_once() {
    let mut device = two_paths(marginal_last(true));
    for at in (0..1_000).step_by(60) {
        device.suspect(AssociationId(0), Suspicion::KeepAlivesMissed(3), ms(at));
        device.clear(AssociationId(0), ms(at + 30));
    }
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert!(!kinds(&outputs(&mut device)).contains(&"held"));
}

const SLOW: Suspicion = Suspicion::IoSlow(Duration::from_secs(10));

/// mkfs discards a disk on the only path left: one command for 20 seconds.
#[test]
fn a_slow_command_never_takes_the_last_path_from_a_volume() {
    for slow in [SLOW, Suspicion::IoStuck] {
        for marginal in [true, false] {
            let mut device = equal_paths(marginal_last(marginal));
            device.convict(AssociationId(1), Conviction::QueueFailed, ms(10));
            outputs(&mut device);
            device.suspect(AssociationId(0), slow, ms(20));
            assert_eq!(active_paths(&device), [PathId(0)]);
            assert!(device.table().entry(PathId(0)).unwrap().usable);
            assert_eq!(
                kinds(&outputs(&mut device)),
                ["suspected"],
                "the lanes see nothing"
            );
            device.clear(AssociationId(0), ms(30));
            assert_eq!(kinds(&outputs(&mut device)), ["cleared"]);
        }
    }
}

#[test]
fn a_slow_command_on_every_path_takes_none() {
    let mut device = equal_paths(config());
    device.suspect(AssociationId(0), SLOW, ms(10));
    assert_eq!(active_paths(&device), [PathId(1)]);
    device.suspect(AssociationId(1), SLOW, ms(20));
    assert_eq!(active_paths(&device), [PathId(0), PathId(1)]);
}

/// The group moves even where it would not fail back by itself: this is not a matter of taste.
#[test]
fn new_io_keeps_off_a_slow_path_while_another_is_usable() {
    for (marginal, failback) in [
        (true, Failback::Immediate),
        (false, Failback::Immediate),
        (true, Failback::Manual),
    ] {
        let mut device = two_paths(DeviceConfig {
            failback,
            ..marginal_last(marginal)
        });
        device.suspect(AssociationId(0), SLOW, ms(10));
        assert_eq!(active_paths(&device), [PathId(1)]);
        device.suspect(AssociationId(1), Suspicion::LinkDown, ms(20));
        assert_eq!(active_paths(&device), [PathId(0)], "better than none");
        device.clear(AssociationId(0), ms(30));
        device.clear(AssociationId(1), ms(40));
        assert_eq!(active_paths(&device), [PathId(0)]);
    }
}

#[test]
fn a_slow_command_that_is_answered_is_no_flap() {
    let mut device = two_paths(marginal_last(true));
    for round in 0..9 {
        for slow in [SLOW, Suspicion::IoStuck] {
            device.suspect(AssociationId(0), slow, ms(round * 100));
            device.clear(AssociationId(0), ms(round * 100 + 50));
        }
    }
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert!(!kinds(&outputs(&mut device)).contains(&"held"));
}

#[test]
fn a_slow_path_that_goes_silent_too_is_stopped_and_has_flapped_when_it_answers_again() {
    let mut device = two_paths(marginal_last(true));
    device.convict(AssociationId(1), Conviction::QueueFailed, ms(10));
    device.suspect(AssociationId(0), SLOW, ms(20));
    assert_eq!(active_paths(&device), [PathId(0)]);
    for round in 0..3 {
        let now = ms(30 + 1_000 * round);
        device.suspect(AssociationId(0), Suspicion::KeepAlivesMissed(3), now);
        assert_eq!(active_paths(&device), []);
        assert_eq!(device.table().on_no_path, OnNoPath::Queue);
        outputs(&mut device);
        device.suspect(AssociationId(0), SLOW, now);
        assert_eq!(active_paths(&device), [PathId(0)]);
        assert_eq!(kinds(&outputs(&mut device)).contains(&"held"), round == 2);
    }
}

#[test]
fn a_path_taken_away_by_request_did_not_flap() {
    let mut device = two_paths(marginal_last(true));
    for round in 0..5 {
        device.remove_path(PathId(0), ms(round));
        device
            .add_path(PathId(0), PathConfig::default(), ms(round))
            .unwrap();
        device.path_ready(
            PathId(0),
            ready(100 + round, AnaState::Optimized),
            ms(round),
        );
    }
    assert_eq!(active_paths(&device), [PathId(0)]);
}

/// A window in which each path answered 100 times with this latency.
fn window(device: &mut Device, shared: &VolumeShared, latency_us: [u32; 2], now: Duration) {
    for (number, latency_us) in (0..).zip(latency_us) {
        for _ in 0..100 {
            shared.took(0, PathId(number), latency_us * 1_000);
        }
    }
    device.end_window(shared, now);
}

#[test]
fn an_outlier_becomes_the_last_resort() {
    let mut device = equal_paths(marginal_last(true));
    let shared = VolumeShared::new();
    assert_eq!(device.window_ends(), Some(ms(0)));
    for second in 1..=2 {
        window(&mut device, &shared, [300, 30_000], ms(second * 1_000));
        assert_eq!(active_paths(&device).len(), 2, "not before three windows");
    }
    window(&mut device, &shared, [300, 30_000], ms(3_000));
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert!(kinds(&outputs(&mut device)).contains(&"held"));
}

#[test]
fn the_last_path_is_never_ejected() {
    let mut device = equal_paths(marginal_last(true));
    let shared = VolumeShared::new();
    for second in 1..=4 {
        window(&mut device, &shared, [300, 30_000], ms(second * 1_000));
    }
    for second in 5..20 {
        window(&mut device, &shared, [90_000, 300], ms(second * 1_000));
    }
    assert_eq!(active_paths(&device), [PathId(0)]);
}

#[test]
fn paths_of_another_class_are_not_compared() {
    let mut device = two_paths(marginal_last(true));
    let shared = VolumeShared::new();
    for second in 1..=9 {
        window(&mut device, &shared, [30_000, 300], ms(second * 1_000));
    }
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert_eq!(outputs(&mut device), []);
}

#[test]
fn fast_io_fail_is_how_long_a_lost_path_is_waited_for() {
    let mut device = two_paths(DeviceConfig {
        no_path: NoPath::Fail,
        fast_io_fail: ms(5_000),
        ..config()
    });
    device.convict(AssociationId(1), Conviction::QueueFailed, ms(1_000));
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(2_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Queue, "it may return");
    let until = device.poll_timeout();
    assert_eq!(until, Some(ms(6_000)));
    device.handle_timeout(ms(6_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Queue, "the other may");
    device.handle_timeout(ms(7_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
}

/// Calls `handle_timeout` whenever the device asks for it until `until`, and holds it to what it
/// promises of the next time. How often it asked.
fn run(device: &mut Device, until: Duration) -> usize {
    let mut calls = 0;
    while let Some(now) = device.poll_timeout().filter(|now| *now <= until) {
        device.handle_timeout(now);
        let due = device.poll_timeout();
        assert!(due.is_none_or(|due| due > now), "{due:?} at {now:?}");
        calls += 1;
    }
    calls
}

#[test]
fn a_hope_that_has_run_out_is_not_due_while_there_is_another() {
    let mut device = lost_one_after_the_other();
    assert_eq!(run(&mut device, ms(8_999)), 1);
    assert_eq!(device.table().on_no_path, OnNoPath::Queue);
    run(&mut device, ms(9_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
}

#[test]
fn a_transition_that_lasts_too_long_is_not_due_while_another_is_waited_for() {
    let mut device = changing_for_too_long();
    assert_eq!(run(&mut device, ms(60_000)), 2);
}

#[test]
fn what_was_flushed_with_the_last_path_does_not_expire_as_well() {
    let mut device = flushed_with_the_last_path();
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
    assert_eq!(run(&mut device, ms(60_000)), 0);
    assert_eq!(outputs(&mut device), []);
}

#[test]
fn a_failback_that_was_waited_for_is_forgotten_with_its_policy() {
    let after = Failback::After(ms(5_000));
    let mut device = two_paths(DeviceConfig {
        failback: after,
        ..config()
    });
    device.suspect(AssociationId(0), Suspicion::LinkDown, ms(10));
    device.clear(AssociationId(0), ms(20));
    assert_eq!(device.poll_timeout(), Some(ms(5_020)));
    let manual = DeviceConfig {
        failback: Failback::Manual,
        ..config()
    };
    device.set_config(manual, ms(30));
    assert_eq!(run(&mut device, ms(60_000)), 0);
}

#[test]
fn a_path_failed_by_hand_carries_nothing_until_it_is_reinstated() {
    let mut device = two_paths(config());
    device.fail_path(PathId(0), ms(10)).unwrap();
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["path_failed", "group_switched", "publish"]
    );
    assert_eq!(active_paths(&device), [PathId(1)]);
    // Not even a new association helps.
    device.path_ready(PathId(0), ready(9, AnaState::Optimized), ms(20));
    assert_eq!(active_paths(&device), [PathId(1)]);
    outputs(&mut device);
    device.reinstate_path(PathId(0), ms(30)).unwrap();
    assert_eq!(
        kinds(&outputs(&mut device)),
        ["path_reinstated", "failed_back", "publish"]
    );
    assert_eq!(
        device.fail_path(PathId(7), ms(40)),
        Err(Unchanged::NoPath(PathId(7)))
    );
}

#[test]
fn the_last_path_failed_by_hand_leaves_no_path() {
    let mut device = two_paths(DeviceConfig {
        no_path: NoPath::Fail,
        ..config()
    });
    device.fail_path(PathId(0), ms(10)).unwrap();
    device.fail_path(PathId(1), ms(10)).unwrap();
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
    assert!(kinds(&outputs(&mut device)).contains(&"no_path"));
}

#[test]
fn reinstating_a_path_pardons_its_faults() {
    let mut device = two_paths(marginal_last(true));
    let now = flap(&mut device, 3);
    assert_eq!(active_paths(&device), [PathId(1)]);
    device.reinstate_path(PathId(0), now).unwrap();
    assert_eq!(active_paths(&device), [PathId(0)]);
    let view = device.paths().next().unwrap();
    assert_eq!(view.standing, Standing::Sound);
}

#[test]
fn preferring_a_path_regroups_at_once() {
    let mut device = equal_paths(DeviceConfig {
        ranking: Ranking {
            exclusive_pref_bit: true,
            ..Ranking::default()
        },
        ..config()
    });
    assert_eq!(active_paths(&device).len(), 2);
    device.prefer(PathId(1), true, ms(10)).unwrap();
    assert_eq!(active_paths(&device), [PathId(1)]);
    assert_eq!(device.table().groups[0].priority, 130);
    device.prefer(PathId(1), false, ms(20)).unwrap();
    assert_eq!(active_paths(&device).len(), 2);
}

#[test]
fn a_group_chosen_by_hand_carries_the_io_although_failback_is_immediate() {
    let mut device = two_paths(config());
    device.switch_group(1, ms(10)).unwrap();
    assert_eq!(active_paths(&device), [PathId(1)]);
    assert_eq!(kinds(&outputs(&mut device)), ["group_chosen", "publish"]);
    device.ana(PathId(1), AnaState::NonOptimized, ms(20));
    assert_eq!(active_paths(&device), [PathId(1)], "it stays");
    device.switch_group(0, ms(30)).unwrap();
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert_eq!(device.switch_group(2, ms(40)), Err(Unchanged::NoGroup(2)));
    device.suspect(AssociationId(1), Suspicion::LinkDown, ms(50));
    let refused = device.switch_group(1, ms(60));
    assert_eq!(refused, Err(Unchanged::GroupUnusable));
}

#[test]
fn selector_and_grouping_change_while_io_runs() {
    let mut device = two_paths(config());
    let mut other = DeviceConfig {
        grouping: Grouping::Multibus,
        ..config()
    };
    other.selector.kind = SelectorKind::ServiceTime;
    other.ranking.prioritizer = Prioritizer::Const;
    device.set_config(other, ms(10));
    assert_eq!(kinds(&outputs(&mut device)), ["policy_changed", "publish"]);
    assert_eq!(active_paths(&device).len(), 2);
    assert_eq!(device.table().selector.kind, SelectorKind::ServiceTime);
}

#[test]
fn ana_change_storms_end_in_the_last_state() {
    let mut device = two_paths(config());
    for round in 0..1_000 {
        let state = match round % 4 {
            0 => AnaState::Change,
            1 => AnaState::Inaccessible,
            2 => AnaState::NonOptimized,
            _ => AnaState::Optimized,
        };
        device.ana(PathId(0), state, ms(round));
        assert!(!active_paths(&device).is_empty(), "the other path is there");
        outputs(&mut device);
    }
    assert_eq!(active_paths(&device), [PathId(0)]);
    let before = device.table().generation;
    device.ana(PathId(0), AnaState::Optimized, ms(2_000));
    assert_eq!(device.table().generation, before, "no news, no table");
}

#[test]
fn a_transition_is_waited_for_until_anatt_is_over() {
    let mut device = two_paths(DeviceConfig {
        no_path: NoPath::Fail,
        ..config()
    });
    device.convict(AssociationId(1), Conviction::QueueFailed, ms(5));
    device.ana_terms(PathId(0), 1, ms(10_000), ms(10));
    device.ana(PathId(0), AnaState::Change, ms(1_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Queue);
    device.ana(PathId(0), AnaState::Change, ms(5_000));
    assert_eq!(
        device.poll_timeout(),
        Some(ms(11_000)),
        "counted from the first"
    );
    device.handle_timeout(ms(11_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
    device.ana(PathId(0), AnaState::Optimized, ms(12_000));
    assert_eq!(active_paths(&device), [PathId(0)]);
}

#[test]
fn a_namespace_in_another_ana_group_stands_in_another_path_group() {
    let mut device = equal_paths(DeviceConfig {
        grouping: Grouping::ByAnaGroup,
        ..config()
    });
    assert_eq!(device.table().groups.len(), 1);
    device.ana_terms(PathId(1), 7, ms(10_000), ms(10));
    assert_eq!(device.table().groups.len(), 2);
    assert_eq!(active_paths(&device), [PathId(0)]);
}

#[test]
fn flush_on_last_del_fails_what_waits_when_the_last_path_is_removed() {
    let lose_both = |flush_on_last_del| {
        let mut device = two_paths(DeviceConfig {
            flush_on_last_del,
            ..config()
        });
        device.convict(AssociationId(0), Conviction::QueueFailed, ms(1));
        device.convict(AssociationId(1), Conviction::QueueFailed, ms(1));
        device.remove_path(PathId(0), ms(2));
        assert_eq!(device.table().on_no_path, OnNoPath::Queue, "one is left");
        device.remove_path(PathId(1), ms(3));
        device
    };
    assert_eq!(lose_both(false).table().on_no_path, OnNoPath::Queue);
    let mut device = lose_both(true);
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
    device
        .add_path(PathId(0), PathConfig::default(), ms(4))
        .unwrap();
    assert_eq!(device.table().on_no_path, OnNoPath::Queue, "as before");
    let new = Device::new(
        DeviceConfig {
            flush_on_last_del: true,
            ..config()
        },
        ms(0),
    );
    let waits = new.table().on_no_path;
    assert_eq!(waits, OnNoPath::Queue, "a volume waits for its first path");
}

#[test]
fn usable_is_live_accessible_not_suspect_not_failed_by_hand() {
    let usable = |change: fn(&mut Device)| {
        let mut device = two_paths(config());
        change(&mut device);
        let view = device.paths().find(|path| path.path == PathId(0));
        view.is_some_and(|path| path.usable)
    };
    assert!(usable(|_| {}));
    assert!(usable(|d| d.ana(PathId(0), AnaState::NonOptimized, ms(9))));
    assert!(!usable(|d| d.ana(PathId(0), AnaState::Inaccessible, ms(9))));
    assert!(!usable(|d| d.ana(
        PathId(0),
        AnaState::PersistentLoss,
        ms(9)
    )));
    assert!(!usable(|d| d.ana(PathId(0), AnaState::Change, ms(9))));
    assert!(!usable(|d| d.suspect(
        AssociationId(0),
        Suspicion::LinkDown,
        ms(9)
    )));
    assert!(!usable(|d| d.convict(
        AssociationId(0),
        Conviction::LinkDown,
        ms(9)
    )));
    assert!(!usable(|d| d.retire_path(PathId(0), ms(9))));
    assert!(!usable(|d| d.fail_path(PathId(0), ms(9)).unwrap()));
}

#[test]
fn the_defaults_are_immediate_failback_by_priority_and_latency() {
    assert_eq!(Failback::default(), Failback::Immediate);
    assert_eq!(Grouping::default(), Grouping::ByPriority);
    assert_eq!(SelectorConfig::default().kind, SelectorKind::Latency);
    assert_eq!(SelectorConfig::default().rr_min_io, 1);
    assert_eq!(NoPath::default(), NoPath::Queue);
}
