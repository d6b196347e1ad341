//! One controller: its registers, features, logs and events, and what each admin command gets.
//!
//! Pure: a command, its data and the present time come in, an answer comes out; closing queues and
//! completing parked event requests are requests to the caller. I/O commands do not come here:
//! their queues hold a [`view::IoAccess`] and use [`io`], [`sgl`] and the [gate](crate::gate) on
//! their own thread.

mod discovery;
pub mod events;
mod features;
mod identify;
pub mod io;
mod logs;
mod property;
mod reset;
pub mod sgl;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::command::admin::{Abort, Features as FeatureCommand, GetLogPage};
use umpath_nvme::opcode::{FABRICS, admin, fabrics};
use umpath_nvme::{Sqe, Status};

use self::events::{Completion, Events, Notice};
use self::sgl::Transfer;
use self::view::Shared;
use crate::config::CntlidRange;
use crate::model::{MDTS_BYTES, PortId};
use crate::output::{ArrayOutput, QueueId};
use crate::subsystem::Subsystem;

pub use self::discovery::Directory;

/// How long a discovery controller without a keep-alive timer lives without a command; the two
/// minutes that the specification and Linux have.
const DISCOVERY_ACTIVITY_MS: u32 = 120_000;

/// What an admin command gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A completion, now.
    Done {
        /// Status.
        status: Status,
        /// Result.
        result: u64,
    },
    /// A completion later: [`ArrayOutput::Respond`] names the command.
    Parked,
}

impl Answer {
    const OK: Self = Self::Done {
        status: Status::SUCCESS,
        result: 0,
    };

    /// A completion with a status and no result.
    pub const fn failed(status: Status) -> Self {
        Self::Done { status, result: 0 }
    }

    const fn value(result: u64) -> Self {
        Self::Done {
            status: Status::SUCCESS,
            result,
        }
    }
}

/// Who is connected to what.
#[derive(Debug, Clone)]
pub struct Association {
    /// The subsystem; `None` is the discovery subsystem.
    pub subsystem: Option<String>,
    /// The port the host came through.
    pub port: PortId,
    /// The host's name.
    pub host: String,
    /// The host's identifier.
    pub hostid: [u8; 16],
}

/// What this process allows.
#[derive(Debug, Clone, Copy)]
pub struct TargetLimits {
    /// Controller identifiers to hand out.
    pub cntlid: CntlidRange,
    /// Entries of the deepest queue.
    pub depth_max: u16,
    /// I/O queues of one controller.
    pub io_queues_max: u16,
    /// In-capsule data of a command on an I/O queue.
    pub in_capsule_bytes: u32,
}

/// What a command may depend on beside the controller itself.
#[derive(Debug)]
pub struct Surroundings<'a, M> {
    /// What this process allows.
    pub limits: &'a TargetLimits,
    /// The controller's subsystem; `None` is the discovery subsystem.
    pub subsystem: Option<&'a Subsystem<M>>,
    /// What can be discovered.
    pub discovery: Directory<'a, M>,
    /// Controllers of the same subsystem, for the commands that list them.
    pub siblings: &'a [u16],
    /// The present time.
    pub now: Duration,
}

/// What an Abort command is answered with: IANP, set when the command was *not* aborted.
pub fn abort_result(aborted: bool) -> u32 {
    u32::from(!aborted)
}

/// A controller.
#[derive(Debug)]
pub struct Controller<M> {
    association: Association,
    shared: Arc<Shared<M>>,
    /// By queue identifier; the admin queue is there as long as the controller is.
    queues: BTreeMap<u16, QueueId>,
    registers: property::Registers,
    features: features::Features,
    events: Events,
    errors: logs::ErrorLog,
    /// Namespaces changed since the host last read the log.
    changed_namespaces: BTreeSet<u32>,
    resets: reset::Resets,
    lost_hosts: reset::LostHosts,
    outputs: Vec<ArrayOutput>,
}

impl<M> std::ops::Deref for Controller<M> {
    type Target = Association;

    fn deref(&self) -> &Association {
        &self.association
    }
}

