//! Cross-Controller Reset: what is ended, when it is called complete, and who hears of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::host::{Host, Media, array, array_on, array_with, drain, primary_and_standby};
use umpath_nvme::command::{CrossControllerReset, Instance, ResetResult, admin};
use umpath_nvme::identify::{IdentifyController, cns};
use umpath_nvme::log::lid;
use umpath_nvme::log::reset::{
    LSP_REMOVE_COMPLETED, ResetOutcome, lost_host_entries, reset_entries,
};
use umpath_nvme::opcode::admin::CROSS_CONTROLLER_RESET;
use umpath_nvme::property::{Cc, offset};
use umpath_nvme::{AsyncEvent, FromBytes, Sqe, Status};
use umpath_target::array::Array;
use umpath_target::controller::Answer;
use umpath_target::gate::board::Witness;
use umpath_target::model::PortId;
use umpath_target::output::{ArrayOutput, Event, Gone, QueueId};

const MS: Duration = Duration::from_millis(1);

/// A process that died, or did not yet.
#[derive(Debug, Default)]
struct Death(AtomicBool);

impl Witness for Death {
    fn is_over(&self, _: usize, _: usize) -> bool {
        self.0.load(SeqCst)
    }
}

fn pair() -> (Array<Media>, Array<Media>, Arc<Death>) {
    let death = Arc::new(Death::default());
    let witness: Arc<dyn Witness> = Arc::<Death>::clone(&death);
    let (primary, standby) = primary_and_standby(&witness);
    (primary, standby, death)
}

fn identify(array: &mut Array<Media>, host: &Host) -> IdentifyController {
    let page = host.page(array, admin::identify(cns::CONTROLLER, 0));
    IdentifyController::read_from_bytes(&page).expect("a page")
}

fn instance(array: &mut Array<Media>, host: &Host) -> Instance {
    let id = identify(array, host);
    Instance {
        cntlid: id.cntlid.get(),
        ciu: id.ciu,
        cirn: id.cirn.get(),
    }
}

fn reset(impacted: Instance) -> Sqe {
    CrossControllerReset { impacted }.build().with_cid(77)
}

fn refused(status: Status) -> Answer {
    Answer::failed(status.with_dnr())
}

const IMMEDIATE: Answer = Answer::Done {
    status: Status::SUCCESS,
    result: (ResetResult::IMMEDIATE | ResetResult::VALIDATED | ResetResult::INITIATED) as u64,
};

#[test]
fn an_idle_controller_is_reset_at_once_and_closed() {
    let mut array = array();
    let mut victim = Host::ready(&mut array, 1);
    let survivor = Host::ready_on(&mut array, 1, PortId(2));
    let io = victim.io(&mut array);
    let impacted = instance(&mut array, &victim);
    drain(&mut array);

    assert_eq!(
        survivor.admin(&mut array, reset(impacted), &mut []),
        IMMEDIATE
    );

    assert!(
        io.shared()
            .gate
            .permits(io.epoch(), Duration::ZERO)
            .is_err()
    );
    let outputs = drain(&mut array);
    for queue in [QueueId(10), QueueId(11)] {
        assert!(
            outputs.contains(&ArrayOutput::Close { queue }),
            "{outputs:?}"
        );
    }
    assert!(outputs.contains(&ArrayOutput::Event(Event::Gone {
        cntlid: impacted.cntlid,
        why: Gone::Reset
    })));
    assert!(!array.has_controller(victim.cntlid));
    // Asked again, it is still the truth; nothing was initiated any more.
    let again = survivor.admin(&mut array, reset(impacted), &mut []);
    let Answer::Done { status, result } = again else {
        panic!("{again:?}");
    };
    assert!(status.is_success() && ResetResult(result as u32).is_immediate());
    assert_eq!(result as u32 & ResetResult::INITIATED, 0);
}

#[test]
fn the_identity_is_reported_and_changes_with_every_incarnation() {
    let mut array = array_with(5, 5);
    let mut seen = Vec::new();
    for round in 0..300 {
        let host = Host::ready(&mut array, 1);
        let id = identify(&mut array, &host);
        assert_ne!(id.ccrl, 0, "offered");
        let now = instance(&mut array, &host);
        assert_eq!(now.cntlid, 5);
        if let Some(before) = seen.last() {
            let Instance { ciu, .. } = *before;
            assert_eq!(
                now.ciu,
                if ciu == 255 { 1 } else { ciu + 1 },
                "round {round}"
            );
        }
        assert!(!seen.iter().any(|old: &Instance| old.cirn == now.cirn));
        seen.push(now);
        array.queue_closed(5, QueueId(10), Duration::ZERO);
    }
}

