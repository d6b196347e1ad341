//! Mutations of unknown fate, and what they keep off.

use std::sync::Arc;

use umpath_core::{
    AssociationId, BlockError, CommandLimits, GhostTable, GroupEntry, LaneEvent, OnNoPath, Op,
    PathId, PathTable, Resend, Tag,
};
use umpath_nvme::Status;
use umpath_nvme::command::io::ReadWrite;

use crate::rig::{
    BLOCK, answer, attach, completions, events, extents, ghost, guarded, limits, locks, ms,
    only_send, request, sends, submit, table, two_paths,
};

#[test]
fn a_failover_read_by_read_and_write_by_write() {
    let mut lane = two_paths();
    for (tag, op) in [
        (0, Op::Read),
        (1, Op::Write),
        (2, Op::Flush),
        (3, Op::Write),
    ] {
        submit(
            &mut lane,
            request(tag, op, u64::from(tag), u32::from(op != Op::Flush)),
            ms(1),
        );
    }
    let first = sends(&mut lane);
    assert!(first.iter().all(|send| send.path == PathId(0)));

    lane.convict(AssociationId(0), ms(100));
    answer(&mut lane, &first[3], Status::SUCCESS, ms(101));
    assert_eq!(
        completions(&mut lane),
        [(3, Ok(()))],
        "an answer in time is an answer"
    );
    submit(&mut lane, request(4, Op::Write, 1, 1), ms(102));
    let concurrent = only_send(&mut lane);
    submit(&mut lane, request(5, Op::Read, 9, 1), ms(103));
    let read = only_send(&mut lane);
    answer(&mut lane, &read, Status::SUCCESS, ms(104));
    assert_eq!(completions(&mut lane), [(5, Ok(()))]);
    let stall = ms(103);
    let first_io = LaneEvent::FirstIo {
        lost: AssociationId(0),
        path: PathId(1),
        stall,
    };
    assert_eq!(events(&mut lane), [first_io]);

    let ghosts = lane.drained(AssociationId(0), ms(110));
    assert_eq!(extents(&ghosts), [(1, 1)]);
    let tags: Vec<u16> = sends(&mut lane).iter().map(|send| send.tag.0).collect();
    assert_eq!(tags, [0, 2], "reads and flushes at the buffer fence");
    answer(&mut lane, &first[0], Status::SUCCESS, ms(111));
    assert_eq!((completions(&mut lane), lane.stats().stale), (vec![], 1));

    lane.guard(locks(1, &ghosts), ms(112));
    assert_eq!(events(&mut lane), [], "one it overlaps is in flight");
    submit(&mut lane, request(6, Op::Write, 0, 3), ms(113));
    submit(&mut lane, request(7, Op::Write, 2, 1), ms(113));
    assert_eq!(only_send(&mut lane).tag, Tag(7), "only what overlaps waits");
    answer(&mut lane, &concurrent, Status::SUCCESS, ms(114));
    assert_eq!(completions(&mut lane), [(4, Ok(()))]);
    assert_eq!(events(&mut lane), [LaneEvent::Guarded { generation: 1 }]);

    lane.locked(AssociationId(0), ms(120));
    let ghost = only_send(&mut lane);
    assert_eq!((ghost.tag, ghost.path), (Tag(1), PathId(1)));
    answer(&mut lane, &ghost, Status::SUCCESS, ms(121));
    assert_eq!(completions(&mut lane), [(1, Ok(()))]);
    submit(&mut lane, request(1, Op::Discard, 1, 1), ms(122));
    assert_eq!(sends(&mut lane), [], "locked until the order fence");

    lane.fenced(AssociationId(0), ms(2_000));
    lane.guard(locks(2, &[]), ms(2_000));
    let tags: Vec<u16> = sends(&mut lane).iter().map(|send| send.tag.0).collect();
    assert_eq!(tags, [6, 1]);
    let held = lane.stats().held;
    assert_eq!((held.by_ghost, held.now), (2, 0));
    assert_eq!(held.longest, ms(1_887));
}

