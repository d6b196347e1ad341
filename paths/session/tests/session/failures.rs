//! Every failure at every step, and the words for it.

use std::time::Duration;

use umpath_nvme::command::ConnectResponse;
use umpath_nvme::property::Cap;
use umpath_nvme::{ConnectData, Status, U16, U32};
use umpath_session::{Event, PeerError, SessionError, Step, TransportError};

use crate::model::{Model, host};
use crate::rig::{Case, Fault, controller};

/// I/O queues of the bring-up, as many as the controller grants: all are opened, then all are connected.
const IO_QUEUES: usize = 3;

fn exchanges_until_ready() -> usize {
    let mut rig = controller(Model::new());
    rig.settle();
    while !rig
        .events
        .iter()
        .any(|event| matches!(event, Event::Ready(_)))
    {
        rig.run_for(Duration::from_millis(1));
    }
    rig.exchanges
}

#[test]
fn any_failure_at_any_step_ends_cleanly_or_is_survivable() {
    let total = exchanges_until_ready();
    assert!(total > 25, "{total}");
    for at in 0..total {
        for fault in [
            Fault::Lose,
            Fault::Silence,
            Fault::WrongCommand,
            Fault::Short,
            Fault::Ones,
            Fault::Status(Status::INVALID_FIELD.with_dnr()),
            Fault::Status(Status::INTERNAL_ERROR),
        ] {
            let mut rig = controller(Model::new());
            rig.faults.insert(at, fault);
            rig.run_for(Duration::from_secs(20));
            let ready = rig
                .events
                .iter()
                .any(|event| matches!(event, Event::Ready(_)));
            assert_ne!(ready, rig.over, "exchange {at}, {fault:?}");
            assert_eq!(rig.closed, rig.over);
            // An I/O queue that was not opened is missing, and may be had later.
            let opens_io = at >= total - 2 * IO_QUEUES && at < total - IO_QUEUES;
            if matches!(fault, Fault::Lose | Fault::Silence | Fault::WrongCommand) && !opens_io {
                assert!(rig.over, "exchange {at}, {fault:?}");
            }
            if rig.over {
                let Some(Event::Failed(error)) = rig.events.pop_back() else {
                    panic!("exchange {at}, {fault:?}")
                };
                assert!(!error.to_string().is_empty() && !error.remedy().is_empty());
                // The rig fails on any order after the end; inputs after it are void, too.
                rig.session.shutdown(rig.now);
                rig.session.refresh_ana(rig.now);
                rig.session.handle_queue_connected(0, rig.now);
                assert!(rig.session.poll_output().is_none());
                assert!(rig.session.poll_timeout().is_none());
            }
        }
    }
}

#[test]
fn a_silent_controller_is_given_up_after_the_command_timeout() {
    let mut rig = controller(Model::new());
    let began = rig.now;
    rig.faults.insert(2, Fault::Silence);
    rig.run_for(Duration::from_secs(4));
    assert!(!rig.over);
    let error = rig.failure();
    assert_eq!(
        error.to_string(),
        "could not read the controller's capabilities: no answer within 5000 ms"
    );
    assert!(rig.now > began);
    assert!(!error.is_refusal());
}

#[test]
fn refusals_say_what_to_do() {
    let data = |offset| ConnectResponse::InvalidParameter {
        offset,
        in_data: true,
    };
    let command = |offset| ConnectResponse::InvalidParameter {
        offset,
        in_data: false,
    };
    for (answer, cause, fix, refusal) in [
        (
            ConnectResponse::Refused(Status::CONNECT_INVALID_HOST),
            "the subsystem does not allow this host",
            "allowed hosts",
            true,
        ),
        (
            data(ConnectData::HOSTNQN_OFFSET),
            "does not allow this host",
            "allowed hosts",
            true,
        ),
        (
            data(ConnectData::SUBNQN_OFFSET),
            "the port does not serve this subsystem NQN",
            "umpath discover",
            true,
        ),
        (
            data(0),
            "the host identifier is not acceptable",
            "/etc/nvme/hostid",
            true,
        ),
        (
            command(44),
            "the queue size is out of range",
            "io_depth",
            true,
        ),
        (
            command(48),
            "the keep-alive timeout is not acceptable",
            "kato",
            true,
        ),
        (
            ConnectResponse::Refused(Status::KEEP_ALIVE_INVALID),
            "the keep-alive timeout is not acceptable",
            "kato",
            true,
        ),
        (
            command(41),
            "byte 41 of the Connect command is invalid",
            "firmware",
            true,
        ),
        (
            ConnectResponse::Refused(Status::CONNECT_CONTROLLER_BUSY),
            "no free controller",
            "check the array",
            false,
        ),
        (
            ConnectResponse::Refused(Status::AUTHENTICATION_REQUIRED),
            "in-band authentication",
            "DH-HMAC-CHAP",
            true,
        ),
        (
            ConnectResponse::Accepted {
                cntlid: 7,
                authreq: 2,
            },
            "in-band authentication",
            "DH-HMAC-CHAP",
            true,
        ),
        (
            ConnectResponse::Accepted {
                cntlid: 0xfff0,
                authreq: 0,
            },
            "controller identifier 0xfff0 is reserved",
            "firmware",
            true,
        ),
    ] {
        let error = controller(Model {
            connect: Some(answer),
            ..Model::new()
        })
        .failure();
        assert!(error.to_string().contains(cause), "{error}");
        assert!(error.remedy().contains(fix), "{}", error.remedy());
        assert_eq!(error.is_refusal(), refusal, "{error}");
    }
}

