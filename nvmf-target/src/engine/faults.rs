//! Carrying out faults that were asked for: the one place where they touch a command.
//!
//! A command is looked up when it is about to be executed, its data already here. Without rules that
//! costs one relaxed load. A parked command waits in front of the controller's gate and then passes it like
//! any other, although its connection may be long gone. So does a controller that was stuck and goes on.

use std::time::Duration;

use tracing::info;
use umpath_nvme::Status;
use umpath_nvme::command::io::ReadWrite;
use umpath_nvme::opcode::nvm;

use super::queue::Queue;
use super::reactor::Reactor;
use super::request::{Answering, Stage, Work};
use super::waiting::Then;
use crate::fault::{Action, Command};

impl Reactor {
    /// What was asked to become of a request instead of being executed.
    pub(super) fn fault_of(&self, index: u32) -> Option<Action> {
        self.hub.fault_rules().action(|| {
            let request = self.requests.get(index as usize)?;
            let queue = self.queues.get(request.queue as usize)?;
            let opcode = request.sqe.opcode;
            let names_blocks =
                queue.qid != 0 && matches!(opcode, nvm::READ | nvm::WRITE | nvm::WRITE_ZEROES);
            let blocks = names_blocks.then(|| {
                let command = ReadWrite::parse(&request.sqe);
                (command.slba, u64::from(command.blocks.get()))
            });
            Some(Command {
                cntlid: queue.cntlid()?,
                qid: queue.qid,
                opcode,
                blocks,
            })
        })
    }

    pub(super) fn misbehave(&mut self, index: u32, action: Action) {
        let wait = |ms: u32| Duration::from_millis(ms.into());
        info!(?action, "a fault that was asked for");
        match action {
            Action::Delay { ms } => self.answer(index, Answering::After(wait(ms))),
            Action::Drop => self.answer(index, Answering::Never),
            Action::Hang => self.fall_silent(index),
            Action::Error { status } => self.finish(index, Status::from_raw(status), 0),
            Action::Park {
                ms,
                beyond_gate: false,
            } => self.park(index, wait(ms), Then::Execute),
            Action::Park { ms, .. } => {
                if self.gate_is_open(index) {
                    self.park(index, wait(ms), Then::PassGate);
                } else {
                    self.proceed(index);
                }
            }
        }
    }

    /// Executes a request whose answer will be late or never come.
    fn answer(&mut self, index: u32, how: Answering) {
        if let Some(request) = self.requests.get_mut(index as usize) {
            request.answering = how;
        }
        self.proceed(index);
    }

    /// Holds an answer back.
    pub(super) fn answer_later(&mut self, index: u32, wait: Duration, status: Status, result: u64) {
        if let Some(request) = self.requests.get_mut(index as usize) {
            request.stage = Stage::Executing;
        }
        self.park(index, wait, Then::Answer { status, result });
    }

    fn park(&mut self, index: u32, wait: Duration, then: Then) {
        self.waiting.push(self.hub.now() + wait, index, then);
    }

    /// A request that is never answered lives as long as its queue.
    pub(super) fn fall_silent(&mut self, index: u32) {
        let Some(request) = self.requests.get_mut(index as usize) else {
            return;
        };
        request.stage = Stage::Silent;
        let queue = self.queues.get_mut(request.queue as usize);
        if queue.is_none_or(|queue| queue.is_closing()) {
            self.retire(index);
        }
    }

    /// Whether a request could go to its backing store now. Range lists are checked behind the gate,
    /// so no deallocation goes around it.
    fn gate_is_open(&self, index: u32) -> bool {
        let work = self
            .requests
            .get(index as usize)
            .map(|request| &request.work);
        matches!(work, Some(Work::Media(work))
            if work.ranges.is_none()
                && work.shared.gate.permits(work.epoch, self.hub.now()).is_ok())
    }

    /// Completes a command as aborted if it waits to be executed. What has passed the gate, or has been
    /// executed, cannot be taken back.
    pub(super) fn recall(&mut self, queue: u32, cid: u16) -> bool {
        let requests = &self.requests;
        let found = self.waiting.take(|index| {
            let request = requests.get(index as usize);
            request.is_some_and(|request| request.queue == queue && request.sqe.cid.get() == cid)
        });
        if let Some(index) = found {
            self.finish(index, Status::ABORT_REQUESTED, 0);
        }
        found.is_some()
    }

    /// Lets go on what has waited long enough; whether there was any.
    pub(super) fn wake_waiting(&mut self) -> bool {
        let mut busy = false;
        while self.waiting.next().is_some()
            && let Some((index, then)) = self.waiting.pop(self.hub.now())
        {
            busy = true;
            match then {
                Then::Answer { status, result } => self.finish(index, status, result),
                Then::PassGate => self.pass_gate(index),
                Then::Execute => self.go_on(index),
            }
        }
        busy
    }

    /// Executes what was parked. An admin command whose controller may be another by now is not.
    fn go_on(&mut self, index: u32) {
        let orphan = self.requests.get(index as usize).is_some_and(|request| {
            let queue = self.queues.get(request.queue as usize);
            matches!(request.work, Work::Admin) && queue.is_none_or(Queue::is_closing)
        });
        if orphan {
            self.retire(index);
        } else {
            self.proceed(index);
        }
    }

    /// The program ends: nothing goes on.
    pub(super) fn abandon_waiting(&mut self) {
        for index in self.waiting.drain().collect::<Vec<_>>() {
            self.retire(index);
        }
    }
}
