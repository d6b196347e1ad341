//! What each command does.

use std::time::Duration;

use crate::host::{self, Host, NQN, array, array_with, namespace};
use umpath_nvme::command::io;
use umpath_nvme::command::io::BlockCount;
use umpath_nvme::command::{admin, fabrics};
use umpath_nvme::identify::{IdentifyController, IdentifyNamespace, NsDescriptors, NsList};
use umpath_nvme::log::{AnaLog, AnaState as Wire, DiscoveryLog, lid};
use umpath_nvme::property::{Cc, Csts, offset};
use umpath_nvme::{FromBytes, Status};
use umpath_target::controller::Answer;
use umpath_target::controller::io::{Operation, plan};
use umpath_target::model::{AnaState, DISCOVERY_NQN, PortId};
use umpath_target::output::{ArrayOutput, Event, Gone, QueueId};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn connect_is_refused_with_the_field_that_is_wrong() {
    let mut array = array();
    let refused = |array: &mut _, change: &dyn Fn(&mut Host)| {
        let mut host = Host::new(1);
        change(&mut host);
        let refusal = host
            .connect_admin(array, Duration::ZERO)
            .expect_err("refused");
        (refusal.status.code(), refusal.result)
    };
    let parameters = Status::CONNECT_INVALID_PARAMETERS;
    let in_data = 1 << 16;
    assert_eq!(
        refused(&mut array, &|host| host.subsystem =
            "nqn.2026-11.test:none".into()),
        (parameters, in_data | 256)
    );
    assert_eq!(
        refused(&mut array, &|host| host.port = PortId(9)),
        (parameters, in_data | 256)
    );
    assert_eq!(
        refused(&mut array, &|host| host.cntlid = 1),
        (parameters, in_data | 16)
    );
    assert_eq!(
        refused(&mut array, &|host| host.depth = 1),
        (parameters, 44)
    );
    array.forbid_host(NQN, None, Duration::ZERO).unwrap();
    assert_eq!(
        refused(&mut array, &|_| ()),
        (Status::CONNECT_INVALID_HOST, 0)
    );
}

#[test]
fn an_io_queue_belongs_to_an_enabled_controller_of_the_same_host() {
    let mut array = array();
    let mut host = Host::new(1);
    host.connect_admin(&mut array, Duration::ZERO).unwrap();
    let early = host.connect_io(&mut array, 1).expect_err("not enabled");
    assert!(early.status.is(Status::COMMAND_SEQUENCE_ERROR));
    host.enable(&mut array);
    host.connect_io(&mut array, 1).unwrap();
    let twice = host.connect_io(&mut array, 1).expect_err("taken");
    assert!(twice.status.is(Status::COMMAND_SEQUENCE_ERROR));
    let mut stranger = Host::new(2);
    stranger.cntlid = host.cntlid;
    let stolen = stranger
        .connect_io(&mut array, 2)
        .expect_err("another host's");
    assert_eq!(stolen.result, 1 << 16 | 512);
    assert_eq!(
        host.connect_io(&mut array, 99)
            .expect_err("too high")
            .result,
        42
    );
}

#[test]
fn an_io_queue_comes_through_the_port_of_its_controller() {
    let mut array = array();
    let mut host = Host::ready(&mut array, 1);
    host.port = PortId(2);
    let elsewhere = host.connect_io(&mut array, 1).expect_err("another port");
    assert_eq!(elsewhere.result, 1 << 16 | 16);
    host.port = PortId(1);
    host.connect_io(&mut array, 1).unwrap();
}

#[test]
fn a_second_connect_on_one_queue_makes_no_controller_that_outlives_it() {
    let mut array = array();
    let mut host = Host::new(1);
    host.connect_admin(&mut array, Duration::ZERO).unwrap();
    let mut again = Host::new(1);
    let refusal = again
        .connect_admin(&mut array, Duration::ZERO)
        .expect_err("the queue has a controller");
    assert!(refusal.status.is(Status::COMMAND_SEQUENCE_ERROR));
    array.queue_closed(host.cntlid, QueueId(10), Duration::ZERO);
    assert!(array.report().controllers.is_empty());
    assert_eq!(again.connect_admin(&mut array, Duration::ZERO), Ok(()));
}

#[test]
fn nothing_but_fabrics_before_enable() {
    let mut array = array();
    let mut host = Host::new(1);
    host.connect_admin(&mut array, Duration::ZERO).unwrap();
    let answer = host.admin(&mut array, admin::identify(1, 0), &mut [0; 4096]);
    assert_eq!(
        answer,
        Answer::failed(Status::COMMAND_SEQUENCE_ERROR.with_dnr())
    );
}

