//! Paths that are being removed get nothing more to do.

use umpath_core::Ghost;
use umpath_host::order::Answer;
use umpath_host::{Found, Report, Request};
use umpath_protocol::{DisconnectTarget, Failure, Reply};
use umpath_session::ControllerFacts;

use super::rig::{Failing, Rig, ms};
use super::sample::{asked, facts, id, namespace, policy};

fn path(number: u32) -> DisconnectTarget {
    DisconnectTarget::Path(number.to_string())
}

/// A volume over two configured paths.
fn two_paths() -> Rig {
    let mut rig = Rig::new();
    for number in 1..=2 {
        rig.want(asked(number as u8), true);
        rig.up(number, &[namespace(1, 1, 1_000)]);
    }
    rig
}

/// The memory of a volume that was being made when its only path was removed used to be registered
/// with the association that was being released.
#[test]
fn a_volume_in_the_making_is_dropped_with_its_only_path() {
    let mut rig = Rig::new();
    rig.late.builds = true;
    let call = rig.want(asked(1), true);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.disconnect(path(1), false);
    rig.finish_late();
    rig.report(1, Report::Ended);
    let failure = rig.path_answer(call).unwrap().unwrap_err();
    assert_eq!(failure.what, "the path was removed");
    assert!(rig.snapshot().volumes.is_empty());
    // The next one is not taken for it.
    rig.want(asked(1), true);
    let next = rig.specs.last().unwrap().id;
    rig.up(next, &[namespace(1, 1, 1_000)]);
    assert_eq!((rig.made, rig.usable(id(1))), (2, 1));
}

/// Nobody retired the path in a volume that was attached while the path waited for the commands of
/// another one: that volume lost it with its commands in flight.
#[test]
fn nothing_is_attached_to_a_path_that_is_being_removed() {
    let mut rig = two_paths();
    let first = rig.association_of(1);
    rig.late.builds = true;
    let list = vec![namespace(1, 1, 1_000), namespace(2, 2, 1_000)];
    rig.report(1, Report::Namespaces(first, list));
    rig.late.counters = true;
    rig.disconnect(path(1), false);
    rig.finish_late();
    rig.report(1, Report::Queues(first, vec![3, 4]));
    assert_eq!(rig.usable(id(2)), 0);
    rig.advance(ms(11_000));
    assert_eq!(rig.usable(id(1)), 1);
}

/// A write between the count and the queue thread's new table used to be cut off.
#[test]
fn a_path_is_released_when_every_queue_thread_has_confirmed_that_it_sends_nothing_there() {
    let mut rig = two_paths();
    let first = rig.association_of(1);
    rig.late.counters = true;
    rig.disconnect(path(1), false);
    assert_eq!(rig.usable(id(1)), 1);
    rig.advance(ms(5_000));
    assert!(!rig.convicted.contains(&first));
    rig.finish_late();
    rig.advance(ms(10));
    assert!(rig.convicted.contains(&first));
}

/// Writes that overlap with those used to wait for several times KATO.
#[test]
fn a_survivor_is_asked_to_reset_a_controller_that_was_removed_with_writes_in_flight() {
    let mut rig = Rig::new();
    for number in 1..=2 {
        rig.want(asked(number as u8), true);
        let able = ControllerFacts {
            ccr_limit: 1,
            cirn: 77,
            ..facts(number as u16)
        };
        rig.up_with(number, able, &[namespace(1, 1, 1_000)]);
    }
    let survivor = rig.association_of(2);
    rig.ghosts = vec![Ghost::of_everything(rig.association_of(1))];
    rig.disconnect(path(1), false);
    rig.advance(ms(20));
    let asks = |(path, request): &(u32, Request)| {
        let Request::ResetOther(association, lost) = request else {
            return false;
        };
        (*path, *association, lost.cntlid) == (2, survivor, 1)
    };
    assert!(rig.requests.iter().any(asks));
}

/// Each attempt used to leave the memory of its queue threads registered, until none was left.
#[test]
fn a_volume_that_is_dropped_leaves_no_memory_registered() {
    let mut rig = Rig::new();
    rig.want(asked(1), true);
    let association = rig.up(1, &[namespace(1, 1, 1_000)]);
    let list = vec![namespace(1, 1, 1_000), namespace(2, 2, 1_000)];
    rig.report(1, Report::Namespaces(association, list));
    assert!(rig.has_memory_on(id(2), association));
    rig.report(1, Report::Queues(association, Vec::new()));
    assert!(rig.has_memory_on(id(1), association) && rig.registered.len() == 1);
}

