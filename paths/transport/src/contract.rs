//! The contract of a queue pair.
//!
//! A queue pair is owned by one thread at a time and never blocks. It decides nothing about retries: a
//! command is either answered, or still out when the queue pair has been drained. It reads no clock:
//! times are the caller's, counted from an origin of the caller's choice.
//!
//! Two traits, because not everything that can carry a command has descriptors to sleep on:
//! [`Transport`] is all a lane's round needs, [`Pollable`] is what a thread needs besides that sleeps
//! in the kernel until one of its queue pairs has something.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use umpath_nvme::{Cqe, Sqe};

use crate::data::Data;
use crate::drain::{Drain, Silence};
use crate::error::{Loss, PushError};

/// A queue pair of one association, seen from the thread that drives it.
pub trait Transport {
    /// Why it failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Commands it can hold.
    fn depth(&self) -> u16;

    /// Commands pushed and not over.
    fn in_flight(&self) -> usize;

    /// Whether the peer's device has acknowledged a command that is in flight. Its controller may be slow
    /// to answer all the same. Not acknowledged for long, the queue pair is cut off.
    fn has_arrived(&self, cid: u16) -> bool;

    /// Queues a command; [`Self::ring`] sends it. The data range stays untouched until the command
    /// is over or the queue pair drained.
    fn push(&mut self, sqe: Sqe, data: Data<'_>) -> Result<(), PushError>;

    /// Sends what was pushed, all at once.
    fn ring(&mut self) -> Result<(), Self::Error>;

    /// Reports commands that are over; how many.
    fn poll(&mut self, report: impl FnMut(Cqe)) -> Result<usize, Self::Error>;

    /// Asks to be woken when something is over that [`Self::poll`] has not seen. Poll once more
    /// afterwards: what was over before wakes nobody.
    fn arm(&mut self) -> Result<(), Self::Error>;

    /// Takes the wake-up; it is no longer armed.
    fn disarm(&mut self) -> Result<(), Self::Error>;

    /// Takes what the connection has to report.
    fn loss(&mut self) -> Option<Loss<Self::Error>>;

    /// Gives up the connection: nothing that was not rung is sent, no command is taken any more. The
    /// caller takes the time of silence after the call, not before it.
    fn begin_drain(&mut self, deadline: Duration) -> Silence;

    /// Whether our memory may still be touched; reports answers that had arrived before the end.
    fn poll_drained(&mut self, now: Duration, report: impl FnMut(Cqe)) -> Drain;
}

/// A queue pair whose wake-ups the kernel delivers, through descriptors.
pub trait Pollable: Transport {
    /// Readable when something is over that [`Transport::poll`] had not seen at
    /// [`Transport::arm`].
    fn completion_fd(&self) -> BorrowedFd<'_>;

    /// Readable when [`Transport::loss`] may have something.
    fn connection_fd(&self) -> BorrowedFd<'_>;
}
