//! I/O queues that are added to a ready association: for a namespace that came later, say.
//!
//! A queue that cannot be added costs nothing but itself; identifiers are not used again, because the
//! controller may have taken some of them.

use std::time::Duration;

use umpath_nvme::Cqe;

use super::{Controller, Phase};
use crate::error::{PeerError, SessionError};
use crate::io_queues::IoQueues;
use crate::output::Event;

impl Controller {
    /// Opens so many more I/O queues; the answer is [`Event::QueuesAdded`]. False, and no answer,
    /// unless the session is ready, nothing is being added and the controller grants so many.
    pub fn add_io_queues(&mut self, count: u16, now: Duration) -> bool {
        let free = self.granted.saturating_sub(self.last_qid);
        let ready = matches!(self.phase, Phase::Ready(_)) && self.adding.is_none();
        if !ready || count == 0 || count > free {
            return false;
        }
        let queues = self.begin_io_queues(count, now);
        self.adding = Some(Box::new(queues));
        true
    }

    /// A queue failed that was being added, or was given up while it was: its association lives on.
    pub(super) fn added_queue_failed(&mut self, qid: u16) -> bool {
        let adding = self.adding.as_ref();
        if adding.is_some_and(|queues| queues.qids().contains(&qid)) {
            self.give_up_adding();
            return true;
        }
        self.given_up.contains(&qid)
    }

    /// No queue of those that are being added will be used. What the others of them still bring, an
    /// answer or their end, is no news.
    fn give_up_adding(&mut self) {
        let queues = self.adding.take();
        let qids = queues.as_ref().map(|queues| queues.qids());
        self.given_up.extend(qids.into_iter().flatten());
        self.admin.event(Event::QueuesAdded(Vec::new()));
    }

    pub(super) fn begin_io_queues(&mut self, count: u16, now: Duration) -> IoQueues {
        let first = self.last_qid + 1;
        self.last_qid += count;
        let (queues, orders) = IoQueues::begin(self.connector.clone(), first, count, now);
        orders.for_each(|order| self.admin.push(order));
        queues
    }

    /// Queues that take too long to add are given up.
    pub(super) fn tick_adding(&mut self, now: Duration) {
        let adding = self.adding.as_ref();
        let late = adding.is_some_and(|queues| queues.handle_timeout(now).is_err());
        if late {
            self.give_up_adding();
        }
    }

    /// A queue is open that may be one of those that are being added.
    pub(super) fn added_queue_connected(&mut self, qid: u16, now: Duration) {
        let adding = self.adding.as_mut();
        if let Some(order) = adding.and_then(|queues| queues.opened(qid, now)) {
            self.admin.push(order);
        }
    }

    /// A completion on an I/O queue of a ready association: it can only answer the Connect of a queue
    /// that is being added.
    pub(super) fn added_queue_response(&mut self, qid: u16, cqe: &Cqe) -> Result<(), SessionError> {
        if self.given_up.contains(&qid) {
            return Ok(());
        }
        let adding = self.adding.as_mut();
        let Some(queues) = adding.filter(|queues| queues.qids().contains(&qid)) else {
            let cid = cqe.cid.get();
            return Err(PeerError::UnexpectedCompletion { qid, cid }.into());
        };
        match queues.answer(qid, cqe) {
            Ok(false) => {}
            Ok(true) => {
                let qids = queues.qids().collect();
                self.adding = None;
                self.admin.event(Event::QueuesAdded(qids));
            }
            Err(_) => self.give_up_adding(),
        }
        Ok(())
    }
}