/// A volume in use needs its paths also before they serve it. Whoever stopped the process while they
/// were connecting was left with a file system that could not be unmounted.
#[test]
fn a_stop_takes_no_path_that_a_volume_in_use_may_need() {
    let mut rig = two_paths();
    let mut rig = Rig::with(policy(), std::mem::take(&mut rig.disk));
    rig.settle();
    rig.used = true;
    rig.host.handle_stop(rig.now);
    rig.advance(ms(5_000));
    let ends = |request: &(u32, Request)| matches!(request.1, Request::Shutdown);
    assert!(!rig.requests.iter().any(ends));
    rig.up(1, &[namespace(1, 1, 1_000)]);
    assert_eq!(rig.usable(id(1)), 1);
    rig.used = false;
    rig.advance(ms(2_000));
    rig.report(1, Report::Ended);
    rig.advance(ms(2_000));
    assert!(matches!(rig.requests.last(), Some((2, Request::Shutdown))));
    rig.report(2, Report::Ended);
    assert!(rig.host.is_over());
}

/// Another volume's path that was never up stayed on record, and came back with the next process.
#[test]
fn a_path_that_was_removed_by_hand_before_it_was_up_is_gone_from_the_records() {
    let mut rig = two_paths();
    let mut rig = Rig::with(policy(), std::mem::take(&mut rig.disk));
    rig.settle();
    rig.up(1, &[namespace(1, 1, 1_000)]);
    assert_eq!(rig.disk.volumes[&id(1)].paths.len(), 2);
    rig.disconnect(path(2), false);
    rig.report(2, Report::Ended);
    let paths = &rig.disk.volumes[&id(1)].paths;
    assert_eq!(paths.len(), 1);
    assert_eq!(paths[0].portal, asked(1).portal);
}

/// It used to be listed as well, although nobody served it any more.
#[test]
fn a_device_that_was_stopped_and_not_deleted_is_deleted_later() {
    let mut rig = two_paths();
    rig.failing.delete = true;
    let call = rig.disconnect(DisconnectTarget::Device("vol1".to_owned()), false);
    assert!(rig.snapshot().volumes.is_empty());
    assert!(rig.disk.volumes.contains_key(&id(1)), "for a successor");
    rig.advance(ms(1_000));
    for number in 1..=2 {
        rig.report(number, Report::Ended);
    }
    match rig.answers.remove(&call) {
        Some(Answer::Reply(Reply::Disconnected { deleted, .. })) => assert!(deleted.is_empty()),
        other => panic!("{other:?}"),
    }
    // Nothing takes its place on disk.
    let call = rig.want(asked(3), false);
    let number = rig.specs.last().unwrap().id;
    rig.up(number, &[namespace(1, 1, 1_000)]);
    let refused = rig.path_answer(call).unwrap().unwrap_err();
    assert!(refused.why.contains("not deleted yet"), "{refused:?}");
    assert_eq!(rig.made, 1);
    rig.failing.delete = false;
    // The path is still there, and is used as soon as it can be.
    rig.want(asked(3), false);
    assert_eq!((rig.made, rig.usable(id(1))), (2, 1));
    assert_eq!(rig.disk.volumes[&id(1)].device, 1);
}

/// Deleting it used to wait, on the host's own thread, for whoever had it open; a failure was
/// forgotten.
#[test]
fn a_dead_device_of_an_earlier_process_is_deleted_when_that_is_possible() {
    let disk = two_paths().disk;
    let record = disk.volumes[&id(1)].clone();
    let mut rig = Rig::new();
    rig.disk.volumes.insert(id(1), record.clone());
    rig.failing.delete = true;
    let now = rig.now;
    let adopted = rig.host.handle_recorded_volume(record, Found::Dead, now);
    rig.settle();
    assert!(!adopted);
    rig.advance(ms(20_000));
    assert!(rig.disk.volumes.contains_key(&id(1)));
    rig.failing.delete = false;
    rig.advance(ms(5_000));
    assert!(rig.disk.volumes.is_empty());
    assert_eq!(rig.host.poll_timeout(), None);
}

/// A process that takes a volume over which the driver does not speak of, with a path that is up.
fn unrecovered() -> Rig {
    let failing = Failing {
        driver: true,
        ..Failing::default()
    };
    let disk = two_paths().disk;
    let mut rig = Rig::failing(policy(), disk, failing);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig
}

