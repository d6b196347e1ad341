//! One lane in hand-made situations: what exactly goes out, and when.

mod ghosts;
mod rig;
mod selection;

use std::sync::Arc;

use umpath_core::{
    AssociationId, BlockError, BlockRequest, CommandLimits, Data, LaneEvent, OnNoPath, Op, PathId,
    PathTable, SubmitError, Tag, VolumeShared,
};
use umpath_nvme::command::io::{DsmRange, ReadWrite, WriteZeroes};
use umpath_nvme::{FromBytes, Status};

use rig::{
    BLOCK, actions, answer, attach, completions, events, lane, limits, ms, only_send, request,
    sends, submit, table, two_paths,
};

#[test]
fn a_large_request_is_split_and_completed_once() {
    let mut lane = two_paths();
    submit(&mut lane, request(3, Op::Write, 1_000, 38), ms(1));
    let mut done = 0_u32;
    let mut waiting = sends(&mut lane);
    assert_eq!(waiting.len(), 8, "eight commands at a time");
    while let Some(send) = waiting.pop() {
        let fields = ReadWrite::parse(&send.sqe);
        let offset_bytes = (fields.slba - 1_000) as u32 * BLOCK;
        let len_bytes = fields.blocks.get() * BLOCK;
        assert_eq!(
            send.data,
            Data::ToController {
                offset_bytes,
                len_bytes
            }
        );
        assert_eq!((fields.nsid, send.tag), (7, Tag(3)));
        done += fields.blocks.get();
        answer(&mut lane, &send, Status::SUCCESS, ms(2));
        let (more, completions) = actions(&mut lane);
        waiting.extend(more);
        assert_eq!(completions.len(), usize::from(waiting.is_empty()));
    }
    assert_eq!(done, 38);
}

#[test]
fn commands_say_what_the_request_says() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Discard, 50, 1_500), ms(1));
    let discards = sends(&mut lane);
    let ranges: Vec<(u64, u32)> = discards
        .iter()
        .map(|send| match &send.data {
            Data::Parameters { bytes, .. } => {
                let range = DsmRange::read_from_bytes(&bytes[..]).expect("16 bytes");
                (range.slba.get(), range.blocks.get())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ranges, [(50, 1_000), (1_050, 500)]);
    assert_ne!(
        discards[0].data, discards[1].data,
        "each has a place of its own"
    );

    for (no_unmap, fua) in [(false, true), (true, false)] {
        let zeroes = BlockRequest {
            no_unmap,
            fua,
            ..request(1 + u16::from(fua), Op::WriteZeroes, 9, 3)
        };
        submit(&mut lane, zeroes, ms(1));
        let fields = WriteZeroes::parse(&only_send(&mut lane).sqe);
        assert_eq!((fields.deallocate, fields.fua), (!no_unmap, fua));
        assert_eq!((fields.slba, fields.blocks.get()), (9, 3));
    }
    submit(
        &mut lane,
        BlockRequest {
            fua: true,
            ..request(3, Op::Write, 9, 1)
        },
        ms(1),
    );
    assert!(ReadWrite::parse(&only_send(&mut lane).sqe).fua);
}

#[test]
fn what_the_controller_does_not_do_is_not_supported() {
    let mut lane = lane(0, &Arc::new(VolumeShared::new()));
    lane.set_table(
        table(&[0], CommandLimits::default(), OnNoPath::Queue),
        ms(0),
    );
    for op in [Op::Discard, Op::WriteZeroes] {
        submit(&mut lane, request(0, op, 0, 1), ms(1));
        assert_eq!(completions(&mut lane), [(0, Err(BlockError::NotSupported))]);
    }
}

#[test]
fn nonsense_is_refused() {
    let mut lane = two_paths();
    let mut refused = |request| lane.submit(request, ms(1)).expect_err("nonsense");
    assert_eq!(
        refused(request(16, Op::Read, 0, 1)),
        SubmitError::TagOutOfRange
    );
    assert_eq!(refused(request(0, Op::Read, 0, 0)), SubmitError::Invalid);
    assert_eq!(refused(request(0, Op::Read, 0, 257)), SubmitError::Invalid);
    assert_eq!(
        refused(request(0, Op::Discard, u64::MAX, 2)),
        SubmitError::Invalid
    );
    submit(&mut lane, request(0, Op::Read, 0, 1), ms(1));
    assert_eq!(
        lane.submit(request(0, Op::Read, 0, 1), ms(1)),
        Err(SubmitError::TagBusy)
    );
}

#[test]
fn a_path_error_goes_to_the_standby_and_never_to_the_caller() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    let mut send = only_send(&mut lane);
    let mut paths = vec![send.path.0];
    for round in 0..40 {
        let now = ms(10 + round * 5_000);
        answer(&mut lane, &send, Status::PATH_INTERNAL_ERROR, now);
        let mut again = sends(&mut lane);
        if again.is_empty() {
            let at = lane.poll_timeout().expect("a time to send it again");
            assert!(at <= now + ms(1_000));
            lane.handle_timeout(at);
            again = sends(&mut lane);
        }
        assert_eq!(again.len(), 1, "{again:?}");
        send = again.remove(0);
        paths.push(send.path.0);
    }
    assert!(
        paths
            .chunks(2)
            .all(|pair| pair[0] != *pair.get(1).unwrap_or(&2)),
        "{paths:?}"
    );
    answer(&mut lane, &send, Status::SUCCESS, ms(900_000));
    assert_eq!(completions(&mut lane), [(0, Ok(()))]);
}