#[test]
fn a_successor_is_never_reset_in_place_of_the_one_named() {
    let mut array = array_with(5, 6);
    let victim = Host::ready(&mut array, 1);
    let old = instance(&mut array, &victim);
    array.queue_closed(old.cntlid, QueueId(10), Duration::ZERO);
    let survivor = Host::ready(&mut array, 1);
    let successor = Host::ready(&mut array, 2);
    assert_eq!(successor.cntlid, old.cntlid, "the identifier came round");
    for wrong in [
        old,
        Instance {
            ciu: old.ciu.wrapping_add(1),
            ..old
        },
        Instance { cirn: 0, ..old },
    ] {
        survivor.admin(&mut array, reset(wrong), &mut []);
        assert!(array.has_controller(successor.cntlid), "{wrong:?}");
    }
}

#[test]
fn the_unknown_the_strange_and_oneself_are_refused() {
    let mut array = array();
    let own = Host::ready(&mut array, 1);
    let stranger = Host::ready(&mut array, 2);
    let mut impacted = instance(&mut array, &stranger);
    let invalid = refused(Status::INVALID_FIELD);
    assert_eq!(
        own.admin(&mut array, reset(impacted), &mut []),
        invalid,
        "another host's"
    );
    assert!(array.has_controller(stranger.cntlid));
    impacted.cntlid = 999;
    assert_eq!(
        own.admin(&mut array, reset(impacted), &mut []),
        invalid,
        "unknown"
    );
    let oneself = instance(&mut array, &own);
    assert_eq!(own.admin(&mut array, reset(oneself), &mut []), invalid);
    assert!(array.has_controller(own.cntlid));
}

#[test]
fn switched_off_it_is_neither_offered_nor_done() {
    let mut array = array_on(1, 9, |subsystem| subsystem.ccr = false);
    let host = Host::ready(&mut array, 1);
    let id = identify(&mut array, &host);
    assert_eq!((id.ccrl, id.oaes.get() >> 20 & 3), (0, 0));
    let other = Host::ready_on(&mut array, 1, PortId(2));
    let other = instance(&mut array, &other);
    assert_eq!(
        host.admin(&mut array, reset(other), &mut []),
        refused(Status::INVALID_OPCODE)
    );
    let log = admin::get_log(lid::CROSS_CONTROLLER_RESET, 512, 0);
    assert_eq!(
        host.admin(&mut array, log, &mut [0; 512]),
        refused(Status::INVALID_LOG_PAGE)
    );
    let effects = host.page(&mut array, admin::get_log(lid::COMMAND_EFFECTS, 4096, 0));
    assert_eq!(effects[usize::from(CROSS_CONTROLLER_RESET) * 4], 0);
}

#[test]
fn it_is_complete_only_when_the_media_is_left() {
    let mut array = array();
    let mut victim = Host::ready(&mut array, 1);
    let survivor = Host::ready_on(&mut array, 1, PortId(2));
    let io = victim.busy_io(&mut array);
    let impacted = instance(&mut array, &victim);

    let asked = survivor.admin(&mut array, reset(impacted), &mut []);
    assert_eq!(asked, Answer::Parked);
    assert_eq!(
        survivor.admin(&mut array, reset(impacted), &mut []),
        Answer::failed(Status::CCR_IN_PROGRESS)
    );
    drain(&mut array);
    assert_eq!(array.next_timeout(MS), Some(2 * MS));
    array.handle_timeout(2 * MS);
    assert!(drain(&mut array).is_empty(), "still on the media");
    io.shared().gate.leave();
    array.handle_timeout(3 * MS);
    let done = ArrayOutput::Respond {
        queue: QueueId(110),
        cid: 77,
        dword: ResetResult::IMMEDIATE | ResetResult::VALIDATED | ResetResult::INITIATED,
    };
    assert_eq!(drain(&mut array), [done]);
    let log = survivor.log(&mut array, lid::CROSS_CONTROLLER_RESET, 512);
    assert_eq!(
        reset_entries(&log).unwrap().len(),
        0,
        "nothing left to report"
    );
}

#[test]
fn a_reset_asked_for_before_the_asker_was_disabled_is_not_answered_after() {
    let mut array = array();
    let mut victim = Host::ready(&mut array, 1);
    let survivor = Host::ready_on(&mut array, 1, PortId(2));
    let io = victim.busy_io(&mut array);
    let impacted = instance(&mut array, &victim);
    let asked = survivor.admin(&mut array, reset(impacted), &mut []);
    assert_eq!(asked, Answer::Parked);
    survivor.set_property(&mut array, offset::CC, Cc::enabled(0).disabled().0);
    survivor.enable(&mut array);
    drain(&mut array);

    array.handle_timeout(20 * MS);
    assert_eq!(drain(&mut array), [], "late");
    io.shared().gate.leave();
    array.handle_timeout(21 * MS);
    assert_eq!(drain(&mut array), [], "complete");
    let log = survivor.log(&mut array, lid::CROSS_CONTROLLER_RESET, 512);
    let entries = reset_entries(&log).unwrap();
    assert_eq!(entries[0].outcome(), Some(ResetOutcome::Success));
}

