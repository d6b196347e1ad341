//! A host in miniature: it builds commands and keeps nothing but its controller's identifier.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::command::{admin, fabrics};
use umpath_nvme::connect::ConnectData;
use umpath_nvme::property::{Cc, offset};
use umpath_nvme::{IntoBytes, Nqn, Sqe, Status};
use umpath_target::array::{Array, Connected, Refusal};
use umpath_target::config::CntlidRange;
use umpath_target::controller::Answer;
use umpath_target::controller::TargetLimits;
use umpath_target::controller::view::IoAccess;
use umpath_target::gate::board::{Board, Memory, Witness};
use umpath_target::model::{Geometry, PortId, derive_nguid, derive_serial, derive_uuid};
use umpath_target::output::{ArrayOutput, QueueId};
use umpath_target::subsystem::{Namespace, Subsystem};

pub(crate) const NQN: &str = "nqn.2026-11.test:vol1";
pub(crate) const OK: Answer = Answer::Done {
    status: Status::SUCCESS,
    result: 0,
};
/// Memory, as far as these tests are concerned.
pub(crate) type Media = ();

pub(crate) fn namespace(nsid: u32) -> Namespace<Media> {
    Namespace {
        nsid,
        ana_group: 1,
        uuid: derive_uuid(NQN, nsid),
        nguid: derive_nguid(NQN, nsid),
        eui64: None,
        geometry: Geometry {
            block_bytes: 4096,
            blocks: 4096,
            volatile_cache: true,
        },
        media: (),
        description: String::new(),
    }
}

pub(crate) fn array() -> Array<Media> {
    array_with(1, 999)
}

pub(crate) fn array_with(first: u16, last: u16) -> Array<Media> {
    array_on(first, last, |_| ())
}

pub(crate) fn array_on(
    first: u16,
    last: u16,
    change: impl FnOnce(&mut Subsystem<Media>),
) -> Array<Media> {
    let limits = TargetLimits {
        cntlid: CntlidRange { first, last },
        depth_max: 128,
        io_queues_max: 8,
        in_capsule_bytes: 4096,
    };
    let mut array = Array::new(limits, u64::from(first));
    for port in 1..=2 {
        let address = format!("10.9.{port}.1:4420").parse().expect("an address");
        array.add_port(PortId(port), address).expect("a new port");
    }
    let mut subsystem = Subsystem::new(
        NQN.to_owned(),
        derive_serial(NQN),
        "umpath-array".to_owned(),
        100,
    );
    subsystem.allow_any_host = true;
    change(&mut subsystem);
    subsystem.ports = [PortId(1), PortId(2)].into();
    subsystem.namespaces = BTreeMap::from([(1, namespace(1))]);
    array.add_subsystem(subsystem).expect("a new subsystem");
    array
}

/// Arrays of two processes that serve the same store, with a shared board.
pub(crate) fn primary_and_standby(witness: &Arc<dyn Witness>) -> (Array<Media>, Array<Media>) {
    let memory: &'static Memory = Box::leak(Box::default());
    let array = |row: usize| {
        let first = 1 + 100 * row as u16;
        let board = Board::shared(memory, row, Arc::clone(witness));
        array_on(first, first + 99, |subsystem| subsystem.board = board)
    };
    (array(0), array(1))
}

pub(crate) fn drain(array: &mut Array<Media>) -> Vec<ArrayOutput> {
    std::iter::from_fn(|| array.poll_output()).collect()
}

pub(crate) struct Host {
    number: u64,
    /// Further queues of the same host are told apart by it.
    pub(crate) first_queue: u64,
    pub(crate) subsystem: String,
    pub(crate) port: PortId,
    pub(crate) cntlid: u16,
    pub(crate) depth: u16,
    pub(crate) kato_ms: u32,
}