#[test]
fn an_ana_status_closes_the_path_until_the_state_is_read_again() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Read, 0, 1), ms(1));
    let send = only_send(&mut lane);
    answer(&mut lane, &send, Status::ANA_TRANSITION.with_dnr(), ms(2));
    assert_eq!(only_send(&mut lane).path, PathId(1));
    assert!(matches!(
        events(&mut lane)[..],
        [LaneEvent::AnaStatus {
            path: PathId(0),
            ..
        }]
    ));
    let mut read_again = PathTable::clone(&table(&[0, 1], limits(), OnNoPath::Queue));
    lane.set_table(Arc::new(read_again.clone()), ms(3));
    submit(&mut lane, request(1, Op::Read, 0, 1), ms(3));
    assert_eq!(only_send(&mut lane).path, PathId(1), "nothing new is known");
    read_again.paths[0].ana_epoch += 1;
    lane.set_table(Arc::new(read_again), ms(4));
    submit(&mut lane, request(2, Op::Read, 0, 1), ms(4));
    assert_eq!(only_send(&mut lane).path, PathId(0));
}

#[test]
fn a_controller_that_names_a_delay_gets_it_and_patience_ends() {
    let mut lane = lane(0, &Arc::new(VolumeShared::new()));
    lane.set_table(table(&[0], limits(), OnNoPath::Queue), ms(0));
    submit(&mut lane, request(0, Op::Read, 0, 1), ms(1));
    let send = only_send(&mut lane);
    answer(
        &mut lane,
        &send,
        Status::COMMAND_INTERRUPTED.with_crd(1),
        ms(2),
    );
    assert_eq!(lane.poll_timeout(), Some(ms(302)));
    lane.handle_timeout(ms(301));
    assert_eq!(sends(&mut lane), []);
    lane.handle_timeout(ms(302));
    let mut send = only_send(&mut lane);
    let mut tries = 0;
    loop {
        tries += 1;
        answer(&mut lane, &send, Status::INTERNAL_ERROR, ms(400));
        let (again, over) = actions(&mut lane);
        let Some(next) = again.first() else {
            assert_eq!(over, [(0, Err(BlockError::Io))]);
            break;
        };
        send = next.clone();
    }
    assert_eq!(tries, 5, "the first retry was spent on the delay");
}

#[test]
fn without_a_path_requests_wait_and_go_the_moment_one_comes() {
    let mut lane = lane(0, &Arc::new(VolumeShared::new()));
    submit(&mut lane, request(0, Op::Read, 0, 1), ms(1));
    submit(&mut lane, request(1, Op::Write, 0, 1), ms(1));
    assert_eq!(sends(&mut lane), []);
    assert_eq!(events(&mut lane), [LaneEvent::QueueingStarted]);
    lane.set_table(table(&[1], limits(), OnNoPath::Queue), ms(2));
    assert_eq!(sends(&mut lane).len(), 2);
    assert_eq!(events(&mut lane), [LaneEvent::QueueingEnded]);
}

