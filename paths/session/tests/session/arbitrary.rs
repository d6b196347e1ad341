//! Arbitrary inputs and arbitrary bytes never panic, never break the contract and never go on after
//! the end. The rig checks the contract; here is only the chaos.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use umpath_nvme::{Cqe, Nqn, Status};
use umpath_session::{AdminData, Controller, DATA_MAX, Discovery, SessionOutput};

use crate::model::{Model, host};
use crate::rig::{CablePulled, Fault, Session, config, controller};

/// One thing that happens to a session, whether or not it makes sense.
#[derive(Debug, Clone)]
enum Op {
    /// Answers the `at`-th of the commands sent, with a prefix of these bytes repeated.
    Answer {
        at: usize,
        status: u16,
        result: u64,
        seed: Vec<u8>,
        length: usize,
    },
    /// A completion of nothing in particular.
    Stray {
        qid: u16,
        cid: u16,
    },
    Connected(u16),
    Failed(u16),
    Wait(u32),
    Shutdown,
}

fn op() -> impl Strategy<Value = Op> {
    let status = prop_oneof![12 => Just(0), 1 => any::<u16>()];
    let seed = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..64),
        prop::collection::vec(0_u8..3, 1..64)
    ];
    let length = prop_oneof![0_usize..64, Just(1024), Just(4096), Just(DATA_MAX)];
    prop_oneof![
        20 => (any::<usize>(), status, any::<u64>(), seed, length).prop_map(
            |(at, status, result, seed, length)| Op::Answer { at, status, result, seed, length }
        ),
        1 => (0_u16..4, any::<u16>()).prop_map(|(qid, cid)| Op::Stray { qid, cid }),
        6 => (0_u16..5).prop_map(Op::Connected),
        1 => (0_u16..5).prop_map(Op::Failed),
        4 => (0_u32..3000).prop_map(Op::Wait),
        1 => Just(Op::Shutdown),
    ]
}

fn chaos(mut session: impl Session, ops: Vec<Op>) {
    let mut now = Duration::ZERO;
    let (mut sent, mut closed, mut finals) = (Vec::new(), false, 0);
    session.handle_queue_connected(0, now);
    for op in ops {
        while let Some(output) = session.poll_output() {
            match output {
                SessionOutput::Send { qid, sqe, data } => {
                    assert!(!closed);
                    let bytes = match &data {
                        AdminData::None => 0,
                        AdminData::ToController(bytes) => bytes.len(),
                        AdminData::FromController(bytes) => *bytes as usize,
                    };
                    assert!(bytes <= DATA_MAX);
                    sent.push((qid, sqe.cid.get()));
                }
                SessionOutput::OpenQueue { .. } | SessionOutput::CloseQueue { .. } => {
                    assert!(!closed);
                }
                SessionOutput::CloseAll => {
                    assert!(!closed);
                    closed = true;
                }
                SessionOutput::Event(_) => finals += u32::from(closed),
            }
        }
        match op {
            Op::Answer {
                at,
                status,
                result,
                seed,
                length,
            } => {
                if sent.is_empty() {
                    continue;
                }
                let (qid, cid) = sent.swap_remove(at % sent.len());
                let data: Vec<u8> = seed.iter().copied().cycle().take(length).collect();
                let cqe = Cqe::new(cid, 0, Status::from_wire(status), result);
                session.handle_response(qid, &cqe, &data, now);
            }
            Op::Stray { qid, cid } => {
                session.handle_response(qid, &Cqe::new(cid, 0, Status::SUCCESS, 0), &[], now);
            }
            Op::Connected(qid) => session.handle_queue_connected(qid, now),
            Op::Failed(qid) => session.handle_queue_failed(qid, Arc::new(CablePulled)),
            Op::Wait(millis) => {
                now += Duration::from_millis(millis.into());
                session.handle_timeout(now);
                let due = session.poll_timeout();
                assert!(due.is_none_or(|due| due > now), "{due:?} at {now:?}");
            }
            Op::Shutdown => session.shutdown(now),
        }
    }
    assert!(finals <= 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn controllers_survive_chaos(ops in prop::collection::vec(op(), 1..60)) {
        chaos(Controller::new(config(), Duration::ZERO).unwrap(), ops);
    }

    #[test]
    fn discoveries_survive_chaos(ops in prop::collection::vec(op(), 1..60)) {
        let session = Discovery::new(host(), [9; 16], Nqn::discovery(), Duration::ZERO).unwrap();
        chaos(session, ops);
    }

    /// A well-meaning controller whose pages are damaged here and there: gets much deeper than
    /// noise does.
    #[test]
    fn damaged_pages_end_in_an_error_or_in_bounded_facts(
        damage in prop::collection::vec((0_usize..4096, any::<u8>()), 0..24),
        which in 0_usize..4,
        faults in prop::collection::btree_map(0_usize..60, 0_usize..4, 0..3),
    ) {
        use umpath_nvme::IntoBytes;
        let mut model = Model::new();
        let namespace = model.namespaces.get_mut(&1).unwrap();
        let page = match which {
            0 => model.id.as_mut_bytes(),
            1 => namespace.page.as_mut_bytes(),
            2 => model.nvm.as_mut_bytes(),
            _ => &mut [],
        };
        for (at, byte) in damage {
            if let Some(target) = page.get_mut(at) {
                *target = byte;
            }
        }
        let mut rig = controller(model);
        for (at, kind) in faults {
            let fault = [Fault::Short, Fault::Ones, Fault::Silence, Fault::WrongCommand][kind];
            rig.faults.insert(at, fault);
        }
        rig.run_for(Duration::from_secs(30));
        prop_assert_eq!(rig.closed, rig.over);
        if !rig.over {
            rig.session.shutdown(rig.now);
            rig.run_for(Duration::from_secs(10));
            prop_assert!(rig.over);
        }
    }
}
