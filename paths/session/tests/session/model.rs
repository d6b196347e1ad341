//! A small controller that answers what a session asks, built from the encoders of `umpath_nvme`.
//!
//! Every field is a knob: a test breaks one and looks at what the session makes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use umpath_nvme::command::{
    Connect, ConnectResponse, Features, GetLogPage, Identify, PropertyGet, PropertySet,
};
use umpath_nvme::feature::{self, QueueCount};
use umpath_nvme::identify::{
    IdentifyController, IdentifyNamespace, NsIdentifier, NsList, NvmController, cns, csi,
    write_descriptors,
};
use umpath_nvme::log::{AnaLogWriter, AnaState, DiscoveryEntry, DiscoveryHeader, lid};
use umpath_nvme::opcode::{FABRICS, admin, fabrics};
use umpath_nvme::property::{Cap, Cc, Csts, Version, offset};
use umpath_nvme::{AsyncEvent, ConnectData, Cqe, FromBytes, IntoBytes, Nqn, Sqe, Status, U16, U32};

pub(crate) const CNTLID: u16 = 7;

pub(crate) fn subsystem() -> Nqn {
    Nqn::new("nqn.2026-11.test:array").unwrap()
}

pub(crate) fn host() -> Nqn {
    Nqn::new("nqn.2014-08.org.nvmexpress:uuid:0a1b").unwrap()
}

pub(crate) struct ModelNamespace {
    pub(crate) page: IdentifyNamespace,
    pub(crate) descriptors: Vec<NsIdentifier>,
}

impl ModelNamespace {
    pub(crate) fn new(tag: u8, group: u32) -> Self {
        let mut page = IdentifyNamespace::new(1 << 18, 4096);
        page.nguid = [tag; 16];
        page.anagrpid = U32::new(group);
        page.nmic = 1;
        let descriptors = vec![
            NsIdentifier::Nguid([tag; 16]),
            NsIdentifier::Uuid([tag ^ 0x80; 16]),
            NsIdentifier::CommandSet(csi::NVM),
        ];
        Self { page, descriptors }
    }
}

pub(crate) struct Model {
    pub(crate) cap: Cap,
    pub(crate) version: Version,
    pub(crate) id: IdentifyController,
    pub(crate) nvm: NvmController,
    pub(crate) namespaces: BTreeMap<u32, ModelNamespace>,
    /// Which Identify commands fail for now: by CNS and namespace.
    pub(crate) refuses: BTreeSet<(u8, u32)>,
    /// The active list has a hole before its last entry, which makes it look like a full page.
    pub(crate) list_has_hole: bool,
    pub(crate) ana_count: u64,
    /// Reads of the ANA log after each of which it changes.
    pub(crate) ana_changes: u32,
    pub(crate) ana: Vec<(u32, AnaState, Vec<u32>)>,
    /// Looks at CSTS before it says ready.
    pub(crate) polls_until_ready: u32,
    pub(crate) polls_until_shut_down: u32,
    pub(crate) fatal: bool,
    pub(crate) connect: Option<ConnectResponse>,
    pub(crate) queues: u16,
    pub(crate) kato_ms: Option<u32>,
    pub(crate) answers_keep_alives: bool,
    pub(crate) changed: BTreeSet<u32>,
    pub(crate) discovery: Vec<DiscoveryEntry>,
    pub(crate) generation: u64,
    /// Reads of the discovery log after each of which it changes.
    pub(crate) discovery_changes: u32,
    pub(crate) cc: Cc,
    pub(crate) events_enabled: u32,
    /// Event requests held.
    pub(crate) waiting: Vec<u16>,
    /// What aborts get, in order; then nothing answers.
    pub(crate) aborts: VecDeque<(Status, u64)>,
    /// What resets of other controllers get, in order; then nothing answers.
    pub(crate) resets: VecDeque<(Status, u64)>,
    /// The logs of resets and of lost hosts.
    pub(crate) reset_log: Vec<u8>,
    pub(crate) lost_host_log: Vec<u8>,
    /// Raised when the namespaces are listed next.
    pub(crate) raise_at_list: Option<AsyncEvent>,
}

