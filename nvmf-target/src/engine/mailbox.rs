//! How other threads speak to a reactor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

/// A descriptor that wakes one thread.
#[derive(Debug, Clone)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(super) fn new() -> Result<Self, Errno> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Makes the descriptor readable. It cannot fail in a way that matters: a full counter is
    /// readable already.
    pub(super) fn ring(&self) {
        let _ = write(&*self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable again.
    pub(super) fn silence(&self) {
        let _ = read(&*self.0, &mut [0u8; 8]);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    sender: Sender<T>,
    bell: Bell,
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    receiver: Receiver<T>,
    bell: Bell,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            bell: self.bell.clone(),
        }
    }
}

pub(super) fn mailbox<T>() -> Result<(Mailbox<T>, Inbox<T>), Errno> {
    let bell = Bell::new()?;
    let (sender, receiver) = channel();
    Ok((
        Mailbox {
            sender,
            bell: bell.clone(),
        },
        Inbox { receiver, bell },
    ))
}

impl<T> Mailbox<T> {
    /// Sends; a receiver that is gone no longer cares.
    pub(super) fn send(&self, message: T) {
        if self.sender.send(message).is_ok() {
            self.bell.ring();
        }
    }
}

impl<T> Inbox<T> {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.bell.fd()
    }

    /// To call when the descriptor is readable, before taking messages.
    pub(super) fn acknowledge(&self) {
        self.bell.silence();
    }

    pub(super) fn take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}
