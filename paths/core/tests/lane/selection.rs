//! What selectors know, and paths on probation.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::policies::SelectorKind;
use umpath_core::{
    AssociationId, BlockError, GroupEntry, Lane, OnNoPath, Op, PathId, PathTable, VolumeShared,
};
use umpath_nvme::Status;

use super::rig::{
    BLOCK, answer, completions, lane, limits, ms, only_send, request, sends, submit, table,
    two_paths,
};

fn read_and_answer(lane: &mut Lane, now: Duration) -> u8 {
    submit(lane, request(0, Op::Read, 0, 1), now);
    let send = only_send(lane);
    answer(lane, &send, Status::SUCCESS, now + ms(1));
    assert_eq!(completions(lane), [(0, Ok(()))]);
    send.path.0
}

#[test]
fn a_path_on_probation_gets_less_than_1_percent_unless_there_is_no_other() {
    let mut lane = two_paths();
    let mut tried = PathTable::clone(&table(&[0, 1], limits(), OnNoPath::Queue));
    tried.paths[1].steering.probation = true;
    tried.paths[1].priority = tried.paths[0].priority;
    lane.set_table(Arc::new(tried.clone()), ms(0));
    let taken = |lane: &mut Lane| {
        let on_trial = |step| usize::from(read_and_answer(lane, ms(step)) == 1);
        (0..1280).map(on_trial).sum::<usize>()
    };
    assert_eq!(taken(&mut lane), 10);
    tried.paths[1].priority = 10;
    lane.set_table(Arc::new(tried.clone()), ms(0));
    assert_eq!(taken(&mut lane), 0, "it is not worth as much");
    tried.paths[0].usable = false;
    lane.set_table(Arc::new(tried), ms(0));
    assert_eq!(taken(&mut lane), 1280, "there is no other");
}

#[test]
fn bytes_in_flight_are_those_of_the_commands_sent() {
    let shared = Arc::new(VolumeShared::new());
    let mut lane = lane(0, &shared);
    lane.set_table(table(&[0, 1], limits(), OnNoPath::Queue), ms(0));
    let load = || {
        (
            shared.in_flight(PathId(0)),
            shared.in_flight_bytes(PathId(0)),
        )
    };
    submit(&mut lane, request(0, Op::Read, 0, 6), ms(0));
    submit(&mut lane, request(1, Op::Discard, 0, 100), ms(0));
    submit(&mut lane, request(2, Op::Write, 0, 2), ms(0));
    assert_eq!(load(), (4, 8 * u64::from(BLOCK)));
    let sent = sends(&mut lane);
    answer(&mut lane, &sent[0], Status::SUCCESS, ms(1));
    assert_eq!(load(), (3, 4 * u64::from(BLOCK)));
    lane.send_failed(&sent[1], ms(1));
    assert_eq!(load(), (2, 2 * u64::from(BLOCK)), "it went elsewhere");
    let _ = lane.drained(AssociationId(0), ms(2));
    assert_eq!(load(), (0, 0));
}

#[test]
fn latencies_are_counted_for_reads_and_writes() {
    let shared = Arc::new(VolumeShared::new());
    let mut lane = lane(0, &shared);
    lane.set_table(table(&[0], limits(), OnNoPath::Queue), ms(0));
    for tag in 0..3 {
        submit(&mut lane, request(tag, Op::Read, 0, 1), ms(0));
    }
    submit(&mut lane, request(3, Op::Flush, 0, 0), ms(0));
    for send in sends(&mut lane) {
        answer(&mut lane, &send, Status::SUCCESS, ms(5));
    }
    let counted = shared.latencies(PathId(0));
    assert_eq!(counted.answers(), 3, "a flush says nothing about a read");
    let median = counted.quantile(500);
    assert!((ms(5)..ms(8)).contains(&median), "{median:?}");
}

