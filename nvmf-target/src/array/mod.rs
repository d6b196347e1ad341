//! The array: subsystems, ports, hosts and the controllers they are connected to.
//!
//! Everything the target decides is decided here and in [`crate::controller`], as a pure state
//! machine: commands and the present time come in, answers come back, and what has to be sent or
//! closed elsewhere waits in [`Array::poll_output`]. The program around it owns the queues, moves
//! the data, submits to the media, and calls [`Array::handle_timeout`] when [`Array::next_timeout`]
//! has come. `M` is its handle of a backing store.
//!
//! A removed controller's identifier is not given out again while anything of it may still be on
//! the media: a fence that names it must not hit its successor.

mod change;
mod connect;
mod instance;
mod reset;
mod show;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::opcode::admin;
use umpath_nvme::{Sqe, Status};

use crate::controller::view::{NamespaceView, Shared, View};
use crate::controller::{Answer, Controller, Directory, Surroundings, TargetLimits};
use crate::model::PortId;
use crate::output::{ArrayOutput, Event, Gone, QueueId};
use crate::subsystem::Subsystem;

pub use change::ChangeError;
pub use connect::{Connected, Refusal};
use instance::InstanceNumbers;
pub use show::{ControllerReport, NamespaceReport, PortReport, Report, SubsystemReport};

impl<M: Clone> Subsystem<M> {
    fn view(&self, port: PortId) -> View<M> {
        View::new(
            self.namespaces
                .values()
                .map(|namespace| NamespaceView {
                    nsid: namespace.nsid,
                    ana: self.ana.state(port, namespace.ana_group),
                    geometry: namespace.geometry,
                    media: namespace.media.clone(),
                })
                .collect(),
        )
    }
}

/// A controller that is gone while commands of it may still be on the media.
#[derive(Debug)]
struct Remains<M> {
    shared: Arc<Shared<M>>,
    since: Duration,
    /// CQT, when the keep-alive timer ended it.
    promised_ms: Option<u16>,
    /// Seen on the media after the promise.
    late: bool,
}

/// The whole target.
#[derive(Debug)]
pub struct Array<M> {
    limits: TargetLimits,
    ports: BTreeMap<PortId, SocketAddr>,
    subsystems: BTreeMap<String, Subsystem<M>>,
    controllers: BTreeMap<u16, Controller<M>>,
    remains: Vec<Remains<M>>,
    next_cntlid: u16,
    uniquifiers: BTreeMap<u16, u8>,
    instance_numbers: InstanceNumbers,
    watch: reset::Watch,
    discovery_generation: u64,
    outputs: VecDeque<ArrayOutput>,
}

impl<M: Clone> Array<M> {
    /// An array without ports and subsystems. `seed` must be random: it is what tells the
    /// controllers of this process from those of others and of earlier ones, and keeps hosts from
    /// guessing how other controllers are named.
    pub fn new(limits: TargetLimits, seed: u64) -> Self {
        Self {
            limits,
            ports: BTreeMap::new(),
            subsystems: BTreeMap::new(),
            controllers: BTreeMap::new(),
            remains: Vec::new(),
            next_cntlid: limits.cntlid.first,
            uniquifiers: BTreeMap::new(),
            instance_numbers: InstanceNumbers::new(seed),
            watch: reset::Watch::default(),
            discovery_generation: 1,
            outputs: VecDeque::new(),
        }
    }

    /// What this process allows.
    pub fn limits(&self) -> TargetLimits {
        self.limits
    }

    /// The next thing to do outside.
    pub fn poll_output(&mut self) -> Option<ArrayOutput> {
        self.outputs.pop_front()
    }

