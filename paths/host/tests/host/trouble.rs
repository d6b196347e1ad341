//! What is refused is tried again, seen, and never costs more than it must.

use umpath_host::order::{Answer, Verb};
use umpath_host::{Report, Request};
use umpath_protocol::{DisconnectTarget, Reply, Steer};

use umpath_session::StableId;

use super::rig::{Rig, ms};
use super::sample::{NQN, asked, id, namespace};

/// A volume whose memory cannot be registered: it is dropped, and its queue threads have not ended yet.
pub(super) fn being_dropped() -> Rig {
    let mut rig = Rig::new();
    rig.late.ends = true;
    rig.failing.register = true;
    rig.want(asked(1), true);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig
}

/// A volume over two paths.
pub(super) fn two_paths() -> Rig {
    let mut rig = Rig::new();
    for path in 1..=2 {
        let call = rig.want(asked(path as u8), false);
        rig.up(path, &[namespace(1, 1, 1_000)]);
        assert_eq!(rig.path_answer(call).unwrap().unwrap().volumes, ["vol1"]);
    }
    assert_eq!(rig.usable(id(1)), 2);
    rig
}

#[test]
fn an_association_that_could_not_be_recorded_is_used_once_it_is() {
    let mut rig = Rig::new();
    rig.failing.record = true;
    let call = rig.want(asked(1), true);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let refused = rig.path_answer(call).unwrap().unwrap_err();
    assert_eq!(refused.why, "no space left on device");
    assert!(
        rig.association(1).last_error.contains("no space"),
        "an operator sees it"
    );
    assert!(
        rig.tables.is_empty(),
        "nothing is sent on what is not on record"
    );
    rig.advance(ms(10_000));
    rig.failing.record = false;
    rig.advance(ms(2_000));
    assert_eq!(rig.usable(id(1)), 1);
    assert_eq!(rig.association(1).last_error, "");
    let refusals = rig
        .events()
        .iter()
        .filter(|(kind, _)| kind == "refused")
        .count();
    assert_eq!(refusals, 1, "the same refusal is said once");
}

#[test]
fn a_block_device_that_could_not_be_made_is_made_when_the_driver_is_there() {
    let mut rig = Rig::new();
    rig.failing.build = true;
    let call = rig.want(asked(1), true);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    assert!(rig.path_answer(call).unwrap().is_err());
    rig.failing.build = false;
    // Whoever asks again is not told old news.
    let call = rig.want(asked(1), false);
    assert_eq!(rig.path_answer(call).unwrap().unwrap().volumes, ["vol1"]);
}

#[test]
fn memory_that_could_not_be_registered_is_tried_again() {
    let mut rig = two_paths();
    let lost = rig.association_of(2);
    rig.lose(2, lost);
    rig.failing.register = true;
    rig.up(2, &[namespace(1, 1, 1_000)]);
    assert_eq!(rig.usable(id(1)), 1);
    assert!(rig.association(2).last_error.contains("no space"));
    rig.failing.register = false;
    rig.advance(ms(40_000));
    assert_eq!(rig.usable(id(1)), 2);
}

#[test]
fn a_size_is_news_and_not_identity() {
    let mut rig = two_paths();
    let lost = [rig.association_of(1), rig.association_of(2)];
    // The array grows while no path is there.
    rig.lose(1, lost[0]);
    rig.lose(2, lost[1]);
    for path in 1..=2 {
        rig.up(path, &[namespace(1, 1, 2_000)]);
    }
    assert_eq!(rig.usable(id(1)), 2);
    assert_eq!(
        rig.disk.volumes[&id(1)].namespace.blocks,
        2_000,
        "for the next process"
    );
}

#[test]
fn a_size_reported_while_the_paths_are_up_is_on_record() {
    let mut rig = two_paths();
    for path in 1..=2 {
        let grown = vec![namespace(1, 1, 2_000)];
        rig.report(path, Report::Namespaces(rig.association_of(path), grown));
    }
    assert_eq!(rig.usable(id(1)), 2);
    let known = rig.disk.volumes[&id(1)].namespace.blocks;
    assert_eq!(known, 2_000, "for the next process");
}

