//! Admin pages of Linux nvmet.

use umpath_nvme::identify::flags::{anacap, cmic, cntrltype, ctratt, nsfeat, oncs, sgls};
use umpath_nvme::identify::{
    IdentifyController, IdentifyNamespace, IndependentNamespace, NsDescriptors, NsIdentifier,
    NsList, NvmController, NvmNamespace, csi, write_descriptors,
};
use umpath_nvme::log::discovery::{adrfam, subtype, treq, trtype};
use umpath_nvme::log::{
    AnaLog, AnaLogWriter, AnaState, CommandEffects, DiscoveryEntry, DiscoveryHeader, DiscoveryLog,
    EffectsLog, ErrorEntry, FirmwareSlotLog, SmartLog, SupportedLogPages, lid,
};
use umpath_nvme::opcode::{admin, nvm};
use umpath_nvme::property::{Cap, Version};
use umpath_nvme::{FromBytes, IntoBytes, Nqn, Status, aen};

const NQN: &str = "nqn.2026-11.test:vol1";
const NGUID1: [u8; 16] = [
    0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
];
const UUID1: [u8; 16] = [
    0x4d, 0x5f, 0x4b, 0x1c, 0x6f, 0x0e, 0x4a, 0x6e, 0x9a, 0x55, 0x0b, 0x7e, 0x0c, 0x0d, 0xe0, 0x01,
];

#[test]
fn identify_controller() {
    let bytes = include_bytes!("linux-7.2/id_ctrl.bin");
    let id = IdentifyController::ref_from_bytes(bytes).unwrap();
    assert_eq!(id.serial(), "UMPATHGOLD0001");
    assert_eq!(id.model(), "umpath-golden");
    assert_eq!(id.firmware(), "7.2.12+d");
    assert_eq!(id.subsystem(), Nqn::new(NQN));
    assert_eq!(id.version(), Version::new(2, 1, 0));
    assert_eq!((id.cntlid.get(), id.cntrltype), (1, cntrltype::IO));
    assert_eq!(
        id.cmic,
        cmic::MULTI_PORT | cmic::MULTI_CONTROLLER | cmic::ANA
    );
    assert_eq!(id.max_transfer_bytes(0), Some(1 << 20));
    assert_eq!(
        id.oaes.get(),
        aen::config::NAMESPACE_ATTRIBUTE | aen::config::ANA_CHANGE
    );
    assert_eq!(
        id.ctratt.get(),
        ctratt::HOST_ID_128 | ctratt::TRAFFIC_KEEP_ALIVE
    );
    assert!(id.has_traffic_keep_alive() && id.has_ana() && !id.is_discovery());
    assert_eq!(id.keep_alive_granularity_ms(), Some(1000));
    assert_eq!((id.acl, id.aerl, id.lpa, id.elpe), (3, 3, 7, 127));
    let states = anacap::OPTIMIZED | anacap::NON_OPTIMIZED | anacap::INACCESSIBLE;
    assert_eq!(id.anacap, states | anacap::PERSISTENT_LOSS | anacap::CHANGE);
    assert_eq!(
        (id.anatt, id.anagrpmax.get(), id.nanagrpid.get()),
        (10, 128, 128)
    );
    assert_eq!((id.sqes, id.cqes, id.maxcmd.get()), (0x66, 0x44, 128));
    assert_eq!((id.nn.get(), id.mnan.get()), (1024, 1024));
    // Linux asks for exactly this many bytes, see `capsules`.
    assert_eq!(id.ana_log_bytes_max(id.mnan.get()), 8208);
    assert_eq!(
        id.oncs.get(),
        oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES | oncs::RESERVATIONS
    );
    assert!(id.has_dataset_management() && id.has_write_zeroes() && id.has_volatile_cache());
    assert_eq!(id.sgls.get(), sgls::SUPPORTED | sgls::KEYED | sgls::OFFSET);
    assert_eq!(id.in_capsule_bytes(), 4096);
    assert_eq!(
        (id.in_capsule_offset_bytes(), id.iorcsz.get(), id.msdbd),
        (0, 1, 1)
    );
    assert_eq!(id.psd[0].mp.get(), 2500);
    assert_eq!((id.ccrl, id.ciu, id.cirn.get(), id.cqt.get()), (0, 0, 0, 0));
    assert!(!id.has_cross_controller_reset());
    assert_eq!(id.as_bytes(), bytes);
}

#[test]
fn identify_discovery_controller() {
    let bytes = include_bytes!("linux-7.2/id_ctrl_discovery.bin");
    let id = IdentifyController::ref_from_bytes(bytes).unwrap();
    assert!(id.is_discovery() && !id.has_ana());
    assert_eq!(id.subsystem(), Ok(Nqn::discovery()));
    assert_eq!(id.oaes.get(), aen::config::DISCOVERY_CHANGE);
    assert_eq!(
        (id.model(), id.nn.get(), id.keep_alive_granularity_ms()),
        ("Linux", 0, None)
    );
}

