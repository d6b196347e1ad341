//! [`HostQueue`] as a lane sees it.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use umpath_nvme::{Cqe, Sqe};
use umpath_transport::{Data, Drain, Loss, Pollable, PushError, Silence, Transport};

use crate::{CmEvent, HostQueue, QueueError};

impl Transport for HostQueue {
    type Error = QueueError;

    fn depth(&self) -> u16 {
        self.depth()
    }

    fn in_flight(&self) -> usize {
        self.in_flight()
    }

    fn has_arrived(&self, cid: u16) -> bool {
        self.has_arrived(cid)
    }

    fn push(&mut self, sqe: Sqe, data: Data<'_>) -> Result<(), PushError> {
        self.push(sqe, data)
    }

    fn ring(&mut self) -> Result<(), QueueError> {
        self.ring()
    }

    fn poll(&mut self, report: impl FnMut(Cqe)) -> Result<usize, QueueError> {
        self.poll(report)
    }

    fn arm(&mut self) -> Result<(), QueueError> {
        self.arm()
    }

    fn disarm(&mut self) -> Result<(), QueueError> {
        self.take_completion_events().map(drop)
    }

    fn loss(&mut self) -> Option<Loss<QueueError>> {
        loop {
            match self.cm_event() {
                Err(error) => return Some(Loss::Failed(error)),
                Ok(None) => return None,
                Ok(Some(CmEvent::Disconnected)) => return Some(Loss::Disconnected),
                Ok(Some(CmEvent::DeviceRemoved)) => return Some(Loss::DeviceRemoved),
                Ok(Some(_)) => {}
            }
        }
    }

    fn begin_drain(&mut self, deadline: Duration) -> Silence {
        self.begin_drain(deadline)
    }

    fn poll_drained(&mut self, now: Duration, report: impl FnMut(Cqe)) -> Drain {
        self.poll_drained(now, report)
    }
}

impl Pollable for HostQueue {
    fn completion_fd(&self) -> BorrowedFd<'_> {
        self.completion_fd()
    }

    fn connection_fd(&self) -> BorrowedFd<'_> {
        self.cm_fd()
    }
}
