//! Rounds of a queue thread, one at a time: what goes out, what is answered, what is reported, and
//! for how long it would sleep.

mod rig;

use std::io;
use std::time::Duration;

use umpath_core::{
    AssociationId, BlockError, LaneCommand, LaneEvent, Op, PathId, QUEUE_PAIRS_MAX, Tag,
};
use umpath_engine::{Channel, Event, LaneReport};
use umpath_nvme::Status;
use umpath_nvme::opcode::nvm;
use umpath_transport::Loss;

use rig::{DRAIN_DEADLINE, Pair, Rig, SHIFT, Wish, ms};

#[test]
fn a_read_goes_out_with_one_doorbell_and_is_answered() {
    let mut rig = Rig::new();
    rig.submit(2, Op::Read, 4);
    assert_eq!(rig.round(ms(1)), Wish::GoOn, "a busy round does not sleep");
    assert_eq!(rig.pair(0).rung.len(), 1);
    assert_eq!(rig.pair(0).rung[0].opcode, nvm::READ);
    assert!(rig.pair(1).rung.is_empty());
    rig.pair(0).answer_all(Status::SUCCESS);
    rig.round(ms(2));
    assert_eq!(rig.answers(), [(2, Ok(4 << SHIFT))]);
    assert!(rig.reports().is_empty());
}

#[test]
fn an_idle_thread_sleeps_for_as_long_as_nothing_comes() {
    let mut rig = Rig::new();
    assert_eq!(rig.rest(ms(1)), None);
    rig.submit(0, Op::Flush, 0);
    // The ages of commands in flight are checked twice a second.
    assert_eq!(rig.rest(ms(1)), Some(ms(500)));
    assert!(rig.pair(0).armed, "an answer wakes the thread");
    assert!(!rig.pair(1).armed, "nothing is in flight there");
    rig.pair(0).answer_all(Status::SUCCESS);
    assert_eq!(rig.rest(ms(3)), None);
    assert_eq!(rig.answers(), [(0, Ok(0))]);
}

#[test]
fn an_answer_that_comes_before_arming_is_not_slept_over() {
    let mut rig = Rig::new();
    rig.submit(0, Op::Read, 1);
    rig.round(ms(1));
    rig.pair(0).answer_all(Status::SUCCESS);
    assert_eq!(rig.round(ms(1)), Wish::GoOn);
    assert_eq!(rig.answers().len(), 1);
}

#[test]
fn what_the_block_layer_should_not_send_is_refused() {
    let mut rig = Rig::new();
    let refused = Event::Refused {
        tag: Tag(1),
        error: BlockError::NotSupported,
    };
    rig.thread.frontend().arrived.push_back(refused);
    // More than the tag's buffer.
    rig.submit(3, Op::Write, 17);
    rig.rest(ms(1));
    let answers = [
        (1, Err(BlockError::NotSupported)),
        (3, Err(BlockError::Invalid)),
    ];
    assert_eq!(rig.answers(), answers);
}

#[test]
fn a_broken_queue_pair_is_reported_once_and_keeps_its_commands() {
    let mut rig = Rig::new();
    rig.submit(0, Op::Write, 1);
    rig.round(ms(1));
    rig.pair(0).failure = Some(io::ErrorKind::TimedOut);
    rig.rest(ms(2));
    let reports = rig.reports();
    let [
        LaneReport::Broken {
            association,
            why,
            at,
        },
    ] = &reports[..]
    else {
        panic!("{reports:?}");
    };
    assert_eq!((*association, *at), (AssociationId(0), ms(2)));
    assert!(matches!(why, Loss::Failed(_)));
    // Until the association is convicted nobody knows what became of the write.
    rig.rest(ms(3));
    assert!(rig.reports().is_empty());
    assert!(rig.answers().is_empty());
    assert!(rig.pair(1).rung.is_empty());
}