#[test]
fn without_a_path_requests_fail_if_the_table_says_so() {
    let mut lane = lane(0, &Arc::new(VolumeShared::new()));
    submit(&mut lane, request(0, Op::Read, 0, 1), ms(1));
    lane.set_table(table(&[], limits(), OnNoPath::Fail), ms(2));
    assert_eq!(completions(&mut lane), [(0, Err(BlockError::Io))]);
    submit(&mut lane, request(1, Op::Write, 0, 1), ms(3));
    assert_eq!(completions(&mut lane), [(1, Err(BlockError::Io))]);
    lane.set_table(table(&[0], limits(), OnNoPath::Fail), ms(4));
    submit(&mut lane, request(2, Op::Write, 0, 1), ms(5));
    assert_eq!(sends(&mut lane).len(), 1, "with a path nothing fails");
    lane.set_table(table(&[], limits(), OnNoPath::Queue), ms(6));
    submit(&mut lane, request(3, Op::Write, 8, 1), ms(7));
    lane.set_table(table(&[1], limits(), OnNoPath::Fail), ms(8));
    let (sent, over) = actions(&mut lane);
    assert_eq!((sent.len(), over), (1, vec![]), "what waits goes there");
}

#[test]
fn a_queue_pair_that_takes_nothing_is_left_alone_for_a_moment() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    let send = only_send(&mut lane);
    lane.send_failed(&send, ms(2));
    assert_eq!(
        sends(&mut lane),
        [],
        "not to a worse group while the active one is only busy"
    );
    assert_eq!(lane.poll_timeout(), Some(ms(12)));
    lane.handle_timeout(ms(12));
    assert_eq!(only_send(&mut lane).path, PathId(0));
}

#[test]
fn what_the_host_has_not_taken_was_never_sent() {
    let shared = Arc::new(VolumeShared::new());
    let mut lane = lane(0, &shared);
    lane.set_table(table(&[0, 1], limits(), OnNoPath::Queue), ms(0));
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    submit(&mut lane, request(1, Op::Read, 1, 1), ms(1));
    lane.convict(AssociationId(0), ms(2));
    let mut went: Vec<(u16, PathId)> = sends(&mut lane)
        .iter()
        .map(|send| (send.tag.0, send.path))
        .collect();
    went.sort_unstable();
    assert_eq!(
        went,
        [(0, PathId(1)), (1, PathId(1))],
        "nothing to fence, nothing to wait for"
    );
    assert_eq!(shared.in_flight(PathId(0)), 0);
    assert_eq!(lane.drained(AssociationId(0), ms(3)), []);
}

#[test]
fn what_a_convicted_association_has_in_flight_is_no_load_of_its_path() {
    let shared = Arc::new(VolumeShared::new());
    let mut lane = lane(0, &shared);
    lane.set_table(table(&[0], limits(), OnNoPath::Queue), ms(0));
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    submit(&mut lane, request(1, Op::Write, 8, 1), ms(1));
    let lost = sends(&mut lane);
    lane.convict(AssociationId(0), ms(1_000));
    assert_eq!(shared.in_flight(PathId(0)), 0, "before it is drained");
    // The path is connected again while its old queue pair drains.
    attach(&mut lane, 0, 9, ms(1_100));
    let mut again = (*table(&[0], limits(), OnNoPath::Queue)).clone();
    again.paths[0].association = AssociationId(9);
    lane.set_table(Arc::new(again), ms(1_100));
    submit(&mut lane, request(2, Op::Read, 16, 1), ms(2_000));
    let read = only_send(&mut lane);
    let pulse = shared.pulse(PathId(0));
    assert_eq!(
        (pulse.in_flight, pulse.unanswered_since),
        (1, Some(ms(2_000)))
    );
    // A late answer of the old one is taken, and says nothing of the new one.
    answer(&mut lane, &lost[0], Status::SUCCESS, ms(2_500));
    assert_eq!(shared.pulse(PathId(0)), pulse);
    assert_eq!(lane.drained(AssociationId(0), ms(2_600)).len(), 1);
    assert_eq!(shared.pulse(PathId(0)), pulse);
    answer(&mut lane, &read, Status::SUCCESS, ms(2_700));
    assert_eq!(shared.in_flight(PathId(0)), 0);
}

