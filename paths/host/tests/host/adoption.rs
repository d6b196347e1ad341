//! A process takes over what an earlier one left.

use umpath_core::LaneEvent;
use umpath_host::order::{Answer, Verb};
use umpath_host::policy::NoPathRetry;
use umpath_host::record::{VolumeRecord, judge};
use umpath_host::{Found, LaneNews, Request};
use umpath_protocol::{DisconnectTarget, Reply};
use umpath_session::AnaState;

use super::rig::{Disk, Failing, Rig, ms};
use super::sample::{asked, facts, id, namespace, policy, with_ana};

/// What a process with a volume over two configured paths leaves when it is killed.
pub(super) fn killed() -> Disk {
    let mut rig = Rig::new();
    for path in 1..=2 {
        rig.want(asked(path as u8), true);
        rig.up(path, &[namespace(1, 1, 1_000)]);
    }
    assert_eq!(rig.usable(id(1)), 2);
    rig.disk
}

#[test]
fn paths_have_their_numbers_again_whichever_is_up_first() {
    let disk = killed();
    let mut rig = Rig::with(policy(), disk);
    rig.settle();
    let mut numbers: Vec<_> = rig
        .specs
        .iter()
        .map(|spec| (spec.id, spec.traddr.ip()))
        .collect();
    numbers.sort_unstable();
    let expected = [(1, [10, 0, 0, 1].into()), (2, [10, 0, 0, 2].into())];
    assert_eq!(numbers, expected);
    rig.up(2, &[namespace(1, 1, 1_000)]);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let numbers: Vec<u8> = rig.tables[&id(1)]
        .paths
        .iter()
        .map(|path| path.path.0)
        .collect();
    assert_eq!(numbers, [0, 1], "and their places in the volume");
}