#[test]
fn identify_garbage_names_the_field() {
    let cases: [Case<Model, &str>; 12] = [
        (
            |m| m.id.sn[3] = 0x1b,
            "the serial number is not printable ASCII",
        ),
        (
            |m| m.id.mn[0] = 0xff,
            "the model number is not printable ASCII",
        ),
        (|m| m.id.nn = U32::ZERO, "supports no namespaces"),
        (
            |m| m.id.cntlid = U16::new(8),
            "Connect gave controller 0x0007, Identify says 0x0008",
        ),
        (
            |m| m.id.subnqn = host().to_field(),
            "it belongs to subsystem",
        ),
        (|m| m.id.sqes = 0x55, "exclude 64 and 16 bytes"),
        (|m| m.id.cqes = 0, "exclude 64 and 16 bytes"),
        (|m| m.id.ioccsz = U32::new(3), "cannot carry a command"),
        (|m| m.id.cntrltype = 2, "controller type 2"),
        (
            |m| m.id.nanagrpid = U32::ZERO,
            "ANA limits are contradictory",
        ),
        (
            |m| m.id.mnan = U32::new(1025),
            "ANA limits are contradictory",
        ),
        (
            |m| m.cap = Cap(m.cap.0 | 1 << 48),
            "memory pages of at least 8192 bytes",
        ),
    ];
    for (break_it, words) in cases {
        let mut model = Model::new();
        break_it(&mut model);
        let error = controller(model).failure();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_controller_that_never_gets_ready_has_what_it_announced() {
    let mut rig = controller(Model {
        polls_until_ready: u32::MAX,
        ..Model::new()
    });
    rig.run_for(Duration::from_millis(4900));
    assert!(!rig.over);
    rig.run_for(Duration::from_millis(200));
    assert!(rig.over);
    let error = rig.failure();
    assert_eq!(
        error.to_string(),
        "controller not ready 5000 ms after it was enabled"
    );
    let error = controller(Model {
        fatal: true,
        ..Model::new()
    })
    .failure();
    assert!(matches!(error, SessionError::Peer(PeerError::Fatal)));
}

#[test]
fn contradictory_lists_and_logs_are_refused() {
    use umpath_nvme::log::AnaState::Optimized;
    for ana in [
        vec![(1, Optimized, vec![1]), (1, Optimized, vec![])],
        vec![(1, Optimized, vec![1]), (2, Optimized, vec![1])],
        vec![(0, Optimized, vec![])],
        vec![(17, Optimized, vec![])],
    ] {
        let error = controller(Model {
            ana,
            ..Model::new()
        })
        .failure();
        assert!(
            error.to_string().contains("the ANA log contradicts itself"),
            "{error}"
        );
    }
    let mut model = Model::new();
    model
        .namespaces
        .insert(2000, crate::model::ModelNamespace::new(2, 1));
    let error = controller(model).failure();
    assert!(
        error
            .to_string()
            .contains("namespace 2000 is out of order or out of range")
    );
}

#[test]
fn the_transports_own_error_stays_reachable() {
    let mut rig = controller(Model::new());
    rig.faults.insert(0, Fault::Lose);
    let error = rig.failure();
    assert!(matches!(
        error,
        SessionError::Transport(TransportError::Open { qid: 0, .. })
    ));
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "cable pulled"
    );
    assert!(error.remedy().contains("ping -s 8972 -M do"));

    let mut rig = controller(Model::new());
    rig.ready();
    rig.session
        .handle_queue_failed(2, std::sync::Arc::new(crate::rig::CablePulled));
    let error = rig.failure();
    assert!(matches!(
        error,
        SessionError::Transport(TransportError::Lost { qid: 2, .. })
    ));

    let mut rig = controller(Model::new());
    rig.faults.insert(0, Fault::Silence);
    let error = rig.failure();
    assert!(matches!(
        error,
        SessionError::Transport(TransportError::OpenTimeout { qid: 0, .. })
    ));
}

#[test]
fn a_refused_io_queue_names_the_queue() {
    let total = exchanges_until_ready();
    let mut rig = controller(Model::new());
    for at in total - IO_QUEUES..total {
        rig.faults
            .insert(at, Fault::Status(Status::CONNECT_INVALID_PARAMETERS));
    }
    let error = rig.failure();
    assert!(
        error.to_string().starts_with("controller refused queue 1"),
        "{error}"
    );
    assert_eq!(Step::Connect { qid: 3 }.to_string(), "connect I/O queue 3");
}
