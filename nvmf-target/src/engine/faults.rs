//! Where faults that were asked for meet commands: the one place the engine asks, at two points of a
//! request's life.
//!
//! A rule is drawn when a command is about to be executed, its data already here; without rules that
//! costs one relaxed load. What is drawn stays with the request until it is answered.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use tracing::info;

use super::queue::Queue;
use super::request::Request;
use crate::fault::{Action, AtExecution, AtResponse, Command, Table};

/// The rules of [`crate::fault`] as all reactors share them.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Whether the table has rules.
    any: AtomicBool,
    table: Mutex<Table>,
}

impl Faults {
    /// Reads or changes the rules.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.lock();
        let result = work(&mut table);
        self.any.store(!table.is_empty(), Relaxed);
        result
    }

    /// A request is about to be executed.
    pub(super) fn at_execution(&self, request: &mut Request, queue: &Queue) -> AtExecution {
        if self.any.load(Relaxed)
            && let Some(cntlid) = queue.cntlid()
        {
            let command = Command::new(cntlid, queue.qid, &request.sqe);
            request.fault = self.table.lock().action(&command);
        }
        let Some(action) = request.fault else {
            return AtExecution::Execute;
        };
        info!(?action, "a fault that was asked for");
        action.at_execution()
    }

    /// A request is about to be answered.
    pub(super) fn at_response(request: &Request) -> AtResponse {
        request.fault.map_or(AtResponse::Send, Action::at_response)
    }
}
