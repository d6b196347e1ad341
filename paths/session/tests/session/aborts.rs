//! Asking for commands back: what is asked, what comes of it, and what must not suffer.

use umpath_nvme::Status;
use umpath_nvme::command::Abort;
use umpath_nvme::opcode::admin;
use umpath_session::{AbortAnswer, Event, IoCommand};

use crate::model::Model;
use crate::rig::{MS, controller};

const STUCK: IoCommand = IoCommand {
    qid: 3,
    cid: 0x1234,
};

#[test]
fn the_answer_says_what_the_controller_did() {
    let limit = Status::ABORT_LIMIT_EXCEEDED;
    for (status, result, expected) in [
        (Status::SUCCESS, 0, AbortAnswer::Aborted),
        (Status::SUCCESS, 1, AbortAnswer::NotAborted),
        (limit, 0, AbortAnswer::Refused(limit)),
    ] {
        let mut rig = controller(Model::new());
        rig.ready();
        rig.model.aborts.push_back((status, result));
        assert!(rig.session.abort(STUCK, rig.now));
        rig.settle();
        let told = rig.event();
        let (command, answer) = (STUCK, expected);
        assert!(
            matches!(told, Some(Event::Abort { command: c, answer: a }) if (c, a) == (command, answer)),
            "{told:?}"
        );
        let sent = rig.sent.iter().map(|(_, sqe)| sqe);
        let mut aborts = sent.filter(|sqe| sqe.opcode == admin::ABORT);
        let asked = Abort::parse(aborts.next().expect("sent"));
        assert_eq!((asked.sqid, asked.cid), (STUCK.qid, STUCK.cid));
        assert!(aborts.next().is_none(), "once");
    }
}

#[test]
fn one_that_is_never_answered_is_the_last() {
    let mut rig = controller(Model::new());
    assert!(!rig.session.abort(STUCK, rig.now), "not ready");
    rig.ready();
    assert!(rig.session.abort(STUCK, rig.now));
    assert!(!rig.session.abort(STUCK, rig.now), "one at a time");
    rig.run_for(20_000 * MS);
    let unanswered = AbortAnswer::Unanswered;
    let told = rig.event();
    assert!(matches!(told, Some(Event::Abort { answer, .. }) if answer == unanswered));
    assert!(
        !rig.over && rig.event().is_none(),
        "the association lives on"
    );
    assert!(
        !rig.session.abort(STUCK, rig.now),
        "the controller owes one"
    );
}