#[test]
fn what_takes_longer_is_reported_by_the_log_and_its_event() {
    let mut array = array();
    let mut victim = Host::ready(&mut array, 1);
    let survivor = Host::ready_on(&mut array, 1, PortId(2));
    survivor.want_events(&mut array);
    survivor.request_event(&mut array, 9);
    let io = victim.busy_io(&mut array);
    let impacted = instance(&mut array, &victim);
    survivor.admin(&mut array, reset(impacted), &mut []);
    drain(&mut array);

    array.handle_timeout(20 * MS);
    let queue = QueueId(110);
    assert_eq!(
        drain(&mut array),
        [ArrayOutput::Respond {
            queue,
            cid: 77,
            dword: 0
        }]
    );
    let outcome = |array: &mut Array<Media>| {
        let log = survivor.log(array, lid::CROSS_CONTROLLER_RESET, 512);
        let entries = reset_entries(&log).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (entries[0].icid.get(), entries[0].ciu),
            (impacted.cntlid, impacted.ciu)
        );
        entries[0].outcome()
    };
    assert_eq!(outcome(&mut array), Some(ResetOutcome::InProgress));

    io.shared().gate.leave();
    array.handle_timeout(300 * MS);
    let dword = AsyncEvent::CCR_COMPLETED.to_dw0();
    assert_eq!(
        drain(&mut array),
        [ArrayOutput::Respond {
            queue,
            cid: 9,
            dword
        }]
    );
    assert_eq!(outcome(&mut array), Some(ResetOutcome::Success));
    assert_eq!(
        array.next_timeout(301 * MS),
        None,
        "nothing to check any more"
    );

    let remove = admin::GetLogPage {
        lsp: LSP_REMOVE_COMPLETED,
        ..admin::GetLogPage::parse(&admin::get_log(lid::CROSS_CONTROLLER_RESET, 512, 0))
    };
    survivor.page(&mut array, remove.build());
    let log = survivor.log(&mut array, lid::CROSS_CONTROLLER_RESET, 512);
    assert_eq!(reset_entries(&log).unwrap().len(), 0);
}

#[test]
fn a_reset_that_never_completes_fails() {
    let mut array = array();
    let mut victim = Host::ready(&mut array, 1);
    let survivor = Host::ready_on(&mut array, 1, PortId(2));
    let _io = victim.busy_io(&mut array);
    let impacted = instance(&mut array, &victim);
    survivor.admin(&mut array, reset(impacted), &mut []);
    array.handle_timeout(20 * MS);
    array.handle_timeout(Duration::from_secs(61));
    let log = survivor.log(&mut array, lid::CROSS_CONTROLLER_RESET, 512);
    assert_eq!(
        reset_entries(&log).unwrap()[0].outcome(),
        Some(ResetOutcome::Failed)
    );
}

#[test]
fn resets_in_progress_are_limited() {
    let mut array = array();
    let survivor = Host::ready_on(&mut array, 1, PortId(2));
    let limit = identify(&mut array, &survivor).ccrl;
    let mut last = None;
    for _ in 0..=limit {
        let mut victim = Host::ready(&mut array, 1);
        let _io = victim.busy_io(&mut array);
        let impacted = instance(&mut array, &victim);
        last = Some(survivor.admin(&mut array, reset(impacted), &mut []));
    }
    assert_eq!(last, Some(Answer::failed(Status::CCR_LIMIT_EXCEEDED)));
}

#[test]
fn a_controller_of_another_process_is_reset_through_the_board() {
    let (mut primary, mut standby, _) = pair();
    let mut victim = Host::ready(&mut primary, 1);
    let survivor = Host::ready_on(&mut standby, 1, PortId(2));
    let io = victim.io(&mut primary);
    let impacted = instance(&mut primary, &victim);

    assert_eq!(
        survivor.admin(&mut standby, reset(impacted), &mut []),
        IMMEDIATE
    );

    // The primary has not noticed yet, and executes nothing all the same.
    assert!(primary.has_controller(victim.cntlid));
    assert!(io.shared().gate.enter(io.epoch(), Duration::ZERO).is_err());
    assert_eq!(
        victim.admin(&mut primary, admin::keep_alive(), &mut []),
        refused(Status::COMMAND_SEQUENCE_ERROR),
        "nor does it believe the controller"
    );
    let again = Host::ready(&mut primary, 1);
    let impacted = instance(&mut primary, &again);
    drain(&mut primary);
    survivor.admin(&mut standby, reset(impacted), &mut []);
    let next = primary.next_timeout(MS).expect("it watches the board");
    primary.handle_timeout(next);
    let gone = Event::Gone {
        cntlid: again.cntlid,
        why: Gone::Reset,
    };
    assert!(drain(&mut primary).contains(&ArrayOutput::Event(gone)));
}