impl Model {
    /// A namespace has so many blocks from now on; nobody is notified.
    pub(crate) fn resize(&mut self, nsid: u32, blocks: u64) {
        let namespace = self.namespaces.get_mut(&nsid).unwrap();
        namespace.page.nsze.set(blocks);
    }

    pub(crate) fn new() -> Self {
        let mut id = IdentifyController::default();
        id.set_texts("SN0001", "umpath-array", "0.1");
        id.subnqn = subsystem().to_field();
        id.cntlid = U16::new(CNTLID);
        id.cmic = 1 << 3 | 2;
        id.cntrltype = 1;
        id.kas = U16::new(10);
        id.cqt = U16::new(30);
        id.ciu = 3;
        id.cirn.set(0x0123_4567_89ab_cdef);
        id.ccrl = 4;
        id.mdts = 8;
        id.aerl = 3;
        id.lpa = 1 << 2;
        id.oaes = U32::new(1 << 8 | 1 << 11 | 1 << 20 | 1 << 21);
        id.nn = U32::new(1024);
        id.mnan = U32::new(1024);
        id.nanagrpid = U32::new(16);
        id.anagrpmax = U32::new(16);
        id.anatt = 10;
        (id.sqes, id.cqes) = (0x66, 0x44);
        id.ioccsz = U32::new(260);
        id.iorcsz = U32::new(1);
        id.msdbd = 1;
        id.rtd3e = U32::new(2_000_000);
        let namespaces = [
            (1, ModelNamespace::new(1, 1)),
            (5, ModelNamespace::new(5, 2)),
        ]
        .into();
        Self {
            cap: Cap(Cap::fabrics(1024, 5000).0 | Cap::CSS_IOCS),
            version: Version::new(2, 1, 0),
            id,
            nvm: NvmController::default(),
            namespaces,
            refuses: BTreeSet::new(),
            list_has_hole: false,
            ana_count: 1,
            ana_changes: 0,
            ana: vec![
                (1, AnaState::Optimized, vec![1]),
                (2, AnaState::NonOptimized, vec![5]),
            ],
            polls_until_ready: 3,
            polls_until_shut_down: 2,
            fatal: false,
            connect: None,
            queues: 64,
            kato_ms: None,
            answers_keep_alives: true,
            changed: BTreeSet::new(),
            discovery: Vec::new(),
            generation: 1,
            discovery_changes: 0,
            cc: Cc(0),
            events_enabled: 0,
            waiting: Vec::new(),
            aborts: VecDeque::new(),
            resets: VecDeque::new(),
            reset_log: Vec::new(),
            lost_host_log: Vec::new(),
            raise_at_list: None,
        }
    }

    /// Completes one asynchronous event request, if one is waiting.
    pub(crate) fn raise(&mut self, event: AsyncEvent) -> Option<Cqe> {
        let cid = self.waiting.pop()?;
        Some(Cqe::new(cid, 0, Status::SUCCESS, event.to_dw0().into()))
    }

    pub(crate) fn waiting_events(&self) -> usize {
        self.waiting.len()
    }

