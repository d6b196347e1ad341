//! A reactor's `io_uring`: media I/O, and everything else it sleeps on.

#![expect(unsafe_code)]
// UNSAFETY: entries name memory and descriptors the kernel uses after the call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// What a completion belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// A media step of a request.
    Media(u32),
    /// A queue's completion channel.
    Completions(u32),
    /// A queue's connection events.
    Connection(u32),
    /// The mailbox.
    Mailbox,
    /// Something nobody waits for.
    Ignored,
}

impl Tag {
    fn to_raw(self) -> u64 {
        let (kind, index) = match self {
            Self::Ignored => (0, 0),
            Self::Media(index) => (1, index),
            Self::Completions(index) => (2, index),
            Self::Connection(index) => (3, index),
            Self::Mailbox => (4, 0),
        };
        kind << 32 | u64::from(index)
    }

    fn from_raw(raw: u64) -> Self {
        let index = raw as u32;
        match raw >> 32 {
            1 => Self::Media(index),
            2 => Self::Completions(index),
            3 => Self::Connection(index),
            4 => Self::Mailbox,
            _ => Self::Ignored,
        }
    }
}

/// A completion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reaped {
    pub(super) tag: Tag,
    pub(super) result: i32,
    /// A watch goes on by itself.
    pub(super) more: bool,
}

pub(super) struct Ring(IoUring);

const ENTRIES: u32 = 1024;

impl Ring {
    pub(super) fn new() -> io::Result<Self> {
        IoUring::builder()
            .setup_clamp()
            .setup_cqsize(4 * ENTRIES)
            .build(ENTRIES)
            .map(Self)
    }

    /// Queues an entry made by [`crate::media::Media::step`].
    ///
    /// The caller keeps the buffer given to that step, and the store, until the completion.
    pub(super) fn push_media(&mut self, entry: squeue::Entry, request: u32) -> io::Result<()> {
        self.push(&entry.user_data(Tag::Media(request).to_raw()))
    }

    /// Watches a descriptor until it is unwatched; each time it becomes readable completes once.
    pub(super) fn watch(&mut self, fd: BorrowedFd<'_>, tag: Tag) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(fd.as_raw_fd()), libc::POLLIN as u32).multi(true);
        self.push(&poll.build().user_data(tag.to_raw()))
    }

    /// Ends a watch; before the descriptor is closed.
    pub(super) fn unwatch(&mut self, tag: Tag) -> io::Result<()> {
        let remove = opcode::PollRemove::new(tag.to_raw());
        self.push(&remove.build().user_data(Tag::Ignored.to_raw()))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: watches name descriptors and no memory. Media entries name a buffer that
            // stays with its request, and a store the request holds, until the completion is
            // reaped (`flow`); at the end of the reactor the ring goes before the buffers.
            if unsafe { self.0.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.0.submit()?;
        }
    }

    /// Hands queued entries to the kernel; with `wait` sleeps until something completes or the
    /// time is over.
    pub(super) fn submit(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let result = match wait {
            None if self.0.submission().is_empty() => return Ok(()),
            None => self.0.submit(),
            Some(time) => {
                let time = Timespec::new()
                    .sec(time.as_secs())
                    .nsec(time.subsec_nanos());
                self.0
                    .submitter()
                    .submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match result {
            Err(error)
                if !matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Moves completions to `out`.
    pub(super) fn reap(&mut self, out: &mut Vec<Reaped>) {
        out.extend(self.0.completion().map(|entry| Reaped {
            tag: Tag::from_raw(entry.user_data()),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
        }));
    }
}
