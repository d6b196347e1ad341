//! The rules of [`crate::fault`] as all reactors share them.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use crate::fault::{Action, Command, Table};

/// The table all reactors share.
#[derive(Debug, Default)]
pub(super) struct FaultRules {
    /// Whether the table has rules.
    any: AtomicBool,
    table: Mutex<Table>,
}

impl FaultRules {
    /// Reads or changes the rules.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.lock();
        let result = work(&mut table);
        self.any.store(!table.is_empty(), Relaxed);
        result
    }

    /// What was asked to become of a command.
    pub(super) fn action(&self, command: impl FnOnce() -> Option<Command>) -> Option<Action> {
        if !self.any.load(Relaxed) {
            return None;
        }
        self.table.lock().action(&command()?)
    }
}
