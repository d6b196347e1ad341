//! Messages to a queue thread.
//!
//! A bounded channel and an eventfd that the thread's ring watches, so an idle thread wakes and a
//! busy one takes them between two batches. A message is never lost: a full channel makes the sender
//! wait, and the thread never waits for a sender.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rustix::event::{EventfdFlags, eventfd};
use umpath_core::LaneCommand;

/// Messages in transit to one thread.
const CAPACITY: usize = 64;

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
    use umpath_core::{AssociationId, PathId};

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
