//! Fabrics Connect: who may have which queue.

use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::command::Instance;
use umpath_nvme::command::fabrics::{CNTLID_DYNAMIC, Connect, ConnectResponse, cattr};
use umpath_nvme::connect::ConnectData;
use umpath_nvme::{FromBytes, Nqn, Sqe, Status};

use super::Array;
use crate::config::CntlidRange;
use crate::controller::view::{IoAccess, Shared, View};
use crate::controller::{Association, Controller};
use crate::gate::Gate;
use crate::model::PortId;
use crate::output::{ArrayOutput, Event, QueueId};
use crate::subsystem::Subsystem;

/// Controllers of one subsystem that one host may have: a quarter of what a board has room for.
const HOST_CONTROLLERS_MAX: usize = 64;
/// Discovery controllers get one of so many identifiers.
const DISCOVERY_PART: usize = 4;

/// A queue was connected.
#[derive(Debug)]
pub struct Connected<M> {
    /// The controller it belongs to.
    pub cntlid: u16,
    /// 0 for the admin queue.
    pub qid: u16,
    /// Entries of the queue.
    pub entries: u16,
    /// The host wants no submission queue flow control.
    pub no_flow_control: bool,
    /// An I/O queue's way to namespaces and media.
    pub io: Option<IoAccess<M>>,
}

/// A Connect that failed: what the completion says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Status.
    pub status: Status,
    /// Result.
    pub result: u64,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self {
            status: status.with_dnr(),
            result: 0,
        }
    }
}

/// Byte offsets of fields, for the answer that names a bad one.
mod field {
    pub(super) const SQE_QID: u16 = 42;
    pub(super) const SQE_SQSIZE: u16 = 44;
    pub(super) const DATA_CNTLID: u16 = 16;
    pub(super) const DATA_SUBNQN: u16 = 256;
    pub(super) const DATA_HOSTNQN: u16 = 512;
}

fn bad(offset: u16, in_data: bool) -> Refusal {
    let (status, result) = ConnectResponse::InvalidParameter { offset, in_data }.to_result();
    Refusal { status, result }
}