#[test]
fn an_overdue_read_is_reported_beside_an_older_discard() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Discard, 0, 1), ms(0));
    submit(&mut lane, request(1, Op::Read, 8, 1), ms(100));
    let [_, read] = &sends(&mut lane)[..] else {
        panic!("two commands");
    };
    lane.handle_timeout(ms(2_200));
    let overdue = |since, cid| LaneEvent::Overdue {
        path: PathId(0),
        association: AssociationId(0),
        since,
        cid,
    };
    let found = events(&mut lane);
    assert!(found.contains(&overdue(ms(0), None)), "{found:?}");
    let cid = Some(read.sqe.cid.get());
    assert!(found.contains(&overdue(ms(100), cid)), "{found:?}");
}

#[test]
fn a_command_never_answered_is_reported_while_others_are_answered() {
    let mut lane = two_paths();
    assert_eq!(lane.poll_timeout(), None, "an idle lane sleeps");
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(100));
    let stuck = only_send(&mut lane);
    let mut reported = Vec::new();
    for at in (200..4000).step_by(100) {
        submit(&mut lane, request(1, Op::Read, 8, 1), ms(at));
        let send = only_send(&mut lane);
        answer(&mut lane, &send, Status::SUCCESS, ms(at + 1));
        assert_eq!(completions(&mut lane), [(1, Ok(()))]);
        if lane.poll_timeout().is_some_and(|due| due <= ms(at + 1)) {
            lane.handle_timeout(ms(at + 1));
        }
        reported.extend(events(&mut lane).into_iter().map(|event| (at, event)));
    }
    let overdue = LaneEvent::Overdue {
        path: PathId(0),
        association: AssociationId(0),
        since: ms(100),
        cid: Some(stuck.sqe.cid.get()),
    };
    assert_eq!(reported.first(), Some(&(2200, overdue)));
    assert_eq!(reported.len(), 4, "twice a second: {reported:?}");
    answer(&mut lane, &stuck, Status::SUCCESS, ms(4000));
    lane.handle_timeout(ms(5000));
    assert_eq!(events(&mut lane), []);
    assert_eq!(completions(&mut lane), [(0, Ok(()))]);
    assert_eq!(lane.poll_timeout(), None);
}

#[test]
fn a_silent_queue_pair_is_reported_while_another_answers() {
    let shared = Arc::new(VolumeShared::new());
    let mut lanes = [0, 1].map(|id| {
        let mut lane = lane(id, &shared);
        lane.set_table(table(&[0, 1], limits(), OnNoPath::Queue), ms(0));
        lane
    });
    let [silent, alive] = &mut lanes;
    // An answer, then none: silence counts from the answer.
    submit(silent, request(0, Op::Read, 0, 1), ms(100));
    submit(silent, request(1, Op::Write, 8, 1), ms(150));
    let [first, second] = &sends(silent)[..] else {
        panic!("two commands");
    };
    answer(silent, first, Status::SUCCESS, ms(200));
    completions(silent);
    let mut reported = Vec::new();
    for at in (300..3000).step_by(100) {
        submit(alive, request(0, Op::Read, 16, 1), ms(at));
        let send = only_send(alive);
        assert_eq!(send.association, first.association);
        answer(alive, &send, Status::SUCCESS, ms(at + 1));
        completions(alive);
        for lane in [&mut *silent, &mut *alive] {
            if lane.poll_timeout().is_some_and(|due| due <= ms(at + 1)) {
                lane.handle_timeout(ms(at + 1));
            }
        }
        assert_eq!(events(alive), []);
        reported.extend(events(silent).into_iter().map(|event| (at, event)));
    }
    let (at, event) = reported.first().copied().expect("a report");
    let silence = LaneEvent::QueueSilent {
        path: PathId(0),
        association: AssociationId(0),
        since: ms(200),
        cid: second.sqe.cid.get(),
        mutations: true,
    };
    assert_eq!(event, silence);
    assert!((1200..1700).contains(&at), "{reported:?}");
    let again = reported
        .iter()
        .filter(|(_, event)| *event == silence)
        .count();
    assert!(again >= 3, "twice a second: {reported:?}");
    answer(silent, second, Status::SUCCESS, ms(3000));
    silent.handle_timeout(ms(4000));
    assert_eq!(events(silent), []);
}