#[test]
fn a_closed_connection_is_reported() {
    let mut rig = Rig::new();
    let watched = &rig.thread.frontend().watched;
    let (pair, _) = watched[0];
    assert_eq!(watched.len(), 4, "both channels of both queue pairs");
    rig.pair(0).gone = true;
    let woke = Event::QueuePair {
        pair,
        channel: Channel::Connection,
        watched: false,
    };
    rig.thread.frontend().arrived.push_back(woke);
    rig.rest(ms(1));
    let again = rig.thread.frontend().watched.last().copied();
    assert_eq!(again, Some((pair, Channel::Connection)));
    let reports = rig.reports();
    assert!(matches!(
        reports[..],
        [LaneReport::Broken {
            association: AssociationId(0),
            why: Loss::Disconnected,
            ..
        }]
    ));
}

#[test]
fn a_conviction_drains_reports_and_sends_reads_again() {
    let mut rig = Rig::new();
    rig.submit(0, Op::Read, 1);
    rig.submit(1, Op::Write, 1);
    rig.round(ms(1));
    rig.command(LaneCommand::Convict(AssociationId(0)));
    // A drain is polled while nothing else wakes the thread.
    assert_eq!(rig.rest(ms(10)), Some(ms(20)));
    assert_eq!(rig.pair(0).deadline, Some(ms(10) + DRAIN_DEADLINE));
    assert!(rig.reports().is_empty());
    rig.pair(0).flushed = true;
    rig.round(ms(30));
    let reports = rig.reports();
    let [
        LaneReport::Drained {
            association: AssociationId(0),
            silent_at,
            transport: Some(_),
            quiet: true,
            at,
        },
        LaneReport::BufferFenced {
            association: AssociationId(0),
            ghosts,
            ..
        },
    ] = &reports[..]
    else {
        panic!("{reports:?}");
    };
    assert_eq!((*silent_at, *at), (Some(ms(10)), ms(30)));
    assert_eq!(ghosts.len(), 1, "the write's fate is unknown");
    assert_eq!(rig.pair(1).rung.len(), 1, "the read goes elsewhere");
    assert_eq!(rig.pair(1).rung[0].opcode, nvm::READ);
    let watched = &rig.thread.frontend().watched;
    assert_eq!(watched.len(), 2, "the drained one is watched no more");
}

#[test]
fn an_answer_that_arrived_before_the_end_counts() {
    let mut rig = Rig::new();
    rig.submit(1, Op::Write, 1);
    rig.round(ms(1));
    rig.command(LaneCommand::Convict(AssociationId(0)));
    rig.pair(0).answer_all(Status::SUCCESS);
    rig.pair(0).flushed = true;
    rig.rest(ms(2));
    assert_eq!(rig.answers(), [(1, Ok(1 << SHIFT))]);
    let ghosts = rig.reports().into_iter().find_map(|report| match report {
        LaneReport::BufferFenced { ghosts, .. } => Some(ghosts.len()),
        _ => None,
    });
    assert_eq!(ghosts, Some(0));
}

#[test]
fn memory_is_in_use_until_an_undrained_queue_pair_is_destroyed() {
    let mut rig = Rig::new();
    rig.submit(0, Op::Read, 1);
    rig.round(ms(1));
    rig.command(LaneCommand::Convict(AssociationId(0)));
    rig.rest(ms(10));
    // Time that passes inside a round counts: the drain is judged by the clock of the moment.
    rig.thread.frontend().now = ms(10) + DRAIN_DEADLINE;
    rig.thread.round(ms(11)).unwrap();
    let reports = rig.reports();
    assert!(
        matches!(
            reports[..],
            [LaneReport::Drained {
                association: AssociationId(0),
                transport: Some(_),
                quiet: false,
                ..
            }]
        ),
        "{reports:?}"
    );
    assert!(rig.thread.transport(AssociationId(0)).is_none());
    rig.rest(ms(600));
    assert!(rig.pair(1).rung.is_empty(), "its buffer is not ours yet");
    rig.command(LaneCommand::Destroyed(AssociationId(0)));
    rig.rest(ms(700));
    let reports = rig.reports();
    assert!(matches!(
        reports[..],
        [LaneReport::BufferFenced {
            association: AssociationId(0),
            ..
        }]
    ));
    assert_eq!(rig.pair(1).rung.len(), 1);
}

