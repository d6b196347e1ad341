//! Whole capsules between Linux's host and target: what a kernel host asks for while it brings a
//! controller up, does I/O, sees an ANA state change and leaves, and how two Connects are refused.
//!
//! They were recorded over TCP, where the data pointer differs from RDMA's and nothing else does.

use umpath_nvme::command::{
    Connect, ConnectResponse, DatasetManagement, Features, GetLogPage, Identify, PropertyGet,
    PropertySet, ReadWrite, WriteZeroes, async_event, deallocate, fabrics, flush, keep_alive,
};
use umpath_nvme::identify::cns;
use umpath_nvme::log::lid;
use umpath_nvme::opcode::{self, admin, nvm};
use umpath_nvme::property::{Cap, Cc, Csts, offset};
use umpath_nvme::{
    AsyncEvent, ConnectData, Cqe, FromBytes, Nqn, SglKind, Sqe, Status, U32, feature,
};

const HOSTNQN: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";

fn sqes(bytes: &[u8]) -> &[Sqe] {
    <[Sqe]>::ref_from_bytes(bytes).expect("whole entries")
}

fn cqes(bytes: &[u8]) -> &[Cqe] {
    <[Cqe]>::ref_from_bytes(bytes).expect("whole entries")
}

/// The bring-up and leaving of the admin queue.
fn admin_queue() -> &'static [Sqe] {
    sqes(include_bytes!("linux-7.2/admin.sqes"))
}

/// The I/O queue.
fn io_queue() -> &'static [Sqe] {
    sqes(include_bytes!("linux-7.2/io.sqes"))
}

/// Parses an admin command and builds it again.
fn rebuild_admin(sqe: &Sqe) -> Sqe {
    match (sqe.opcode, sqe.fabrics_type()) {
        (opcode::FABRICS, opcode::fabrics::CONNECT) => Connect::parse(sqe).build(),
        (opcode::FABRICS, opcode::fabrics::PROPERTY_GET) => {
            let get = PropertyGet::parse(sqe).expect("a defined size");
            fabrics::property_get(get.offset, get.wide)
        }
        (opcode::FABRICS, opcode::fabrics::PROPERTY_SET) => {
            let set = PropertySet::parse(sqe).expect("a defined size");
            fabrics::property_set(set.offset, set.value as u32)
        }
        (admin::IDENTIFY, _) => Identify::parse(sqe).build(),
        (admin::GET_LOG_PAGE, _) => GetLogPage::parse(sqe).build(),
        (admin::SET_FEATURES | admin::GET_FEATURES, _) => Features::parse(sqe).build(sqe.opcode),
        (admin::KEEP_ALIVE, _) => keep_alive(),
        (admin::ASYNC_EVENT_REQUEST, _) => async_event(),
        other => panic!("unexpected command {other:?}"),
    }
}

/// Parses an I/O command and builds it again.
fn rebuild_io(sqe: &Sqe) -> Sqe {
    match sqe.opcode {
        opcode::FABRICS => Connect::parse(sqe).build(),
        nvm::READ | nvm::WRITE => {
            let mut built = ReadWrite::parse(sqe).build(sqe.opcode);
            built.cdw13 = sqe.cdw13; // Access hints, which nothing here reads.
            built
        }
        nvm::WRITE_ZEROES => WriteZeroes::parse(sqe).build(),
        nvm::DATASET_MANAGEMENT => {
            let dsm = DatasetManagement::parse(sqe);
            assert!(dsm.deallocate);
            deallocate(dsm.nsid, dsm.ranges).expect("1 to 256 ranges")
        }
        nvm::FLUSH => flush(sqe.nsid.get()),
        other => panic!("unexpected opcode {other:#x}"),
    }
}

#[test]
fn every_command_is_built_byte_for_byte() {
    let admin = admin_queue().iter().map(|sqe| (sqe, rebuild_admin(sqe)));
    let io = io_queue().iter().map(|sqe| (sqe, rebuild_io(sqe)));
    for (recorded, built) in admin.chain(io) {
        assert_eq!(
            built.with_cid(recorded.cid.get()).with_sgl(recorded.sgl),
            *recorded
        );
        assert!(recorded.uses_sgl() && !recorded.is_fused());
    }
}