impl Host {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            first_queue: number * 10,
            subsystem: NQN.to_owned(),
            port: PortId(1),
            cntlid: 0xffff,
            depth: 32,
            kato_ms: 0,
        }
    }

    /// Connected and enabled through port 1.
    pub(crate) fn ready(array: &mut Array<Media>, number: u64) -> Self {
        Self::ready_on(array, number, PortId(1))
    }

    pub(crate) fn ready_on(array: &mut Array<Media>, number: u64, port: PortId) -> Self {
        let mut host = Self {
            port,
            ..Self::new(number)
        };
        host.connect_admin(array, Duration::ZERO)
            .expect("connected");
        host.enable(array);
        host
    }

    pub(crate) fn nqn(&self) -> String {
        format!("nqn.2026-11.test:host{}", self.number)
    }

    /// Queue identifiers are ten times the host's number plus the queue's, and a hundred more
    /// through port 2.
    fn connect(
        &self,
        array: &mut Array<Media>,
        qid: u16,
        now: Duration,
    ) -> Result<Connected<Media>, Refusal> {
        let (subsystem, host) = (
            Nqn::new(&self.subsystem).expect("a name"),
            Nqn::new(&self.nqn()).expect("a name"),
        );
        let data = ConnectData::new([self.number as u8; 16], self.cntlid, &subsystem, &host);
        let sqe = fabrics::connect(qid, self.depth, 0, self.kato_ms);
        let far = 100 * u64::from(self.port.0 - 1);
        let queue = QueueId(far + self.first_queue + u64::from(qid));
        array.connect(self.port, &sqe, data.as_bytes(), queue, now)
    }

    pub(crate) fn connect_admin(
        &mut self,
        array: &mut Array<Media>,
        now: Duration,
    ) -> Result<(), Refusal> {
        self.cntlid = self.connect(array, 0, now)?.cntlid;
        Ok(())
    }

    pub(crate) fn connect_io(
        &mut self,
        array: &mut Array<Media>,
        qid: u16,
    ) -> Result<Connected<Media>, Refusal> {
        self.connect(array, qid, Duration::ZERO)
    }

    /// What its first I/O queue may do.
    pub(crate) fn io(&mut self, array: &mut Array<Media>) -> IoAccess<Media> {
        let connected = self.connect_io(array, 1).expect("connected");
        connected.io.expect("access")
    }

    /// The same, with a command on the medium.
    pub(crate) fn busy_io(&mut self, array: &mut Array<Media>) -> IoAccess<Media> {
        let io = self.io(array);
        let entered = io.shared().gate.enter(io.epoch(), Duration::ZERO);
        entered.expect("the gate is open");
        io
    }

    pub(crate) fn admin_at(&self, array: &mut Array<Media>, sqe: Sqe, now: Duration) -> Answer {
        array.admin(self.cntlid, &sqe, &mut [], now)
    }

    pub(crate) fn admin(&self, array: &mut Array<Media>, sqe: Sqe, data: &mut [u8]) -> Answer {
        array.admin(self.cntlid, &sqe, data, Duration::ZERO)
    }

    pub(crate) fn page(&self, array: &mut Array<Media>, sqe: Sqe) -> Vec<u8> {
        let mut data = vec![0; 4096];
        assert_eq!(self.admin(array, sqe, &mut data), OK);
        data
    }

    pub(crate) fn log(&self, array: &mut Array<Media>, lid: u8, length: u32) -> Vec<u8> {
        let mut data = vec![0; length as usize];
        assert_eq!(
            self.admin(array, admin::get_log(lid, length, 0), &mut data),
            OK
        );
        data
    }

    pub(crate) fn set_property(&self, array: &mut Array<Media>, offset: u32, value: u32) {
        assert_eq!(
            self.admin(array, fabrics::property_set(offset, value), &mut []),
            OK
        );
    }

    pub(crate) fn property(&self, array: &mut Array<Media>, offset: u32) -> u32 {
        match self.admin(array, fabrics::property_get(offset, false), &mut []) {
            Answer::Done { status, result } if status.is_success() => result as u32,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn enable(&self, array: &mut Array<Media>) {
        self.set_property(array, offset::CC, Cc::enabled(0).0);
    }

    pub(crate) fn want_events(&self, array: &mut Array<Media>) {
        assert_eq!(
            self.admin(array, admin::set_features(0x0b, u32::MAX), &mut []),
            OK
        );
    }

    pub(crate) fn request_event(&self, array: &mut Array<Media>, cid: u16) -> Answer {
        self.admin(array, admin::async_event().with_cid(cid), &mut [])
    }
}
