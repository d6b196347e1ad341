//! I/O queues: which of them an association has, and which identifiers.

use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::Status;
use umpath_session::{Controller, Event, SessionConfig};

use crate::model::Model;
use crate::rig::{CablePulled, Fault, Rig, config, controller_with};

/// A ready session with one namespace's queues, and more granted.
fn with_queues_to_spare() -> Rig<Controller> {
    let config = SessionConfig {
        io_queues: 8,
        io_queues_per_namespace: 2,
        ..config()
    };
    let mut model = Model::new();
    model.queues = 8;
    let mut rig = controller_with(model, config);
    assert!(rig.ready().io_queues.len() < 8);
    rig.events.clear();
    rig
}

fn added(rig: &mut Rig<Controller>) -> Vec<u16> {
    match rig.event() {
        Some(Event::QueuesAdded(qids)) => qids,
        other => panic!("{other:?}"),
    }
}

#[test]
fn io_queues_can_be_added_to_a_ready_association() {
    let mut rig = with_queues_to_spare();
    let before = rig.opened.iter().map(|(qid, ..)| *qid).max().unwrap();
    let now = rig.now;
    assert!(rig.session.add_io_queues(2, now));
    assert!(!rig.session.add_io_queues(1, now), "one thing at a time");
    rig.settle();
    assert_eq!(added(&mut rig), [before + 1, before + 2]);
    assert!(
        !rig.session.add_io_queues(100, now),
        "more than are granted"
    );
    assert!(!rig.over);
}

#[test]
fn an_io_queue_that_cannot_be_added_costs_nothing_but_itself() {
    for fault in [
        Fault::Lose,
        Fault::Silence,
        Fault::Status(Status::INVALID_OPCODE),
    ] {
        for exchange in 0..2 {
            let mut rig = with_queues_to_spare();
            rig.faults.insert(rig.exchanges + exchange, fault);
            let now = rig.now;
            assert!(rig.session.add_io_queues(1, now));
            rig.settle();
            rig.run_for(Duration::from_secs(12));
            let qids = added_among(&mut rig);
            assert!(qids.is_empty(), "{fault:?} at {exchange}: {qids:?}");
            assert!(!rig.over, "{fault:?} at {exchange}");
            let now = rig.now;
            assert!(rig.session.add_io_queues(1, now), "another one may do");
            rig.settle();
            assert_eq!(added_among(&mut rig).len(), 1, "{fault:?} at {exchange}");
        }
    }
}

/// One that failed gave up the others of the same addition, and what came of those ended the association.
#[test]
fn io_queues_that_cannot_be_added_together_cost_nothing_but_themselves() {
    let faults = [
        Fault::Lose,
        Fault::Silence,
        Fault::WrongCommand,
        Fault::Status(Status::INVALID_OPCODE),
    ];
    for (first, second) in faults.iter().flat_map(|a| faults.map(|b| (*a, b))) {
        for (i, j) in [(0, 1), (1, 1), (2, 2), (2, 3), (3, 3)] {
            let mut rig = with_queues_to_spare();
            rig.faults.insert(rig.exchanges + i, first);
            rig.faults.insert(rig.exchanges + j, second);
            let (now, before) = (rig.now, rig.opened.len());
            assert!(rig.session.add_io_queues(2, now));
            rig.settle();
            rig.run_for(Duration::from_secs(12));
            let scene = format!("{first:?} at {i}, {second:?} at {j}");
            let failed = 1 + usize::from(i / 2 != j / 2 || i % 2 != j % 2);
            let had = added_among(&mut rig);
            assert!(
                had.len() <= 1 && had.len() + failed >= 2,
                "{scene}: {had:?}"
            );
            // A controller closes queues that nobody connects.
            for (qid, ..) in rig.opened.split_off(before) {
                if rig.open.contains(&qid) && !had.contains(&qid) {
                    rig.session.handle_queue_failed(qid, Arc::new(CablePulled));
                }
            }
            rig.settle();
            assert!(!rig.over, "{scene}");
        }
    }
}