#[test]
fn a_controller_condemned_unnoticed_takes_no_other_with_it() {
    let (mut primary, mut standby, _) = pair();
    let mut victim = Host::new(1);
    victim.kato_ms = 100;
    victim.connect_admin(&mut primary, Duration::ZERO).unwrap();
    victim.enable(&mut primary);
    let survivor = Host::ready_on(&mut standby, 1, PortId(2));
    let impacted = instance(&mut primary, &victim);
    // Hosts come and go until every other cell of the board is younger than the victim's.
    for _ in 0..255 {
        let passing = Host::ready(&mut primary, 2);
        primary.queue_closed(passing.cntlid, QueueId(20), Duration::ZERO);
    }
    assert_eq!(
        survivor.admin(&mut standby, reset(impacted), &mut []),
        IMMEDIATE
    );
    let mut successor = Host::ready(&mut primary, 3);
    let io = successor.io(&mut primary);
    drain(&mut primary);

    primary.handle_timeout(20 * MS);
    let gone = |cntlid| {
        let why = Gone::Reset;
        ArrayOutput::Event(Event::Gone { cntlid, why })
    };
    assert!(drain(&mut primary).contains(&gone(victim.cntlid)));
    primary.handle_timeout(100 * MS);
    assert!(primary.has_controller(successor.cntlid));
    assert!(io.shared().gate.permits(io.epoch(), 100 * MS).is_ok());
}

#[test]
fn a_dead_process_is_reset_once_its_witness_says_so() {
    let (mut primary, mut standby, death) = pair();
    let mut victim = Host::ready(&mut primary, 1);
    let survivor = Host::ready_on(&mut standby, 1, PortId(2));
    let _io = victim.busy_io(&mut primary);
    let impacted = instance(&mut primary, &victim);
    assert_eq!(
        survivor.admin(&mut standby, reset(impacted), &mut []),
        Answer::Parked
    );
    drain(&mut standby);
    standby.handle_timeout(MS);
    assert!(drain(&mut standby).is_empty());
    death.0.store(true, SeqCst);
    standby.handle_timeout(2 * MS);
    assert!(
        matches!(drain(&mut standby)[..], [ArrayOutput::Respond { cid: 77, dword, .. }] if dword & 1 == 1)
    );
}

#[test]
fn a_lost_host_is_reported_on_its_other_controllers_here_and_elsewhere() {
    let (mut primary, mut standby, _) = pair();
    let mut lost = Host::new(1);
    lost.kato_ms = 100;
    lost.connect_admin(&mut primary, Duration::ZERO).unwrap();
    lost.enable(&mut primary);
    let impacted = instance(&mut primary, &lost);
    let here = Host::ready_on(&mut primary, 1, PortId(2));
    let there = Host::ready_on(&mut standby, 1, PortId(2));
    let stranger = Host::ready_on(&mut standby, 2, PortId(2));
    let watchers = [(&here, &mut primary), (&there, &mut standby)];
    for (host, array) in watchers {
        host.want_events(array);
        host.request_event(array, 9);
        drain(array);
    }
    stranger.want_events(&mut standby);
    stranger.request_event(&mut standby, 9);

    primary.handle_timeout(100 * MS);
    standby.handle_timeout(101 * MS);

    let dword = AsyncEvent::LOST_HOST.to_dw0();
    for (host, array) in [(&here, &mut primary), (&there, &mut standby)] {
        let events = drain(array);
        let reported = events
            .iter()
            .filter(|o| matches!(o, ArrayOutput::Respond { cid: 9, dword: d, .. } if *d == dword));
        assert_eq!(reported.count(), 1, "{events:?}");
        let log = host.log(array, lid::LOST_HOST_COMMUNICATION, 512);
        let entries = lost_host_entries(&log).unwrap();
        assert_eq!(
            (entries.len(), entries[0].cntlid.get()),
            (1, impacted.cntlid)
        );
        assert_eq!(entries[0].ciu, impacted.ciu);
    }
    let log = stranger.log(&mut standby, lid::LOST_HOST_COMMUNICATION, 512);
    assert_eq!(lost_host_entries(&log).unwrap().len(), 0);
    standby.handle_timeout(200 * MS);
    assert!(drain(&mut standby).is_empty(), "reported once");
}
