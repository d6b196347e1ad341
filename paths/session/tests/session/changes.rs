//! Changes a ready session hears of, and what it reads again because of them.

use std::time::Duration;

use umpath_nvme::identify::cns;
use umpath_nvme::log::AnaState;
use umpath_nvme::{AsyncEvent, Status};
use umpath_session::{Controller, Event, NamespaceProblem};

use crate::bring_up::words;
use crate::model::{Model, ModelNamespace};
use crate::rig::{Fault, MS, Rig, controller};

#[test]
fn changes_during_bring_up_are_looked_at_once_it_is_over() {
    let raise_at_list = Some(AsyncEvent::NAMESPACE_ATTRIBUTE);
    let mut rig = controller(Model {
        raise_at_list,
        ..Model::new()
    });
    rig.model.changed.insert(1);
    rig.ready();
    let sent = words(&rig);
    let (_, after) = sent.split_once("3:connect").unwrap();
    assert!(after.starts_with(" log4 id2/0 id0/1 id3/1 logc"), "{after}");
}

#[test]
fn changed_namespaces_are_identified_again_and_others_are_not() {
    let mut rig = controller(Model::new());
    rig.ready();
    let before = rig.sent.len();
    rig.model.resize(5, 1 << 20);
    rig.model.namespaces.insert(9, ModelNamespace::new(9, 1));
    rig.model.changed.extend([5, 9]);
    rig.raise(AsyncEvent::NAMESPACE_ATTRIBUTE);
    let sent = words(&rig);
    let since = sent.split(' ').skip(before).collect::<Vec<_>>().join(" ");
    assert_eq!(since, "aer log4 id2/0 id0/5 id3/5 id0/9 id3/9 logc");
    match rig.event() {
        Some(Event::NamespacesChanged(namespaces)) => {
            let nsids: Vec<_> = namespaces.iter().map(|namespace| namespace.nsid).collect();
            assert_eq!(nsids, [1, 5, 9]);
            assert_eq!(namespaces[1].facts.as_ref().unwrap().blocks, 1 << 20);
        }
        other => panic!("{other:?}"),
    }

    rig.model.namespaces.remove(&1);
    rig.model.changed.insert(u32::MAX);
    rig.raise(AsyncEvent::NAMESPACE_ATTRIBUTE);
    match rig.event() {
        Some(Event::NamespacesChanged(namespaces)) => assert_eq!(namespaces.len(), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        words(&rig).matches("id0/5").count(),
        3,
        "an overflow means everything"
    );
}

/// A controller announces no further change until its list was read (NVMe Base 2.x, Asynchronous Event
/// Request: a log page clears its event). Unread once, no later change was ever noticed.
#[test]
fn a_list_of_changes_that_was_refused_once_is_read_again() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.changed.insert(5);
    rig.faults
        .insert(rig.exchanges, Fault::Status(Status::INTERNAL_ERROR));
    rig.raise(AsyncEvent::NAMESPACE_ATTRIBUTE);
    let before = words(&rig).matches("log4").count();
    // Not announced: nobody has read of the change before.
    rig.model.namespaces.insert(9, ModelNamespace::new(9, 1));
    rig.run_for(900 * MS);
    assert_eq!(words(&rig).matches("log4").count(), before);
    rig.run_for(200 * MS);
    assert_eq!(words(&rig).matches("log4").count(), before + 1);
    assert!(matches!(rig.event(), Some(Event::NamespacesStale(_))));
    assert!(matches!(rig.event(), Some(Event::NamespacesChanged(list)) if list.len() == 3));
    rig.run_for(5_000 * MS);
    assert_eq!(words(&rig).matches("log4").count(), before + 1);
}

/// A controller without such a list is not asked for it again and again.
#[test]
fn a_list_of_changes_that_does_not_exist_is_not_read_again() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.faults
        .insert(rig.exchanges, Fault::Status(Status::INVALID_LOG_PAGE));
    rig.raise(AsyncEvent::NAMESPACE_ATTRIBUTE);
    let before = words(&rig).matches("log4").count();
    rig.run_for(5_000 * MS);
    assert_eq!(words(&rig).matches("log4").count(), before);
}

#[test]
fn an_event_without_a_change_is_not_reported() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.changed.insert(1);
    rig.raise(AsyncEvent::NAMESPACE_ATTRIBUTE);
    assert!(rig.event().is_none());
}