/// The data an admin command moves, found without executing it.
pub fn admin_transfer(sqe: &Sqe) -> Result<Transfer, Status> {
    let transfer = match (sqe.opcode, sqe.fabrics_type()) {
        (FABRICS, fabrics::CONNECT) => Transfer::FromHost(1024),
        (admin::IDENTIFY, _) => Transfer::ToHost(4096),
        (admin::GET_LOG_PAGE, _) => {
            let length = GetLogPage::parse(sqe).length;
            let length = u32::try_from(length)
                .ok()
                .filter(|length| *length <= MDTS_BYTES);
            Transfer::ToHost(length.ok_or(Status::INVALID_FIELD.with_dnr())?)
        }
        (admin::SET_FEATURES, _) => features::data(&FeatureCommand::parse(sqe), true),
        (admin::GET_FEATURES, _) => features::data(&FeatureCommand::parse(sqe), false),
        _ => Transfer::None,
    };
    Ok(transfer)
}

impl<M: Clone> Controller<M> {
    /// Executes an admin command.
    pub(crate) fn admin(
        &mut self,
        sqe: &Sqe,
        data: &mut [u8],
        surroundings: &Surroundings<'_, M>,
    ) -> Answer {
        if self.is_timed_by_activity() {
            self.restart_keep_alive(surroundings.now);
        }
        let answer = self.dispatch(sqe, data, surroundings);
        if let Answer::Done { status, .. } = answer
            && !status.is_success()
        {
            self.errors.record(sqe, status);
        }
        answer
    }

    fn dispatch(
        &mut self,
        sqe: &Sqe,
        data: &mut [u8],
        surroundings: &Surroundings<'_, M>,
    ) -> Answer {
        if sqe.opcode == FABRICS {
            return self.fabrics(sqe, surroundings);
        }
        if !self.registers.enabled() {
            return Answer::failed(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
        }
        let result = match sqe.opcode {
            admin::KEEP_ALIVE => {
                self.restart_keep_alive(surroundings.now);
                Ok(Answer::OK)
            }
            admin::IDENTIFY => self.identify(sqe, data, surroundings).map(|()| Answer::OK),
            admin::GET_LOG_PAGE => self.get_log(sqe, data, surroundings).map(|()| Answer::OK),
            admin::SET_FEATURES => self.set_features(sqe, data, surroundings),
            admin::GET_FEATURES => self.get_features(sqe, data, surroundings),
            admin::ASYNC_EVENT_REQUEST => match self.events.request(sqe.cid.get()) {
                Ok(completion) => {
                    if let Some(completion) = completion {
                        self.respond(completion);
                    }
                    Ok(Answer::Parked)
                }
                Err(status) => Err(status),
            },
            admin::CROSS_CONTROLLER_RESET if let Some(subsystem) = surroundings.subsystem => {
                self.cross_controller_reset(sqe, subsystem, surroundings.now)
            }
            admin::ABORT if surroundings.subsystem.is_some() => Ok(self.abort(sqe)),
            _ => Err(Status::INVALID_OPCODE.with_dnr()),
        };
        result.unwrap_or_else(Answer::failed)
    }
}

impl<M> Controller<M> {
    /// A controller just connected through `queue`.
    pub(crate) fn new(association: Association, shared: Arc<Shared<M>>, queue: QueueId) -> Self {
        Self {
            features: features::Features::new(association.hostid),
            association,
            shared,
            queues: BTreeMap::from([(0, queue)]),
            registers: property::Registers::default(),
            events: Events::default(),
            errors: logs::ErrorLog::default(),
            changed_namespaces: BTreeSet::new(),
            resets: reset::Resets::default(),
            lost_hosts: reset::LostHosts::default(),
            outputs: Vec::new(),
        }
    }

    /// The part the I/O queues see.
    pub fn shared(&self) -> &Arc<Shared<M>> {
        &self.shared
    }

    /// Keep-alive timeout in milliseconds; 0 is none.
    pub fn kato_ms(&self) -> u32 {
        self.features.kato_ms
    }

    /// Connected I/O queues.
    pub fn io_queues(&self) -> usize {
        self.queues.keys().filter(|qid| **qid != 0).count()
    }

    pub(crate) fn take_outputs(&mut self) -> std::vec::Drain<'_, ArrayOutput> {
        self.outputs.drain(..)
    }

    /// Sets the keep-alive timeout and starts the timer.
    pub(crate) fn set_kato(&mut self, kato_ms: u32, now: Duration) {
        self.features.kato_ms = kato_ms;
        self.restart_keep_alive(now);
    }