    /// The answer to a command, if it has one now.
    pub(crate) fn answer(&mut self, qid: u16, sqe: &Sqe, data: &[u8]) -> Option<(Cqe, Vec<u8>)> {
        let cid = sqe.cid.get();
        let (status, result, data) = match sqe.opcode {
            FABRICS => self.fabrics(qid, sqe, data),
            admin::IDENTIFY => self.identify(&Identify::parse(sqe)),
            admin::GET_LOG_PAGE => self.log(&GetLogPage::parse(sqe)),
            admin::SET_FEATURES => self.set_feature(&Features::parse(sqe)),
            admin::GET_FEATURES => self.kato_feature(&Features::parse(sqe)),
            admin::KEEP_ALIVE if !self.answers_keep_alives => return None,
            admin::KEEP_ALIVE => ok(0),
            admin::ABORT => {
                let (status, result) = self.aborts.pop_front()?;
                (status, result, Vec::new())
            }
            admin::CROSS_CONTROLLER_RESET => {
                let (status, result) = self.resets.pop_front()?;
                (status, result, Vec::new())
            }
            admin::ASYNC_EVENT_REQUEST if self.waiting.len() > usize::from(self.id.aerl) => {
                refuse(Status::AER_LIMIT_EXCEEDED)
            }
            admin::ASYNC_EVENT_REQUEST => {
                self.waiting.push(cid);
                return None;
            }
            other => panic!("unexpected opcode {other:#x}"),
        };
        Some((Cqe::new(cid, 0, status, result), data))
    }

    fn fabrics(&mut self, qid: u16, sqe: &Sqe, data: &[u8]) -> Answer {
        match sqe.fabrics_type() {
            fabrics::CONNECT => self.connect(qid, &Connect::parse(sqe), data),
            fabrics::PROPERTY_GET => {
                let get = PropertyGet::parse(sqe).unwrap();
                ok(match get.offset {
                    offset::CAP => {
                        assert!(get.wide);
                        self.cap.0
                    }
                    offset::VS => self.version.0.into(),
                    offset::CSTS => self.csts().into(),
                    other => panic!("unexpected property {other:#x}"),
                })
            }
            fabrics::PROPERTY_SET => {
                let set = PropertySet::parse(sqe).unwrap();
                assert_eq!(set.offset, offset::CC);
                self.cc = Cc(set.value as u32);
                ok(0)
            }
            other => panic!("unexpected fabrics command {other:#x}"),
        }
    }

    fn connect(&mut self, qid: u16, connect: &Connect, data: &[u8]) -> Answer {
        let data = ConnectData::read_from_bytes(data).unwrap();
        assert_eq!(connect.qid, qid);
        assert_eq!(data.host(), Ok(host()));
        assert_eq!(data.cntlid.get(), if qid == 0 { 0xffff } else { CNTLID });
        assert_eq!(
            connect.kato_ms == 0,
            qid != 0 || data.subsystem() == Ok(Nqn::discovery())
        );
        let cntlid = CNTLID;
        let answer = self
            .connect
            .unwrap_or(ConnectResponse::Accepted { cntlid, authreq: 0 });
        let (status, result) = answer.to_result();
        (status, result, Vec::new())
    }

    fn csts(&mut self) -> u32 {
        let mut csts = if self.fatal { Csts::FATAL } else { 0 };
        if self.cc.is_enabled() && self.polls_until_ready == 0 {
            csts |= Csts::READY;
        }
        self.polls_until_ready = self.polls_until_ready.saturating_sub(1);
        if self.cc.shutdown() == umpath_nvme::property::Shutdown::Normal {
            let done = self.polls_until_shut_down == 0;
            csts |= if done {
                Csts::SHUTDOWN_COMPLETE
            } else {
                Csts::SHUTDOWN_OCCURRING
            };
            self.polls_until_shut_down = self.polls_until_shut_down.saturating_sub(1);
        }
        csts
    }

