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

use super::reactor::Reactor;
use super::request::{Answering, State, Work};
use crate::fault::{Action, Command};

impl Reactor {
    /// What was asked to become of a request instead of being executed.
    pub(super) fn fault_of(&self, index: u32) -> Option<Action> {
        self.hub.fault_rules().action(|| {
            let request = &self.requests[index];
            let queue = &self.queues[request.queue as usize];
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
                beyond_gate: true, ..
            } if !self.gate_is_open(index) => self.proceed(index),
            Action::Park { ms, beyond_gate } => {
                let past_gate = beyond_gate;
                self.requests[index].becomes(State::Parked { past_gate });
                self.wait(index, wait(ms));
            }
        }
    }

    /// Executes a request whose answer will be late or never come.
    fn answer(&mut self, index: u32, how: Answering) {
        self.requests[index].answering = how;
        self.proceed(index);
    }

    pub(super) fn wait(&mut self, index: u32, wait: Duration) {
        self.waiting.push(self.hub.now() + wait, index);
    }

    /// A request that is never answered lives as long as its queue.
    pub(super) fn fall_silent(&mut self, index: u32) {
        let request = &mut self.requests[index];
        request.becomes(State::Silent);
        if self.queues[request.queue as usize].is_closing() {
            self.retire(index);
        }
    }

    /// Whether a request could go to its backing store now. Range lists are checked behind the gate,
    /// so no deallocation goes around it.
    fn gate_is_open(&self, index: u32) -> bool {
        matches!(&self.requests[index].work, Work::Media(work)
            if work.ranges.is_none()
                && work.shared.gate.permits(work.epoch, self.hub.now()).is_ok())
    }

    /// Completes a command as aborted if it waits to be executed. What has passed the gate, or has been
    /// executed, cannot be taken back.
    pub(super) fn recall(&mut self, queue: u32, cid: u16) -> bool {
        let requests = &self.requests;
        let found = self.waiting.take(|index| {
            let request = &requests[index];
            request.state() == State::Parked { past_gate: false }
                && request.queue == queue
                && request.sqe.cid.get() == cid
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
            && let Some(index) = self.waiting.pop(self.hub.now())
        {
            busy = true;
            match self.requests[index].state() {
                State::Parked { past_gate: true } => self.pass_gate(index),
                State::Parked { past_gate: false } => self.go_on(index),
                State::Done { status, result } => self.respond(index, status, result),
                state => unreachable!("a request waits in {state:?}"),
            }
        }
        busy
    }

    /// Executes what was parked. An admin command whose controller may be another by now is not.
    fn go_on(&mut self, index: u32) {
        let request = &mut self.requests[index];
        let queue = &self.queues[request.queue as usize];
        if matches!(request.work, Work::Admin) && queue.is_closing() {
            self.retire(index);
        } else {
            request.becomes(State::Ready);
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
