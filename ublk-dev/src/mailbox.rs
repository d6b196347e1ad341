//! Messages to and from a queue thread.
//!
//! To the thread: a bounded channel and an eventfd that its ring watches, so an idle thread wakes
//! and a busy one takes them between two batches. A message is never lost: a full channel makes the
//! sender wait, and the thread never waits for a sender. From the thread: calls of the caller's own
//! [`LaneReports`], on the thread that moves the data, so they must not block.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use umpath_core::{AssociationId, Ghost, LaneCommand, LaneEvent, ThreadStats};
use umpath_transport::{Loss, Transport};

/// Messages in transit to one thread.
const CAPACITY: usize = 64;

/// What a queue thread tells.
#[derive(Debug)]
pub enum LaneReport<T: Transport> {
    /// The queue pair of a convicted association is drained, as far as it would.
    Drained {
        /// The association.
        association: AssociationId,
        /// When the queue pair went into the error state: nothing was sent later than this.
        silent_at: Duration,
        /// What is left of it, to be dropped where it disturbs nobody. `None`: there was none.
        transport: Option<T>,
        /// `false`: the device did not confirm in time. Memory counts as in use until the transport
        /// has been dropped and [`LaneCommand::Destroyed`] says so; only then comes
        /// [`BufferFenced`](Self::BufferFenced).
        quiet: bool,
        /// When.
        at: Duration,
    },
    /// The lane has passed the buffer fence of a convicted association. Comes before any later
    /// [`Event`](Self::Event).
    BufferFenced {
        /// The association.
        association: AssociationId,
        /// What the lane lost with it; for [`umpath_core::Device::lane_drained`].
        ghosts: Vec<Ghost>,
        /// When.
        at: Duration,
    },
    /// A queue pair is of no further use. Commands on it wait for the association's conviction.
    Broken {
        /// The association.
        association: AssociationId,
        /// Why.
        why: Loss<T::Error>,
        /// When.
        at: Duration,
    },
    /// The lane noticed something; for [`umpath_core::Device::lane_event`].
    Event {
        /// What.
        event: LaneEvent,
        /// When.
        at: Duration,
    },
    /// Counters.
    Stats(Box<ThreadStats>),
    /// The thread has ended. The last report.
    Ended {
        /// Queue pairs it still had.
        transports: Vec<(AssociationId, T)>,
        /// `Err`: its ring failed or it panicked; the device waits for another server.
        outcome: io::Result<()>,
    },
}

/// Receives the reports of queue threads. Called between two batches of requests: it must not
/// block, and should not allocate much.
pub trait LaneReports<T: Transport>: Send {
    /// Takes a report of the thread that serves `queue`.
    fn report(&mut self, queue: u16, report: LaneReport<T>);
}

impl<T: Transport, F: FnMut(u16, LaneReport<T>) + Send> LaneReports<T> for F {
    fn report(&mut self, queue: u16, report: LaneReport<T>) {
        self(queue, report);
    }
}

/// The thread has ended; what was sent comes back.
#[derive(Debug)]
pub struct LaneGone<T>(pub LaneCommand<T>);

/// Sends to one queue thread.
#[derive(Debug)]
pub struct LaneHandle<T> {
    sender: SyncSender<LaneCommand<T>>,
    wake: Arc<OwnedFd>,
}

impl<T> Clone for LaneHandle<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            wake: Arc::clone(&self.wake),
        }
    }
}

impl<T> LaneHandle<T> {
    /// Sends a message and wakes the thread. Waits only when [`CAPACITY`] messages are unread, for
    /// as long as the thread needs for a batch.
    pub fn send(&self, command: LaneCommand<T>) -> Result<(), LaneGone<T>> {
        match self.sender.try_send(command) {
            Ok(()) => {}
            Err(TrySendError::Full(command)) => {
                self.wake();
                self.sender.send(command).map_err(|e| LaneGone(e.0))?;
            }
            Err(TrySendError::Disconnected(command)) => return Err(LaneGone(command)),
        }
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the thread is being woken already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// The thread's end.
pub(crate) struct Mailbox<T> {
    receiver: Receiver<LaneCommand<T>>,
    wake: Arc<OwnedFd>,
}

impl<T> Mailbox<T> {
    /// The next message, if any.
    pub(crate) fn next(&self) -> Option<LaneCommand<T>> {
        self.receiver.try_recv().ok()
    }

    /// Takes the wake-ups up to now; call before reading messages.
    pub(crate) fn quiet(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Both ends.
pub(crate) fn pair<T>() -> io::Result<(LaneHandle<T>, Mailbox<T>)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = sync_channel(CAPACITY);
    Ok((
        LaneHandle {
            sender,
            wake: Arc::clone(&wake),
        },
        Mailbox { receiver, wake },
    ))
}

#[cfg(test)]
mod tests {
    use umpath_core::PathId;

    use super::*;

    #[test]
    fn a_full_mailbox_delays_and_loses_nothing() {
        let (handle, mailbox) = pair::<()>().unwrap();
        let sender = std::thread::spawn(move || {
            (0..3 * CAPACITY as u64)
                .all(|n| handle.send(LaneCommand::Fenced(AssociationId(n))).is_ok())
        });
        let mut next = 0;
        while next < 3 * CAPACITY as u64 {
            if let Some(LaneCommand::Fenced(id)) = mailbox.next() {
                assert_eq!(id, AssociationId(next));
                next += 1;
            }
        }
        assert!(sender.join().unwrap());
        mailbox.quiet();
    }

    #[test]
    fn a_message_to_an_ended_thread_comes_back() {
        let (handle, mailbox) = pair::<u8>().unwrap();
        drop(mailbox);
        let attach = LaneCommand::Attach {
            path: PathId(3),
            association: AssociationId(1),
            transport: 7,
        };
        assert!(matches!(
            handle.send(attach),
            Err(LaneGone(LaneCommand::Attach { transport: 7, .. }))
        ));
    }
}
