//! What crosses on its way, and what happens before anything else: found by the simulator.

use std::collections::BTreeMap;

use umpath_core::{AssociationId, LaneEvent, OnNoPath};
use umpath_host::order::{Answer, Verb};
use umpath_host::policy::{NoPathRetry, VolumePolicy};
use umpath_host::{LaneNews, Report, Request};
use umpath_nvme::Status;
use umpath_protocol::{DisconnectTarget, Reply, Steer};

use super::adoption::{killed, taken_over_with_no_path_retry_fail, waits};
use super::rig::{Failing, Rig, ms};
use super::sample::{asked, id, namespace, policy};
use super::trouble::being_dropped;

/// The policy was set after the first table was published, and requests that had waited for a
/// server failed under that one.
#[test]
fn no_table_of_a_volume_taken_over_fails_requests_before_its_first_path() {
    let fail = VolumePolicy {
        no_path_retry: NoPathRetry::Fail,
        ..policy()
    };
    let mut rig = Rig::with(fail, killed());
    rig.settle();
    rig.advance(ms(1_000));
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let first = rig.published.iter().position(|table| table.has_usable());
    // Without a table queue threads let everything wait.
    for table in &rig.published[..first.unwrap()] {
        assert_eq!(table.on_no_path, OnNoPath::Queue, "{table:?}");
    }
}

/// A path came back by a timer after the windows had been checked: the end of a window that was
/// over long ago was asked for, and the host spun.
#[test]
fn a_path_that_a_timer_brings_back_asks_for_no_window_that_is_over() {
    let mut rig = Rig::new();
    for path in 1..=2 {
        rig.want(asked(path as u8), true);
        rig.up(path, &[namespace(1, 1, 1_000)]);
    }
    rig.advance(ms(100));
    let association = rig.association_of(2);
    let event = LaneEvent::AnaStatus {
        path: umpath_core::PathId(1),
        association,
        status: Status::ANA_INACCESSIBLE,
    };
    let at = rig.now;
    let news = LaneNews::Event { event, at };
    rig.news(id(1), 0, news);
    assert_eq!(rig.usable(id(1)), 1);
    rig.advance(ms(2_000));
    assert_eq!(rig.usable(id(1)), 2);
}

/// Two volumes over one path; the first is removed while the path stays, and its queue pairs are
/// not destroyed yet when its namespace is asked for again.
fn successor_of_a_volume_whose_queue_pairs_are_leaving() -> Rig {
    let mut rig = Rig::new();
    rig.want(asked(1), true);
    rig.up(1, &[namespace(1, 1, 1_000), namespace(2, 2, 500)]);
    assert_eq!((rig.usable(id(1)), rig.usable(id(2))), (1, 1));
    rig.late.destructions = true;
    let call = rig.call();
    let target = DisconnectTarget::Device("ublkb0".to_owned());
    let verb = Verb::Disconnect {
        target,
        force: false,
    };
    rig.host.handle_verb(call, verb, rig.now);
    rig.settle();
    let reply = rig.answers.remove(&call);
    let gone = matches!(reply, Some(Answer::Reply(Reply::Disconnected { .. })));
    assert!(gone, "{reply:?}");
    rig.want(asked(1), true);
    assert_eq!(rig.made, 3, "it is made anew");
    rig
}

/// The queue threads of the new volume were told of the end of queue pairs that others had handed
/// back, which they assert not to happen.
#[test]
fn a_destroyed_queue_pair_is_reported_to_no_successor_of_its_queue_thread() {
    let mut rig = successor_of_a_volume_whose_queue_pairs_are_leaving();
    rig.finish_late();
    assert_eq!(rig.freed, []);
}