/// The next queues added, keep-alives aside.
fn added_among(rig: &mut Rig<Controller>) -> Vec<u16> {
    loop {
        match rig.event() {
            Some(Event::QueuesAdded(qids)) => return qids,
            Some(Event::KeepAlive { .. } | Event::KeepAliveMissed { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

const REFUSED: Fault = Fault::Status(Status::CONNECT_CONTROLLER_BUSY);

/// Two queues for each of two namespaces, of `granted`.
fn two_each(granted: u16) -> Rig<Controller> {
    let config = SessionConfig {
        io_queues: granted,
        io_queues_per_namespace: 2,
        ..config()
    };
    let model = Model {
        queues: granted,
        ..Model::new()
    };
    controller_with(model, config)
}

/// The exchanges of a bring-up before its I/O queues are opened.
fn first_open() -> usize {
    let mut rig = two_each(8);
    rig.ready();
    let io = 4;
    let keep_alives = rig.sent.iter().rev();
    let after = keep_alives.take_while(|(qid, _)| *qid == 0).count();
    rig.exchanges - after - 2 * io
}

/// One that failed used to end every attempt, although the others had connected.
#[test]
fn an_association_is_ready_with_the_io_queues_that_connected() {
    let first = first_open();
    let (opens, all) = (0..4, 0..8);
    for (fault, exchanges) in [
        (Fault::Lose, opens.clone()),
        (Fault::Silence, opens),
        (REFUSED, all),
    ] {
        for exchange in exchanges {
            let scene = format!("{fault:?} at {exchange}");
            let mut rig = two_each(8);
            rig.faults.insert(first + exchange, fault);
            rig.run_for(Duration::from_secs(12));
            let ready = rig.events.iter().find_map(|event| match event {
                Event::Ready(ready) => Some(ready.io_queues.clone()),
                _ => None,
            });
            let missing = 1 + exchange as u16 % 4;
            let others: Vec<u16> = (1..=4).filter(|qid| *qid != missing).collect();
            assert_eq!(ready, Some(others), "{scene}");
            assert!(!rig.over, "{scene}");
            rig.events.clear();
            let now = rig.now;
            assert!(rig.session.add_io_queues(1, now), "{scene}");
            rig.settle();
            assert_eq!(added_among(&mut rig).len(), 1, "{scene}");
        }
    }
}

#[test]
fn an_association_without_any_io_queue_is_a_failed_attempt() {
    let first = first_open();
    for fault in [Fault::Lose, Fault::Silence, Fault::WrongCommand, REFUSED] {
        for opens_or_connects in [first..first + 4, first + 4..first + 8] {
            let mut rig = two_each(8);
            rig.faults.extend(opens_or_connects.map(|at| (at, fault)));
            rig.failure();
        }
    }
}

/// A namespace that comes later may need the identifier: only a new association has all again.
#[test]
fn an_identifier_that_cannot_be_used_again_fails_the_attempt() {
    let first = first_open();
    for fault in [Fault::Lose, Fault::Silence, Fault::WrongCommand] {
        for granted in [4, 8] {
            let mut rig = two_each(granted);
            rig.faults.insert(first + 4, fault);
            rig.failure();
        }
    }
    let mut rig = two_each(4);
    rig.faults.insert(first + 4, REFUSED);
    assert_eq!(rig.ready().io_queues, [2, 3, 4]);
    let now = rig.now;
    assert!(rig.session.add_io_queues(1, now));
    rig.settle();
    assert_eq!(added_among(&mut rig), [1]);
}

/// Adds one queue, which a fault befalls at its opening (0) or its Connect (1); whether it was asked for.
fn add_one(rig: &mut Rig<Controller>, fault: Option<(usize, Fault)>) -> bool {
    if let Some((exchange, fault)) = fault {
        rig.faults.insert(rig.exchanges + exchange, fault);
    }
    let now = rig.now;
    let begun = rig.session.add_io_queues(1, now);
    rig.settle();
    begun
}

/// Failed additions used up the identifiers of an association.
#[test]
fn an_identifier_is_used_again_unless_the_controller_may_hold_it() {
    let never_was = [(0, Fault::Lose), (1, REFUSED)];
    for fault in never_was {
        let mut rig = with_queues_to_spare();
        for _ in 0..20 {
            assert!(add_one(&mut rig, Some(fault)), "{fault:?}");
            assert_eq!(added_among(&mut rig), [], "{fault:?}");
        }
        for _ in 0..4 {
            assert!(add_one(&mut rig, None), "{fault:?}");
            assert_eq!(added_among(&mut rig).len(), 1, "{fault:?}");
        }
        assert!(!add_one(&mut rig, None), "all are in use");
    }
    let may_be = [
        (1, Fault::Lose),
        (1, Fault::Silence),
        (1, Fault::WrongCommand),
        // The controller says that it holds it.
        (1, Fault::Status(Status::COMMAND_SEQUENCE_ERROR)),
    ];
    for fault in may_be {
        let mut rig = with_queues_to_spare();
        for _ in 0..4 {
            assert!(add_one(&mut rig, Some(fault)), "{fault:?}");
            rig.run_for(Duration::from_secs(12));
            assert_eq!(added_among(&mut rig), [], "{fault:?}");
        }
        assert!(!add_one(&mut rig, None), "{fault:?}");
        assert!(!rig.over, "{fault:?}");
    }
}

/// What was given up may still come, and says then whether the controller holds a queue.
#[test]
fn a_late_answer_frees_the_identifier_of_a_queue_given_up() {
    let mut rig = with_queues_to_spare();
    assert!(add_one(&mut rig, Some((0, Fault::Silence))));
    rig.run_for(Duration::from_secs(12));
    assert_eq!(added_among(&mut rig), []);
    let late = rig.opened.last().unwrap().0;
    assert!(rig.open.contains(&late));
    let now = rig.now;
    rig.session.handle_queue_connected(late, now);
    rig.settle();
    assert!(!rig.open.contains(&late), "it is closed");
    for _ in 0..4 {
        assert!(add_one(&mut rig, None));
        assert_eq!(added_among(&mut rig).len(), 1);
    }
    assert_eq!(rig.opened.last().unwrap().0, late);
}