    /// A discovery controller whose host wants no keep-alive timer. Hosts that are gone without a
    /// word must not keep theirs for ever, since anyone gets one.
    fn is_timed_by_activity(&self) -> bool {
        self.features.kato_ms == 0 && self.association.subsystem.is_none()
    }

    /// The timer of a controller that is not enabled is not active (NVMe Base 2.1 §3.9). Such a
    /// controller has no I/O queues, so a host that comes no further is only given time to leave.
    fn restart_keep_alive(&mut self, now: Duration) {
        const UNENABLED_MS: u32 = 2 * property::READY_TIMEOUT_MS;
        let kato_ms = if self.is_timed_by_activity() {
            DISCOVERY_ACTIVITY_MS
        } else {
            self.features.kato_ms
        };
        let span_ms = if self.registers.enabled() {
            kato_ms
        } else {
            kato_ms.max(UNENABLED_MS)
        };
        let deadline = now + Duration::from_millis(u64::from(span_ms));
        self.shared
            .gate
            .set_deadline((kato_ms != 0).then_some(deadline));
    }

    pub(crate) fn attach_io_queue(&mut self, qid: u16, queue: QueueId) -> Result<(), Status> {
        if !self.registers.enabled() || self.association.subsystem.is_none() {
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
        if qid > self.features.io_queues {
            return Err(Status::INVALID_QUEUE_ID);
        }
        if self.queues.contains_key(&qid) {
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
        self.queues.insert(qid, queue);
        Ok(())
    }

    pub(crate) fn has_queue(&self, queue: QueueId) -> bool {
        self.queues.values().any(|id| *id == queue)
    }

    /// Forgets a closed queue; says which it was.
    pub(crate) fn forget_queue(&mut self, queue: QueueId) -> Option<u16> {
        let qid = self
            .queues
            .iter()
            .find(|(_, id)| **id == queue)
            .map(|(qid, _)| *qid)?;
        self.queues.remove(&qid);
        Some(qid)
    }

    pub(crate) fn close_all_queues(&mut self) {
        let queues = std::mem::take(&mut self.queues);
        self.outputs.extend(
            queues
                .into_values()
                .map(|queue| ArrayOutput::Close { queue }),
        );
    }

    pub(crate) fn raise(&mut self, notice: Notice) {
        if let Some(completion) = self.events.raise(notice) {
            self.respond(completion);
        }
    }

    pub(crate) fn note_changed_namespace(&mut self, nsid: u32) {
        self.changed_namespaces.insert(nsid);
    }

    fn respond(&mut self, completion: Completion) {
        if let Some(&queue) = self.queues.get(&0) {
            let Completion { cid, dword } = completion;
            self.outputs
                .push(ArrayOutput::Respond { queue, cid, dword });
        }
    }

    /// A parked event request can be taken back here, an I/O command only by whoever has it. The answer
    /// is never that a command was aborted (IANP cleared) when it may still be executed.
    fn abort(&mut self, sqe: &Sqe) -> Answer {
        let command = Abort::parse(sqe);
        let io = self.queues.get(&command.sqid).filter(|_| command.sqid != 0);
        if let (Some(&queue), Some(&asker)) = (io, self.queues.get(&0)) {
            self.outputs.push(ArrayOutput::Recall {
                queue,
                cid: command.cid,
                asker,
                asker_cid: sqe.cid.get(),
            });
            return Answer::Parked;
        }
        if command.sqid == 0 && self.events.abort(command.cid) {
            if let Some(&queue) = self.queues.get(&0) {
                self.outputs.push(ArrayOutput::Abort {
                    queue,
                    cid: command.cid,
                });
            }
            return Answer::OK;
        }
        Answer::value(abort_result(false).into())
    }

    /// Stops everything but the admin queue, as CC.EN=0 and shutdown do.
    fn quiesce(&mut self) {
        self.shared.gate.close();
        let io: Vec<u16> = self
            .queues
            .keys()
            .copied()
            .filter(|qid| *qid != 0)
            .collect();
        for qid in io {
            if let Some(queue) = self.queues.remove(&qid) {
                self.outputs.push(ArrayOutput::Close { queue });
            }
        }
    }
}