#[test]
fn a_namespace_that_vanishes_while_identified_is_reported_as_such() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.changed.insert(5);
    rig.faults
        .insert(rig.exchanges + 2, Fault::Status(Status::INVALID_NAMESPACE));
    rig.raise(AsyncEvent::NAMESPACE_ATTRIBUTE);
    match rig.event() {
        Some(Event::NamespacesChanged(namespaces)) => {
            let refused = NamespaceProblem::Refused(Status::INVALID_NAMESPACE);
            assert_eq!(namespaces[1].facts, Err(refused));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(rig.event(), Some(Event::NamespacesStale(_))));
    // It is listed, so it is read again although nothing announces it.
    rig.run_for(1_100 * MS);
    assert!(matches!(rig.event(), Some(Event::NamespacesChanged(list)) if list[1].facts.is_ok()));
}

/// Commands sent since `before`.
fn since(rig: &Rig<Controller>, before: usize) -> String {
    let sent = words(rig);
    let sent: Vec<&str> = sent.split(' ').skip(before).collect();
    let of_timers = |word: &&&str| !word.starts_with("alive");
    let sent: Vec<&str> = sent.iter().filter(of_timers).copied().collect();
    sent.join(" ")
}

/// One Identify that fails after a change must not take the path's ANA states away for ever.
#[test]
fn a_namespace_that_cannot_be_read_stays_what_it_was_and_is_read_again() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.resize(5, 1 << 20);
    rig.model.changed.insert(5);
    rig.model.refuses.insert((cns::NAMESPACE, 5));
    rig.raise(AsyncEvent::NAMESPACE_ATTRIBUTE);
    assert!(matches!(rig.event(), Some(Event::NamespacesStale(_))));
    // Then its descriptors: without them it would seem to be another one.
    rig.model.refuses = [(cns::NAMESPACE_DESCRIPTORS, 5)].into();
    let before = rig.sent.len();
    rig.run_for(1_050 * MS);
    assert!(rig.event().is_none(), "reported once");
    assert!(since(&rig, before).contains("id3/5"));
    rig.model.refuses.clear();
    // ANA goes on meanwhile.
    rig.model.ana[1].1 = AnaState::Inaccessible;
    rig.model.ana_count += 1;
    rig.raise(AsyncEvent::ANA_CHANGE);
    let event = rig.event();
    assert!(
        matches!(&event, Some(Event::AnaChanged(table)) if table.state(5, 2) == Some(AnaState::Inaccessible)),
        "{event:?}"
    );
    rig.run_for(2_100 * MS);
    match rig.event() {
        Some(Event::NamespacesChanged(list)) => {
            assert_eq!(list[1].facts.as_ref().unwrap().blocks, 1 << 20);
        }
        other => panic!("{other:?}"),
    }
    let before = rig.sent.len();
    rig.run_for(Duration::from_secs(300));
    assert!(!since(&rig, before).contains("id"), "all is known");
}

/// The controller lists a change once: a scan that fails afterwards must remember it.
#[test]
fn a_change_is_not_forgotten_when_the_list_of_namespaces_cannot_be_read() {
    let mut rig = controller(Model::new());
    rig.ready();
    let page = &mut rig.model.namespaces.get_mut(&5).unwrap().page;
    page.nsze.set(1 << 20);
    rig.model.changed.insert(5);
    let status = Fault::Status(Status::INTERNAL_ERROR);
    rig.faults.insert(rig.exchanges + 1, status);
    rig.raise(AsyncEvent::NAMESPACE_ATTRIBUTE);
    assert!(matches!(rig.event(), Some(Event::NamespacesStale(_))));
    rig.run_for(1_100 * MS);
    match rig.event() {
        Some(Event::NamespacesChanged(list)) => {
            assert_eq!(list[1].facts.as_ref().unwrap().blocks, 1 << 20);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn namespaces_that_can_never_be_listed_do_not_keep_the_ana_log_from_being_read() {
    let mut rig = controller(Model::new());
    rig.ready();
    rig.model.refuses.insert((cns::ACTIVE_NAMESPACES, 0));
    rig.raise(AsyncEvent::NAMESPACE_ATTRIBUTE);
    let before = rig.sent.len();
    for round in 0..60 {
        rig.model.ana[0].1 = if round % 2 == 0 {
            AnaState::Inaccessible
        } else {
            AnaState::Optimized
        };
        rig.model.ana_count += 1;
        rig.raise(AsyncEvent::ANA_CHANGE);
        rig.run_for(1_000 * MS);
    }
    let changes = rig
        .events
        .iter()
        .filter(|event| matches!(event, Event::AnaChanged(_)));
    assert_eq!(changes.count(), 60);
    let lists = since(&rig, before).matches("id2/0").count();
    assert!((4..=8).contains(&lists), "less and less often: {lists}");
}