#[test]
fn silence_is_reported_when_it_is_proved() {
    let silent_at = |flushed: bool| {
        let mut rig = Rig::new();
        rig.pair(0).stuck = true;
        rig.command(LaneCommand::Convict(AssociationId(0)));
        rig.rest(ms(10));
        rig.pair(0).flushed = flushed;
        rig.rest(ms(600));
        rig.reports().into_iter().find_map(|report| match report {
            LaneReport::Drained { silent_at, .. } => Some(silent_at),
            _ => None,
        })
    };
    assert_eq!(silent_at(true), Some(None), "quiet is not silent");
    assert_eq!(silent_at(false), Some(None), "only destruction proves it");
}

#[test]
fn an_association_without_a_queue_pair_is_fenced_at_once() {
    let mut rig = Rig::new();
    rig.command(LaneCommand::Convict(AssociationId(9)));
    rig.rest(ms(1));
    let reports = rig.reports();
    assert!(matches!(
        reports[..],
        [
            LaneReport::Drained {
                transport: None,
                quiet: true,
                ..
            },
            LaneReport::BufferFenced { .. }
        ]
    ));
}

#[test]
fn a_stopped_thread_hands_its_queue_pairs_back() {
    let mut rig = Rig::new();
    rig.command(LaneCommand::Snapshot);
    rig.command(LaneCommand::Stop);
    rig.round(ms(1));
    assert!(rig.thread.is_over());
    let [LaneReport::Stats(stats)] = &rig.reports()[..] else {
        panic!("no counters");
    };
    assert_eq!(stats.queue.in_flight, 0);
    assert_eq!(stats.queue.oldest_waiting, Duration::ZERO);
    let reported = rig.end();
    let [
        LaneReport::Ended {
            transports,
            outcome: Ok(()),
        },
    ] = &reported[..]
    else {
        panic!("{reported:?}");
    };
    assert_eq!(transports.len(), 2);
}

#[test]
#[should_panic(expected = "before the tag's last one was answered")]
fn a_tag_carries_one_request_at_a_time() {
    let mut rig = Rig::new();
    rig.submit(0, Op::Read, 1);
    rig.submit(0, Op::Read, 1);
    rig.round(ms(1));
}

#[test]
#[should_panic(expected = "is still here")]
fn a_queue_pair_that_is_here_was_not_destroyed() {
    let mut rig = Rig::new();
    rig.command(LaneCommand::Convict(AssociationId(0)));
    rig.command(LaneCommand::Destroyed(AssociationId(0)));
    rig.round(ms(1));
}

fn silences(rig: &mut Rig) -> usize {
    let silent = |report: &LaneReport<Pair>| {
        matches!(
            report,
            LaneReport::Event {
                event: LaneEvent::QueueSilent { .. },
                ..
            }
        )
    };
    rig.reports().iter().filter(|report| silent(report)).count()
}

#[test]
fn a_slow_controller_makes_no_silent_queue_pair() {
    let mut rig = Rig::new();
    rig.submit(0, Op::Read, 1);
    rig.round(ms(1));
    rig.rest(ms(1_600));
    assert_eq!(silences(&mut rig), 0, "it has the command");
    rig.pair(0).cut_off = true;
    rig.rest(ms(2_200));
    assert_eq!(silences(&mut rig), 1);
}

#[test]
fn a_queue_pair_is_given_up_alone_and_another_takes_its_place() {
    let mut rig = Rig::new();
    rig.submit(0, Op::Read, 1);
    rig.round(ms(1));
    rig.command(LaneCommand::GiveUpQueue(AssociationId(0)));
    rig.command(LaneCommand::GiveUpQueue(AssociationId(9)));
    rig.rest(ms(10));
    assert!(rig.reports().is_empty());
    rig.pair(0).flushed = true;
    rig.rest(ms(30));
    let reports = rig.reports();
    assert!(
        matches!(
            &reports[..],
            [
                LaneReport::Drained { transport: Some(_), quiet: true, .. },
                LaneReport::BufferFenced { ghosts, .. },
            ] if ghosts.is_empty()
        ),
        "{reports:?}"
    );
    assert_eq!(rig.pair(1).rung.len(), 1, "the read goes elsewhere");
    rig.command(LaneCommand::Attach {
        path: PathId(0),
        association: AssociationId(0),
        transport: Pair::new(),
    });
    rig.submit(1, Op::Write, 1);
    rig.rest(ms(40));
    assert_eq!(rig.pair(0).rung.len(), 1);
}