#[test]
fn two_processes_present_one_namespace() {
    let pages: Vec<_> = [(1, 99), (100, 199)]
        .into_iter()
        .map(|(first, last)| {
            let mut array = array_with(first, last);
            let host = Host::ready(&mut array, 1);
            let controller = host.page(&mut array, admin::identify(1, 0));
            let controller = IdentifyController::read_from_bytes(&controller).unwrap();
            let namespace = host.page(&mut array, admin::identify(0, 1));
            let descriptors = host.page(&mut array, admin::identify(3, 1));
            assert_eq!(NsDescriptors::new(&descriptors).flatten().count(), 3);
            (controller, namespace, descriptors)
        })
        .collect();
    let (a, b) = (&pages[0], &pages[1]);
    assert_eq!((a.0.cntlid.get(), b.0.cntlid.get()), (1, 100));
    assert_eq!((a.0.serial(), &a.1, &a.2), (b.0.serial(), &b.1, &b.2));
    assert!(a.0.has_ana() && a.0.has_keyed_sgls() && !a.0.has_traffic_keep_alive());
    assert_eq!(a.0.keep_alive_granularity_ms(), Some(100));
    let namespace = IdentifyNamespace::read_from_bytes(&a.1).unwrap();
    assert!(namespace.is_shared() && namespace.nguid().is_some());
}

#[test]
fn keep_alive_is_kept_to_the_millisecond() {
    let mut array = array();
    let mut host = Host::new(1);
    host.kato_ms = 300;
    host.connect_admin(&mut array, Duration::ZERO).unwrap();
    host.enable(&mut array);
    let io = host.connect_io(&mut array, 1).unwrap().io.unwrap();
    assert_eq!(
        array.next_timeout(Duration::ZERO),
        Some(Duration::from_millis(300))
    );
    let at = |ms| Duration::from_millis(ms);
    assert_eq!(
        host.admin_at(&mut array, admin::keep_alive(), at(200)),
        host::OK
    );
    array.handle_timeout(at(499));
    assert!(array.has_controller(host.cntlid));
    let gate = &io.shared().gate;
    gate.enter(io.epoch(), at(499)).expect("alive");
    assert!(
        gate.permits(io.epoch(), at(500)).is_err(),
        "by the clock, before any timer"
    );
    host::drain(&mut array);
    array.handle_timeout(at(500));
    let outputs = host::drain(&mut array);
    assert!(
        outputs.contains(&ArrayOutput::Close { queue: QueueId(10) }),
        "admin queue"
    );
    assert!(
        outputs.contains(&ArrayOutput::Close { queue: QueueId(11) }),
        "I/O queue"
    );
    let gone = Event::Gone {
        cntlid: host.cntlid,
        why: Gone::KeepAlive,
    };
    assert!(outputs.contains(&ArrayOutput::Event(gone)));

    // CQT is 100 ms: the command that is still on the media makes the promise a lie.
    array.handle_timeout(at(650));
    gate.leave();
    array.handle_timeout(at(655));
    let outputs = host::drain(&mut array);
    assert!(
        matches!(
            outputs[..],
            [ArrayOutput::Event(Event::QuiesceLate { took_ms: 155, .. })]
        ),
        "{outputs:?}"
    );
}

/// It used to run from Connect on, and a busy host lost controllers it was about to enable.
#[test]
fn the_keep_alive_timer_runs_from_the_moment_the_controller_is_enabled() {
    let mut array = array();
    let mut host = Host::new(1);
    host.kato_ms = 300;
    host.connect_admin(&mut array, Duration::ZERO).unwrap();
    let at = Duration::from_millis;
    array.handle_timeout(at(14_999));
    let enable = fabrics::property_set(offset::CC, Cc::enabled(0).0);
    assert_eq!(host.admin_at(&mut array, enable, at(14_999)), host::OK);
    assert_eq!(array.next_timeout(at(14_999)), Some(at(15_299)));
    array.handle_timeout(at(15_299));
    assert!(!array.has_controller(host.cntlid));
    // One that is never enabled goes as well, only later.
    let mut idler = Host::new(2);
    idler.kato_ms = 300;
    idler.connect_admin(&mut array, at(20_000)).unwrap();
    array.handle_timeout(at(35_000));
    assert!(!array.has_controller(idler.cntlid));
}