/// The kernel may send requests of a device that is taken over before every queue has its server.
#[test]
fn what_queue_threads_notice_before_all_have_begun_is_not_lost() {
    let failing = Failing {
        build: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.failing.build = false;
    rig.late.builds = true;
    rig.advance(ms(5_000));
    let at = rig.now;
    let event = LaneEvent::QueueingStarted;
    rig.news(id(1), 0, LaneNews::Event { event, at });
    rig.finish_late();
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let noticed = |kind: &str| rig.events().iter().any(|(known, _)| known == kind);
    assert!(noticed("queueing_started"), "{:?}", rig.events());
}

#[test]
fn numbers_are_reserved_in_the_order_of_the_configuration() {
    let mut rig = Rig::new();
    let first = rig.host.reserve(&asked(7));
    let second = rig.host.reserve(&asked(3));
    rig.want(asked(3), true);
    rig.want(asked(7), true);
    let ids: Vec<u32> = rig.specs.iter().map(|spec| spec.id).collect();
    assert_eq!(ids, [second, first]);
}

#[test]
fn a_path_that_is_down_during_one_restart_is_known_to_the_next() {
    let mut disk = killed();
    for _ in 0..3 {
        let mut rig = Rig::with(policy(), disk);
        rig.settle();
        rig.up(1, &[namespace(1, 1, 1_000)]);
        assert_eq!(rig.usable(id(1)), 1);
        disk = rig.disk;
        assert_eq!(disk.volumes[&id(1)].paths.len(), 2);
    }
}

#[test]
fn a_size_the_array_changed_is_known_to_the_next_process() {
    let mut disk = killed();
    for _ in 0..2 {
        let mut rig = Rig::with(policy(), disk);
        rig.settle();
        for path in 1..=2 {
            rig.up(path, &[namespace(1, 1, 2_000)]);
        }
        assert_eq!(rig.usable(id(1)), 2);
        disk = rig.disk;
        assert_eq!(disk.volumes[&id(1)].namespace.blocks, 2_000);
    }
}

#[test]
fn paths_have_a_queue_for_each_of_the_block_device_s_whatever_is_configured() {
    let mut disk = killed();
    let device = disk.devices.get_mut(&0).unwrap();
    device.1 = 4;
    let mut rig = Rig::with(policy(), disk);
    rig.settle();
    assert!(
        rig.specs
            .iter()
            .all(|spec| spec.session.io_queues_per_namespace == 4)
    );
    rig.up(1, &[namespace(1, 1, 1_000)]);
    assert_eq!(rig.usable(id(1)), 1);
}

#[test]
fn a_device_that_cannot_be_taken_over_yet_is_never_made_anew() {
    let failing = Failing {
        build: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.advance(ms(20_000));
    assert_eq!(rig.made, 0, "no second block device");
    let told = rig.events();
    let told = told.iter().filter(|(kind, _)| kind == "refused").count();
    assert_eq!(told, 1, "said once");
    rig.failing.build = false;
    rig.advance(ms(6_000));
    assert_eq!(rig.usable(id(1)), 1);
    assert_eq!((rig.made, rig.disk.volumes[&id(1)].cookie), (0, 77));
}

/// One queue thread began and ended before the next one failed. It counted as one that had ended in
/// the volume made of the next attempt: it got no tables, and its requests hung.
#[test]
fn threads_of_an_attempt_that_failed_are_not_those_of_the_next() {
    let failing = Failing {
        build: true,
        half_way: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.up(2, &[namespace(1, 1, 1_000)]);
    rig.failing.build = false;
    rig.advance(ms(6_000));
    assert_eq!(rig.usable(id(1)), 2);
    assert_eq!(
        rig.told_tables[&id(1)],
        [0, 1].into(),
        "every queue thread has a table"
    );
    let lost = rig.association_of(1);
    rig.lose(1, lost);
    rig.advance(ms(10_000));
    assert_eq!(rig.usable(id(1)), 1);
    let own: Vec<_> = rig.disk.associations.keys().copied().collect();
    assert_eq!(own, [rig.association_of(2).0], "the lost one was fenced");
}

/// It stayed as it was, with healthy paths, until one of them was lost and came back.
#[test]
fn a_device_taken_over_that_does_not_start_is_started_again() {
    let failing = Failing {
        start: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.advance(ms(20_000));
    let count = |rig: &Rig, word| rig.events().iter().filter(|(kind, _)| kind == word).count();
    assert_eq!(count(&rig, "refused"), 1, "said once: {:?}", rig.events());
    assert_eq!(count(&rig, "volume_recovered"), 0);
    rig.failing.start = false;
    rig.advance(ms(6_000));
    assert_eq!(count(&rig, "volume_recovered"), 1);
    assert_eq!(rig.usable(id(1)), 1);
}

/// The core of the volume is made anew when its device has been taken over, and with it went the word.
#[test]
fn an_operator_s_word_during_a_takeover_counts_after_it() {
    let failing = Failing {
        build: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.settle();
    let (call, volume, on) = (rig.call(), None, false);
    rig.host
        .handle_verb(call, Verb::Queueing { volume, on }, rig.now);
    rig.failing.build = false;
    rig.advance(ms(6_000));
    assert!(rig.tables.contains_key(&id(1)) && !waits(&rig));
}

/// Only a later note named them, and a process that was killed before that left a device in use
/// without any path.
#[test]
fn a_device_is_never_on_record_without_paths() {
    let mut rig = Rig::new();
    rig.failing.rewrite = true;
    for path in 1..=2 {
        rig.want(asked(path), false);
    }
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.up(2, &[namespace(1, 1, 1_000)]);
    let mut rig = Rig::with(policy(), rig.disk);
    rig.settle();
    let numbers: Vec<u32> = rig.specs.iter().map(|spec| spec.id).collect();
    assert_eq!(numbers, [1, 2]);
}

/// A process that cannot ask the driver when it starts.
fn started_blind() -> Rig {
    let failing = Failing {
        driver: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.want(asked(1), true);
    rig
}

/// Nobody asked the driver again: the configured path then made a second block device for a mounted
/// namespace, and overwrote the record of the first.
#[test]
fn a_device_the_driver_did_not_name_is_asked_for_until_it_is_found() {
    let mut rig = started_blind();
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.advance(ms(20_000));
    assert_eq!(rig.made, 0, "no second block device");
    assert_eq!(rig.usable(id(1)), 0);
    rig.failing.driver = false;
    rig.advance(ms(6_000));
    assert_eq!(rig.usable(id(1)), 1);
    assert_eq!((rig.made, rig.disk.volumes[&id(1)].cookie), (0, 77));
}

#[test]
fn a_device_that_turns_out_to_be_gone_is_made_anew() {
    let mut rig = started_blind();
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.advance(ms(1_000));
    rig.failing.driver = false;
    rig.disk.devices.clear();
    rig.advance(ms(40_000));
    assert_eq!((rig.made, rig.usable(id(1))), (1, 1));
}

/// Its queue pairs were destroyed by then.
#[test]
fn a_path_being_removed_gets_no_volume_that_is_taken_over_meanwhile() {
    let failing = Failing {
        build: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let target = DisconnectTarget::Path("1".to_owned());
    let call = rig.call();
    let force = true;
    rig.host
        .handle_verb(call, Verb::Disconnect { target, force }, rig.now);
    rig.failing.build = false;
    rig.advance(ms(6_000));
    let events = rig.events();
    assert!(events.iter().any(|(kind, _)| kind == "volume_recovered"));
    let opens = |(_, request): &(u32, Request)| matches!(request, Request::OpenQueues(..));
    assert!(!rig.requests.iter().any(opens), "{:?}", rig.requests);
}

#[test]
fn writes_wait_for_the_fence_of_what_the_last_process_had() {
    let mut rig = Rig::with(policy(), killed());
    rig.settle();
    rig.up(1, &[namespace(1, 1, 1_000)]);
    assert!(rig.events().iter().any(|(kind, _)| kind == "inherited"));
    assert_eq!(rig.disk.associations.len(), 3);
    rig.advance(ms(1_900));
    assert_eq!(rig.disk.associations.len(), 3, "not before the fence");
    rig.advance(ms(2_000));
    assert_eq!(rig.disk.associations.len(), 1, "the new one");
}

pub(super) fn waits(rig: &Rig) -> bool {
    let table = rig.tables.get(&id(1));
    // Without a table a queue thread lets everything wait.
    table.is_none_or(|table| table.on_no_path == umpath_core::OnNoPath::Queue)
}

pub(super) fn taken_over_with_no_path_retry_fail() -> Rig {
    let fail = umpath_host::policy::VolumePolicy {
        no_path_retry: NoPathRetry::Fail,
        ..policy()
    };
    let mut rig = Rig::with(fail, killed());
    rig.settle();
    rig.advance(ms(1_000));
    assert!(waits(&rig), "the paths are being connected");
    rig
}

#[test]
fn requests_wait_for_a_usable_path_and_not_for_an_attached_one() {
    let mut rig = taken_over_with_no_path_retry_fail();
    // A standby whose namespace is inaccessible comes first.
    let (standby, table) = with_ana(1, AnaState::Inaccessible);
    rig.up_as(1, standby, table, &[namespace(1, 1, 1_000)]);
    assert_eq!(rig.usable(id(1)), 0);
    assert!(waits(&rig), "the optimized path is still being connected");
    rig.up(2, &[namespace(1, 1, 1_000)]);
    assert_eq!(rig.usable(id(1)), 1);
    let association = rig.association_of(2);
    rig.lose(2, association);
    assert!(
        !waits(&rig),
        "from the first usable path on the policy counts"
    );
}

#[test]
fn an_operator_s_word_ends_the_wait_for_a_first_path() {
    let mut rig = taken_over_with_no_path_retry_fail();
    let call = rig.call();
    let (volume, on) = (None, false);
    rig.host
        .handle_verb(call, Verb::Queueing { volume, on }, rig.now);
    rig.settle();
    assert!(!waits(&rig));
    let said = ("policy_changed".to_owned(), "queueing off".to_owned());
    assert!(rig.events().contains(&said), "{:?}", rig.events());
}

/// Seed 110580: queueing on ended the wait, so that any policy set after it failed the requests.
#[test]
fn queueing_on_does_not_end_the_wait_for_a_first_path() {
    let mut rig = taken_over_with_no_path_retry_fail();
    let (call, volume, on) = (rig.call(), None, true);
    rig.host
        .handle_verb(call, Verb::Queueing { volume, on }, rig.now);
    let policies = [("no_path_retry".to_owned(), "fail".to_owned())].into();
    let (call, volume) = (rig.call(), None);
    let set = umpath_protocol::Steer::Set { volume, policies };
    rig.host.handle_verb(call, Verb::Steer(set), rig.now);
    rig.settle();
    assert!(waits(&rig));
}

/// The policy came back with the first path, and undid what an operator had said.
#[test]
fn an_operator_s_word_outlives_the_first_path() {
    let mut rig = Rig::with(policy(), killed());
    rig.settle();
    let call = rig.call();
    let (volume, on) = (None, false);
    rig.host
        .handle_verb(call, Verb::Queueing { volume, on }, rig.now);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let association = rig.association_of(1);
    rig.lose(1, association);
    assert!(!waits(&rig), "queueing is off");
}

#[test]
fn a_volume_that_never_gets_a_path_fails_its_requests_when_the_grace_is_over() {
    let mut rig = taken_over_with_no_path_retry_fail();
    rig.advance(ms(31_000));
    assert!(!waits(&rig));
}

#[test]
fn a_device_without_a_record_is_named_and_removed_by_its_number() {
    let mut rig = Rig::new();
    rig.host.handle_orphan(3, ms(0));
    assert_eq!(rig.snapshot().daemon.orphans, ["ublkb3"]);
    let target = || DisconnectTarget::Device("ublkb3".to_owned());
    let mut ask = |force| {
        let call = rig.call();
        let target = target();
        rig.host
            .handle_verb(call, Verb::Disconnect { target, force }, rig.now);
        rig.settle();
        rig.answers.remove(&call)
    };
    assert!(matches!(ask(false), Some(Answer::Reply(Reply::Failed(_)))));
    match ask(true) {
        Some(Answer::Reply(Reply::Disconnected { deleted, .. })) => {
            assert_eq!(deleted, ["/dev/ublkb3"]);
        }
        other => panic!("{other:?}"),
    }
    assert!(rig.snapshot().daemon.orphans.is_empty());
}

#[test]
fn a_cache_that_only_a_later_controller_has_is_flushed() {
    let mut rig = Rig::new();
    rig.want(asked(1), true);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let record = rig.disk.volumes.get_mut(&id(1)).unwrap();
    assert!(
        record.limits.volatile_cache,
        "the kernel sends FLUSH and FUA"
    );
    // A device that an earlier release has made otherwise.
    record.facts.limits.volatile_cache = false;
    let mut rig = Rig::with(policy(), rig.disk);
    rig.settle();
    let cached = umpath_session::ControllerFacts {
        volatile_cache: true,
        ..facts(1)
    };
    rig.up_with(1, cached, &[namespace(1, 1, 1_000)]);
    assert_eq!(rig.usable(id(1)), 0);
    assert!(
        rig.association(1)
            .last_error
            .contains("volatile write cache")
    );
}

/// The driver did not answer when the process began, and the first configured path made a second
/// block device for the namespace, over the record of the one in use.
#[test]
fn a_device_the_driver_says_nothing_of_is_taken_over_once_it_does() {
    let failing = Failing {
        driver: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.want(asked(1), true);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.advance(ms(10_000));
    assert_eq!(rig.made, 0, "no second block device");
    let said = |(kind, words): &(String, String)| kind == "refused" && words.contains("driver");
    let said = rig.events().iter().filter(|event| said(event)).count();
    assert_eq!(said, 1, "{:?}", rig.events());
    rig.failing.driver = false;
    rig.advance(ms(6_000));
    rig.up(2, &[namespace(1, 1, 1_000)]);
    assert_eq!(rig.usable(id(1)), 2);
    assert_eq!((rig.made, rig.disk.volumes[&id(1)].cookie), (0, 77));
}

/// A copy of a volume's file ended the daemon at every start.
#[test]
fn a_copy_of_a_volume_s_file_is_not_taken_over() {
    let record = killed().volumes.remove(&id(1)).unwrap();
    let own = id(1).to_string();
    let files = [own.clone(), format!("{own} (copy)"), "backup".to_owned()];
    let files = files.map(|name| (name, record.clone()));
    let judged = judge(files);
    assert_eq!(judged.in_force, [record]);
    assert!(judged.doubtful.is_empty());
    assert_eq!(judged.copies.len(), 2);
    assert!(
        judged.copies[0].1.contains(&format!("{own}.json")),
        "{:?}",
        judged.copies
    );
}

/// Its namespace would get a second block device, whose record took the place of this one.
#[test]
fn the_only_file_of_a_volume_is_not_passed_over_for_its_name() {
    let record = killed().volumes.remove(&id(1)).unwrap();
    let judged = judge([("backup".to_owned(), record)]);
    assert!(judged.in_force.is_empty() && judged.copies.is_empty());
    assert_eq!(judged.doubtful.len(), 1);
}

/// The requests of its users would go to one namespace or the other.
#[test]
fn a_block_device_that_two_volumes_claim_is_nobody_s() {
    let mut record = killed().volumes.remove(&id(1)).unwrap();
    let first = (id(1).to_string(), record.clone());
    record.facts.id = id(2);
    let second = (id(2).to_string(), record.clone());
    let judged = judge([first.clone(), second]);
    assert!(judged.in_force.is_empty());
    assert_eq!(judged.doubtful.len(), 2);
    // Numbers are given again: the driver knows which of the two is still there.
    record.cookie += 1;
    let judged = judge([first, (id(2).to_string(), record)]);
    assert_eq!(judged.in_force.len(), 2);
}

/// Whatever the shell makes of files: the second device overwrote the first volume, whose takeover was
/// then nobody's.
#[test]
fn a_second_record_of_a_volume_is_refused() {
    for first in [Found::Waiting { queues: 2 }, Found::Unknown, Found::Dead] {
        let disk = killed();
        let record = disk.volumes[&id(1)].clone();
        let mut rig = Rig::new();
        rig.disk = disk;
        let second = VolumeRecord {
            device: record.device + 1,
            ..record.clone()
        };
        for (record, found) in [(record, first), (second, Found::Waiting { queues: 2 })] {
            let now = rig.now;
            let taken = rig.host.handle_recorded_volume(record.clone(), found, now);
            let expected = record.device == 0 && found != Found::Dead;
            assert_eq!(taken, expected, "{found:?}");
        }
        rig.advance(ms(10_000));
        let refused = |(kind, words): &&(String, String)| {
            kind == "refused" && words.starts_with("a second record of volume vol1")
        };
        assert_eq!(rig.events().iter().filter(refused).count(), 1);
    }
}

/// Only the events said it, and called it the making of a block device.
#[test]
fn a_path_shows_that_its_volume_cannot_be_taken_over() {
    let failing = Failing {
        build: true,
        ..Failing::default()
    };
    let mut rig = Rig::failing(policy(), killed(), failing);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let shown = rig.association(1).last_error;
    assert_eq!(
        shown,
        "volume vol1 cannot be served yet: no space left on device"
    );
    let said = |(kind, words): &(String, String)| {
        kind == "refused" && words.starts_with("volume vol1 cannot be taken over: no space")
    };
    assert!(rig.events().iter().any(said), "{:?}", rig.events());
    rig.failing.build = false;
    rig.advance(ms(6_000));
    assert_eq!(rig.association(1).last_error, "");
}
