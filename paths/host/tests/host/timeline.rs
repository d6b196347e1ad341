//! Which path an event names, and to which failover it belongs.

use umpath_core::{LaneEvent, PathId};
use umpath_host::LaneNews;
use umpath_protocol::EventKind;
use umpath_session::AnaState;

use super::rig::{Rig, ms};
use super::sample::{asked, id, namespace, with_ana};

/// Path 1 is optimized, path 2 is not; path 1 is lost. Its association.
fn failed_over() -> (Rig, umpath_core::AssociationId) {
    let mut rig = Rig::new();
    for (path, state) in [(1, AnaState::Optimized), (2, AnaState::NonOptimized)] {
        rig.want(asked(path as u8), true);
        let (facts, table) = with_ana(path as u16, state);
        rig.up_as(path, facts, table, &[namespace(1, 1, 1_000)]);
    }
    let lost = rig.association_of(1);
    rig.advance(ms(10));
    rig.lose(1, lost);
    (rig, lost)
}

/// Path 2 answers the first command after the loss.
fn first_io(rig: &mut Rig, lost: umpath_core::AssociationId) {
    let at = rig.now;
    let event = LaneEvent::FirstIo {
        lost,
        path: PathId(1),
        stall: ms(7),
    };
    rig.news(id(1), 0, LaneNews::Event { event, at });
}

/// The paths that events of a kind name.
fn paths_of(rig: &Rig, kind: EventKind) -> Vec<Option<u32>> {
    let events = rig.host.events().events.into_iter();
    let events = events.filter(|event| event.kind == kind);
    events.map(|event| event.path).collect()
}

/// Marks of a failover: their kind, and what they say.
fn marks(rig: &Rig, path: u32, kind: EventKind) -> Vec<String> {
    let failovers = rig.host.events().failovers.into_iter();
    let marks = failovers
        .filter(|failover| failover.path == path)
        .flat_map(|failover| failover.marks);
    let marks = marks.filter(|mark| mark.kind == kind);
    marks.map(|mark| mark.detail).collect()
}

#[test]
fn a_group_switch_and_the_first_io_name_the_path_that_io_went_to() {
    let (mut rig, lost) = failed_over();
    assert_eq!(paths_of(&rig, EventKind::GroupSwitched), [Some(2)]);
    assert_eq!(marks(&rig, 1, EventKind::GroupSwitched), ["vol1 path 2"]);
    first_io(&mut rig, lost);
    assert_eq!(paths_of(&rig, EventKind::FirstIo), [Some(2)]);
    let said = ["vol1 path 2: longest wait so far 7 ms"];
    assert_eq!(marks(&rig, 1, EventKind::FirstIo), said);
}

/// The lost path has another association by then.
#[test]
fn a_first_io_after_the_path_is_back_belongs_to_the_failover_of_the_lost_one() {
    let (mut rig, lost) = failed_over();
    let (facts, table) = with_ana(1, AnaState::NonOptimized);
    rig.up_as(1, facts, table, &[namespace(1, 1, 1_000)]);
    // Path 2 has a failover of its own under way.
    let (association, at) = (rig.association_of(2), rig.now);
    let why = umpath_core::association::Suspicion::LinkDown;
    rig.report(
        2,
        umpath_host::Report::Suspect {
            association,
            at,
            why,
        },
    );
    first_io(&mut rig, lost);
    assert_eq!(paths_of(&rig, EventKind::FirstIo), [Some(2)]);
    assert_eq!(marks(&rig, 1, EventKind::FirstIo).len(), 1);
    assert_eq!(marks(&rig, 2, EventKind::FirstIo).len(), 0);
}