#[test]
fn a_late_keep_alive_revives_nothing() {
    let mut array = array();
    let mut host = Host::new(1);
    host.kato_ms = 300;
    host.connect_admin(&mut array, Duration::ZERO).unwrap();
    host.enable(&mut array);
    let io = host.connect_io(&mut array, 1).unwrap().io.unwrap();
    // The process was stopped: nobody called the timer, and this lay in the queue.
    let late = Duration::from_millis(301);
    let answer = host.admin_at(&mut array, admin::keep_alive(), late);
    assert_eq!(
        answer,
        Answer::failed(Status::KEEP_ALIVE_EXPIRED.with_dnr())
    );
    assert!(!array.has_controller(host.cntlid));
    assert!(io.shared().gate.permits(io.epoch(), late).is_err());
    let gone = Event::Gone {
        cntlid: host.cntlid,
        why: Gone::KeepAlive,
    };
    assert!(host::drain(&mut array).contains(&ArrayOutput::Event(gone)));
}

#[test]
fn an_identifier_is_not_reused_while_its_owner_is_on_the_media() {
    let mut array = array_with(5, 6);
    let mut host = Host::ready(&mut array, 1);
    let io = host.connect_io(&mut array, 1).unwrap().io.unwrap();
    io.shared().gate.enter(io.epoch(), Duration::ZERO).unwrap();
    array.queue_closed(host.cntlid, QueueId(10), Duration::ZERO);
    assert!(!array.has_controller(5));
    assert_eq!(Host::ready(&mut array, 2).cntlid, 6);
    let mut third = Host::new(3);
    let refusal = third
        .connect_admin(&mut array, SECOND)
        .expect_err("5 is still fenced");
    assert!(refusal.status.is(Status::CONNECT_CONTROLLER_BUSY));
    io.shared().gate.leave();
    array.handle_timeout(SECOND);
    assert_eq!(third.connect_admin(&mut array, SECOND), Ok(()));
    assert_eq!(third.cntlid, 5);
}

#[test]
fn disabling_fences_and_ready_falls_off_the_media_only() {
    let mut array = array();
    let mut host = Host::ready(&mut array, 1);
    let io = host.connect_io(&mut array, 1).unwrap().io.unwrap();
    let gate = &io.shared().gate;
    gate.enter(io.epoch(), Duration::ZERO).unwrap();
    host.set_property(&mut array, offset::CC, Cc::enabled(0).disabled().0);
    assert!(gate.permits(io.epoch(), Duration::ZERO).is_err());
    assert!(host::drain(&mut array).contains(&ArrayOutput::Close { queue: QueueId(11) }));
    assert!(
        Csts(host.property(&mut array, offset::CSTS)).is_ready(),
        "still writing"
    );
    gate.leave();
    assert!(!Csts(host.property(&mut array, offset::CSTS)).is_ready());
    host.enable(&mut array);
    let again = host.connect_io(&mut array, 1).unwrap().io.unwrap();
    assert_eq!(gate.enter(again.epoch(), Duration::ZERO), Ok(()));
    assert!(
        gate.permits(io.epoch(), Duration::ZERO).is_err(),
        "the old queue stays out"
    );
}

#[test]
fn an_ana_change_reaches_the_port_it_is_about() {
    let mut array = array();
    let mut near = Host::ready(&mut array, 1);
    let mut far = Host::ready_on(&mut array, 2, PortId(2));
    let (mut near_io, mut far_io) = (
        near.connect_io(&mut array, 1).unwrap().io.unwrap(),
        far.connect_io(&mut array, 1).unwrap().io.unwrap(),
    );
    for host in [&near, &far] {
        host.want_events(&mut array);
        assert_eq!(host.request_event(&mut array, 77), Answer::Parked);
    }
    host::drain(&mut array);
    assert_eq!(
        array.set_ana(NQN, PortId(1), 1, AnaState::Inaccessible),
        Ok(true)
    );
    let sent = ArrayOutput::Respond {
        queue: QueueId(10),
        cid: 77,
        dword: 0x000c_0302,
    };
    assert_eq!(host::drain(&mut array), [sent]);

    let read = io::read(1, 0, BlockCount::ONE);
    let status = plan(near_io.view(), &read)
        .map(|_| ())
        .expect_err("inaccessible");
    assert_eq!(status, Status::ANA_INACCESSIBLE, "and no DNR");
    assert!(plan(far_io.view(), &read).is_ok());

    assert_eq!(
        array.set_ana(NQN, PortId(1), 1, AnaState::Optimized),
        Ok(true)
    );
    assert_eq!(near.request_event(&mut array, 78), Answer::Parked);
    assert_eq!(host::drain(&mut array), [], "masked until the log is read");
    let log = near.log(&mut array, lid::ANA, 4096);
    let log = AnaLog::parse(&log).unwrap();
    let group = log.groups().next().unwrap().unwrap();
    assert_eq!(
        (group.state(), group.change_count()),
        (Some(Wire::Optimized), 2)
    );
    assert_eq!(group.nsids().collect::<Vec<_>>(), [1]);
    array.set_ana(NQN, PortId(1), 1, AnaState::Change).unwrap();
    assert_eq!(host::drain(&mut array).len(), 1, "armed again");
}