/// The fence counts queue pairs by their names, and two had the same: the new volume had to wait.
#[test]
fn a_volume_does_not_wait_for_the_queue_pairs_of_its_predecessor_but_the_fence_does() {
    let mut rig = successor_of_a_volume_whose_queue_pairs_are_leaving();
    let association = rig.association_of(1);
    let opens = |(_, request): &(u32, Request)| matches!(request, Request::OpenQueues(..));
    assert!(rig.requests.iter().any(opens));
    rig.report(1, Report::Queues(association, vec![5, 6]));
    assert_eq!(rig.usable(id(1)), 1);
    rig.lose(1, association);
    rig.advance(ms(60_000));
    assert!(rig.disk.associations.contains_key(&association.0));
    rig.finish_late();
    rig.advance(ms(10_000));
    assert!(!rig.disk.associations.contains_key(&association.0));
}

/// Counters were asked of its queue threads, and the answer of `umpath show stats` waited for them.
#[test]
fn a_dropped_volume_is_asked_nothing() {
    let mut rig = being_dropped();
    let call = rig.call();
    rig.host.handle_verb(call, Verb::Stats, rig.now);
    rig.settle();
    match rig.answers.remove(&call) {
        Some(Answer::Reply(Reply::Stats(listing))) => assert!(listing.volumes.is_empty()),
        other => panic!("{other:?}"),
    }
}