#[test]
fn another_lanes_ghost_keeps_this_lane_off_its_blocks_and_no_others() {
    let mut lane = two_paths();
    lane.guard(locks(1, &[ghost(0, 8, 4)]), ms(1));
    assert_eq!(events(&mut lane), [guarded(1)]);
    for (tag, op, lba, blocks) in [
        (0, Op::Write, 7, 2),
        (1, Op::Write, 7, 1),
        (2, Op::WriteZeroes, 11, 1),
        (3, Op::Discard, 0, 100),
        (4, Op::Read, 8, 4),
        (5, Op::Flush, 0, 0),
        (6, Op::Write, 12, 4),
    ] {
        submit(&mut lane, request(tag, op, lba, blocks), ms(2));
    }
    let tags: Vec<u16> = sends(&mut lane).iter().map(|send| send.tag.0).collect();
    assert_eq!(tags, [1, 4, 5, 6]);
    assert_eq!(lane.stats().held.now, 3);
    lane.guard(locks(2, &[ghost(0, 11, 1)]), ms(3));
    assert_eq!(only_send(&mut lane).tag, Tag(0), "the new table lets it go");
    lane.guard(locks(3, &[]), ms(4));
    let tags: Vec<u16> = sends(&mut lane).iter().map(|send| send.tag.0).collect();
    assert_eq!(tags, [2, 3], "first come, first served");
}

#[test]
fn a_large_write_goes_except_for_the_part_that_is_locked() {
    let mut lane = two_paths();
    lane.guard(locks(1, &[ghost(0, 9, 1)]), ms(1));
    submit(&mut lane, request(0, Op::Write, 0, 16), ms(2));
    let lbas: Vec<u64> = sends(&mut lane)
        .iter()
        .map(|send| ReadWrite::parse(&send.sqe).slba)
        .collect();
    assert_eq!(lbas, [0, 4, 12]);
}

#[test]
fn what_the_host_has_not_taken_is_kept_back_by_a_new_table() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    submit(&mut lane, request(1, Op::Write, 9, 1), ms(1));
    lane.guard(locks(1, &[ghost(0, 0, 1)]), ms(2));
    assert_eq!(events(&mut lane), [guarded(1)], "nothing is in flight");
    assert_eq!(only_send(&mut lane).tag, Tag(1));
}

#[test]
fn an_old_table_is_ignored() {
    let mut lane = two_paths();
    lane.guard(locks(2, &[ghost(0, 0, 1)]), ms(1));
    lane.guard(locks(1, &[]), ms(2));
    assert_eq!(events(&mut lane), [guarded(2)]);
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(3));
    assert_eq!(sends(&mut lane), []);
}

#[test]
fn a_write_in_flight_that_fails_with_a_path_error_is_kept_back_when_it_is_tried_again() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    let send = only_send(&mut lane);
    lane.guard(locks(1, &[ghost(1, 0, 1)]), ms(2));
    assert_eq!(events(&mut lane), []);
    answer(&mut lane, &send, Status::PATH_INTERNAL_ERROR, ms(3));
    assert_eq!(sends(&mut lane), []);
    assert!(events(&mut lane).contains(&guarded(1)));
}

#[test]
fn a_write_in_flight_that_is_lost_becomes_a_ghost_itself() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    only_send(&mut lane);
    let other = ghost(77, 0, 1);
    lane.guard(locks(1, &[other]), ms(2));
    let own = lane.drained(AssociationId(0), ms(3));
    assert_eq!(extents(&own), [(0, 1)]);
    assert_eq!(events(&mut lane), [guarded(1)]);
    lane.guard(locks(2, &[other, own[0]]), ms(4));
    lane.locked(AssociationId(0), ms(5));
    assert_eq!(
        sends(&mut lane),
        [],
        "two ghosts wait for each other's fence"
    );
    assert_eq!(lane.stats().held.by_overlap, 1);
    lane.guard(locks(3, &own), ms(6));
    assert_eq!(only_send(&mut lane).path, PathId(1));
}