#[test]
fn namespaces_come_and_go() {
    let mut array = array();
    let host = Host::ready(&mut array, 1);
    host.want_events(&mut array);
    host.request_event(&mut array, 1);
    host::drain(&mut array);
    array.add_namespace(NQN, namespace(7)).unwrap();
    let sent = ArrayOutput::Respond {
        queue: QueueId(10),
        cid: 1,
        dword: 0x0004_0002,
    };
    assert_eq!(host::drain(&mut array), [sent]);
    let list = |bytes: Vec<u8>| {
        NsList::read_from_bytes(&bytes)
            .unwrap()
            .iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        list(host.log(&mut array, lid::CHANGED_NAMESPACES, 4096)),
        [7]
    );
    assert_eq!(
        list(host.log(&mut array, lid::CHANGED_NAMESPACES, 4096)),
        [0; 0],
        "read once"
    );
    assert_eq!(list(host.page(&mut array, admin::identify(2, 0))), [1, 7]);
    assert_eq!(list(host.page(&mut array, admin::identify(2, 1))), [7]);
    array.remove_namespace(NQN, 1).unwrap();
    let inactive = host.page(&mut array, admin::identify(0, 1));
    assert_eq!(inactive, [0; 4096]);
    let gone = host.admin(&mut array, admin::identify(3, 1), &mut [0; 4096]);
    assert_eq!(gone, Answer::failed(Status::INVALID_NAMESPACE.with_dnr()));
}

#[test]
fn discovery_shows_what_this_port_and_this_host_may_use() {
    let mut array = array();
    let mut host = Host::new(1);
    host.subsystem = DISCOVERY_NQN.into();
    host.connect_admin(&mut array, Duration::ZERO).unwrap();
    host.enable(&mut array);
    host.want_events(&mut array);
    host.request_event(&mut array, 5);
    host::drain(&mut array);
    let bytes = host.log(&mut array, lid::DISCOVERY, 4096);
    let log = DiscoveryLog::parse(&bytes).unwrap();
    assert!(log.is_complete());
    let before = log.header.generation.get();
    let found: Vec<_> = log
        .entries
        .iter()
        .map(|e| (e.portid.get(), e.address()))
        .collect();
    assert_eq!(found, [(1, "10.9.1.1")]);

    array.forbid_host(NQN, None, Duration::ZERO).unwrap();
    let sent = ArrayOutput::Respond {
        queue: QueueId(10),
        cid: 5,
        dword: 0x0070_f002,
    };
    assert_eq!(host::drain(&mut array), [sent]);
    let bytes = host.log(&mut array, lid::DISCOVERY, 4096);
    let log = DiscoveryLog::parse(&bytes).unwrap();
    assert!(log.entries.is_empty() && log.header.generation.get() > before);
    let io = host
        .connect_io(&mut array, 1)
        .expect_err("no I/O queues here");
    assert!(!io.status.is_success());
}

#[test]
fn a_discovery_controller_nobody_uses_goes_after_two_minutes() {
    let mut array = array();
    let mut host = Host::new(1);
    host.subsystem = DISCOVERY_NQN.into();
    host.connect_admin(&mut array, Duration::ZERO).unwrap();
    host.enable(&mut array);
    let read = fabrics::property_get(offset::CSTS, false);
    assert!(matches!(
        host.admin_at(&mut array, read, 100 * SECOND),
        Answer::Done { status, .. } if status.is_success()
    ));
    array.handle_timeout(219 * SECOND);
    assert!(array.has_controller(host.cntlid));
    array.handle_timeout(220 * SECOND);
    assert!(!array.has_controller(host.cntlid));
}