#[test]
fn a_target_can_build_the_same_controller() {
    let bytes = include_bytes!("linux-7.2/id_ctrl.bin");
    let linux = IdentifyController::ref_from_bytes(bytes).unwrap();
    let mut ours = IdentifyController::default();
    ours.set_texts("UMPATHGOLD0001", "umpath-golden", "7.2.12+d");
    ours.subnqn = Nqn::new(NQN).unwrap().to_field();
    assert_eq!((ours.sn, ours.mn, ours.fr), (linux.sn, linux.mn, linux.fr));
    assert_eq!(ours.subnqn, linux.subnqn);
}

#[test]
fn identify_namespace() {
    let bytes = include_bytes!("linux-7.2/id_ns1.bin");
    let id = IdentifyNamespace::ref_from_bytes(bytes).unwrap();
    assert!(id.is_active() && id.is_shared() && !id.has_metadata() && !id.is_write_protected());
    assert_eq!(id.block_bytes(), Some(4096));
    assert_eq!(id.size_bytes(), Some(256 << 20));
    assert_eq!((id.nguid(), id.eui64()), (Some(NGUID1), None));
    assert_eq!(id.anagrpid.get(), 2);
    let sizes = nsfeat::OPTIMAL_SIZES | nsfeat::OPTIMAL_SIZES_LARGE;
    assert_eq!(id.nsfeat, nsfeat::NAMESPACE_ATOMICITY | sizes);
    assert_eq!(id.preferred_write_blocks(), Some(1));
    assert_eq!(id.preferred_deallocate_blocks(), Some(1));
    assert!(!id.deallocated_reads_zero() && !id.write_zeroes_deallocates());
    assert_eq!(id.lbaf[0], umpath_nvme::identify::LbaFormat::plain(4096));
    assert_eq!(id.as_bytes(), bytes);

    let other = include_bytes!("linux-7.2/id_ns5.bin");
    let other = IdentifyNamespace::ref_from_bytes(other).unwrap();
    assert_eq!(
        (other.anagrpid.get(), other.nguid().map(|id| id[0])),
        (7, Some(0x10))
    );
}

#[test]
fn namespace_list() {
    let bytes = include_bytes!("linux-7.2/ns_list.bin");
    let list = NsList::ref_from_bytes(bytes).unwrap();
    assert_eq!(list.iter().collect::<Vec<_>>(), [1, 5]);
    assert_eq!(list.continuation(), None);
    assert_eq!(NsList::new([1, 5]).as_bytes(), bytes);
}

#[test]
fn namespace_descriptors() {
    let bytes = include_bytes!("linux-7.2/ns_descs1.bin");
    let expected = [
        NsIdentifier::Uuid(UUID1),
        NsIdentifier::Nguid(NGUID1),
        NsIdentifier::CommandSet(csi::NVM),
    ];
    let walked: Result<Vec<_>, _> = NsDescriptors::new(bytes).collect();
    assert_eq!(walked.unwrap(), expected);
    let mut page = [0xff; 4096];
    write_descriptors(&mut page, &expected).unwrap();
    assert_eq!(&page, bytes);
}

#[test]
fn command_set_pages() {
    let bytes = include_bytes!("linux-7.2/id_ctrl_nvm.bin");
    let limits = NvmController::ref_from_bytes(bytes).unwrap();
    assert_eq!(
        (limits.dsm_ranges_max(), limits.dsm_range_blocks_max()),
        (256, None)
    );
    assert_eq!(limits.write_zeroes_bytes_max(0), None);

    let bytes = include_bytes!("linux-7.2/id_ns_nvm.bin");
    let formats = NvmNamespace::ref_from_bytes(bytes).unwrap();
    assert_eq!(formats.preferred_deallocate_blocks(), Some(1));
    assert_eq!((formats.npdgl.get(), formats.npdal.get()), (1, 1));

    let bytes = include_bytes!("linux-7.2/id_ns_independent.bin");
    let independent = IndependentNamespace::ref_from_bytes(bytes).unwrap();
    assert!(independent.is_ready());
    assert_eq!((independent.anagrpid.get(), independent.nmic), (2, 1));
    // The null_blk disk behind it has no write cache.
    assert!(!independent.has_volatile_cache(true));
}