#[test]
fn the_selector_changes_while_io_is_in_flight() {
    let mut lane = two_paths();
    let mut multibus = PathTable::clone(&table(&[0, 1], limits(), OnNoPath::Queue));
    multibus.groups = vec![GroupEntry {
        paths: vec![0, 1],
        priority: 1,
    }];
    let mut flying = Vec::new();
    for (tag, kind) in (0..).zip(SelectorKind::ALL) {
        multibus.selector.kind = *kind;
        lane.set_table(Arc::new(multibus.clone()), ms(tag));
        submit(&mut lane, request(tag as u16, Op::Write, tag, 1), ms(tag));
        flying.push(only_send(&mut lane));
    }
    for send in &flying {
        answer(&mut lane, send, Status::SUCCESS, ms(20));
    }
    assert_eq!(completions(&mut lane).len(), flying.len());
    multibus.selector.kind = SelectorKind::RoundRobin;
    multibus.selector.rr_min_io = 3;
    lane.set_table(Arc::new(multibus), ms(30));
    for tag in 0..6 {
        submit(&mut lane, request(tag, Op::Read, 0, 1), ms(30));
    }
    let taken: Vec<u8> = sends(&mut lane).iter().map(|send| send.path.0).collect();
    assert_eq!(taken, [0, 0, 0, 1, 1, 1], "turns of three from now on");
}

#[test]
fn what_one_path_cannot_do_another_does() {
    let mut lane = two_paths();
    let mut table = PathTable::clone(&table(&[0, 1], limits(), OnNoPath::Queue));
    table.paths[0].limits.discard_blocks_max = 0;
    table.paths[0].limits.write_zeroes_blocks_max = 0;
    lane.set_table(Arc::new(table.clone()), ms(0));
    for (tag, op) in [(0, Op::Discard), (1, Op::WriteZeroes)] {
        submit(&mut lane, request(tag, op, 0, 8), ms(1));
        let send = only_send(&mut lane);
        assert_eq!(send.path, PathId(1), "{op:?}");
        answer(&mut lane, &send, Status::SUCCESS, ms(2));
        assert_eq!(completions(&mut lane), [(tag, Ok(()))]);
    }
    // Where none can, the caller is told.
    table.paths[1].limits.discard_blocks_max = 0;
    table.generation += 1;
    lane.set_table(Arc::new(table), ms(3));
    submit(&mut lane, request(0, Op::Discard, 0, 8), ms(4));
    assert_eq!(completions(&mut lane), [(0, Err(BlockError::NotSupported))]);
}

/// One request after the other, each answered after 100 us on either path; one in `every` is a
/// flush. How many of the writes went to each path.
fn shares(kind: SelectorKind, every: u64) -> [u64; 2] {
    let mut lane = two_paths();
    let mut both = PathTable::clone(&table(&[0, 1], limits(), OnNoPath::Queue));
    both.groups = vec![GroupEntry {
        paths: vec![0, 1],
        priority: 1,
    }];
    both.selector.kind = kind;
    lane.set_table(Arc::new(both), ms(0));
    let mut writes = [0; 2];
    for number in 1..=10_000 {
        let now = Duration::from_micros(200 * number);
        let (op, blocks) = match number % every {
            0 => (Op::Flush, 0),
            _ => (Op::Write, 1),
        };
        submit(&mut lane, request(0, op, 0, blocks), now);
        let send = only_send(&mut lane);
        writes[usize::from(send.path.0)] += u64::from(blocks);
        let at = now + Duration::from_micros(100);
        answer(&mut lane, &send, Status::SUCCESS, at);
        assert_eq!(completions(&mut lane), [(0, Ok(()))]);
    }
    writes
}

/// The answer to a flush says nothing of latencies, and its path seemed to owe an answer until a
/// probe went there: paths took turns at carrying everything.
#[test]
fn a_flush_that_was_answered_leaves_nothing_owed() {
    for every in [3, 16, 100] {
        let [a, b] = shares(SelectorKind::Latency, every);
        assert!(a.min(b) * 4 > a + b, "a flush in {every}: {a} and {b}");
    }
}
