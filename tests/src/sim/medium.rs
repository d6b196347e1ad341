//! The medium, which all target processes share, and the way to it.
//!
//! Below every process lies the same disk with one volatile write cache, or none. What is written
//! is seen at once through every process; it is durable when it was written with FUA, when a FLUSH
//! came after it, whichever process either came through, or by chance. Processes come and go
//! without harm to the cache; when the *power* fails they all die, what is on its way to the disk
//! is gone, and so is what was not durable. Arrays whose controllers have caches of their own must
//! keep them coherent, or no multipath host could use them; then they are one cache again.
//!
//! A long write may take two steps, and the gate is asked before each, as the real engine does.
//! Whoever dies or is fenced in between leaves the first blocks written. A block is never torn.

use umpath_nvme::Status;
use umpath_target::controller::io::Operation;
use umpath_target::gate::Fenced;

use super::checker::{Violation, stamp};
use super::clock::{MICRO, MILLI, Nanos, duration, nanos};
use super::happening::Happening;
use super::mutant::Mutant;
use super::plan::{FaultKind, REQUEST_BLOCKS};
use super::qp::{HostEnd, Values};
use super::store::StoreId;
use super::world::World;

impl World {
    /// A command asks the gate, for its first step.
    pub(crate) fn enter(&mut self, command: usize) {
        let Some(known) = self.commands.get(command) else {
            return;
        };
        let process = &self.processes[known.process];
        if known.void || !process.alive || process.life != known.life {
            self.commands.remove(command);
            return;
        }
        let row = process.row;
        if let Some(later) = self.puts_off(command) {
            return self.agenda.push(later, Happening::Enter { command });
        }
        if let Err(fenced) = self.gate(command) {
            return self.refuse(command, fenced);
        }
        self.graves.enters(row);
        self.commands[command].on_medium = true;
        self.step(command);
    }

    /// A process that lingers over what the host gave up keeps most of it until just before the
    /// keep-alive timer expires; the timer may have been restarted by then.
    fn puts_off(&mut self, command: usize) -> Option<Nanos> {
        let known = &self.commands[command];
        let given_up = matches!(self.qps[known.qp].host, HostEnd::Error | HostEnd::Drained);
        if !given_up || !self.lingers(known.process) || self.array_chance.percent(30) {
            return None;
        }
        let process = &mut self.processes[known.process];
        let kato = duration(self.plan.kato);
        process.restart_timers(duration(process.clock(self.now)), kato);
        let expires = process.when(nanos(process.expires(&known.shared, kato)?));
        let later = expires.saturating_sub(self.array_chance.tail(10 * MICRO, MILLI));
        (later > self.now + MILLI).then_some(later)
    }

    /// A command asks the gate, for its second step.
    pub(crate) fn enter_again(&mut self, command: usize) {
        let Some(known) = self.commands.get(command) else {
            return;
        };
        let process = &self.processes[known.process];
        if !process.alive || process.life != known.life {
            return self.gone(command);
        }
        if let Err(fenced) = self.gate(command) {
            self.leave(command);
            self.off_medium(command);
            return self.refuse(command, fenced);
        }
        self.step(command);
    }

    fn gate(&mut self, command: usize) -> Result<(), Fenced> {
        let known = &self.commands[command];
        let process = &mut self.processes[known.process];
        let now = duration(process.clock(self.now));
        process.restart_timers(now, duration(self.plan.kato));
        let gate = &known.shared.gate;
        let answer = if known.done == 0 {
            gate.enter(known.epoch, now)
        } else {
            gate.permits(known.epoch, now)
        };
        match (answer, self.mutant) {
            (_, Some(Mutant::GateIgnored))
            | (Err(Fenced::KeepAliveExpired), Some(Mutant::GateByTimer))
            | (Err(Fenced::Closed), Some(Mutant::GateStaysOpen)) => Ok(()),
            (Err(Fenced::Closed), _)
                if gate.deadline().is_some_and(|deadline| now < deadline)
                    && self.lingers(self.commands[command].process) =>
            {
                Ok(())
            }
            (other, _) => other,
        }
    }

    /// A process goes on with what a controller had accepted after it said that it is over.
    pub(crate) fn lingers(&self, process: usize) -> bool {
        let mut active = self.active_faults.iter();
        active.any(|at| self.plan.faults[*at].kind == FaultKind::Lingers { process })
    }

    fn refuse(&mut self, command: usize, fenced: Fenced) {
        let status = match fenced {
            Fenced::Closed => Status::ABORTED_SQ_DELETION,
            Fenced::KeepAliveExpired => Status::KEEP_ALIVE_EXPIRED,
        };
        let known = self.commands.remove(command);
        self.note(|| {
            format!(
                "process {}: copy {} is refused by the gate",
                known.process, known.copy
            )
        });
        self.respond(known.qp, known.cid, status, known.copy, None);
    }

    /// A command goes to the medium, with all its blocks or with some.
    fn step(&mut self, command: usize) {
        let split = self.array_chance.percent(self.plan.split);
        let known = &mut self.commands[command];
        let left = known.blocks - known.done;
        let writes = matches!(known.operation, Operation::Write { .. });
        known.step = if writes && known.done == 0 && left > 1 && split {
            1 + self.array_chance.below(left - 1)
        } else {
            left
        };
        let longest = self.plan.media_max();
        let mut wait = if self.array_chance.percent(90) {
            self.array_chance.tail(10 * MICRO, 500 * MICRO)
        } else {
            self.array_chance.tail(10 * MICRO, longest)
        };
        wait = wait.min(longest);
        if self.is(Mutant::CqtLie) && self.array_chance.percent(20) {
            wait += self.array_chance.below(4 * self.plan.kato);
        }
        self.agenda
            .push(self.now + wait, Happening::Medium { command });
    }

