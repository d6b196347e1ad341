//! One lane in hand-made situations: what exactly goes out, and when.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::policies::SelectorConfig;
use umpath_core::{
    Action, AssociationId, BlockError, BlockRequest, Data, GroupEntry, Lane, LaneConfig, LaneEvent,
    LaneId, Limits, OnNoPath, Op, PathEntry, PathId, PathTable, Send, SubmitError, Tag,
    VolumeShared,
};
use umpath_nvme::command::io::{DsmRange, ReadWrite, WriteZeroes};
use umpath_nvme::{Cqe, FromBytes, Status};

const SHIFT: u8 = 12;
const BLOCK: u32 = 1 << SHIFT;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn limits() -> Limits {
    Limits {
        transfer_bytes_max: 4 * BLOCK,
        write_zeroes_blocks_max: 100,
        write_zeroes_deallocate: true,
        discard_blocks_max: 1_000,
        retry_delays: [ms(300), ms(0), ms(0)],
    }
}

/// Path `n` has association `n` and is in group `n`.
fn table(paths: &[u8], limits: Limits, on_no_path: OnNoPath) -> Arc<PathTable> {
    let entry = |number: &u8| PathEntry {
        path: PathId(*number),
        association: AssociationId(u64::from(*number)),
        usable: true,
        nsid: 7,
        limits,
        priority: 50 - i32::from(*number),
        ana: None,
        ana_epoch: 1,
        steering: umpath_core::Steering::default(),
    };
    Arc::new(PathTable {
        generation: 1,
        lba_shift: SHIFT,
        paths: paths.iter().map(entry).collect(),
        groups: (0..paths.len() as u8)
            .map(|at| GroupEntry {
                paths: vec![at],
                priority: 1,
            })
            .collect(),
        active: (!paths.is_empty()).then_some(0),
        on_no_path,
        selector: SelectorConfig::default(),
    })
}

fn lane(id: u16, shared: &Arc<VolumeShared>) -> Lane {
    let config = LaneConfig {
        id: LaneId(id),
        tags: 16,
        buffer_bytes: 256 * BLOCK,
        lba_shift: SHIFT,
    };
    let mut lane = Lane::new(
        config,
        Arc::new(PathTable::empty(SHIFT)),
        Arc::clone(shared),
    );
    for path in 0..2 {
        lane.attach(PathId(path), AssociationId(u64::from(path)), 32, ms(0));
    }
    lane
}

/// A lane with path 0 active and path 1 as standby.
fn two_paths() -> Lane {
    let mut lane = lane(0, &Arc::new(VolumeShared::new()));
    lane.set_table(table(&[0, 1], limits(), OnNoPath::Queue), ms(0));
    lane
}

fn request(tag: u16, op: Op, lba: u64, blocks: u32) -> BlockRequest {
    BlockRequest {
        tag: Tag(tag),
        op,
        lba,
        blocks,
        fua: false,
        no_unmap: false,
    }
}

type Completion = (u16, Result<(), BlockError>);

fn actions(lane: &mut Lane) -> (Vec<Send>, Vec<Completion>) {
    let (mut sends, mut completions) = (Vec::new(), Vec::new());
    while let Some(action) = lane.poll_action() {
        match action {
            Action::Send(send) => sends.push(send),
            Action::Complete { tag, result } => completions.push((tag.0, result)),
        }
    }
    (sends, completions)
}

fn sends(lane: &mut Lane) -> Vec<Send> {
    let (sends, completions) = actions(lane);
    assert_eq!(completions, []);
    sends
}

fn only_send(lane: &mut Lane) -> Send {
    let mut sends = sends(lane);
    assert_eq!(sends.len(), 1, "{sends:?}");
    sends.remove(0)
}

fn completions(lane: &mut Lane) -> Vec<Completion> {
    let (sends, completions) = actions(lane);
    assert_eq!(sends, []);
    completions
}

fn events(lane: &mut Lane) -> Vec<LaneEvent> {
    std::iter::from_fn(|| lane.poll_event()).collect()
}

fn submit(lane: &mut Lane, request: BlockRequest, now: Duration) {
    lane.submit(request, now)
        .expect("a request that makes sense");
}