#[test]
fn no_host_takes_all_controllers_from_the_others() {
    let mut array = array();
    let connected = |array: &mut _, subsystem: &str, numbers: std::ops::Range<u64>| {
        let connect = |number: &u64| {
            let mut host = Host::new(*number);
            host.subsystem = subsystem.into();
            host.connect_admin(array, Duration::ZERO).is_ok()
        };
        numbers.filter(connect).count()
    };
    // Anyone may discover, and then there are identifiers left for a subsystem.
    assert_eq!(connected(&mut array, DISCOVERY_NQN, 100..1100), 250);
    let mut greedy = Host::new(1);
    let mut had = 0;
    while greedy.connect_admin(&mut array, Duration::ZERO).is_ok() {
        had += 1;
        greedy.cntlid = 0xffff;
        greedy.first_queue += 100_000;
    }
    assert_eq!(had, 64);
    assert_eq!(
        Host::new(2).connect_admin(&mut array, Duration::ZERO),
        Ok(())
    );
}

#[test]
fn a_host_that_lost_its_permission_is_disconnected() {
    let mut array = array();
    let host = Host::ready(&mut array, 1);
    array.allow_host(NQN, Some(&host.nqn())).unwrap();
    array.forbid_host(NQN, None, SECOND).unwrap();
    assert!(array.has_controller(host.cntlid), "still listed by name");
    array.forbid_host(NQN, Some(&host.nqn()), SECOND).unwrap();
    assert!(!array.has_controller(host.cntlid));
}

#[test]
fn io_commands_are_checked_before_anything_moves() {
    let mut array = array();
    let mut host = Host::ready(&mut array, 1);
    let mut io = host.connect_io(&mut array, 1).unwrap().io.unwrap();
    let blocks = |count| BlockCount::new(count).unwrap();
    let mut check = |sqe| {
        plan(io.view(), &sqe)
            .map(|plan| plan.operation)
            .map_err(Status::code)
    };
    let write = check(io::write(1, 3, blocks(2), true));
    assert_eq!(
        write,
        Ok(Operation::Write {
            offset: 3 * 4096,
            bytes: 8192,
            fua: true
        })
    );
    assert_eq!(
        check(io::read(2, 0, BlockCount::ONE)),
        Err(Status::INVALID_NAMESPACE)
    );
    assert_eq!(
        check(io::read(1, 4096, BlockCount::ONE)),
        Err(Status::LBA_OUT_OF_RANGE)
    );
    assert_eq!(
        check(io::read(1, u64::MAX, BlockCount::MAX)),
        Err(Status::LBA_OUT_OF_RANGE)
    );
    assert!(check(io::read(1, 0, blocks(256))).is_ok());
    assert_eq!(
        check(io::read(1, 0, blocks(257))),
        Err(Status::INVALID_FIELD),
        "MDTS"
    );
    assert!(check(io::write_zeroes(1, 0, blocks(2048), false, true)).is_ok());
    assert!(
        check(io::write_zeroes(1, 0, blocks(2049), false, true)).is_err(),
        "WZSL"
    );
    let mut compare = io::read(1, 0, BlockCount::ONE);
    compare.opcode = 0x05;
    assert_eq!(check(compare), Err(Status::INVALID_OPCODE));
    assert_eq!(check(io::flush(u32::MAX)), Err(Status::INVALID_NAMESPACE));
}

#[test]
fn an_io_command_is_asked_back_from_whoever_has_it() {
    let mut array = array();
    let mut host = Host::ready(&mut array, 1);
    host.connect_io(&mut array, 1).unwrap();
    host::drain(&mut array);
    let asked = admin::abort(1, 3).with_cid(77);
    assert_eq!(host.admin(&mut array, asked, &mut []), Answer::Parked);
    let recall = ArrayOutput::Recall {
        queue: QueueId(11),
        cid: 3,
        asker: QueueId(10),
        asker_cid: 77,
    };
    assert_eq!(host::drain(&mut array), [recall]);
}

#[test]
fn abort_never_claims_what_it_did_not_do() {
    let mut array = array();
    let host = Host::ready(&mut array, 1);
    let not_immediate = Answer::Done {
        status: Status::SUCCESS,
        result: 1,
    };
    assert_eq!(
        host.admin(&mut array, admin::abort(7, 3), &mut []),
        not_immediate,
        "no such queue"
    );
    host.request_event(&mut array, 9);
    host::drain(&mut array);
    assert_eq!(
        host.admin(&mut array, admin::abort(0, 9), &mut []),
        host::OK
    );
    assert_eq!(
        host::drain(&mut array),
        [ArrayOutput::Abort {
            queue: QueueId(10),
            cid: 9
        }]
    );
}
