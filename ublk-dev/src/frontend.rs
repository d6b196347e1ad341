//! One queue as the driver presents it: requests come, answers go, every tag is accounted for.
//!
//! Decided here: who owns a tag. A tag is the kernel's from its fetch until a request arrives on
//! it, ours until [`Frontend::answer`], then the kernel's again, and nobody's after the driver
//! ended it. An answer to a tag that is not ours is refused and counted: it would be a second
//! completion of one request. Buffers are fixed, one arena slot for each tag.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use libublk::sys;
use umpath_transport::Arena;

use crate::descriptor::{Descriptor, Descriptors};
use crate::ring::{QueueRing, Token};

/// Something the thread has to deal with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// A request arrived; its data (of a write) lies in the slot of its tag.
    Request(u16, Descriptor),
    /// The mailbox may have something; `false`: it is no longer watched.
    Mailbox(bool),
    /// A path's completion channel is readable.
    Path {
        slot: u16,
        generation: u32,
        /// The channel is still watched.
        watched: bool,
    },
    /// The driver ended a tag, or did something unexpected that cost it.
    TagEnded,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Kernel,
    Server,
    Nobody,
}

/// The driver's side of one queue thread.
pub(crate) struct Frontend {
    // Dropped first: after it the kernel no longer touches descriptors or buffers.
    ring: QueueRing,
    descriptors: Descriptors,
    arena: Arc<Arena>,
    owners: Vec<Owner>,
    /// Tags that are not `Nobody`'s.
    live: u16,
    anomalies: u64,
}

impl Frontend {
    /// Maps and fetches the whole queue. The calling thread serves it from now on.
    pub(crate) fn open(
        device: BorrowedFd<'_>,
        queue: u16,
        depth: u16,
        arena: Arc<Arena>,
    ) -> io::Result<Self> {
        let descriptors = Descriptors::map(device, queue, depth)?;
        let mut ring = QueueRing::new(device, queue, depth)?;
        for tag in 0..depth {
            ring.fetch(tag, buffer(&arena, tag)?);
        }
        ring.flush()?;
        let owners = vec![Owner::Kernel; usize::from(depth)];
        Ok(Self {
            ring,
            descriptors,
            arena,
            owners,
            live: depth,
            anomalies: 0,
        })
    }

    /// Whether the driver has ended every tag: the device is stopped.
    pub(crate) fn ended(&self) -> bool {
        self.live == 0
    }

    /// Completions that should not occur.
    pub(crate) fn anomalies(&self) -> u64 {
        self.anomalies
    }

    /// The next thing that has arrived, if any.
    pub(crate) fn next(&mut self) -> Option<Event> {
        loop {
            let completion = self.ring.next()?;
            return Some(match completion.token {
                Token::Tag(tag) => self.fetched(tag, completion.result),
                Token::Mailbox => Event::Mailbox(completion.more),
                Token::Path { slot, generation } => Event::Path {
                    slot,
                    generation,
                    watched: completion.more,
                },
                Token::Ignored => continue,
            });
        }
    }

    fn fetched(&mut self, tag: u16, result: i32) -> Event {
        let owner = self.owners.get_mut(usize::from(tag));
        let request = self.descriptors.read(tag);
        match (owner, request) {
            (Some(owner @ Owner::Kernel), Some(request))
                if result == sys::UBLK_IO_RES_OK as i32 =>
            {
                *owner = Owner::Server;
                Event::Request(tag, request)
            }
            (Some(owner @ (Owner::Kernel | Owner::Server)), _) => {
                *owner = Owner::Nobody;
                self.live -= 1;
                self.anomalies += u64::from(result != sys::UBLK_IO_RES_ABORT);
                Event::TagEnded
            }
            _ => {
                self.anomalies += 1;
                Event::TagEnded
            }
        }
    }

    /// Answers a request: bytes done, or a negative error number. Goes to the kernel with the next
    /// [`Self::flush`] or [`Self::sleep`].
    pub(crate) fn answer(&mut self, tag: u16, result: i32) {
        let (Some(owner @ Owner::Server), Ok(buffer)) = (
            self.owners.get_mut(usize::from(tag)),
            buffer(&self.arena, tag),
        ) else {
            self.anomalies += 1;
            return;
        };
        *owner = Owner::Kernel;
        self.ring.commit(tag, buffer, result);
    }

    pub(crate) fn watch_mailbox(&mut self, fd: BorrowedFd<'_>) {
        self.ring.watch(fd, Token::Mailbox);
    }

    pub(crate) fn watch_path(&mut self, fd: BorrowedFd<'_>, slot: u16, generation: u32) {
        self.ring.watch(fd, Token::Path { slot, generation });
    }

    /// Stops watching a path's channel, with the next entry into the kernel.
    pub(crate) fn unwatch_path(&mut self, slot: u16, generation: u32) {
        self.ring.unwatch(Token::Path { slot, generation });
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.ring.flush()
    }

    pub(crate) fn sleep(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.ring.sleep(at_most)
    }
}

fn buffer(arena: &Arena, tag: u16) -> io::Result<*mut u8> {
    let slot = arena
        .slot_ptr(u32::from(tag))
        .ok_or(io::ErrorKind::InvalidInput)?;
    Ok(slot.as_ptr())
}