#[test]
fn a_path_refused_for_its_size_is_used_when_the_others_say_the_same() {
    let mut rig = two_paths();
    let lost = rig.association_of(2);
    rig.lose(2, lost);
    rig.up(2, &[namespace(1, 1, 2_000)]);
    assert_eq!(rig.usable(id(1)), 1);
    assert!(
        rig.association(2).last_error.contains("size"),
        "{:?}",
        rig.association(2)
    );
    let first = rig.association_of(1);
    rig.report(1, Report::Namespaces(first, vec![namespace(1, 1, 2_000)]));
    assert_eq!(rig.usable(id(1)), 2, "at once");
}

#[test]
fn a_namespace_added_while_its_paths_are_up_gets_a_volume() {
    let mut rig = two_paths();
    let list = vec![namespace(1, 1, 1_000), namespace(2, 2, 500)];
    let first = rig.association_of(1);
    rig.requests.clear();
    rig.report(1, Report::Namespaces(first, list));
    let asks = |rig: &Rig| {
        rig.requests
            .iter()
            .find_map(|(path, request)| match request {
                Request::OpenQueues(association, count) => Some((*path, *association, *count)),
                _ => None,
            })
    };
    assert_eq!(asks(&rig), Some((1, first, 2)));
    rig.report(1, Report::Queues(first, vec![3, 4]));
    assert_eq!(rig.usable(id(2)), 1);
    assert_eq!(rig.usable(id(1)), 2);
}

#[test]
fn an_array_without_queues_left_is_said_to_have_none_and_asked_again() {
    let mut rig = two_paths();
    let first = rig.association_of(1);
    let list = vec![namespace(1, 1, 1_000), namespace(2, 2, 500)];
    rig.report(1, Report::Namespaces(first, list));
    rig.report(1, Report::Queues(first, Vec::new()));
    assert!(rig.association(1).last_error.contains("I/O queues left"));
    rig.requests.clear();
    rig.advance(ms(2_000));
    let again = |request: &(u32, Request)| matches!(request.1, Request::OpenQueues(..));
    assert!(rig.requests.iter().any(again));
}

#[test]
fn a_configured_path_that_stays_away_too_long_is_still_asked_for() {
    let mut rig = Rig::new();
    for path in 1..=2 {
        rig.want(asked(path as u8), true);
        rig.up(path, &[namespace(1, 1, 1_000)]);
    }
    let lost = rig.association_of(2);
    rig.lose(2, lost);
    rig.requests.clear();
    rig.report(2, Report::GivenUp);
    assert!(
        rig.requests.is_empty(),
        "nobody ends it: {:?}",
        rig.requests
    );
    assert_eq!(rig.association(2).state, "connecting");
    rig.up(2, &[namespace(1, 1, 1_000)]);
    assert_eq!(rig.usable(id(1)), 2);
}

#[test]
fn a_path_asked_for_once_goes_when_it_is_given_up() {
    let mut rig = two_paths();
    let lost = rig.association_of(2);
    rig.lose(2, lost);
    rig.report(2, Report::GivenUp);
    assert!(matches!(rig.requests.last(), Some((2, Request::Shutdown))));
    rig.report(2, Report::Ended);
    assert_eq!(rig.snapshot().associations.len(), 1);
}

#[test]
fn an_orderly_removal_leaves_nothing_behind() {
    let mut rig = two_paths();
    let nqn = DisconnectTarget::Nqn(NQN.to_owned());
    let call = rig.call();
    let force = false;
    rig.host
        .handle_verb(call, Verb::Disconnect { target: nqn, force }, rig.now);
    rig.advance(ms(1_000));
    for path in 1..=2 {
        let association = rig.association_of(path);
        let at = rig.now;
        rig.report(path, Report::AdminSilent { association, at });
        rig.report(path, Report::Ended);
    }
    match rig.answers.remove(&call) {
        Some(Answer::Reply(Reply::Disconnected { deleted, .. })) => {
            assert_eq!(deleted, ["/dev/ublkb0"]);
        }
        other => panic!("{other:?}"),
    }
    rig.advance(ms(60_000));
    assert!(
        rig.disk.associations.is_empty(),
        "{:?}",
        rig.disk.associations
    );
    assert!(rig.disk.volumes.is_empty() && rig.disk.devices.is_empty());
    assert_eq!(rig.host.poll_timeout(), None, "nothing is waited for");
}