#[test]
fn discovery_log() {
    let bytes = include_bytes!("linux-7.2/discovery_log.bin");
    let log = DiscoveryLog::parse(bytes).unwrap();
    assert!(log.is_complete());
    assert_eq!(log.header.records.get(), 2);
    let [discovery, volume] = log.entries else {
        panic!("two entries were asked for");
    };
    assert_eq!(discovery.subtype, subtype::CURRENT_DISCOVERY);
    assert_eq!(discovery.subsystem(), Ok(Nqn::discovery()));
    assert_eq!((volume.trtype, volume.adrfam), (trtype::RDMA, adrfam::IPV4));
    assert_eq!(
        (volume.subtype, volume.treq),
        (subtype::NVM, treq::SQ_FLOW_CONTROL_DISABLE)
    );
    assert_eq!(
        (volume.portid.get(), volume.cntlid.get(), volume.asqsz.get()),
        (1, 0xffff, 32)
    );
    assert_eq!((volume.address(), volume.service()), ("10.9.1.1", "4420"));
    assert_eq!(volume.subsystem(), Nqn::new(NQN));

    let nqn = Nqn::new(NQN).unwrap();
    let (family, kind) = (adrfam::IPV4, subtype::NVM);
    let mut ours = DiscoveryEntry::new(trtype::RDMA, family, kind, &nqn, "10.9.1.1", "4420");
    ours.portid.set(1);
    ours.treq = treq::SQ_FLOW_CONTROL_DISABLE;
    assert_eq!(ours.as_bytes(), volume.as_bytes());
    let header = DiscoveryHeader::new(log.header.generation.get(), 2);
    assert_eq!(header.as_bytes(), log.header.as_bytes());
}

#[test]
fn ana_log() {
    let bytes = include_bytes!("linux-7.2/ana_log.bin");
    let log = AnaLog::parse(bytes).unwrap();
    let groups: Vec<_> = log
        .groups()
        .map(|group| group.unwrap())
        .map(|group| {
            (
                group.id(),
                group.state().unwrap(),
                group.nsids().collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        groups,
        [
            (1, AnaState::Optimized, vec![]),
            (2, AnaState::NonOptimized, vec![1]),
            (7, AnaState::Inaccessible, vec![5]),
        ]
    );
    let change_count = log.change_count();
    let mut page = vec![0; bytes.len()];
    let mut writer = AnaLogWriter::new(&mut page, change_count).unwrap();
    for (id, state, nsids) in groups {
        writer.group(id, state, change_count, nsids).unwrap();
    }
    writer.finish();
    assert_eq!(page, bytes);
}

#[test]
fn other_logs() {
    let supported = include_bytes!("linux-7.2/supported_logs.bin");
    let supported = SupportedLogPages::ref_from_bytes(supported).unwrap();
    for page in [
        lid::SUPPORTED,
        lid::ERROR,
        lid::SMART,
        lid::CHANGED_NAMESPACES,
        lid::ANA,
    ] {
        assert!(supported.supports(page), "log {page:#04x}");
    }
    assert!(!supported.supports(lid::CROSS_CONTROLLER_RESET));

    let effects = include_bytes!("linux-7.2/effects_log.bin");
    let effects = EffectsLog::ref_from_bytes(effects).unwrap();
    for opcode in [nvm::WRITE, nvm::WRITE_ZEROES] {
        assert_eq!(effects.io(opcode), CommandEffects::CHANGES_BLOCKS);
    }
    assert_eq!(effects.io(nvm::READ), CommandEffects::SUPPORTED);
    assert!(effects.admin(admin::KEEP_ALIVE).is_supported());
    assert!(!effects.admin(admin::CROSS_CONTROLLER_RESET).is_supported());

    let smart = include_bytes!("linux-7.2/smart_log.bin");
    let smart = SmartLog::ref_from_bytes(smart).unwrap();
    assert_eq!((smart.critical_warning, smart.temperature_k.get()), (0, 0));
    assert!(smart.host_reads.get() > 0);
    assert_eq!(smart.host_writes.get(), 0);

    let slots = include_bytes!("linux-7.2/fw_slot_log.bin");
    assert_eq!(
        FirmwareSlotLog::ref_from_bytes(slots)
            .unwrap()
            .active_revision(),
        ""
    );

    // The refused Identify: CNS, byte 40, was the invalid field.
    let error = include_bytes!("linux-7.2/error_log.bin");
    let error = ErrorEntry::ref_from_bytes(error).unwrap();
    assert!(error.error_count.get() > 0);
    assert_eq!((error.sqid.get(), error.parameter_location.get()), (0, 40));
    assert_eq!(error.status(), Status::INVALID_FIELD.with_dnr());
}

#[test]
fn properties() {
    let text = include_str!("linux-7.2/properties.txt");
    let value = |offset: &str| {
        let line = text.lines().find(|line| line.contains(offset)).unwrap();
        let (_, hex) = line.rsplit_once(' ').unwrap();
        u64::from_str_radix(hex, 16).unwrap()
    };
    let cap = Cap(value("0x00"));
    assert_eq!(
        (cap.queue_entries_max(), cap.ready_timeout_ms()),
        (128, 7500)
    );
    assert_eq!(
        (cap.page_bytes_min(), cap.has_nvm(), cap.has_iocs()),
        (4096, true, true)
    );
    // nvmet leaves CQR clear, although queues of a fabrics controller are always contiguous.
    assert_eq!(
        Cap::fabrics(128, 7500).0,
        (cap.0 & !Cap::CSS_IOCS) | Cap::CQR
    );
    assert_eq!(Version(value("0x08") as u32), Version::new(2, 1, 0));
    assert_eq!(value("0x1c"), u64::from(umpath_nvme::property::Csts::READY));
}
