//! Ready and after: keep-alives, events, shutdown.

use std::time::Duration;

use umpath_nvme::log::AnaState;
use umpath_nvme::opcode::admin;
use umpath_nvme::{AsyncEvent, Sqe, Status, U16};
use umpath_session::{Controller, Event};

use crate::bring_up::words;
use crate::model::Model;
use crate::rig::{Fault, MS, Rig, controller};

#[test]
fn keep_alives_are_sent_and_their_answers_reported() {
    let mut rig = controller(Model::new());
    rig.run_for(1050 * MS);
    let answered = rig
        .events
        .iter()
        .filter(|event| matches!(event, Event::KeepAlive { .. }));
    // The first is due one heartbeat after the controller was enabled.
    assert_eq!(answered.count(), 10);
    rig.model.answers_keep_alives = false;
    rig.events.clear();
    rig.run_for(450 * MS);
    let missed: Vec<_> = rig
        .events
        .iter()
        .map(|event| match event {
            Event::KeepAliveMissed { count } => *count,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(missed, [1, 2, 3]);
    assert!(!rig.over, "conviction is not the session's");
}

/// Number of the exchange that is the first Identify.
fn first_identify() -> usize {
    let mut rig = controller(Model::new());
    rig.run_for(60 * MS);
    let of = |(_, sqe): &(u16, Sqe)| sqe.opcode == admin::IDENTIFY;
    // One more: opening the queue was an exchange, and no command.
    rig.sent.iter().position(of).expect("an Identify") + 1
}

/// Timers of 300 ms used to run out while a slow controller was still identified.
#[test]
fn keep_alives_begin_when_the_controller_is_enabled() {
    let mut rig = controller(Model::new());
    rig.faults.insert(first_identify(), Fault::Silence);
    rig.run_for(1050 * MS);
    let answered = |event: &&Event| matches!(event, Event::KeepAlive { .. });
    assert_eq!(rig.events.iter().filter(answered).count(), 10);
    assert!(rig.session.facts().is_none(), "not identified yet");
}

#[test]
fn a_keep_alive_refused_before_the_controller_says_whether_it_takes_any_ends_nothing() {
    let mut model = Model::new();
    model.id.kas = U16::ZERO;
    let mut rig = controller(model);
    let identify = first_identify();
    rig.faults.insert(identify, Fault::Silence);
    rig.faults
        .insert(identify + 1, Fault::Status(Status::INVALID_OPCODE));
    rig.run_for(500 * MS);
    assert_eq!(words(&rig).matches("alive").count(), 1);
    rig.release();
    rig.ready();
    assert_eq!(words(&rig).matches("alive").count(), 1);
}

#[test]
fn a_whole_timeout_without_answer_ends_the_association() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.answers_keep_alives = false;
    rig.run_for(Duration::from_millis(4900));
    assert!(!rig.over);
    let alive = words(&rig).matches("alive").count();
    assert!(
        rig.failure()
            .to_string()
            .contains("keep the association alive")
    );
    // Ten were answered; only a few stay outstanding however long the silence.
    assert!(alive <= 10 + 4, "{alive}");
}

#[test]
fn a_refused_keep_alive_ends_the_association() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.faults
        .insert(rig.exchanges, Fault::Status(Status::KEEP_ALIVE_EXPIRED));
    assert!(
        rig.failure()
            .to_string()
            .starts_with("controller refused a keep-alive")
    );
}

#[test]
fn an_ana_change_is_read_and_reported_once() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.ana[0].1 = AnaState::Inaccessible;
    rig.model.ana_count += 1;
    rig.raise(AsyncEvent::ANA_CHANGE);
    match rig.event() {
        Some(Event::AnaChanged(table)) => {
            assert_eq!(table.state(1, 1), Some(AnaState::Inaccessible));
            assert_eq!(table.change_count, 2);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.model.waiting_events(), 4, "the request is replaced");
    rig.raise(AsyncEvent::ANA_CHANGE);
    assert!(rig.event().is_none(), "nothing changed");
    rig.session.refresh_ana(rig.now);
    rig.settle();
    assert_eq!(words(&rig).matches("logc").count(), 4);
    assert!(
        matches!(rig.event(), Some(Event::AnaChanged(_))),
        "the host asked, and waits for an answer"
    );
}

#[test]
fn a_storm_of_ana_events_costs_one_read_at_a_time_and_ends_in_the_last_state() {
    let mut rig = controller(Model::new());
    rig.ready();
    let reads = |rig: &Rig<Controller>| words(rig).matches("logc").count();
    let before = reads(&rig);
    // The first read is under way while all the others are announced.
    rig.faults.insert(rig.exchanges, Fault::Silence);
    rig.raise(AsyncEvent::ANA_CHANGE);
    for round in 0..100 {
        rig.model.ana[0].1 = match round % 3 {
            0 => AnaState::Inaccessible,
            1 => AnaState::NonOptimized,
            _ => AnaState::Change,
        };
        rig.model.ana_count += 1;
        rig.raise(AsyncEvent::ANA_CHANGE);
    }
    rig.model.ana[0].1 = AnaState::NonOptimized;
    rig.model.ana_count += 1;
    rig.raise(AsyncEvent::ANA_CHANGE);
    assert_eq!(reads(&rig), before + 1);
    rig.release();
    assert_eq!(reads(&rig), before + 2, "one more read, not a hundred");
    let mut last = None;
    while let Some(Event::AnaChanged(table)) = rig.event() {
        last = table.state(1, 1);
    }
    assert_eq!(last, Some(AnaState::NonOptimized));
}