#[test]
fn a_lost_association_is_on_record_until_its_fence() {
    let mut rig = two_paths();
    assert_eq!(rig.disk.associations.len(), 2);
    let lost = rig.association_of(2);
    rig.lose(2, lost);
    // 2 x KATO with the margin for its clock, and the floor.
    rig.advance(ms(2_000));
    assert_eq!(rig.disk.associations.len(), 2);
    rig.advance(ms(1_500));
    assert_eq!(rig.disk.associations.len(), 1);
}

#[test]
fn a_path_is_named_by_its_number_or_its_address() {
    let mut rig = two_paths();
    for name in ["2", "10.0.0.2", "10.0.0.2:4420", "rdma,10.0.0.2:4420"] {
        let (path, volume) = (name.to_owned(), None);
        let call = rig.call();
        rig.host
            .handle_verb(call, Verb::Steer(Steer::FailPath { path, volume }), rig.now);
        rig.settle();
        assert_eq!(rig.usable(id(1)), 1, "{name}");
        let (path, volume) = (name.to_owned(), None);
        let reinstate = Steer::ReinstatePath { path, volume };
        let call = rig.call();
        rig.host.handle_verb(call, Verb::Steer(reinstate), rig.now);
        rig.settle();
        assert_eq!(rig.usable(id(1)), 2, "{name}");
    }
    let (path, volume) = ("10.0.0.9".to_owned(), None);
    let call = rig.call();
    rig.host
        .handle_verb(call, Verb::Steer(Steer::FailPath { path, volume }), rig.now);
    rig.settle();
    match rig.answers.remove(&call) {
        Some(Answer::Reply(Reply::Failed(failure))) => assert_eq!(failure.what, "no path 10.0.0.9"),
        other => panic!("{other:?}"),
    }
}

/// A path that was down while the volume was removed used to bring it back when it came.
#[test]
fn a_removed_volume_does_not_return_with_another_path_of_its_subsystem() {
    let mut rig = Rig::new();
    for path in 1..=2 {
        rig.want(asked(path), true);
    }
    rig.up(1, &[namespace(1, 1, 1_000)]);
    let target = DisconnectTarget::Device("vol1".to_owned());
    let call = rig.call();
    let force = true;
    rig.host
        .handle_verb(call, Verb::Disconnect { target, force }, rig.now);
    rig.advance(ms(1_000));
    rig.up(2, &[namespace(1, 1, 1_000)]);
    rig.advance(ms(1_000));
    assert_eq!((rig.made, rig.disk.volumes.len()), (1, 0));
    rig.want(asked(2), true);
    assert_eq!((rig.made, rig.usable(id(1))), (2, 1), "somebody asked");
}

/// The queue threads of a device that nobody ever saw end some time after it was dropped. They used
/// to be taken for those of the next one.
#[test]
fn a_dropped_volume_is_not_taken_for_its_successor() {
    let mut rig = being_dropped();
    rig.failing.register = false;
    rig.advance(ms(5_000));
    assert_eq!(rig.made, 1, "the first one has not gone yet");
    rig.finish_late();
    rig.advance(ms(40_000));
    assert_eq!((rig.made, rig.usable(id(1))), (2, 1));
}

/// Its memory was being registered when a volume was removed. The report came when the next one of
/// its namespace was being built: the path was attached to that without any queue pair.
#[test]
fn memory_of_a_removed_volume_is_not_that_of_its_successor() {
    let mut rig = Rig::new();
    rig.want(asked(1), true);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.late.registers = true;
    rig.want(asked(2), true);
    let second = rig.up(2, &[namespace(1, 1, 1_000)]);
    let target = DisconnectTarget::Device("vol1".to_owned());
    let (call, force) = (rig.call(), true);
    rig.host
        .handle_verb(call, Verb::Disconnect { target, force }, rig.now);
    rig.settle();
    rig.late.builds = true;
    rig.want(asked(2), true);
    rig.late.registers = false;
    rig.finish_held_back();
    rig.finish_late();
    assert_eq!((rig.made, rig.usable(id(1))), (2, 1));
    assert_eq!(rig.association_of(2), second);
}

