//! A queue thread's io_uring: ublk fetches and commits, and the wake-ups it sleeps on.
//!
//! Decided here: how entries are tagged and when the kernel is entered. A commit is queued and goes
//! to the kernel with the next [`QueueRing::flush`] or [`QueueRing::sleep`], so one system call
//! carries a whole batch. Not decided here: what a completion means.

// UNSAFETY: pushes entries to an io_uring; enters it with flags of our own.
#![expect(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use libublk::sys;
use umpath_engine::{Channel, QueuePairId};

/// What a completion is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    /// The fetch (and commit) of a tag.
    Tag(u16),
    /// The mailbox has something.
    Mailbox,
    /// A channel of a queue pair is readable.
    QueuePair(QueuePairId, Channel),
    /// An answer nobody waits for.
    Ignored,
}

const KIND_SHIFT: u32 = 56;
const GENERATION_SHIFT: u32 = 16;
/// Kinds: a tag is 0.
const MAILBOX: u64 = 1 << KIND_SHIFT;
const COMPLETIONS: u64 = 2 << KIND_SHIFT;
const CONNECTION: u64 = 3 << KIND_SHIFT;
const IGNORED: u64 = 4 << KIND_SHIFT;

impl Token {
    const fn encode(self) -> u64 {
        match self {
            Self::Tag(tag) => tag as u64,
            Self::Mailbox => MAILBOX,
            Self::QueuePair(pair, channel) => {
                let kind = match channel {
                    Channel::Completions => COMPLETIONS,
                    Channel::Connection => CONNECTION,
                };
                kind | (pair.generation as u64) << GENERATION_SHIFT | pair.slot as u64
            }
            Self::Ignored => IGNORED,
        }
    }

    fn decode(data: u64) -> Self {
        let pair = QueuePairId {
            slot: data as u16,
            generation: (data >> GENERATION_SHIFT) as u32,
        };
        match data >> KIND_SHIFT << KIND_SHIFT {
            0 => Self::Tag(data as u16),
            MAILBOX => Self::Mailbox,
            COMPLETIONS => Self::QueuePair(pair, Channel::Completions),
            CONNECTION => Self::QueuePair(pair, Channel::Connection),
            IGNORED => Self::Ignored,
            _ => panic!("a completion of {data:#x}, which was never asked for"),
        }
    }
}

/// One completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    pub(crate) result: i32,
    /// More completions follow from the same entry.
    pub(crate) more: bool,
}

/// Entries beyond one for each tag: wake-ups being set and removed.
const SPARE_ENTRIES: u32 = 64;
/// The character device, as the ring's registered file.
const DEVICE: types::Fixed = types::Fixed(0);

/// The ring of one queue thread. Made and used on that thread only.
pub(crate) struct QueueRing {
    ring: IoUring,
    queue: u16,
}

impl QueueRing {
    /// A ring for `depth` tags of `queue` of the device behind `device`.
    pub(crate) fn new(device: BorrowedFd<'_>, queue: u16, depth: u16) -> io::Result<Self> {
        let entries = u32::from(depth) + SPARE_ENTRIES;
        let mut ring = build(entries)?;
        ring.submitter().register_files(&[device.as_raw_fd()])?;
        // Saves a reference count per entry into the kernel; Linux 5.18, no matter if refused.
        drop(ring.submitter().register_ring_fd());
        drop(ring.completion());
        Ok(Self { ring, queue })
    }

    /// Queues the first fetch of a tag, with the buffer its requests use from now on.
    pub(crate) fn fetch(&mut self, tag: u16, buffer: *mut u8) {
        self.io_command(sys::UBLK_U_IO_FETCH_REQ, tag, buffer, 0);
    }

    /// Queues the answer to a request, and the fetch of the tag's next one. `result`: bytes done,
    /// or a negative error number.
    pub(crate) fn commit(&mut self, tag: u16, buffer: *mut u8, result: i32) {
        self.io_command(sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, buffer, result);
    }

