//! One queue as the driver presents it: requests come, answers go, every tag is accounted for.
//!
//! The front end of a queue thread ([`Frontend`]) on a kernel with ublk: what is waited for, the
//! mailbox and the queue pairs included, wakes the one io_uring of the thread.
//!
//! Decided here: who owns a tag. A tag is the kernel's from its fetch until a request arrives on
//! it, ours until [`Frontend::answer`], then the kernel's again, and nobody's after the driver
//! ended it. Answering a tag that is the kernel's would complete a request twice: that is asserted.
//! What only the driver can have done wrong is counted. Buffers are fixed, one arena slot for each tag.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use libublk::sys;
use umpath_core::{BlockError, LaneCommand, Tag};
use umpath_engine::{Channel, Event, Frontend, QueuePairId};
use umpath_transport::{Arena, Pollable};

use crate::clock::Clock;
use crate::descriptor::Descriptors;
use crate::mailbox::Mailbox;
use crate::request::translate;
use crate::ring::{QueueRing, Token};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Kernel,
    Server,
    Nobody,
}

/// The driver's side of one queue thread.
pub(crate) struct UblkQueue<T> {
    // Dropped first: after it the kernel no longer touches descriptors or buffers.
    ring: QueueRing,
    descriptors: Descriptors,
    arena: Arc<Arena>,
    mailbox: Mailbox<T>,
    clock: Clock,
    /// log2 of the sectors in a logical block.
    lba_shift: u32,
    owners: Vec<Owner>,
    /// Tags that are not `Nobody`'s.
    live: u16,
    anomalies: u64,
}

/// Which queue of which device.
pub(crate) struct QueueShape<'a> {
    /// The character device.
    pub(crate) device: BorrowedFd<'a>,
    pub(crate) queue: u16,
    pub(crate) depth: u16,
    /// log2 of the sectors in a logical block.
    pub(crate) lba_shift: u32,
}

impl<T: Pollable> UblkQueue<T> {
    /// Maps and fetches the whole queue. The calling thread serves it from now on.
    pub(crate) fn open(
        shape: &QueueShape<'_>,
        arena: Arc<Arena>,
        mailbox: Mailbox<T>,
        clock: Clock,
    ) -> io::Result<Self> {
        let (device, queue, depth) = (shape.device, shape.queue, shape.depth);
        let descriptors = Descriptors::map(device, queue, depth)?;
        let mut ring = QueueRing::new(device, queue, depth)?;
        for tag in 0..depth {
            ring.fetch(tag, buffer(&arena, tag));
        }
        ring.watch(mailbox.fd(), Token::Mailbox);
        ring.flush()?;
        Ok(Self {
            ring,
            descriptors,
            arena,
            mailbox,
            clock,
            lba_shift: shape.lba_shift,
            owners: vec![Owner::Kernel; usize::from(depth)],
            live: depth,
            anomalies: 0,
        })
    }

    fn fetched(&mut self, tag: u16, result: i32) -> Event {
        let owner = owner_of(&mut self.owners, tag);
        match owner {
            Owner::Kernel if result == sys::UBLK_IO_RES_OK as i32 => {
                *owner = Owner::Server;
                match translate(tag, &self.descriptors.read(tag), self.lba_shift) {
                    Ok(request) => Event::Request(request),
                    Err(error) => Event::Refused {
                        tag: Tag(tag),
                        error,
                    },
                }
            }
            Owner::Kernel | Owner::Server => {
                *owner = Owner::Nobody;
                self.live -= 1;
                self.anomalies += u64::from(result != sys::UBLK_IO_RES_ABORT);
                Event::TagEnded
            }
            Owner::Nobody => {
                self.anomalies += 1;
                Event::TagEnded
            }
        }
    }
}

impl<T: Pollable> Frontend for UblkQueue<T> {
    type Transport = T;

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            let completion = self.ring.next()?;
            return Some(match completion.token {
                Token::Tag(tag) => self.fetched(tag, completion.result),
                Token::Mailbox => {
                    if !completion.more {
                        self.ring.watch(self.mailbox.fd(), Token::Mailbox);
                    }
                    self.mailbox.quiet();
                    Event::Mail
                }
                Token::QueuePair(pair, channel) => Event::QueuePair {
                    pair,
                    channel,
                    watched: completion.more,
                },
                Token::Ignored => continue,
            });
        }
    }

    fn next_command(&mut self) -> Option<LaneCommand<T>> {
        self.mailbox.next()
    }

    fn answer(&mut self, tag: Tag, result: Result<u32, BlockError>) {
        let owner = owner_of(&mut self.owners, tag.0);
        match owner {
            Owner::Server => *owner = Owner::Kernel,
            Owner::Kernel => panic!("{tag:?} is answered twice"),
            // The driver took it away while its request was with us, which it should not.
            Owner::Nobody => {
                self.anomalies += 1;
                return;
            }
        }
        let buffer = buffer(&self.arena, tag.0);
        let code = match result {
            Ok(bytes) => bytes.cast_signed(),
            Err(error) => -error.errno(),
        };
        self.ring.commit(tag.0, buffer, code);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ring.flush()
    }

    fn sleep(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.ring.sleep(at_most)
    }

    fn ended(&self) -> bool {
        self.live == 0
    }

    fn anomalies(&self) -> u64 {
        self.anomalies
    }

    fn watch(&mut self, pair: QueuePairId, channel: Channel, transport: &T) {
        let fd = match channel {
            Channel::Completions => transport.completion_fd(),
            Channel::Connection => transport.connection_fd(),
        };
        self.ring.watch(fd, Token::QueuePair(pair, channel));
    }

    /// Takes effect with the next entry into the kernel.
    fn unwatch(&mut self, pair: QueuePairId) {
        for channel in [Channel::Completions, Channel::Connection] {
            self.ring.unwatch(Token::QueuePair(pair, channel));
        }
    }
}

fn owner_of(owners: &mut [Owner], tag: u16) -> &mut Owner {
    let owner = owners.get_mut(usize::from(tag));
    owner.unwrap_or_else(|| panic!("tag {tag} is beyond the queue"))
}

fn buffer(arena: &Arena, tag: u16) -> *mut u8 {
    let slot = arena.slot_ptr(u32::from(tag));
    slot.expect("the arena has a slot for each tag").as_ptr()
}