/// The namespace counted as matched for ever, by a volume whose device nobody could use.
#[test]
fn a_device_that_neither_starts_nor_goes_is_removed_later() {
    let mut rig = Rig::new();
    rig.failing.start = true;
    rig.failing.remove = true;
    let call = rig.want(asked(1), true);
    let association = rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.advance(ms(20_000));
    assert!(rig.path_answer(call).is_some(), "nobody waits for ever");
    rig.failing.start = false;
    rig.failing.remove = false;
    rig.advance(ms(60_000));
    rig.report(1, Report::Queues(association, vec![3, 4]));
    rig.advance(ms(60_000));
    assert_eq!((rig.made, rig.usable(id(1))), (2, 1));
}

/// Seed 4192: a path that had reconnected was attached to the device that was to go, its refusal was
/// forgotten, and with the device gone nothing matched the namespace again.
#[test]
fn a_path_that_reconnects_is_not_attached_to_a_device_that_is_to_go() {
    let mut rig = Rig::new();
    rig.failing.start = true;
    rig.failing.remove = true;
    rig.want(asked(1), true);
    let lost = rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.advance(ms(1_000));
    rig.lose(1, lost);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.advance(ms(1_000));
    rig.failing.start = false;
    rig.failing.remove = false;
    rig.advance(ms(60_000));
    assert_eq!((rig.made, rig.usable(id(1))), (2, 1));
}

/// One controller lists fewer identifiers than the other: the namespace got a second block device, and
/// neither knew of the writes that the other had lost.
#[test]
fn a_namespace_with_fewer_identifiers_gets_no_second_device() {
    let mut rig = Rig::new();
    let mut full = namespace(1, 1, 1_000);
    let mut poor = namespace(1, 1, 1_000);
    full.facts.as_mut().unwrap().nguid = Some([7; 16]);
    let facts = poor.facts.as_mut().unwrap();
    (facts.id, facts.uuid, facts.nguid) = (StableId::Nguid([7; 16]), None, Some([7; 16]));
    rig.want(asked(1), true);
    rig.up(1, &[full]);
    let call = rig.want(asked(2), true);
    rig.up(2, &[poor]);
    assert_eq!(rig.made, 1);
    let refused = rig.path_answer(call).unwrap().unwrap_err();
    assert!(refused.why.contains("the same NGUID"), "{refused}");
}

/// The end of a queue thread was taken for the silence of a queue pair that it had handed back before,
/// and that was still being destroyed: the fence counted from too early.
#[test]
fn the_end_of_a_thread_does_not_silence_what_it_handed_back() {
    let mut rig = two_paths();
    rig.stubborn = true;
    rig.late.destructions = true;
    let lost = rig.association_of(2);
    rig.lose(2, lost);
    let target = DisconnectTarget::Device("vol1".to_owned());
    let (call, force) = (rig.call(), true);
    rig.host
        .handle_verb(call, Verb::Disconnect { target, force }, rig.now);
    rig.advance(ms(60_000));
    assert!(rig.disk.volumes.is_empty(), "the volume is gone");
    assert!(rig.disk.associations.contains_key(&lost.0), "not fenced");
    rig.finish_late();
    rig.advance(ms(10_000));
    assert!(!rig.disk.associations.contains_key(&lost.0));
}

/// Somebody asked again while the device that could not be started was being removed, and the refusal
/// stayed for ever.
#[test]
fn a_namespace_whose_device_is_being_removed_is_tried_again_after_that() {
    let mut rig = Rig::new();
    rig.failing.start = true;
    rig.late.removals = true;
    rig.want(asked(1), true);
    let association = rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.failing.start = false;
    rig.want(asked(1), true);
    rig.finish_late();
    rig.advance(ms(10_000));
    rig.report(1, Report::Queues(association, vec![3, 4]));
    assert_eq!(rig.usable(id(1)), 1);
}