/// It waited until systemd killed it.
#[test]
fn a_stop_leaves_a_volume_that_is_not_taken_over_to_the_next_process() {
    let mut rig = unrecovered();
    let record = rig.disk.volumes[&id(1)].clone();
    rig.host.handle_stop(rig.now);
    rig.settle();
    let ends = |request: &&(u32, Request)| matches!(request.1, Request::Shutdown);
    assert_eq!(rig.requests.iter().filter(ends).count(), 2);
    for number in 1..=2 {
        assert!(!rig.host.is_over());
        rig.report(number, Report::Ended);
    }
    assert!(rig.host.is_over());
    assert_eq!(rig.disk.volumes[&id(1)], record);
    // What the driver says now is for the next process.
    rig.failing.driver = false;
    rig.advance(ms(10_000));
    assert!(rig.tables.is_empty());
    let mut rig = Rig::with(policy(), rig.disk);
    rig.settle();
    rig.up(1, &[namespace(1, 1, 1_000)]);
    assert_eq!((rig.made, rig.usable(id(1))), (0, 1));
}

#[test]
fn a_stop_during_an_attempt_to_take_a_volume_over_ends_with_that() {
    for question in [true, false] {
        let mut rig = unrecovered();
        rig.failing.driver = question;
        rig.failing.build = true;
        rig.late.answers = question;
        rig.late.builds = true;
        rig.advance(ms(6_000));
        rig.host.handle_stop(rig.now);
        rig.settle();
        for number in 1..=2 {
            rig.report(number, Report::Ended);
        }
        assert_eq!(rig.host.is_over(), question, "a takeover is awaited");
        rig.failing.driver = false;
        rig.finish_late();
        assert!(rig.host.is_over());
        assert!(rig.disk.volumes.contains_key(&id(1)));
    }
}

/// The removal said that another request was at work, and to try again.
#[test]
fn a_volume_that_is_not_taken_over_is_removed_by_force() {
    let mut rig = unrecovered();
    let target = || DisconnectTarget::Device("vol1".to_owned());
    let call = rig.disconnect(target(), false);
    match rig.answers.remove(&call) {
        Some(Answer::Reply(Reply::Failed(failure))) => {
            assert!(failure.fix.contains("--force"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    rig.late.answers = true;
    rig.advance(ms(6_000));
    rig.failing.delete = true;
    let call = rig.disconnect(target(), true);
    let answer = rig.answers.remove(&call);
    let done = matches!(answer, Some(Answer::Reply(Reply::Disconnected { .. })));
    assert!(done, "{answer:?}");
    assert!(rig.snapshot().volumes.is_empty());
    assert!(rig.disk.volumes.contains_key(&id(1)), "not deleted yet");
    rig.want(asked(1), true);
    assert_eq!(rig.made, 0, "no second block device");
    // The driver speaks again.
    rig.failing.driver = false;
    rig.failing.delete = false;
    rig.finish_late();
    rig.advance(ms(40_000));
    assert_eq!((rig.made, rig.usable(id(1))), (1, 1), "somebody asked");
    assert_eq!(rig.disk.volumes[&id(1)].device, 0);
}

/// It said that the path was tried again by itself, and ended it.
#[test]
fn whoever_connects_a_path_hears_what_becomes_of_it() {
    for standing in [true, false] {
        let mut rig = Rig::new();
        let call = rig.want(asked(1), standing);
        let failure = Failure::new("cannot connect", "no answer", "check the cable");
        let retry_at = Some(ms(500));
        rig.report(1, Report::Failed { failure, retry_at });
        let first = rig.path_answer(call).unwrap().unwrap_err().fix;
        let mut rig = Rig::new();
        rig.failing.record = true;
        let call = rig.want(asked(1), standing);
        rig.up(1, &[namespace(1, 1, 1_000)]);
        let second = rig.path_answer(call).unwrap().unwrap_err().fix;
        for fix in [first, second] {
            let again = fix.ends_with("it is tried again by itself");
            let given_up = fix.contains("the path is given up");
            assert_eq!((again, given_up), (standing, !standing), "{fix}");
        }
        let ends = |request: &(u32, Request)| matches!(request.1, Request::Shutdown);
        assert_eq!(rig.requests.iter().any(ends), !standing);
    }
}