/// The path that an operator connected had nothing to serve yet, and was ended: the volume that
/// waited for the driver would have needed it.
#[test]
fn a_path_stays_for_a_volume_that_waits_to_be_taken_over() {
    let failing = Failing {
        build: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    let call = rig.want(asked(3), false);
    rig.up(3, &[namespace(1, 1, 1_000)]);
    let failure = rig.path_answer(call).unwrap().unwrap_err();
    assert_eq!(failure.what, "volume vol1 cannot be served yet");
    let ended = |(_, request): &(u32, Request)| matches!(request, Request::Shutdown);
    assert!(!rig.requests.iter().any(ended), "{:?}", rig.requests);
    rig.failing.build = false;
    rig.advance(ms(6_000));
    assert_eq!(rig.usable(id(1)), 1);
}

fn set(rig: &mut Rig, key: &str, value: &str) {
    let policies = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let volume = None;
    let call = rig.call();
    let verb = Verb::Steer(Steer::Set { volume, policies });
    rig.host.handle_verb(call, verb, rig.now);
    rig.settle();
    let reply = rig.answers.remove(&call);
    let done = matches!(reply, Some(Answer::Reply(Reply::Done(_))));
    assert!(done, "{reply:?}");
}

/// Any `umpath set` ended the wait for the paths a volume had.
#[test]
fn another_policy_does_not_end_the_wait_for_a_first_path() {
    let mut rig = taken_over_with_no_path_retry_fail();
    set(&mut rig, "rr_min_io", "7");
    assert!(waits(&rig), "the paths are still being connected");
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let association = rig.association_of(1);
    rig.lose(1, association);
    assert!(!waits(&rig), "afterwards the policy counts");
    let mut rig = taken_over_with_no_path_retry_fail();
    set(&mut rig, "no_path_retry", "3");
    set(&mut rig, "no_path_retry", "fail");
    assert!(!waits(&rig), "an operator has decided");
}

/// A volume over two paths, whose queue threads are slow to answer, and the association of a third path
/// that serves nothing yet.
fn slow_counters() -> (Rig, AssociationId) {
    let mut rig = Rig::new();
    for path in 1..=2 {
        rig.want(asked(path as u8), true);
        rig.up(path, &[namespace(1, 1, 1_000)]);
    }
    rig.want(asked(3), true);
    let third = rig.up(3, &[]);
    rig.late.counters = true;
    (rig, third)
}

/// The volume is removed, and made again over the third path.
fn made_again(rig: &mut Rig, third: AssociationId) {
    rig.disconnect(DisconnectTarget::Device("ublkb0".to_owned()), true);
    assert!(rig.disk.volumes.is_empty());
    rig.report(3, Report::Namespaces(third, vec![namespace(1, 1, 1_000)]));
    rig.want(asked(3), true);
    assert_eq!((rig.made, rig.usable(id(1))), (2, 1));
}

/// Its answers were awaited of the next volume of the namespace, which nobody had asked.
#[test]
fn a_path_being_removed_waits_for_no_successor_of_a_volume() {
    let (mut rig, third) = slow_counters();
    rig.disconnect(DisconnectTarget::Path("1".to_owned()), false);
    made_again(&mut rig, third);
    rig.advance(ms(100));
    let ends = |request: &(u32, Request)| matches!(request, (1, Request::Shutdown));
    assert!(rig.requests.iter().any(ends), "{:?}", rig.requests);
}

#[test]
fn counters_are_awaited_of_no_successor_of_a_volume() {
    let (mut rig, third) = slow_counters();
    let call = rig.call();
    rig.host.handle_verb(call, Verb::Stats, rig.now);
    made_again(&mut rig, third);
    rig.advance(ms(20));
    match rig.answers.remove(&call) {
        Some(Answer::Reply(Reply::Stats(listing))) => assert!(listing.volumes.is_empty()),
        other => panic!("{other:?}"),
    }
}

/// The users of the removed volume were still being looked for: its successor went too.
#[test]
fn a_removal_does_not_take_the_successor_of_a_volume() {
    let mut rig = Rig::new();
    rig.want(asked(1), true);
    rig.up(1, &[namespace(1, 1, 1_000), namespace(2, 2, 1_000)]);
    rig.late.users = true;
    let call = rig.disconnect(DisconnectTarget::Device("ublkb0".to_owned()), false);
    rig.disconnect(DisconnectTarget::Device("ublkb0".to_owned()), true);
    rig.want(asked(1), true);
    assert_eq!(rig.made, 3, "it is made again");
    rig.finish_late();
    assert!(rig.answers.contains_key(&call), "nothing is left of it");
    assert_eq!(rig.disk.volumes.len(), 2);
}

/// A volume that is taken over while its users are looked for is the one that was meant.
#[test]
fn a_volume_that_is_taken_over_meanwhile_is_removed() {
    let failing = Failing {
        build: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.settle();
    rig.late.users = true;
    let call = rig.disconnect(DisconnectTarget::Device("vol1".to_owned()), false);
    rig.failing.build = false;
    rig.advance(ms(6_000));
    rig.finish_late();
    match rig.answers.remove(&call) {
        Some(Answer::Reply(Reply::Disconnected { deleted, .. })) => {
            assert_eq!(deleted, ["/dev/ublkb0"]);
        }
        other => panic!("{other:?}"),
    }
}

/// A second path was refused while the volume was dropped: it waited for its own time, or was ended where
/// somebody had connected it by hand.
#[test]
fn a_namespace_whose_volume_is_being_dropped_is_tried_again_after_that() {
    let mut rig = being_dropped();
    rig.failing.register = false;
    let call = rig.want(asked(2), false);
    rig.up(2, &[namespace(1, 1, 1_000)]);
    let refused = rig.path_answer(call).unwrap().unwrap_err();
    assert!(refused.why.contains("is being removed"), "{refused}");
    let ends = |(_, request): &(u32, Request)| matches!(request, Request::Shutdown);
    assert!(!rig.requests.iter().any(ends), "{:?}", rig.requests);
    rig.finish_late();
    assert_eq!((rig.made, rig.usable(id(1))), (2, 1));
}

/// A volume that cannot be used is dropped, and what dropped it is not tried again before its time.
#[test]
fn a_namespace_that_cannot_be_used_is_not_tried_again_at_once() {
    let mut rig = Rig::new();
    rig.failing.register = true;
    for path in 1..=2 {
        rig.want(asked(path), true);
        rig.up(path.into(), &[namespace(1, 1, 1_000)]);
    }
    rig.advance(ms(10_000));
    assert!(rig.made < 16, "{} block devices were made", rig.made);
}