/// The fence came before the record was on disk: that then stayed, and cost each start a pause.
#[test]
fn a_record_that_is_still_being_written_is_forgotten_after_that() {
    // Just after the fence, while the longest stall is still awaited, and long after.
    for until in [2_400, 20_000] {
        let mut rig = Rig::new();
        rig.late.records = true;
        rig.want(asked(1), true);
        let association = rig.up(1, &[namespace(1, 1, 1_000)]);
        rig.lose(1, association);
        rig.advance(ms(until));
        let fenced = |(kind, _): &(String, String)| kind == "order_fenced";
        assert!(rig.events().iter().any(fenced), "{:?}", rig.events());
        rig.finish_late();
        assert!(rig.disk.associations.is_empty(), "after {until} ms");
    }
}

fn disconnect(rig: &mut Rig, target: DisconnectTarget) {
    let call = rig.call();
    let verb = Verb::Disconnect {
        target,
        force: false,
    };
    rig.host.handle_verb(call, verb, rig.now);
    rig.settle();
}

/// A portal that the configuration names is asked again every minute, and offers what an operator
/// has removed meanwhile.
#[test]
fn rediscovery_brings_back_no_volume_that_an_operator_removed() {
    let mut rig = Rig::new();
    let both = [namespace(1, 1, 1_000), namespace(2, 2, 500)];
    rig.rediscover(asked(1));
    rig.up(1, &both);
    assert_eq!(rig.made, 2);
    disconnect(&mut rig, DisconnectTarget::Device("ublkb0".to_owned()));
    rig.rediscover(asked(1));
    // Through another port it is the same namespace.
    rig.rediscover(asked(2));
    rig.up(2, &both);
    rig.advance(ms(60_000));
    assert_eq!((rig.made, rig.usable(id(2))), (2, 2));
    let call = rig.want(asked(2), false);
    assert_eq!(rig.made, 3, "an operator may change his mind");
    rig.report(2, Report::Queues(rig.association_of(2), vec![5, 6]));
    assert_eq!(rig.path_answer(call).unwrap().unwrap().volumes.len(), 2);
}

#[test]
fn rediscovery_brings_back_no_path_that_an_operator_removed() {
    let mut rig = Rig::new();
    rig.rediscover(asked(1));
    let association = rig.up(1, &[namespace(1, 1, 1_000)]);
    disconnect(&mut rig, DisconnectTarget::Nqn(NQN.to_owned()));
    rig.advance(ms(1_000));
    let at = rig.now;
    rig.report(1, Report::AdminSilent { association, at });
    rig.report(1, Report::Ended);
    let call = rig.rediscover(asked(1));
    let refused = rig.path_answer(call).unwrap().unwrap_err();
    assert_eq!(refused.why, "an operator removed this path");
    assert!(rig.snapshot().associations.is_empty());
    let said = rig.events();
    assert!(!said.iter().any(|(kind, _)| kind == "refused"), "{said:?}");
    rig.want(asked(1), false);
    assert_eq!(rig.snapshot().associations.len(), 1);
    rig.rediscover(asked(1));
}

/// The volume was removed while memory was registered for it, and nothing matched the namespace again on
/// that path (seed 1969 of an earlier commit).
#[test]
fn a_path_that_was_about_to_serve_a_removed_volume_serves_the_next_one() {
    let mut rig = Rig::new();
    rig.want(asked(1), false);
    rig.up(1, &[namespace(1, 1, 1_000)]);
    rig.late.registers = true;
    rig.want(asked(2), false);
    let association = rig.up(2, &[namespace(1, 1, 1_000)]);
    let target = DisconnectTarget::Device("vol1".to_owned());
    let (call, force) = (rig.call(), true);
    rig.host
        .handle_verb(call, Verb::Disconnect { target, force }, rig.now);
    rig.settle();
    rig.finish_late();
    rig.advance(ms(60_000));
    assert_eq!(rig.usable(id(1)), 0, "it was removed by hand");
    rig.want(asked(2), false);
    rig.report(2, Report::Queues(association, vec![3, 4]));
    assert_eq!(rig.usable(id(1)), 1);
}