#[test]
fn a_ghost_lost_again_is_sent_again_over_its_own_copies() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Write, 0, 4), ms(1));
    only_send(&mut lane);
    let mut ghosts = lane.drained(AssociationId(0), ms(2));
    lane.guard(locks(1, &ghosts), ms(3));
    lane.locked(AssociationId(0), ms(4));
    assert_eq!(only_send(&mut lane).path, PathId(1));
    ghosts.extend(lane.drained(AssociationId(1), ms(5)));
    assert_eq!(ghosts[0].owner, ghosts[1].owner);
    attach(&mut lane, 0, 2, ms(6));
    let mut again = PathTable::clone(&table(&[0], limits(), OnNoPath::Queue));
    again.paths[0].association = AssociationId(2);
    lane.set_table(Arc::new(again), ms(6));
    lane.guard(locks(2, &ghosts), ms(7));
    assert_eq!(sends(&mut lane), [], "not before all lanes are guarded");
    lane.locked(AssociationId(1), ms(8));
    let last = only_send(&mut lane);
    answer(&mut lane, &last, Status::SUCCESS, ms(9));
    assert_eq!(completions(&mut lane), [(0, Ok(()))]);
}

#[test]
fn a_ghost_of_a_volume_that_others_write_to_waits_for_the_order_fence() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    only_send(&mut lane);
    let ghosts = lane.drained(AssociationId(0), ms(2));
    let table = GhostTable::new(1, Resend::OnceFenced, ghosts.iter().copied());
    lane.guard(Arc::new(table), ms(3));
    lane.locked(AssociationId(0), ms(4));
    assert_eq!(sends(&mut lane), []);
    assert_eq!(lane.stats().held.by_sharing, 1);
    lane.fenced(AssociationId(0), ms(5));
    assert_eq!(only_send(&mut lane).path, PathId(1));
}

#[test]
fn a_lost_write_fails_to_the_caller_only_when_its_blocks_are_locked() {
    let mut lane = two_paths();
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    only_send(&mut lane);
    let ghosts = lane.drained(AssociationId(0), ms(2));
    lane.fail_queued(ms(3));
    lane.fail_queued(ms(3));
    assert_eq!(
        completions(&mut lane),
        [],
        "the caller could write again through a lane that has heard of nothing"
    );
    lane.guard(locks(1, &ghosts), ms(4));
    lane.locked(AssociationId(0), ms(5));
    assert_eq!(completions(&mut lane), [(0, Err(BlockError::Io))]);
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(6));
    assert_eq!(sends(&mut lane), [], "locked until the fence");
    lane.fenced(AssociationId(0), ms(7));
    lane.guard(locks(2, &[]), ms(7));
    assert_eq!(only_send(&mut lane).path, PathId(1));
}

#[test]
fn a_write_that_fails_in_one_part_waits_for_the_lock_of_the_part_that_was_lost() {
    let mut lane = two_paths();
    let half = CommandLimits {
        transfer_bytes_max: BLOCK,
        ..limits()
    };
    let mut uneven = PathTable::clone(&table(&[0, 1], half, OnNoPath::Queue));
    uneven.groups = vec![GroupEntry {
        paths: vec![0, 1],
        priority: 1,
    }];
    lane.set_table(Arc::new(uneven), ms(0));
    submit(&mut lane, request(0, Op::Write, 0, 2), ms(1));
    let parts = sends(&mut lane);
    let on = |path: u8| parts.iter().find(|send| send.path == PathId(path));
    let (lost, answered) = (on(0).expect("one each"), on(1).expect("one each"));
    let refused = Status::LBA_OUT_OF_RANGE.with_dnr();
    answer(&mut lane, answered, refused, ms(2));
    let ghosts = lane.drained(AssociationId(0), ms(3));
    assert_eq!(extents(&ghosts), [(ReadWrite::parse(&lost.sqe).slba, 1)]);
    assert_eq!(completions(&mut lane), []);
    lane.guard(locks(1, &ghosts), ms(4));
    lane.locked(AssociationId(0), ms(5));
    assert_eq!(completions(&mut lane).len(), 1);
}
