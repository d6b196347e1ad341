//! What handling one input produces: orders and events, all stamped with the same time.

use std::collections::VecDeque;
use std::time::Duration;

use umpath_core::LaneCommand;
use umpath_protocol::EventKind;

use crate::events::{EventLog, Subject};
use crate::order::Order;
use crate::path::Request;
use crate::spec::VolumeKey;

/// Passed down to every function that may produce orders or events.
#[derive(Debug)]
pub(crate) struct Effects {
    /// The time of the input being handled.
    pub(crate) now: Duration,
    pub(crate) orders: VecDeque<Order>,
    pub(crate) events: EventLog,
    /// Of volumes so far.
    incarnations: u64,
}

impl Effects {
    pub(crate) fn new(now: Duration, unix_ms: u64) -> Self {
        Self {
            now,
            orders: VecDeque::new(),
            events: EventLog::new(now, unix_ms),
            incarnations: 0,
        }
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    /// A number for the next volume to be built or taken over.
    pub(crate) fn next_incarnation(&mut self) -> u64 {
        self.incarnations += 1;
        self.incarnations
    }

    pub(crate) fn lane(&mut self, volume: VolumeKey, queue: u16, command: LaneCommand<u16>) {
        self.order(Order::Lane {
            volume,
            queue,
            command,
        });
    }

    pub(crate) fn ask_path(&mut self, path: u32, request: Request) {
        self.order(Order::ToPath(path, request));
    }

    /// Logs an event at the time of the current input.
    pub(crate) fn event(&mut self, kind: EventKind, subject: Subject, detail: impl Into<String>) {
        self.events.record(self.now, kind, subject, detail.into());
    }
}