    /// The medium does what a command says, and the process hears of it.
    pub(crate) fn medium(&mut self, command: usize) {
        let known = &self.commands[command];
        if known.void {
            self.commands.remove(command);
            return;
        }
        let (index, process) = (known.copy, known.process);
        let (store, copy) = (known.store, self.copies[index as usize]);
        let association = copy.association;
        if copy.mutation && self.fences.is_proven(association) {
            let what =
                format!("(4) copy {index} of {association} on the medium after its order fence");
            return self.fail(Violation(what));
        }
        let from = known.lba + known.done;
        let range = from as usize..(from + known.step) as usize;
        let (at, values) = (known.done as usize, known.values);
        let done = known.done + known.step;
        let more = done < known.blocks;
        let operation = known.operation;
        let mut read = None;
        match operation {
            Operation::Read { .. } => {
                let mut found = [0; REQUEST_BLOCKS];
                found[..range.len()]
                    .copy_from_slice(&self.stores[store].medium.seen[range.clone()]);
                read = Some(found);
            }
            Operation::Write { fua, .. } => {
                for (offset, lba) in range.clone().enumerate() {
                    self.write((process, store), lba, values[at + offset], fua);
                }
            }
            Operation::Zero { fua, .. } => {
                for lba in range.clone() {
                    self.write(
                        (process, store),
                        lba,
                        stamp(store, copy.op, lba as u64),
                        fua,
                    );
                }
            }
            Operation::Deallocate { .. } => {
                for lba in range.clone() {
                    self.write(
                        (process, store),
                        lba,
                        stamp(store, copy.op, lba as u64),
                        false,
                    );
                }
            }
            Operation::Flush => self.flush(process, store),
            Operation::Nothing => {}
        }
        self.note(|| {
            format!(
                "process {process}: copy {index} of op {} executed on blocks {range:?}",
                copy.op
            )
        });
        self.commands[command].done = done;
        if more {
            // The gate is asked before the rest.
            self.commands[command].step = 0;
            let pause = self.array_chance.tail(MICRO, 500 * MICRO);
            return self
                .agenda
                .push(self.now + pause, Happening::EnterAgain { command });
        }
        self.off_medium(command);
        let values = read.map(Box::new);
        self.agenda
            .push(self.now, Happening::Executed { command, values });
    }

    fn write(&mut self, (process, store): (usize, StoreId), lba: usize, value: u64, fua: bool) {
        let fua = fua && !self.is(Mutant::FuaIgnored);
        let durable = fua || !self.plan.cache || self.array_chance.percent(10);
        let medium = &mut self.stores[store].medium;
        medium.seen[lba] = value;
        medium.through[lba] = process;
        if durable {
            medium.durable[lba] = value;
        }
    }

    fn flush(&mut self, process: usize, store: StoreId) {
        if self.is(Mutant::FlushIgnored) {
            return;
        }
        let own = self.is(Mutant::FlushOfOwn);
        let medium = &mut self.stores[store].medium;
        for lba in 0..medium.seen.len() {
            if !own || medium.through[lba] == process {
                medium.durable[lba] = medium.seen[lba];
            }
        }
    }

    /// All processes die, and what was in the cache or on its way is gone.
    pub(crate) fn power_fails(&mut self) {
        for process in 0..self.processes.len() {
            if self.processes[process].alive {
                self.crash(process);
            }
        }
        for (_, command) in &mut self.commands {
            if std::mem::take(&mut command.on_medium) {
                command.void = true;
                self.graves.leaves(command.row);
            }
        }
        for store in &mut self.stores {
            store.medium.seen.clone_from(&store.medium.durable);
            store.checker.power_failed();
        }
    }

    /// The process hears that a command is off the medium.
    pub(crate) fn executed(&mut self, command: usize, values: Option<Box<Values>>) {
        self.leave(command);
        let known = self.commands.remove(command);
        let process = &self.processes[known.process];
        if process.alive && process.life == known.life {
            let values = values.map(|values| *values);
            if self.forgets(known.process) {
                let (process, copy) = (known.process, known.copy);
                self.note(|| format!("process {process}: copy {copy} is never answered"));
                return;
            }
            self.respond(known.qp, known.cid, Status::SUCCESS, known.copy, values);
        }
    }

    /// A fault is in force in which a process forgets to answer, and this is such an answer.
    fn forgets(&mut self, process: usize) -> bool {
        let forgetful = FaultKind::Forget { process };
        let mut kinds = self
            .active_faults
            .iter()
            .map(|at| self.plan.faults[*at].kind);
        kinds.any(|kind| kind == forgetful) && self.array_chance.percent(30)
    }

    /// Counts a command down. A process that died counts nothing.
    fn leave(&self, command: usize) {
        let known = &self.commands[command];
        let process = &self.processes[known.process];
        let gate = &known.shared.gate;
        if process.alive && process.life == known.life && gate.in_flight() > 0 {
            gate.leave();
        }
    }

    /// Its process died between two steps.
    fn gone(&mut self, command: usize) {
        self.off_medium(command);
        self.commands.remove(command);
    }

    fn off_medium(&mut self, command: usize) {
        let known = &mut self.commands[command];
        if std::mem::take(&mut known.on_medium) {
            self.graves.leaves(known.row);
        }
    }
}