#[test]
fn connect_of_the_admin_queue() {
    let sqe = &admin_queue()[0];
    let expected = fabrics::connect(0, 32, 0, 5000);
    assert_eq!(Connect::parse(sqe), Connect::parse(&expected));
    let kind = SglKind::InCapsule {
        offset: 0,
        length: 1024,
    };
    assert_eq!(sqe.sgl.kind(), Some(kind));

    let bytes = include_bytes!("linux-7.2/admin.connect");
    let data = ConnectData::ref_from_bytes(bytes).unwrap();
    assert_eq!(data.cntlid.get(), fabrics::CNTLID_DYNAMIC);
    assert_eq!(data.subsystem(), Nqn::new("nqn.2026-11.test:vol1"));
    assert_eq!(data.host(), Nqn::new(HOSTNQN));
    assert_eq!(data.hostid[..5], [0x11, 0x11, 0x11, 0x11, 0x22]);
    let host = data.host().unwrap();
    let ours = ConnectData::new(data.hostid, 0xffff, &data.subsystem().unwrap(), &host);
    assert_eq!(&ours, data);

    let answer = cqes(include_bytes!("linux-7.2/admin.cqes"))[0];
    let accepted = ConnectResponse::Accepted {
        cntlid: 1,
        authreq: 0,
    };
    assert_eq!(ConnectResponse::parse(&answer), accepted);
}

#[test]
fn connect_of_the_io_queue() {
    let connect = Connect::parse(&io_queue()[0]);
    assert_eq!((connect.qid, connect.sqsize, connect.kato_ms), (1, 127, 0));
    let data = ConnectData::ref_from_bytes(include_bytes!("linux-7.2/io.connect")).unwrap();
    assert_eq!(data.cntlid.get(), 1);
}

/// The property accesses of a Linux 7.2 host, which selects all command sets when CAP offers it.
#[test]
fn enabling_and_shutting_down() {
    let accesses: Vec<_> = admin_queue()
        .iter()
        .filter(|sqe| sqe.opcode == opcode::FABRICS)
        .filter_map(|sqe| match sqe.fabrics_type() {
            opcode::fabrics::PROPERTY_GET => PropertyGet::parse(sqe).map(|get| (get.offset, None)),
            opcode::fabrics::PROPERTY_SET => {
                PropertySet::parse(sqe).map(|set| (set.offset, Some(set.value as u32)))
            }
            _ => None,
        })
        .collect();
    let enabled = Cc::enabled(0).with_iocs();
    assert_eq!(
        accesses,
        [
            (offset::CAP, None),
            (offset::CC, Some(enabled.disabled().0)),
            (offset::CAP, None),
            (offset::CC, Some(enabled.0)),
            (offset::CSTS, None),
            (offset::VS, None),
            (offset::CC, Some(enabled.with_normal_shutdown().0)),
            (offset::CSTS, None),
        ]
    );
    let answers = cqes(include_bytes!("linux-7.2/admin.cqes"));
    let answer_to = |sqe: &Sqe| {
        answers
            .iter()
            .find(|cqe| cqe.cid == sqe.cid)
            .map_or(0, |cqe| cqe.result.get())
    };
    assert!(Cap(answer_to(&admin_queue()[1])).has_iocs());
    assert!(Csts(answer_to(&admin_queue()[5]) as u32).is_ready());
    let last = answers.last().map_or(0, Cqe::dw0);
    assert!(Csts(last).shutdown_complete());
}

