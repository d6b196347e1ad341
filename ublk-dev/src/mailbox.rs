//! Messages to a queue thread.
//!
//! A channel that grows and an eventfd that the thread's ring watches, so an idle thread wakes and a
//! busy one takes its messages between two batches. No message is lost and nobody waits: the sender
//! is the control side, which every path depends on, and the thread reads the channel only when
//! the eventfd fired. Messages are few, a handful for each association and change of a table, so a
//! channel that keeps growing means that the thread is stuck for good; see [`UNREAD_MAX`].

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::SendError;

use umpath_core::LaneCommand;

use crate::sync::{Arc, AtomicUsize, Ordering, Receiver, Sender, Wake, channel};

/// Messages a thread may have left unread. The control side sends no more than some hundred for a
/// failover, and asks for counters once a second at most: this is a day's worth.
const UNREAD_MAX: usize = 1 << 16;

/// The thread has ended; what was sent comes back.
#[derive(Debug)]
pub struct LaneGone<T>(pub LaneCommand<T>);

/// What both ends of a mailbox share besides the channel.
#[derive(Debug)]
struct Shared {
    wake: Wake,
    /// Messages sent and not taken. Counts only: the channel orders the messages.
    unread: AtomicUsize,
}

/// Sends to one queue thread.
#[derive(Debug)]
pub struct LaneHandle<T> {
    sender: Sender<LaneCommand<T>>,
    shared: Arc<Shared>,
}

impl<T> Clone for LaneHandle<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> LaneHandle<T> {
    /// Sends a message and wakes the thread. Never waits.
    pub fn send(&self, command: LaneCommand<T>) -> Result<(), LaneGone<T>> {
        let unread = self.shared.unread.fetch_add(1, Ordering::Relaxed);
        let sent = self.sender.send(command);
        sent.map_err(|SendError(command)| LaneGone(command))?;
        assert!(
            unread < UNREAD_MAX,
            "a queue thread has taken none of its last {unread} messages"
        );
        // After the message: a thread that wakes finds it.
        self.shared.wake.ring();
        Ok(())
    }
}

/// The thread's end.
pub(crate) struct Mailbox<T> {
    receiver: Receiver<LaneCommand<T>>,
    shared: Arc<Shared>,
}

impl<T> Mailbox<T> {
    /// The next message, if any.
    pub(crate) fn next(&self) -> Option<LaneCommand<T>> {
        let command = self.receiver.try_recv().ok()?;
        self.shared.unread.fetch_sub(1, Ordering::Relaxed);
        Some(command)
    }

    /// Takes the wake-ups up to now; call before reading messages.
    pub(crate) fn quiet(&self) {
        self.shared.wake.quiet();
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.fd()
    }
}

/// Both ends.
pub(crate) fn pair<T>() -> io::Result<(LaneHandle<T>, Mailbox<T>)> {
    let shared = Arc::new(Shared {
        wake: Wake::new()?,
        unread: AtomicUsize::new(0),
    });
    let (sender, receiver) = channel();
    let handle = LaneHandle {
        sender,
        shared: Arc::clone(&shared),
    };
    Ok((handle, Mailbox { receiver, shared }))
}

#[cfg(all(test, feature = "loom"))]
mod under_loom;

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use umpath_core::{AssociationId, PathId};

    use super::*;

    fn fenced(n: usize) -> LaneCommand<()> {
        LaneCommand::Fenced(AssociationId(n as u64))
    }

    #[test]
    fn a_sender_waits_for_nobody_and_loses_nothing() {
        let (handle, mailbox) = pair::<()>().unwrap();
        for n in 0..UNREAD_MAX {
            handle.send(fenced(n)).unwrap();
        }
        mailbox.quiet();
        for n in 0..UNREAD_MAX {
            let Some(LaneCommand::Fenced(id)) = mailbox.next() else {
                panic!("message {n} is lost");
            };
            assert_eq!(id, AssociationId(n as u64));
        }
        assert!(mailbox.next().is_none());
        handle.send(fenced(0)).unwrap();
    }

    #[test]
    #[should_panic(expected = "a queue thread has taken none")]
    fn a_thread_that_takes_nothing_is_noticed() {
        let (handle, _mailbox) = pair::<()>().unwrap();
        for n in 0..=UNREAD_MAX {
            handle.send(fenced(n)).unwrap();
        }
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