    fn io_command(&mut self, number: u32, tag: u16, buffer: *mut u8, result: i32) {
        let mut command = [0_u8; 16];
        // The layout of `ublksrv_io_cmd`: queue u16, tag u16, result i32, address u64.
        command[..2].copy_from_slice(&self.queue.to_ne_bytes());
        command[2..4].copy_from_slice(&tag.to_ne_bytes());
        command[4..8].copy_from_slice(&result.to_ne_bytes());
        command[8..].copy_from_slice(&(buffer as u64).to_ne_bytes());
        let entry = opcode::UringCmd16::new(DEVICE, number).cmd(command).build();
        self.push(entry, Token::Tag(tag));
    }

    /// Reports readability of `fd` as completions of `token`, again and again.
    pub(crate) fn watch(&mut self, fd: BorrowedFd<'_>, token: Token) {
        let poll = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), libc::POLLIN as u32);
        self.push(poll.multi(true).build(), token);
    }

    /// Ends a watch, with the next entry into the kernel. The watch holds the open file, not the
    /// descriptor's number: closing it earlier is harmless.
    pub(crate) fn unwatch(&mut self, token: Token) {
        self.push(
            opcode::PollRemove::new(token.encode()).build(),
            Token::Ignored,
        );
    }

    fn push(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.encode());
        // A queue is made for all its tags at once, so it is full only after a burst of watches;
        // then the kernel takes what is there first.
        while self.try_push(&entry).is_err() {
            let taken = self.ring.submit().map(drop).or_else(harmless);
            taken.expect("a ring that takes entries");
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> Result<(), squeue::PushError> {
        // SAFETY: the only memory an entry points to is a tag's buffer. The kernel touches it only
        // between fetch and commit, and the arena lives until the ring has been dropped.
        unsafe { self.ring.submission().push(entry) }
    }

    /// Hands queued entries to the kernel and lets it do what it deferred to this thread. Free when
    /// there is neither.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let (queued, deferred) = {
            let submission = self.ring.submission();
            (
                submission.len(),
                submission.taskrun() || submission.cq_overflow(),
            )
        };
        if queued == 0 && !deferred {
            return Ok(());
        }
        const GET_EVENTS: u32 = 1;
        // SAFETY: no argument is passed; what the entries point to is covered by `try_push`.
        let entered = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(queued as u32, 0, GET_EVENTS, None)
        };
        entered.map(drop).or_else(harmless)
    }

    /// Like [`Self::flush`], then waits for a completion, at most `at_most` if given.
    pub(crate) fn sleep(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        let entered = if let Some(limit) = at_most {
            let limit = types::Timespec::from(limit);
            let arguments = types::SubmitArgs::new().timespec(&limit);
            self.ring.submitter().submit_with_args(1, &arguments)
        } else {
            self.ring.submit_and_wait(1)
        };
        entered.map(drop).or_else(harmless)
    }

    /// The next completion that has arrived, if any.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let raw = self.ring.completion().next()?;
        Some(Completion {
            token: Token::decode(raw.user_data()),
            result: raw.result(),
            more: cqueue::more(raw.flags()),
        })
    }
}

/// Waking early is no failure: a timeout, a signal, or completions to be taken first.
fn harmless(e: io::Error) -> io::Result<()> {
    match e.raw_os_error() {
        Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
        _ => Err(e),
    }
}

/// Deferred task work keeps the driver from interrupting the thread between two batches; it needs
/// Linux 6.1. Older or patched kernels get the next best.
fn build(entries: u32) -> io::Result<IoUring> {
    let deferred = IoUring::builder()
        .dontfork()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(entries);
    match deferred {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => IoUring::builder()
            .dontfork()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(entries),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_ring() {
        let pair = QueuePairId {
            slot: 15,
            generation: u32::MAX,
        };
        for token in [
            Token::Tag(0),
            Token::Tag(u16::MAX),
            Token::Mailbox,
            Token::QueuePair(pair, Channel::Completions),
            Token::QueuePair(pair, Channel::Connection),
            Token::Ignored,
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }

    #[test]
    fn io_command_layout_is_the_kernels() {
        use std::mem::offset_of;
        assert_eq!(size_of::<sys::ublksrv_io_cmd>(), 16);
        assert_eq!(offset_of!(sys::ublksrv_io_cmd, tag), 2);
        assert_eq!(offset_of!(sys::ublksrv_io_cmd, result), 4);
        assert_eq!(offset_of!(sys::ublksrv_io_cmd, addr), 8);
    }
}
