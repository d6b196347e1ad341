//! Properties of every decoder: arbitrary bytes never cause a panic, and what was decoded encodes
//! to the same bytes again.

use proptest::collection::vec;
use proptest::prelude::*;
use umpath_nvme::command::{
    Abort, BlockCount, Connect, ConnectResponse, CrossControllerReset, DatasetManagement, Features,
    GetLogPage, Identify, PropertyGet, PropertySet, ReadWrite, WriteZeroes, fabrics, io,
};
use umpath_nvme::identify::{
    ControllerList, IdentifyController, IdentifyNamespace, IndependentNamespace, NsDescriptors,
    NsIdentifier, NsList, NvmController, NvmNamespace, write_descriptors,
};
use umpath_nvme::log::{
    AnaLog, AnaLogWriter, AnaState, DiscoveryEntry, DiscoveryLog, EffectsLog, ErrorEntry,
    FirmwareSlotLog, SmartLog, SupportedLogPages, reset,
};
use umpath_nvme::rdma::{CmReject, CmReply, CmRequest};
use umpath_nvme::{
    AsyncEvent, ConnectData, Cqe, FromBytes, IntoBytes, Nqn, Sgl, Sqe, Status, text,
};

/// Bytes as nasty peers send them: uniform, all ones, mostly zero.
fn page(size: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), size),
        Just(vec![0xff; size]),
        vec(prop_oneof![9 => Just(0_u8), 1 => any::<u8>()], size),
    ]
}

