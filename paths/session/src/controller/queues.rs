//! I/O queues: those of the bring-up, and those that are added to a ready association, for a
//! namespace that came later, say.
//!
//! A queue that cannot be had costs nothing but itself. Those of the bring-up that are missing can be
//! added later.

use std::time::Duration;

use umpath_nvme::Cqe;

use super::{Controller, Phase};
use crate::error::{PeerError, SessionError, TransportSource};
use crate::io_queues::{Batch, IoQueues};
use crate::output::Event;

impl Controller {
    /// Opens so many more I/O queues; the answer is [`Event::QueuesAdded`]. False, and no answer,
    /// unless the session is ready, nothing is being added and the controller grants so many.
    pub fn add_io_queues(&mut self, count: u16, now: Duration) -> bool {
        let ready = matches!(self.phase, Phase::Ready(_));
        let Some(queues) = self.queues.as_mut().filter(|_| ready) else {
            return false;
        };
        if queues.is_busy() || count == 0 || count > queues.available() {
            return false;
        }
        let orders = queues.begin(count, now);
        for order in orders {
            self.admin.push(order);
        }
        true
    }

    pub(super) fn open_io_queues(&mut self, now: Duration) {
        if let Some(facts) = self.facts.clone() {
            self.admin.event(Event::Identified(Box::new(facts)));
        }
        let mut queues = IoQueues::new(self.connector.clone(), self.granted);
        let orders = queues.begin(self.wanted(), now);
        for order in orders {
            self.admin.push(order);
        }
        self.queues = Some(queues);
        self.phase = Phase::Connecting;
    }

    /// I/O queues to open: those granted, or fewer where few namespaces need them.
    fn wanted(&self) -> u16 {
        let usable = self
            .namespaces
            .iter()
            .filter(|namespace| namespace.facts.is_ok())
            .count();
        match self.connector.config().io_queues_per_namespace {
            0 => self.granted,
            each => {
                let usable = u16::try_from(usable.max(1)).unwrap_or(u16::MAX);
                self.granted.min(each.saturating_mul(usable))
            }
        }
    }

    /// False before the bring-up comes to them, and when the association ends.
    pub(super) fn wants_queues(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Ready(_))
    }

    /// The I/O queues, while something may become of them.
    pub(super) fn queues_wanted(&mut self) -> Option<&mut IoQueues> {
        let wanted = self.wants_queues();
        self.queues.as_mut().filter(|_| wanted)
    }

    pub(super) fn io_queue_opened(&mut self, qid: u16, now: Duration) {
        let queues = self.queues_wanted();
        if let Some(order) = queues.and_then(|queues| queues.opened(qid, now)) {
            self.admin.push(order);
        }
    }

    /// Whether the queue that failed was one that is being connected, or was given up: its association
    /// lives on.
    pub(super) fn io_queue_failed(&mut self, qid: u16, source: &TransportSource) -> bool {
        let queues = self.queues.as_mut();
        queues.is_some_and(|queues| queues.failed(qid, source))
    }

    pub(super) fn io_response(&mut self, qid: u16, cqe: &Cqe) -> Result<(), SessionError> {
        let Some(queues) = &mut self.queues else {
            let cid = cqe.cid.get();
            return Err(PeerError::UnexpectedCompletion { qid, cid }.into());
        };
        if let Some(order) = queues.answer(qid, cqe)? {
            self.admin.push(order);
        }
        self.report_io_queues()
    }

    /// Reports the I/O queues that were asked for, once each is connected or given up.
    pub(super) fn report_io_queues(&mut self) -> Result<(), SessionError> {
        // A namespace that comes later may need every identifier that was granted: only a new
        // association has all of them.
        if matches!(self.phase, Phase::Connecting)
            && let Some(error) = self.queues.as_mut().and_then(IoQueues::take_spent)
        {
            return Err(error);
        }
        let Some(batch) = self.queues_wanted().and_then(IoQueues::take_batch) else {
            return Ok(());
        };
        if matches!(self.phase, Phase::Connecting) {
            self.bring_up_ends(batch)
        } else {
            self.admin.event(Event::QueuesAdded(batch.connected));
            Ok(())
        }
    }

    fn bring_up_ends(&mut self, batch: Batch) -> Result<(), SessionError> {
        let Some(queues) = &self.queues else {
            return Ok(());
        };
        let had = batch.connected.len() as u16;
        let least = self.connector.config().io_queues_min.clamp(1, batch.asked);
        match batch.error {
            Some(error) if had < least => Err(error),
            _ => {
                let io_depth = queues.depth();
                self.ready(batch.connected, io_depth);
                Ok(())
            }
        }
    }
}