fn answer(lane: &mut Lane, send: &Send, status: Status, now: Duration) {
    let cqe = Cqe::new(send.sqe.cid.get(), 0, status, 0);
    lane.complete(send.path, send.association, &cqe, now);
}

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
    lane.set_table(table(&[0], Limits::default(), OnNoPath::Queue), ms(0));
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
        if let Some(at) = lane.poll_timeout() {
            assert_eq!(sends(&mut lane), []);
            assert!(at <= now + ms(1_000));
            lane.handle_timeout(at);
        }
        send = only_send(&mut lane);
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
    submit(&mut lane, request(4, Op::Write, 9, 1), ms(102));
    assert_eq!(
        sends(&mut lane),
        [],
        "new mutations are held from the conviction on"
    );
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

    lane.drained(AssociationId(0), ms(110));
    let tags: Vec<u16> = sends(&mut lane).iter().map(|send| send.tag.0).collect();
    assert_eq!(tags, [0, 2], "reads and flushes at the buffer fence");
    answer(&mut lane, &first[0], Status::SUCCESS, ms(111));
    assert_eq!((completions(&mut lane), lane.stats().stale), (vec![], 1));

    lane.fenced(AssociationId(0), ms(2_000));
    let ghost = only_send(&mut lane);
    assert_eq!(
        (ghost.tag, ghost.path),
        (Tag(1), PathId(1)),
        "the lost mutation alone"
    );
    answer(&mut lane, &ghost, Status::SUCCESS, ms(2_001));
    let (released, done) = actions(&mut lane);
    assert_eq!(done, [(1, Ok(()))]);
    assert_eq!(
        released.iter().map(|send| send.tag.0).collect::<Vec<_>>(),
        [4]
    );
    assert_eq!(events(&mut lane), [LaneEvent::HoldEnded]);
}

#[test]
fn a_hold_reaches_the_other_lanes() {
    let shared = Arc::new(VolumeShared::new());
    let (mut one, mut other) = (lane(0, &shared), lane(1, &shared));
    let both = table(&[0, 1], limits(), OnNoPath::Queue);
    one.set_table(Arc::clone(&both), ms(0));
    other.set_table(Arc::clone(&both), ms(0));
    submit(&mut one, request(0, Op::Write, 0, 1), ms(1));
    sends(&mut one);
    one.convict(AssociationId(0), ms(2));
    assert_eq!(shared.held(), 1);
    for (tag, lba) in [(0, 10), (1, 20), (2, 30)] {
        submit(&mut other, request(tag, Op::Write, lba, 1), ms(3));
    }
    assert_eq!(sends(&mut other), []);
    other.convict(AssociationId(0), ms(3));
    for lane in [&mut one, &mut other] {
        lane.drained(AssociationId(0), ms(4));
    }
    for lane in [&mut one, &mut other] {
        lane.fenced(AssociationId(0), ms(5));
    }
    assert_eq!(sends(&mut other), [], "the lost one first");
    let ghost = only_send(&mut one);
    answer(&mut one, &ghost, Status::SUCCESS, ms(6));
    assert_eq!(completions(&mut one), [(0, Ok(()))]);
    assert!(events(&mut one).contains(&LaneEvent::HoldEnded));
    other.set_table(both, ms(7));
    let order: Vec<u16> = sends(&mut other).iter().map(|send| send.tag.0).collect();
    assert_eq!(order, [0, 1, 2], "first come, first served");
}

#[test]
fn a_lost_write_failed_to_the_caller_stays_locked_until_the_fence() {
    let shared = Arc::new(VolumeShared::new());
    let mut lane = lane(0, &shared);
    lane.set_table(table(&[0], limits(), OnNoPath::Queue), ms(0));
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(1));
    sends(&mut lane);
    lane.drained(AssociationId(0), ms(2));
    lane.fail_queued(ms(3));
    assert_eq!(completions(&mut lane), [(0, Err(BlockError::Io))]);
    assert_eq!(shared.held(), 1);
    lane.set_table(table(&[1], limits(), OnNoPath::Queue), ms(4));
    submit(&mut lane, request(0, Op::Write, 0, 1), ms(5));
    assert_eq!(sends(&mut lane), []);
    lane.fenced(AssociationId(0), ms(6));
    assert_eq!(only_send(&mut lane).path, PathId(1));
    assert_eq!(shared.held(), 0);
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
    assert_eq!((shared.held(), shared.in_flight(PathId(0))), (0, 0));
}

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
    lane.drained(AssociationId(0), ms(2));
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
    for (tag, kind) in (0..).zip(umpath_core::policies::SelectorKind::ALL) {
        multibus.selector.kind = *kind;
        lane.set_table(Arc::new(multibus.clone()), ms(tag));
        submit(&mut lane, request(tag as u16, Op::Write, tag, 1), ms(tag));
        flying.push(only_send(&mut lane));
    }
    for send in &flying {
        answer(&mut lane, send, Status::SUCCESS, ms(20));
    }
    assert_eq!(completions(&mut lane).len(), flying.len());
}