#[test]
fn a_queue_pair_with_a_write_in_flight_stays() {
    let mut rig = Rig::new();
    rig.submit(0, Op::Write, 1);
    rig.round(ms(1));
    rig.command(LaneCommand::GiveUpQueue(AssociationId(0)));
    rig.rest(ms(10));
    assert_eq!(rig.pair(0).deadline, None);
    rig.pair(0).answer_all(Status::SUCCESS);
    rig.rest(ms(20));
    assert_eq!(rig.answers().len(), 1);
}

/// Its queue pair was given up alone and not drained: a conviction proves nothing that is not true.
#[test]
fn a_conviction_waits_for_the_end_of_a_queue_pair_given_up_before() {
    let mut rig = Rig::new();
    rig.submit(0, Op::Read, 1);
    rig.round(ms(1));
    rig.pair(0).stuck = true;
    rig.command(LaneCommand::GiveUpQueue(AssociationId(0)));
    rig.rest(ms(10));
    rig.rest(ms(20) + DRAIN_DEADLINE);
    let reports = rig.reports();
    assert!(matches!(
        reports[..],
        [LaneReport::Drained {
            silent_at: None,
            quiet: false,
            ..
        }]
    ));
    rig.command(LaneCommand::Convict(AssociationId(0)));
    rig.rest(ms(600));
    assert!(
        rig.reports().is_empty(),
        "it may still send, and write memory"
    );
    assert!(rig.pair(1).rung.is_empty());
    rig.command(LaneCommand::Destroyed(AssociationId(0)));
    rig.rest(ms(700));
    let reports = rig.reports();
    assert!(matches!(reports[..], [LaneReport::BufferFenced { .. }]));
    assert_eq!(rig.pair(1).rung.len(), 1);
}

/// The host used to believe that the thread used it.
#[test]
fn a_queue_pair_there_is_no_room_for_is_handed_back_and_called_broken() {
    let mut rig = Rig::new();
    // Each one drains for as long as it may, and the next one comes.
    let last = come_and_go(&mut rig);
    rig.round(ms(1));
    refused(&rig.reports(), last);
}

/// The thread used to take it into use, and the lane, which waited for the end of others, not.
#[test]
fn a_queue_pair_the_lane_has_no_room_for_is_handed_back_and_called_broken() {
    let mut rig = Rig::new();
    let last = come_and_go(&mut rig) + 1;
    rig.round(ms(1));
    rig.rest(ms(2) + DRAIN_DEADLINE);
    assert!(
        rig.thread.transport(AssociationId(2)).is_none(),
        "undrained"
    );
    drop(rig.reports());
    come(&mut rig, last);
    rig.round(ms(1_000));
    refused(&rig.reports(), last);
    assert!(rig.thread.transport(AssociationId(last)).is_none());
    rig.command(LaneCommand::Convict(AssociationId(last)));
    rig.round(ms(1_001));
    let reports = rig.reports();
    assert!(
        matches!(
            reports[..],
            [
                LaneReport::Drained {
                    transport: None,
                    ..
                },
                LaneReport::BufferFenced { .. }
            ]
        ),
        "{reports:?}"
    );
}

/// A queue pair of another association of path 1.
fn come(rig: &mut Rig, association: u64) {
    rig.command(LaneCommand::Attach {
        path: PathId(1),
        association: AssociationId(association),
        transport: Pair::new(),
    });
}

/// As many associations as a thread has room for are given up, and one more comes: which.
fn come_and_go(rig: &mut Rig) -> u64 {
    let last = QUEUE_PAIRS_MAX as u64;
    for number in 2..=last {
        rig.command(LaneCommand::Convict(AssociationId(number - 1)));
        come(rig, number);
    }
    last
}

fn refused(reports: &[LaneReport<Pair>], association: u64) {
    assert!(
        matches!(
            reports,
            [
                LaneReport::Drained {
                    association: AssociationId(drained),
                    transport: Some(_),
                    quiet: true,
                    ..
                },
                LaneReport::Broken {
                    association: AssociationId(broken),
                    why: Loss::Crowded,
                    ..
                },
            ] if (*drained, *broken) == (association, association)
        ),
        "{} reports",
        reports.len()
    );
}