fn sqe() -> impl Strategy<Value = Sqe> {
    any::<[u8; 64]>().prop_map(|bytes| Sqe::read_from_bytes(&bytes).expect("64 bytes"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn sqe_and_cqe(bytes in vec(any::<u8>(), 0..200)) {
        if let Some((sqe, data)) = Sqe::from_capsule(&bytes) {
            prop_assert_eq!(sqe.as_bytes(), &bytes[..64]);
            prop_assert_eq!(data, &bytes[64..]);
            let _ = format!("{sqe:?}");
        }
        if let Some(cqe) = Cqe::from_capsule(&bytes) {
            prop_assert_eq!(cqe.as_bytes(), &bytes[..16]);
            let status = cqe.status();
            prop_assert_eq!(Status::from_wire(status.to_wire()), status);
            prop_assert_eq!(Status::from_raw(status.raw()), status);
            let _ = format!("{status} {cqe:?}");
            let (back, result) = ConnectResponse::parse(&cqe).to_result();
            let again = ConnectResponse::parse(&Cqe::new(0, 0, back, result));
            prop_assert_eq!(again, ConnectResponse::parse(&cqe));
        }
    }

    #[test]
    fn sgl_kinds(bytes in any::<[u8; 16]>()) {
        let sgl = Sgl::read_from_bytes(&bytes).expect("16 bytes");
        if let Some(kind) = sgl.kind() {
            prop_assert_eq!(Sgl::from(kind).kind(), Some(kind));
            prop_assert_eq!(Sgl::from(kind).length(), sgl.length());
        }
    }

    #[test]
    fn commands(sqe in sqe()) {
        let rw = ReadWrite::parse(&sqe);
        prop_assert_eq!(ReadWrite::parse(&rw.build(sqe.opcode)), rw);
        let zeroes = WriteZeroes::parse(&sqe);
        prop_assert_eq!(WriteZeroes::parse(&zeroes.build()), zeroes);
        let dsm = DatasetManagement::parse(&sqe);
        let built = io::deallocate(dsm.nsid, dsm.ranges).expect("1 to 256 ranges");
        prop_assert_eq!(DatasetManagement::parse(&built).ranges, dsm.ranges);
        let identify = Identify::parse(&sqe);
        prop_assert_eq!(Identify::parse(&identify.build()), identify);
        let log = GetLogPage::parse(&sqe);
        prop_assert_eq!(GetLogPage::parse(&log.build()), log);
        let features = Features::parse(&sqe);
        prop_assert_eq!(Features::parse(&features.build(sqe.opcode)), features);
        let connect = Connect::parse(&sqe);
        prop_assert_eq!(Connect::parse(&connect.build()), connect);
        let abort = Abort::parse(&sqe);
        let built = umpath_nvme::command::abort(abort.sqid, abort.cid);
        prop_assert_eq!(Abort::parse(&built), abort);
        let reset = CrossControllerReset::parse(&sqe);
        prop_assert_eq!(CrossControllerReset::parse(&reset.build()), reset);
        if let Some(get) = PropertyGet::parse(&sqe) {
            let built = fabrics::property_get(get.offset, get.wide);
            prop_assert_eq!(PropertyGet::parse(&built), Some(get));
        }
        if let Some(set) = PropertySet::parse(&sqe).filter(|set| !set.wide) {
            let built = fabrics::property_set(set.offset, set.value as u32);
            prop_assert_eq!(PropertySet::parse(&built), Some(set));
        }
    }

    #[test]
    fn block_counts(blocks in any::<u32>()) {
        match BlockCount::new(blocks) {
            Some(count) => prop_assert_eq!(count.get(), blocks),
            None => prop_assert!(blocks == 0 || blocks > 65_536),
        }
    }

    #[test]
    fn identify_pages(page in page(4096), mpsmin in any::<u8>()) {
        let id = IdentifyController::ref_from_bytes(&page).expect("4,096 bytes");
        let texts = (id.serial().len(), id.model().len(), id.firmware().len());
        prop_assert!(texts <= (20, 40, 8));
        let _ = (id.subsystem(), id.version(), id.max_transfer_bytes(mpsmin), id.is_discovery());
        let _ = (id.in_capsule_bytes(), id.in_capsule_offset_bytes());
        let _ = (id.keep_alive_granularity_ms(), id.ana_log_bytes_max(u32::MAX));
        prop_assert_eq!(id.as_bytes(), &page[..]);

        let ns = IdentifyNamespace::ref_from_bytes(&page).expect("4,096 bytes");
        prop_assert!(ns.format_index() < 64);
        let _ = (ns.block_bytes(), ns.size_bytes(), ns.has_metadata(), ns.nguid(), ns.eui64());
        let _ = (ns.preferred_write_blocks(), ns.preferred_deallocate_blocks());

        let independent = IndependentNamespace::ref_from_bytes(&page).expect("4,096 bytes");
        let _ = independent.is_ready();
        let nvm = NvmController::ref_from_bytes(&page).expect("4,096 bytes");
        prop_assert!((1..=256).contains(&nvm.dsm_ranges_max()));
        let _ = (nvm.write_zeroes_bytes_max(mpsmin), nvm.dsm_range_blocks_max());
        prop_assert!(NvmNamespace::ref_from_bytes(&page).is_ok());
        let list = NsList::ref_from_bytes(&page).expect("4,096 bytes");
        prop_assert!(list.iter().count() <= NsList::COUNT_MAX);
        let list = ControllerList::ref_from_bytes(&page).expect("4,096 bytes");
        prop_assert!(list.iter().count() <= ControllerList::COUNT_MAX);
    }

    #[test]
    fn descriptors(bytes in vec(prop_oneof![0_u8..20, any::<u8>()], 0..300)) {
        let walked: Vec<_> = NsDescriptors::new(&bytes).collect();
        prop_assert!(walked.iter().rev().skip(1).all(Result::is_ok));
        let good: Vec<NsIdentifier> = walked.into_iter().flatten().collect();
        let mut page = vec![0; 4096];
        write_descriptors(&mut page, &good).expect("came from fewer bytes");
        let back: Result<Vec<_>, _> = NsDescriptors::new(&page).collect();
        prop_assert_eq!(back.expect("just written"), good);
    }

    #[test]
    fn ana_log(bytes in vec(prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..600)) {
        let Ok(log) = AnaLog::parse(&bytes) else {
            prop_assert!(bytes.len() < 16);
            return Ok(());
        };
        let mut held = 16;
        for group in log.groups().flatten() {
            held += 32 + group.nsids().len() * 4;
            prop_assert!(held <= bytes.len());
            let _ = (group.id(), group.state(), group.change_count());
        }
    }

    #[test]
    fn ana_log_written_and_read(
        groups in vec((any::<u32>(), 0_u8..16, any::<u64>(), vec(any::<u32>(), 0..5)), 0..6),
        room in 0_usize..400,
    ) {
        let mut buffer = vec![0xee; room];
        let Some(mut writer) = AnaLogWriter::new(&mut buffer, 77) else {
            prop_assert!(room < 16);
            return Ok(());
        };
        let mut kept = Vec::new();
        for (id, state, count, nsids) in groups {
            let Some(state) = AnaState::from_wire(state) else { continue };
            if writer.group(id, state, count, nsids.iter().copied()).is_ok() {
                kept.push((id, state, count, nsids));
            }
        }
        let used = writer.finish();
        let log = AnaLog::parse(&buffer[..used]).expect("just written");
        let back: Vec<_> = log
            .groups()
            .map(|group| group.expect("just written"))
            .map(|g| (g.id(), g.state().expect("valid"), g.change_count(), g.nsids().collect()))
            .collect();
        prop_assert_eq!(back, kept);
    }

    #[test]
    fn discovery_log(bytes in (0_usize..5000).prop_flat_map(page)) {
        if let Some(log) = DiscoveryLog::parse(&bytes) {
            prop_assert!(log.entries.len() <= bytes.len() / DiscoveryEntry::SIZE);
            for entry in log.entries {
                let _ = (entry.subsystem(), entry.address(), entry.service());
            }
        }
    }

    #[test]
    fn other_logs(page in page(4096)) {
        let effects = EffectsLog::ref_from_bytes(&page).expect("4,096 bytes");
        let logs = SupportedLogPages::ref_from_bytes(&page[..1024]).expect("1,024 bytes");
        for code in 0..=255 {
            let _ = (effects.admin(code), effects.io(code), logs.supports(code));
        }
        let slots = FirmwareSlotLog::ref_from_bytes(&page[..512]).expect("512 bytes");
        prop_assert!(slots.active_revision().len() <= 8);
        prop_assert!(SmartLog::ref_from_bytes(&page[..512]).is_ok());
        let _ = ErrorEntry::ref_from_bytes(&page[..64]).expect("64 bytes").status();
        for end in 0..64 {
            let _ = (reset::reset_entries(&page[..end]), reset::lost_host_entries(&page[..end]));
        }
    }

    #[test]
    fn connection_data(bytes in (0_usize..80).prop_flat_map(page), data in page(1024)) {
        if let Ok(request) = CmRequest::decode(&bytes) {
            prop_assert_eq!(request.as_bytes(), &bytes[..32]);
        }
        if let Some(reply) = CmReply::decode(&bytes) {
            prop_assert_eq!(&reply.as_bytes()[..4], &bytes[..4]);
        }
        if let Some(reject) = CmReject::decode(&bytes) {
            prop_assert_eq!(reject.as_bytes(), &bytes[..4]);
            prop_assert!(!reject.reason().to_string().is_empty());
        }
        let data = ConnectData::ref_from_bytes(&data).expect("1,024 bytes");
        if let Ok(nqn) = data.subsystem() {
            prop_assert_eq!(Nqn::from_field(&nqn.to_field()), Ok(nqn));
        }
        let _ = data.host();
    }

    #[test]
    fn names_and_texts(name in "\\PC{0,230}", bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(nqn) = Nqn::new(&name) {
            prop_assert_eq!(nqn.as_str(), &name);
            prop_assert_eq!(Nqn::from_field(&nqn.to_field()), Ok(nqn));
        }
        let _ = Nqn::from_field(&bytes);
        prop_assert!(text::trimmed(&bytes).chars().all(|c| c == ' ' || c.is_ascii_graphic()));
    }

    #[test]
    fn async_events(dw0 in any::<u32>()) {
        let event = AsyncEvent::from_dw0(dw0);
        prop_assert_eq!(AsyncEvent::from_dw0(event.to_dw0()), event);
        let _ = event.config_bit();
    }
}