#[test]
fn what_a_host_asks_while_it_scans() {
    let identified: Vec<_> = admin_queue()
        .iter()
        .filter(|sqe| sqe.opcode == admin::IDENTIFY)
        .map(|sqe| (Identify::parse(sqe).cns, sqe.nsid.get()))
        .collect();
    for structure in [
        (cns::CONTROLLER, 0),
        (cns::CSI_CONTROLLER, 0),
        (cns::ACTIVE_NAMESPACES, 0),
        (cns::NAMESPACE_DESCRIPTORS, 5),
        (cns::INDEPENDENT_NAMESPACE, 1),
        (cns::NAMESPACE, 1),
        (cns::CSI_NAMESPACE, 1),
    ] {
        assert!(identified.contains(&structure), "{structure:?}");
    }
    let logs: Vec<_> = admin_queue()
        .iter()
        .filter(|sqe| sqe.opcode == admin::GET_LOG_PAGE)
        .map(GetLogPage::parse)
        .map(|log| (log.lid, log.nsid, log.length))
        .collect();
    assert!(logs.contains(&(lid::COMMAND_EFFECTS, 0, 4096)));
    assert!(logs.contains(&(lid::ANA, u32::MAX, 8208)));
    assert!(logs.contains(&(lid::SMART, u32::MAX, 512)));

    let features: Vec<_> = admin_queue()
        .iter()
        .filter(|sqe| sqe.opcode == admin::SET_FEATURES)
        .map(Features::parse)
        .map(|set| (set.fid, set.value))
        .collect();
    let queues = feature::QueueCount::pairs(1).to_wire();
    assert_eq!(
        features,
        [
            (feature::NUMBER_OF_QUEUES, queues),
            (feature::ASYNC_EVENT_CONFIG, 0x900)
        ]
    );
}

#[test]
fn ana_change_is_announced() {
    let aer = admin_queue()
        .iter()
        .find(|sqe| sqe.opcode == admin::ASYNC_EVENT_REQUEST)
        .expect("one is always posted");
    let events: Vec<_> = cqes(include_bytes!("linux-7.2/admin.cqes"))
        .iter()
        .filter(|cqe| cqe.cid == aer.cid)
        .map(|cqe| AsyncEvent::from_dw0(cqe.dw0()))
        .collect();
    assert_eq!(events, [AsyncEvent::ANA_CHANGE; 2]);
}

#[test]
fn io_commands() {
    let commands = io_queue();
    let write = commands
        .iter()
        .find(|sqe| sqe.opcode == nvm::WRITE)
        .expect("dd wrote");
    let write = ReadWrite::parse(write);
    assert_eq!((write.nsid, write.slba, write.blocks.get()), (1, 3, 1));
    let discard = commands
        .iter()
        .find(|sqe| sqe.opcode == nvm::DATASET_MANAGEMENT);
    let discard = DatasetManagement::parse(discard.expect("blkdiscard discarded"));
    assert_eq!((discard.ranges, discard.deallocate), (1, true));
    let zeroes = commands.iter().find(|sqe| sqe.opcode == nvm::WRITE_ZEROES);
    let zeroes = WriteZeroes::parse(zeroes.expect("blkdiscard -z zeroed"));
    assert_eq!((zeroes.slba, zeroes.blocks.get()), (1, 2));
    for cqe in cqes(include_bytes!("linux-7.2/io.cqes")) {
        assert!(
            cqe.status().is_success() || cqe.status().is_ana(),
            "{}",
            cqe.status()
        );
    }
}

/// Linux's host logged these two as "Connect Invalid Data Parameter, subsysnqn" and "Connect for
/// subsystem ... is not allowed", and their statuses as 16770 and 16772.
#[test]
fn refused_connects() {
    let unknown = cqes(include_bytes!("linux-7.2/refused_subsystem.cqes"))[0];
    assert_eq!(
        ConnectResponse::parse(&unknown),
        ConnectResponse::InvalidParameter {
            offset: ConnectData::SUBNQN_OFFSET,
            in_data: true
        }
    );
    assert_eq!(unknown.status().raw(), 16770);
    let asked = include_bytes!("linux-7.2/refused_subsystem.connect");
    let asked = ConnectData::ref_from_bytes(asked).unwrap();
    assert_eq!(asked.subsystem(), Nqn::new("nqn.2026-11.test:nosuch"));
    let (status, result) = ConnectResponse::parse(&unknown).to_result();
    assert_eq!(Cqe::new(0, 0, status, result), unknown);

    let forbidden = cqes(include_bytes!("linux-7.2/refused_host.cqes"))[0];
    let status = Status::CONNECT_INVALID_HOST.with_dnr();
    assert_eq!(
        ConnectResponse::parse(&forbidden),
        ConnectResponse::Refused(status)
    );
    assert_eq!(forbidden.status().raw(), 16772);
    let culprit = U32::new(u32::from(ConnectData::HOSTNQN_OFFSET) | 1 << 16);
    assert_eq!(forbidden.dw0_le(), culprit);
}