#[test]
fn a_transition_is_looked_at_again_after_anatt_although_no_event_came() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.ana[0].1 = AnaState::Change;
    rig.model.ana_count += 1;
    rig.raise(AsyncEvent::ANA_CHANGE);
    let Some(Event::AnaChanged(table)) = rig.event() else {
        panic!()
    };
    assert!(table.is_changing());
    // It ends, and the event is lost.
    rig.model.ana[0].1 = AnaState::Optimized;
    rig.model.ana_count += 1;
    rig.run_for(Duration::from_millis(9_900));
    assert!(rig.event().is_none());
    rig.run_for(Duration::from_millis(200));
    match rig.event() {
        Some(Event::AnaChanged(table)) => {
            assert_eq!(table.state(1, 1), Some(AnaState::Optimized));
        }
        other => panic!("{other:?}"),
    }
    let reads = words(&rig).matches("logc").count();
    rig.run_for(Duration::from_secs(60));
    assert_eq!(words(&rig).matches("logc").count(), reads, "settled");
}

#[test]
fn a_namespace_that_moves_to_another_group_is_found_there() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.ana = vec![
        (1, AnaState::Optimized, Vec::new()),
        (2, AnaState::NonOptimized, vec![1, 5]),
    ];
    rig.model.ana_count += 1;
    rig.raise(AsyncEvent::ANA_CHANGE);
    let Some(Event::AnaChanged(table)) = rig.event() else {
        panic!()
    };
    assert_eq!(table.group_of(1, 1), 2, "the log knows better");
    assert_eq!(table.state(1, 1), Some(AnaState::NonOptimized));
    assert_eq!(table.group_of(9, 3), 3, "not listed: as Identify said");
}

#[test]
fn a_failed_ana_read_keeps_the_last_state_and_is_repeated() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.ana[0].1 = AnaState::NonOptimized;
    rig.faults
        .insert(rig.exchanges, Fault::Status(Status::INTERNAL_ERROR));
    rig.raise(AsyncEvent::ANA_CHANGE);
    assert!(matches!(rig.event(), Some(Event::AnaStale(_))));
    rig.run_for(900 * MS);
    assert!(rig.event().is_none());
    rig.run_for(200 * MS);
    assert!(matches!(rig.event(), Some(Event::AnaChanged(_))));
    assert!(!rig.over);
}

#[test]
fn other_events_are_passed_on() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.raise(AsyncEvent::FIRMWARE_ACTIVATION);
    assert!(matches!(
        rig.event(),
        Some(Event::Notice(AsyncEvent::FIRMWARE_ACTIVATION))
    ));
}

#[test]
fn shutdown_waits_for_the_controller() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.session.shutdown(rig.now);
    rig.session.shutdown(rig.now);
    rig.run_for(100 * MS);
    assert_eq!(rig.model.cc.0, 0x0046_4061);
    assert!(matches!(rig.event(), Some(Event::Closed { orderly: true })));
}

#[test]
fn shutdown_is_bounded_by_what_the_controller_announced() {
    let mut rig = controller(Model {
        polls_until_shut_down: u32::MAX,
        ..Model::new()
    });
    rig.ready();
    rig.session.shutdown(rig.now);
    rig.run_for(1990 * MS);
    assert!(!rig.over);
    rig.run_for(20 * MS);
    assert!(matches!(
        rig.event(),
        Some(Event::Closed { orderly: false })
    ));
}

#[test]
fn losing_the_controller_while_stopping_is_no_failure() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.faults.insert(rig.exchanges + 1, Fault::Lose);
    rig.session.shutdown(rig.now);
    rig.settle();
    assert!(matches!(
        rig.event(),
        Some(Event::Closed { orderly: false })
    ));
}

#[test]
fn shutdown_in_the_middle_of_a_read_abandons_it() {
    // The withheld answer may come at any time: before each of the shutdown's own, or never.
    for late in 0..5 {
        let mut rig = controller(Model::new());
        rig.ready();
        rig.faults.insert(rig.exchanges, Fault::Silence);
        rig.session.refresh_ana(rig.now);
        rig.settle();
        rig.session.shutdown(rig.now);
        rig.run_for(late * 7 * MS);
        if let (Some((qid, mut cqe, data)), false) = (rig.held.pop(), rig.over) {
            cqe.status.set(Status::INTERNAL_ERROR.to_wire());
            rig.session.handle_response(qid, &cqe, &data, rig.now);
        }
        rig.run_for(100 * MS);
        assert_eq!(rig.model.cc.0, 0x0046_4061);
        assert!(
            matches!(rig.event(), Some(Event::Closed { orderly: true })),
            "{late}"
        );
    }
}

#[test]
fn shutdown_at_any_moment_of_the_bring_up_closes() {
    for after in 0..80 {
        let mut rig = controller(Model::new());
        rig.run_for(after * MS);
        rig.session.shutdown(rig.now);
        rig.run_for(Duration::from_secs(10));
        assert!(rig.over && matches!(rig.events.pop_back(), Some(Event::Closed { .. })));
    }
}