    /// A command on the admin queue of controller `cntlid`, after Connect.
    ///
    /// `data` is what [`crate::controller::admin_transfer`] said: it holds the host's data, or
    /// takes the answer's, starting zeroed.
    pub fn admin(&mut self, cntlid: u16, sqe: &Sqe, data: &mut [u8], now: Duration) -> Answer {
        if self.expire(cntlid, now) {
            return Answer::failed(Status::KEEP_ALIVE_EXPIRED.with_dnr());
        }
        self.end_if_condemned(cntlid, now);
        let siblings = self.siblings(cntlid, sqe);
        let Some(controller) = self.controllers.get_mut(&cntlid) else {
            return Answer::failed(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
        };
        let subsystem = controller
            .subsystem
            .as_ref()
            .and_then(|nqn| self.subsystems.get(nqn));
        if subsystem.is_none() && controller.subsystem.is_some() {
            return Answer::failed(Status::INTERNAL_ERROR);
        }
        let discovery = Directory {
            ports: &self.ports,
            subsystems: &self.subsystems,
            generation: self.discovery_generation,
        };
        let surroundings = Surroundings {
            limits: &self.limits,
            subsystem,
            discovery,
            siblings: &siblings,
            now,
        };
        let answer = controller.admin(sqe, data, &surroundings);
        self.collect(cntlid);
        if sqe.opcode == admin::CROSS_CONTROLLER_RESET {
            self.end_condemned(now);
        }
        answer
    }

    /// The controllers of the same subsystem in this process, for the commands that list them.
    fn siblings(&self, cntlid: u16, sqe: &Sqe) -> Vec<u16> {
        let own = self
            .controllers
            .get(&cntlid)
            .and_then(|c| c.subsystem.as_deref());
        if sqe.opcode != admin::IDENTIFY || own.is_none() {
            return Vec::new();
        }
        let same = self
            .controllers
            .iter()
            .filter(|(_, c)| c.subsystem.as_deref() == own);
        same.map(|(cntlid, _)| *cntlid).collect()
    }

    /// A queue is closed, for whatever reason; with the admin queue the controller goes.
    pub fn queue_closed(&mut self, cntlid: u16, queue: QueueId, now: Duration) {
        let Some(controller) = self.controllers.get_mut(&cntlid) else {
            return;
        };
        let Some(qid) = controller.forget_queue(queue) else {
            return;
        };
        if qid == 0 {
            self.remove_controller(cntlid, Gone::QueueClosed, now);
        }
    }

    /// Moves what a controller wants done to the common queue.
    fn collect(&mut self, cntlid: u16) {
        if let Some(controller) = self.controllers.get_mut(&cntlid) {
            self.outputs.extend(controller.take_outputs());
        }
    }

    /// Ends a controller: nothing of it reaches the media from here on.
    fn remove_controller(&mut self, cntlid: u16, why: Gone, now: Duration) {
        let Some(mut controller) = self.controllers.remove(&cntlid) else {
            return;
        };
        let shared = Arc::clone(controller.shared());
        shared.gate.condemn();
        controller.close_all_queues();
        self.outputs.extend(controller.take_outputs());
        self.outputs
            .push_back(ArrayOutput::Event(Event::Gone { cntlid, why }));
        // The promise counts from when the timer ran out, not from when that was noticed.
        let (since, promised_ms) = match why {
            Gone::KeepAlive => {
                let subsystem = controller
                    .subsystem
                    .as_ref()
                    .and_then(|n| self.subsystems.get(n));
                (
                    shared.gate.deadline().unwrap_or(now),
                    subsystem.map(|s| s.cqt_ms),
                )
            }
            Gone::QueueClosed | Gone::Removed | Gone::Reset => (now, None),
        };
        if why == Gone::KeepAlive {
            self.report_loss(&controller);
        }
        self.remains.push(Remains {
            shared,
            since,
            promised_ms,
            late: false,
        });
        self.forget_remains(now);
    }

    /// Forgets controllers that are off the media.
    fn forget_remains(&mut self, now: Duration) {
        let outputs = &mut self.outputs;
        self.remains.retain_mut(|remains| {
            let took = now.saturating_sub(remains.since);
            if remains.shared.gate.in_flight() > 0 {
                remains.late |= remains
                    .promised_ms
                    .is_some_and(|promise| took > Duration::from_millis(u64::from(promise)));
                return true;
            }
            if let (true, Some(promised_ms)) = (remains.late, remains.promised_ms) {
                outputs.push_back(ArrayOutput::Event(Event::QuiesceLate {
                    cntlid: remains.shared.instance.cntlid,
                    promised_ms,
                    took_ms: took.as_millis() as u64,
                }));
            }
            false
        });
    }
}
