//! Resets of other controllers: what is asked, what comes of it, and what must not suffer.

use umpath_nvme::command::{CrossControllerReset, Instance, ResetResult};
use umpath_nvme::log::reset::{EntriesHeader, LostHostEntry, ResetEntry, ResetOutcome};
use umpath_nvme::opcode::admin;
use umpath_nvme::{AsyncEvent, IntoBytes, Status, U16};
use umpath_session::{Event, LostHost, ResetAnswer, ResetRecord};

use crate::model::Model;
use crate::rig::{MS, controller};

const VICTIM: Instance = Instance {
    cntlid: 42,
    ciu: 3,
    cirn: 0x0123_4567_89ab_cdef,
};

fn log(entries: u16, bytes: &[u8]) -> Vec<u8> {
    [EntriesHeader::new(entries).as_bytes(), bytes].concat()
}

#[test]
fn the_answer_says_what_is_proven() {
    let limit = Status::CCR_LIMIT_EXCEEDED;
    for (status, result, expected) in [
        (
            Status::SUCCESS,
            ResetResult::IMMEDIATE,
            ResetAnswer::Complete,
        ),
        (Status::SUCCESS, 0, ResetAnswer::Pending),
        (
            Status::SUCCESS,
            ResetResult::VALIDATED,
            ResetAnswer::Pending,
        ),
        (limit, ResetResult::IMMEDIATE, ResetAnswer::Refused(limit)),
    ] {
        let mut rig = controller(Model::new());
        rig.ready();
        rig.model.resets.push_back((status, result.into()));
        assert!(rig.session.reset_other(VICTIM, rig.now));
        rig.settle();
        match rig.event() {
            Some(Event::Reset { impacted, answer }) => {
                assert_eq!((impacted, answer), (VICTIM, expected));
            }
            other => panic!("{other:?}"),
        }
        let sent = rig.sent.iter().map(|(_, sqe)| sqe);
        let mut resets = sent.filter(|sqe| sqe.opcode == admin::CROSS_CONTROLLER_RESET);
        let sqe = resets.next().expect("sent");
        assert_eq!(CrossControllerReset::parse(sqe).impacted, VICTIM);
        assert!(resets.next().is_none(), "once");
    }
}

#[test]
fn not_before_ready_and_not_where_it_is_not_offered() {
    let mut rig = controller(Model::new());
    assert!(!rig.session.reset_other(VICTIM, rig.now));
    let mut model = Model::new();
    model.id.ccrl = 0;
    let mut rig = controller(model);
    rig.ready();
    assert!(!rig.session.reset_other(VICTIM, rig.now));
    rig.session.read_resets(rig.now);
    rig.run_for(100 * MS);
    assert!(rig.event().is_none());
}

#[test]
fn a_reset_that_is_not_answered_costs_only_itself() {
    let mut rig = controller(Model::new());
    rig.ready();
    let mut asked = 0;
    while rig.session.reset_other(VICTIM, rig.now) {
        asked += 1;
        assert!(asked < 32, "bounded");
        rig.settle();
    }
    rig.run_for(20_000 * MS);
    for _ in 0..asked {
        let event = rig.event();
        let unanswered = matches!(
            event,
            Some(Event::Reset {
                answer: ResetAnswer::Unanswered,
                ..
            })
        );
        assert!(unanswered, "{event:?}");
    }
    assert!(
        !rig.over && rig.event().is_none(),
        "the association lives on"
    );
    rig.raise(AsyncEvent::CCR_COMPLETED);
    assert!(matches!(rig.event(), Some(Event::Resets(records)) if records.is_empty()));
    // They may still be answered, so they keep their slots; no more are taken from keep-alives.
    assert!(!rig.session.reset_other(VICTIM, rig.now));
}

#[test]
fn the_log_is_read_when_the_controller_or_the_host_says_so() {
    let mut rig = controller(Model::new());
    rig.ready();
    let entries = [
        ResetEntry::new(42, 3, 7, ResetOutcome::Success, ResetEntry::VALIDATED),
        ResetEntry::new(43, 1, 7, ResetOutcome::InProgress, 0),
        ResetEntry {
            ccrs: 9,
            ..ResetEntry::default()
        },
    ];
    rig.model.reset_log = log(3, entries.as_bytes());
    let expected = [
        (42, 3, ResetOutcome::Success),
        (43, 1, ResetOutcome::InProgress),
    ]
    .map(|(cntlid, ciu, outcome)| ResetRecord {
        cntlid,
        ciu,
        outcome,
    });
    rig.raise(AsyncEvent::CCR_COMPLETED);
    assert!(matches!(rig.event(), Some(Event::Resets(records)) if records == expected));
    rig.session.read_resets(rig.now);
    rig.settle();
    assert!(matches!(rig.event(), Some(Event::Resets(records)) if records == expected));
}

#[test]
fn lost_hosts_are_reported() {
    let mut rig = controller(Model::new());
    rig.ready();
    let entry = LostHostEntry {
        cntlid: U16::new(42),
        losses: 1,
        ciu: 3,
        ..LostHostEntry::default()
    };
    rig.model.lost_host_log = log(1, entry.as_bytes());
    rig.raise(AsyncEvent::LOST_HOST);
    let lost = LostHost { cntlid: 42, ciu: 3 };
    assert!(matches!(rig.event(), Some(Event::LostHosts(hosts)) if hosts == [lost]));
}