    fn identify(&mut self, identify: &Identify) -> Answer {
        let nsid = identify.nsid;
        if self.refuses.contains(&(identify.cns, nsid)) {
            return (Status::INTERNAL_ERROR, 0, Vec::new());
        }
        match identify.cns {
            cns::CONTROLLER => page(self.id.as_bytes()),
            cns::CSI_CONTROLLER => page(self.nvm.as_bytes()),
            cns::ACTIVE_NAMESPACES => {
                let nsids = self
                    .namespaces
                    .keys()
                    .copied()
                    .filter(|known| *known > nsid);
                let mut list = NsList::new(nsids);
                if self.list_has_hole {
                    list.nsids[NsList::COUNT_MAX - 1].set(3);
                }
                page(list.as_bytes())
            }
            cns::NAMESPACE => match self.namespaces.get(&nsid) {
                Some(namespace) => page(namespace.page.as_bytes()),
                None => refuse(Status::INVALID_NAMESPACE),
            },
            cns::NAMESPACE_DESCRIPTORS => {
                let mut bytes = [0; 4096];
                let namespace = self.namespaces.get(&nsid);
                let descriptors = namespace.map_or(&[][..], |known| &known.descriptors);
                write_descriptors(&mut bytes, descriptors).unwrap();
                page(&bytes)
            }
            other => panic!("unexpected CNS {other:#x}"),
        }
    }

    fn log(&mut self, get: &GetLogPage) -> Answer {
        let log = match get.lid {
            lid::ANA => self.ana_log(get.lsp & 1 != 0),
            lid::CHANGED_NAMESPACES => {
                let changed = std::mem::take(&mut self.changed);
                NsList::new(changed).as_bytes().to_vec()
            }
            lid::DISCOVERY => self.discovery_log(),
            lid::CROSS_CONTROLLER_RESET => self.reset_log.clone(),
            lid::LOST_HOST_COMMUNICATION => self.lost_host_log.clone(),
            other => panic!("unexpected log {other:#x}"),
        };
        let mut piece: Vec<u8> = log.get(get.offset as usize..).unwrap_or_default().to_vec();
        piece.resize(get.length as usize, 0);
        (Status::SUCCESS, 0, piece)
    }

    fn ana_log(&mut self, groups_only: bool) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let mut writer = AnaLogWriter::new(&mut bytes, self.ana_count).unwrap();
        for (id, state, nsids) in &self.ana {
            let nsids = if groups_only { &[][..] } else { nsids };
            writer
                .group(*id, *state, self.ana_count, nsids.iter().copied())
                .unwrap();
        }
        let used = writer.finish();
        bytes.truncate(used);
        if self.ana_changes > 0 {
            self.ana_changes -= 1;
            self.ana_count += 1;
        }
        bytes
    }

    fn discovery_log(&mut self) -> Vec<u8> {
        let header = DiscoveryHeader::new(self.generation, self.discovery.len() as u64);
        let mut bytes = header.as_bytes().to_vec();
        self.discovery
            .iter()
            .for_each(|entry| bytes.extend_from_slice(entry.as_bytes()));
        if self.discovery_changes > 0 {
            self.discovery_changes -= 1;
            self.generation += 1;
        }
        bytes
    }

    fn set_feature(&mut self, features: &Features) -> Answer {
        match features.fid {
            feature::NUMBER_OF_QUEUES => {
                let asked = QueueCount::from_wire(features.value).pairs_granted() as u16;
                ok(QueueCount::pairs(asked.min(self.queues)).to_wire().into())
            }
            feature::ASYNC_EVENT_CONFIG => {
                self.events_enabled = features.value;
                ok(0)
            }
            other => panic!("unexpected feature {other:#x}"),
        }
    }

    fn kato_feature(&self, features: &Features) -> Answer {
        assert_eq!(features.fid, feature::KEEP_ALIVE_TIMER);
        self.kato_ms.map_or_else(
            || refuse(Status::INVALID_FIELD),
            |kato_ms| ok(kato_ms.into()),
        )
    }
}

type Answer = (Status, u64, Vec<u8>);

fn ok(result: u64) -> Answer {
    (Status::SUCCESS, result, Vec::new())
}

fn refuse(status: Status) -> Answer {
    (status.with_dnr(), 0, Vec::new())
}

fn page(bytes: &[u8]) -> Answer {
    (Status::SUCCESS, 0, bytes.to_vec())
}