#[test]
fn a_slow_discard_or_an_idle_time_is_no_silence() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Discard, 0, 100), ms(0));
    let discard = only_send(&mut lane);
    lane.handle_timeout(ms(1900));
    assert_eq!(events(&mut lane), []);
    answer(&mut lane, &discard, Status::SUCCESS, ms(1900));
    // Nothing was in flight until now: what was not asked was not left unanswered.
    submit(&mut lane, request(0, Op::Read, 0, 1), ms(60_000));
    lane.handle_timeout(ms(60_900));
    assert_eq!(events(&mut lane), []);
}

#[test]
fn ages_are_not_checked_twice_in_a_moment() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(100_000));
    lane.handle_timeout(ms(100_000));
    assert_eq!(lane.poll_timeout(), Some(ms(100_500)));
}

#[test]
fn a_queue_pair_with_reads_alone_is_replaced_and_loses_nothing() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Read, 0, 1), ms(0));
    submit(&mut lane, request(1, Op::Flush, 0, 0), ms(100));
    let [read, flush] = &sends(&mut lane)[..] else {
        panic!("two commands");
    };
    let (read, flush) = (read.clone(), flush.clone());
    let association = read.association;
    lane.handle_timeout(ms(1_000));
    let told = events(&mut lane);
    let silent = |event: &LaneEvent| {
        matches!(event, LaneEvent::QueueSilent { cid, mutations: false, .. }
            if *cid == read.sqe.cid.get())
    };
    assert!(told.iter().any(silent), "{told:?}");
    assert!(lane.give_up_queue(association, ms(1_100)));
    assert!(!lane.give_up_queue(association, ms(1_100)), "once");
    submit(&mut lane, request(2, Op::Read, 4, 1), ms(1_100));
    let elsewhere = only_send(&mut lane);
    assert_ne!(elsewhere.association, association, "not there any more");
    assert_eq!(lane.drained(association, ms(1_200)), []);
    let again = sends(&mut lane);
    assert_eq!(again.len(), 2, "at once, on the other path");
    assert!(again.iter().all(|send| send.association != association));
    for send in again.iter().chain([&elsewhere]) {
        answer(&mut lane, send, Status::SUCCESS, ms(1_300));
    }
    assert_eq!(completions(&mut lane).len(), 3);
    answer(&mut lane, &flush, Status::SUCCESS, ms(1_300));
    assert_eq!(
        completions(&mut lane),
        [],
        "what comes late counts for nothing"
    );
    // The table names the association already: its number and limits apply at once.
    let taken = lane.attach(read.path, association, 8, ms(1_400));
    taken.expect("room for it");
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1_500));
    let send = only_send(&mut lane);
    assert_eq!((send.association, send.sqe.nsid.get()), (association, 7));
}

#[test]
fn a_queue_pair_with_a_write_in_flight_is_not_given_up_alone() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Read, 0, 1), ms(0));
    submit(&mut lane, request(1, Op::Discard, 8, 4), ms(0));
    let association = sends(&mut lane)[0].association;
    lane.handle_timeout(ms(1_000));
    let mutation =
        |event: &LaneEvent| matches!(event, LaneEvent::QueueSilent { mutations, .. } if *mutations);
    assert!(events(&mut lane).iter().any(mutation));
    assert!(!lane.give_up_queue(association, ms(1_100)));
    submit(&mut lane, request(2, Op::Read, 4, 1), ms(1_100));
    assert_eq!(only_send(&mut lane).association, association, "it stays");
    assert!(!lane.give_up_queue(AssociationId(77), ms(1_100)));
}