impl<M: Clone> Array<M> {
    /// A Connect that came on a queue of `port`.
    pub fn connect(
        &mut self,
        port: PortId,
        sqe: &Sqe,
        data: &[u8],
        queue: QueueId,
        now: Duration,
    ) -> Result<Connected<M>, Refusal> {
        // A queue has one controller: whatever the first Connect made would be left without an end.
        if self.controllers.values().any(|c| c.has_queue(queue)) {
            return Err(Status::COMMAND_SEQUENCE_ERROR.into());
        }
        let command = Connect::parse(sqe);
        if command.recfmt != 0 {
            return Err(Status::CONNECT_INCOMPATIBLE_FORMAT.into());
        }
        let data = ConnectData::ref_from_bytes(data)
            .map_err(|_| Refusal::from(Status::DATA_SGL_LENGTH_INVALID))?;
        let subsystem = Nqn::from_field(&data.subnqn).map_err(|_| bad(field::DATA_SUBNQN, true))?;
        let host = Nqn::from_field(&data.hostnqn).map_err(|_| bad(field::DATA_HOSTNQN, true))?;
        if command.sqsize == 0 || command.sqsize >= self.limits.depth_max {
            return Err(bad(field::SQE_SQSIZE, false));
        }
        let (cntlid, io) = if command.qid == 0 {
            let cntlid = self.connect_admin(port, &command, data, &subsystem, &host, queue, now)?;
            (cntlid, None)
        } else {
            self.expire(data.cntlid.get(), now);
            let shared = self.connect_io(port, &command, data, &subsystem, &host, queue)?;
            (shared.instance.cntlid, Some(IoAccess::new(shared)))
        };
        Ok(Connected {
            cntlid,
            qid: command.qid,
            entries: command.sqsize + 1,
            no_flow_control: command.cattr & cattr::DISABLE_SQ_FLOW_CONTROL != 0,
            io,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one command")]
    fn connect_admin(
        &mut self,
        port: PortId,
        command: &Connect,
        data: &ConnectData,
        subsystem: &Nqn,
        host: &Nqn,
        queue: QueueId,
        now: Duration,
    ) -> Result<u16, Refusal> {
        if data.cntlid.get() != CNTLID_DYNAMIC {
            return Err(bad(field::DATA_CNTLID, true));
        }
        let busy = Refusal::from(Status::CONNECT_CONTROLLER_BUSY);
        let served = if subsystem.is_discovery() {
            None
        } else {
            let admitted = self.admit(port, subsystem.as_str(), host.as_str())?;
            Some((admitted.view(port), admitted.board.clone()))
        };
        if self.has_enough(subsystem, host) {
            return Err(busy);
        }
        let cntlid = self.free_cntlid().ok_or(busy)?;
        let instance = self.new_instance(cntlid);
        let (view, gate) = match served {
            Some((view, board)) => (view, board.take(instance, host.as_str()).ok_or(busy)?),
            None => (View::new(Vec::new()), Gate::default()),
        };
        let shared = Arc::new(Shared::new(instance, gate, view));
        let association = Association {
            subsystem: (!subsystem.is_discovery()).then(|| subsystem.as_str().to_owned()),
            port,
            host: host.as_str().to_owned(),
            hostid: data.hostid,
        };
        let mut controller = Controller::new(association, shared, queue);
        controller.set_kato(command.kato_ms, now);
        self.controllers.insert(cntlid, controller);
        self.outputs.push_back(ArrayOutput::Event(Event::Connected {
            cntlid,
            host: host.as_str().to_owned(),
            subsystem: subsystem.as_str().to_owned(),
            kato_ms: command.kato_ms,
        }));
        Ok(cntlid)
    }

    fn connect_io(
        &mut self,
        port: PortId,
        command: &Connect,
        data: &ConnectData,
        subsystem: &Nqn,
        host: &Nqn,
        queue: QueueId,
    ) -> Result<Arc<Shared<M>>, Refusal> {
        if command.qid > self.limits.io_queues_max {
            return Err(bad(field::SQE_QID, false));
        }
        let controller = self
            .controllers
            .get_mut(&data.cntlid.get())
            .ok_or(bad(field::DATA_CNTLID, true))?;
        // A controller belongs to one port: its ANA states are that one's, and it ends with it.
        if controller.port != port {
            return Err(bad(field::DATA_CNTLID, true));
        }
        if controller.subsystem.as_deref() != Some(subsystem.as_str()) {
            return Err(bad(field::DATA_SUBNQN, true));
        }
        if controller.host != host.as_str() || controller.hostid != data.hostid {
            return Err(bad(field::DATA_HOSTNQN, true));
        }
        controller
            .attach_io_queue(command.qid, queue)
            .map_err(Refusal::from)?;
        Ok(Arc::clone(controller.shared()))
    }

    /// Whether a host may use a subsystem through a port. A subsystem that is not there and one
    /// that is not on this port look the same.
    fn admit(&self, port: PortId, nqn: &str, host: &str) -> Result<&Subsystem<M>, Refusal> {
        let subsystem = self
            .subsystems
            .get(nqn)
            .filter(|subsystem| subsystem.ports.contains(&port))
            .ok_or(bad(field::DATA_SUBNQN, true))?;
        if subsystem.allows(host) {
            Ok(subsystem)
        } else {
            Err(Status::CONNECT_INVALID_HOST.into())
        }
    }

    /// Whether one more controller would leave too few for others: for other hosts of a subsystem,
    /// or, as anyone may discover, for the subsystems.
    fn has_enough(&self, subsystem: &Nqn, host: &Nqn) -> bool {
        if subsystem.is_discovery() {
            let all = self.controllers.values();
            let CntlidRange { first, last } = self.limits.cntlid;
            let most = (usize::from(last - first) + 1).div_ceil(DISCOVERY_PART);
            return all.filter(|c| c.subsystem.is_none()).count() >= most;
        }
        let same = |c: &&Controller<M>| {
            c.subsystem.as_deref() == Some(subsystem.as_str()) && c.host == host.as_str()
        };
        self.controllers.values().filter(same).count() >= HOST_CONTROLLERS_MAX
    }

    /// Whether a controller of this identifier exists.
    pub fn has_controller(&self, cntlid: u16) -> bool {
        self.controllers.contains_key(&cntlid)
    }

    /// The next incarnation under an identifier: a uniquifier that no recent one had, and a random
    /// number that none ever had.
    fn new_instance(&mut self, cntlid: u16) -> Instance {
        let first = self.instance_numbers.next() as u8;
        let ciu = self.uniquifiers.entry(cntlid).or_insert(first);
        // Zero is what a controller without instances reports.
        *ciu = ciu.checked_add(1).unwrap_or(1);
        Instance {
            cntlid,
            ciu: *ciu,
            cirn: self.instance_numbers.next(),
        }
    }

    /// An identifier nobody has, the longest unused first.
    fn free_cntlid(&mut self) -> Option<u16> {
        let range = self.limits.cntlid;
        let after = |id: u16| {
            if id >= range.last {
                range.first
            } else {
                id + 1
            }
        };
        let mut candidate = self.next_cntlid;
        for _ in range.first..=range.last {
            let taken = self.controllers.contains_key(&candidate)
                || self
                    .remains
                    .iter()
                    .any(|remains| remains.shared.instance.cntlid == candidate);
            if !taken {
                self.next_cntlid = after(candidate);
                return Some(candidate);
            }
            candidate = after(candidate);
        }
        None
    }
}
