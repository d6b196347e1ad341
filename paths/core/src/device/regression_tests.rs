//! Regressions: faults found in use, each with the right behaviour.

use umpath_policies::{AnaState, Failback, Ranking};

use super::tests::{active_paths, config, kinds, ms, outputs, ready, two_paths};
use super::*;
use crate::ghost::Owner;
use crate::table::OnNoPath;

/// Both paths are lost, 3 s apart, and each is hoped for during 5 s.
pub(super) fn lost_one_after_the_other() -> Device {
    let mut device = two_paths(DeviceConfig {
        no_path: NoPath::Fail,
        fast_io_fail: ms(5_000),
        ..config()
    });
    device.convict(AssociationId(0), Conviction::LinkDown, ms(1_000));
    device.convict(AssociationId(1), Conviction::LinkDown, ms(4_000));
    outputs(&mut device);
    device
}

/// An array that fails over for longer than it promised, whose controllers said so 3 s apart.
pub(super) fn changing_for_too_long() -> Device {
    let mut device = two_paths(config());
    for path in 0..2 {
        device.ana_terms(PathId(path), 1, ms(10_000), ms(2));
    }
    device.ana(PathId(0), AnaState::Change, ms(1_000));
    device.ana(PathId(1), AnaState::Change, ms(4_000));
    outputs(&mut device);
    device
}

/// The last path was removed, and queueing would have lasted for 2 s.
pub(super) fn flushed_with_the_last_path() -> Device {
    let mut device = two_paths(DeviceConfig {
        flush_on_last_del: true,
        no_path: NoPath::QueueFor(ms(2_000)),
        ..config()
    });
    device.remove_path(PathId(0), ms(1_000));
    device.remove_path(PathId(1), ms(1_000));
    outputs(&mut device);
    device
}

/// When the device asks to be called at a time that is over, although it was called then: whoever
/// serves it would spin.
fn spins(device: &mut Device, from: u64, until: u64) -> Option<u64> {
    for now in (from..until).step_by(50) {
        device.handle_timeout(ms(now));
        outputs(device);
        if device.poll_timeout().is_some_and(|at| at <= ms(now)) {
            return Some(now);
        }
    }
    None
}

#[test]
fn paths_lost_one_after_the_other_under_fast_io_fail_ask_for_no_time_that_is_over() {
    let mut device = lost_one_after_the_other();
    assert_eq!(spins(&mut device, 4_000, 20_000), None);
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
}

#[test]
fn flush_on_last_del_with_a_numeric_no_path_retry_asks_for_no_time_that_is_over() {
    let mut device = flushed_with_the_last_path();
    assert_eq!(spins(&mut device, 1_000, 20_000), None);
}

#[test]
fn transitions_that_last_too_long_ask_for_no_time_that_is_over() {
    let mut device = changing_for_too_long();
    assert_eq!(spins(&mut device, 4_000, 20_000), None);
}

#[test]
fn followover_fails_back_to_a_path_whose_hold_is_over() {
    let mut device = two_paths(DeviceConfig {
        failback: Failback::Followover,
        ranking: Ranking {
            marginal_pathgroups: true,
            ..Ranking::default()
        },
        ..config()
    });
    // The optimized path is lost again and again, until it is held.
    let mut association = 0;
    for round in 0..3 {
        let now = ms(1_000 + 1_000 * round);
        device.convict(AssociationId(association), Conviction::QueueFailed, now);
        association = 100 + round;
        let ready = ready(association, AnaState::Optimized);
        device.path_ready(PathId(0), ready, now + ms(500));
    }
    assert_eq!(active_paths(&device), [PathId(1)]);
    while let Some(at) = device.poll_timeout() {
        device.handle_timeout(at);
    }
    assert_eq!(active_paths(&device), [PathId(0)]);
    assert!(kinds(&outputs(&mut device)).contains(&"failed_back"));
}

#[test]
fn a_conviction_after_a_lane_has_ended_waits_for_the_others_only() {
    let mut device = two_paths(config());
    device.lane_gone(LaneId(0), ms(10));
    device.convict(AssociationId(0), Conviction::QueueFailed, ms(20));
    let ghost = Ghost {
        owner: Some(Owner {
            lane: LaneId(1),
            birth: 1,
        }),
        association: AssociationId(0),
        lba: 0,
        blocks: 8,
    };
    device.lane_drained(AssociationId(0), LaneId(1), vec![ghost], ms(30));
    let generation = device.ghosts().generation();
    device.lane_event(LaneId(1), LaneEvent::Guarded { generation }, ms(31));
    device.order_fenced(AssociationId(0), ms(5_000));
    let kinds = kinds(&outputs(&mut device));
    assert!(kinds.contains(&"fenced"), "{kinds:?}");
}

#[test]
fn queueing_off_fails_at_once_what_fast_io_fail_would_still_hope_for() {
    let mut device = two_paths(DeviceConfig {
        fast_io_fail: ms(30_000),
        no_path: NoPath::Queue,
        ..config()
    });
    device.convict(AssociationId(0), Conviction::LinkDown, ms(1_000));
    device.convict(AssociationId(1), Conviction::LinkDown, ms(1_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Queue);
    assert!(device.is_queueing());
    device.stop_queueing(ms(2_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Fail);
    assert!(!device.is_queueing());
    device.set_no_path(NoPath::Queue, ms(3_000));
    assert_eq!(device.table().on_no_path, OnNoPath::Queue);
}

#[test]
fn a_path_without_an_association_is_neither_tried_nor_sound() {
    let mut device = two_paths(config());
    for round in 0..4 {
        let now = ms(1_000 * round);
        device.convict(AssociationId(10 * round), Conviction::QueueFailed, now);
        let ready = ready(10 * (round + 1), AnaState::Optimized);
        device.path_ready(PathId(0), ready, now + ms(500));
    }
    device.convict(AssociationId(40), Conviction::QueueFailed, ms(5_000));
    outputs(&mut device);
    while let Some(at) = device.poll_timeout() {
        device.handle_timeout(at);
    }
    let kinds = kinds(&outputs(&mut device));
    assert!(
        !kinds.contains(&"probation") && !kinds.contains(&"sound"),
        "{kinds:?}"
    );
}
