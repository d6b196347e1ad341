//! A queue pair as a queue thread has it: [`Transport`] over the simulated fabric.
//!
//! The thread owns one half, the world the other. Whatever the thread does is noted in the order in
//! which it did it ([`Did`]), and takes effect when its round is over.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use umpath_core::BlockError;
use umpath_engine::{LaneReport, QueuePairId};
use umpath_nvme::command::io::DsmRange;
use umpath_nvme::opcode::nvm;
use umpath_nvme::{Cqe, Sqe};
use umpath_transport::{Data, Drain, Loss, PushError, Silence, Transport};

use crate::sim::qp::QpId;

/// Where a command's data lies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Range {
    None,
    /// In the buffer of this tag.
    Slot(u16),
    /// Parameters, from the buffer of this tag.
    Parameters(u16, [u8; DsmRange::SIZE]),
}

/// Something a queue thread did.
#[derive(Debug)]
pub(crate) enum Did {
    Sent {
        qp: QpId,
        sqe: Sqe,
        range: Range,
    },
    /// The answer to this copy.
    Reaped(u32),
    Answered {
        tag: u16,
        result: Result<u32, BlockError>,
    },
    Drains(QpId),
    Reported(LaneReport<SimQp>),
}

pub(crate) type Log = Rc<RefCell<Vec<Did>>>;

/// What both halves of a queue pair know.
#[derive(Debug, Default)]
pub(crate) struct Port {
    pub(crate) pair: Cell<Option<QueuePairId>>,
    /// Completions the NIC has written, with the copies they answer.
    pub(crate) answers: RefCell<VecDeque<(Cqe, u32)>>,
    pub(crate) armed: Cell<bool>,
    /// It has failed by itself.
    pub(crate) failed: Cell<bool>,
    pub(crate) disconnected: Cell<bool>,
    /// It does not say whether it still sends when it is given up.
    pub(crate) stubborn: Cell<bool>,
    /// A mutant does not ask.
    pub(crate) trusted: Cell<bool>,
    /// The flush markers have come.
    pub(crate) flushed: Cell<bool>,
    pub(crate) in_flight: Cell<usize>,
    /// Commands that the target's NIC has not acknowledged.
    pub(crate) unacknowledged: RefCell<BTreeSet<u16>>,
    deadline: Cell<Option<Duration>>,
}

/// The thread's half.
#[derive(Debug)]
pub(crate) struct SimQp {
    pub(crate) id: QpId,
    pub(crate) port: Rc<Port>,
    depth: u16,
    log: Log,
}

impl SimQp {
    pub(crate) fn new(id: QpId, port: Rc<Port>, depth: u16, log: Log) -> Self {
        Self {
            id,
            port,
            depth,
            log,
        }
    }

    fn reap(&self, mut report: impl FnMut(Cqe)) -> usize {
        let mut count = 0;
        while let Some((cqe, copy)) = self.port.answers.borrow_mut().pop_front() {
            let left = self.port.in_flight.get().saturating_sub(1);
            self.port.in_flight.set(left);
            self.port.unacknowledged.borrow_mut().remove(&cqe.cid.get());
            self.log.borrow_mut().push(Did::Reaped(copy));
            report(cqe);
            count += 1;
        }
        count
    }
}

fn range(data: &Data<'_>, sqe: &Sqe) -> Range {
    match *data {
        Data::None => Range::None,
        Data::Write {
            arena,
            slot,
            offset,
            ..
        } if sqe.opcode == nvm::DATASET_MANAGEMENT => {
            let mut bytes = [0; DsmRange::SIZE];
            let read = arena.read_at(slot, offset, &mut bytes);
            assert!(read.is_ok(), "parameters lie in the arena");
            Range::Parameters(slot as u16, bytes)
        }
        Data::Read { slot, .. } | Data::Write { slot, .. } => Range::Slot(slot as u16),
    }
}

impl Transport for SimQp {
    type Error = io::Error;

    fn depth(&self) -> u16 {
        self.depth
    }

    fn in_flight(&self) -> usize {
        self.port.in_flight.get()
    }

    fn has_arrived(&self, cid: u16) -> bool {
        !self.port.unacknowledged.borrow().contains(&cid)
    }

    fn push(&mut self, sqe: Sqe, data: Data<'_>) -> Result<(), PushError> {
        if self.port.deadline.get().is_some() || self.port.failed.get() {
            return Err(PushError::Closed);
        }
        if self.port.in_flight.get() >= usize::from(self.depth) {
            return Err(PushError::Full);
        }
        self.port.in_flight.set(self.port.in_flight.get() + 1);
        let range = range(&data, &sqe);
        let qp = self.id;
        self.log.borrow_mut().push(Did::Sent { qp, sqe, range });
        Ok(())
    }

    fn ring(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn poll(&mut self, report: impl FnMut(Cqe)) -> io::Result<usize> {
        let count = self.reap(report);
        if self.port.failed.get() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(count)
    }

    fn arm(&mut self) -> io::Result<()> {
        self.port.armed.set(true);
        Ok(())
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.port.armed.set(false);
        Ok(())
    }

    fn loss(&mut self) -> Option<Loss<io::Error>> {
        if self.port.failed.get() {
            return Some(Loss::Failed(io::ErrorKind::ConnectionAborted.into()));
        }
        self.port.disconnected.take().then_some(Loss::Disconnected)
    }

    fn begin_drain(&mut self, deadline: Duration) -> Silence {
        self.port.deadline.set(Some(deadline));
        self.log.borrow_mut().push(Did::Drains(self.id));
        if self.port.stubborn.get() && !self.port.trusted.get() {
            return Silence::Unproved;
        }
        Silence::Proved
    }

    fn poll_drained(&mut self, now: Duration, report: impl FnMut(Cqe)) -> Drain {
        self.reap(report);
        match self.port.deadline.get() {
            _ if self.port.flushed.get() => Drain::Quiet,
            Some(deadline) if now >= deadline => Drain::DeadlinePassed,
            _ => Drain::Pending,
        }
    }
}
