//! The medium, which all target processes share.

use umpath_nvme::Status;
use umpath_target::controller::io::Operation;

use super::checker::{Violation, stamp};
use super::fabric::Values;
use super::plan::{FaultKind, REQUEST_BLOCKS};
use super::world::{Happening, World};

impl World {
    /// The medium does what a command says, and the process hears of it.
    pub(crate) fn medium(&mut self, command: usize) {
        let known = &self.commands[command];
        self.graves.leaves(known.row);
        let copy = self.copies[known.copy as usize];
        let association = copy.association;
        if self.host.proven.contains(&association) {
            let what = format!(
                "(4) copy {} of {association} on the medium after its order fence",
                known.copy
            );
            return self.fail(Violation(what));
        }
        let range = known.lba as usize..(known.lba + known.blocks) as usize;
        let mut values = None;
        match known.operation {
            Operation::Read { .. } => {
                let mut read = [0; REQUEST_BLOCKS];
                read[..range.len()].copy_from_slice(&self.medium[range.clone()]);
                values = Some(read);
            }
            Operation::Write { .. } => {
                let count = range.len();
                self.medium[range.clone()].copy_from_slice(&known.values[..count]);
            }
            Operation::Zero { .. } | Operation::Deallocate { .. } => {
                for lba in range.clone() {
                    self.medium[lba] = stamp(copy.op, lba as u64);
                }
            }
            Operation::Flush | Operation::Nothing => {}
        }
        let (index, process) = (known.copy, known.process);
        self.note(|| {
            format!(
                "process {process}: copy {index} executed: {} {range:?}",
                copy.op
            )
        });
        self.agenda.push(
            self.now,
            Happening::Executed {
                command,
                values: values.map(Box::new),
            },
        );
    }

    /// The process hears that a command is off the medium.
    pub(crate) fn executed(&mut self, command: usize, values: Option<Box<Values>>) {
        let known = self.commands.remove(command);
        let process = &self.processes[known.process];
        // A process that died counts nothing down.
        if process.alive && process.life == known.life {
            if known.shared.gate.in_flight() > 0 {
                known.shared.gate.leave();
            }
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
}
