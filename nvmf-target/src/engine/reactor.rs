//! A reactor: one thread that serves queues.
//!
//! It polls its completion queues, its ring and its mailbox while there is work and for a short
//! while after, then arms the completion channels and sleeps in the ring. Work is batched: all that
//! is there is taken, then each queue rings its doorbell once and the ring is entered once.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use umpath_nvme::Status;
use umpath_rdma::{TargetEvent, TargetQueue};

use super::buffers::Buffers;
use super::hub::{Hub, Message};
use super::line::Line;
use super::mailbox::Inbox;
use super::queue::Queue;
use super::request::{Requests, State};
use super::ring::{Reaped, Ring, Tag};
use super::waiting::Waiting;
use crate::model::PortId;
use crate::output::QueueId;

/// How often queues that are being closed are looked at.
const CLOSING_INTERVAL: Duration = Duration::from_millis(1);
/// How often queues that wait for their Connect, or for a host to take a response, are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The longest sleep; everything that matters wakes the ring.
const IDLE_SLEEP: Duration = Duration::from_secs(60);
/// How long the end waits for media and devices.
const END_TIME: Duration = Duration::from_secs(3);

/// What a reactor owns. The ring goes before the buffers its entries may name.
pub(super) struct Reactor {
    pub(super) hub: Arc<Hub>,
    inbox: Inbox<Message>,
    pub(super) ring: Ring,
    pub(super) queues: Slab<Queue>,
    /// Keys of `queues`.
    pub(super) keys: Vec<u32>,
    pub(super) requests: Requests,
    /// Requests that wait for memory.
    pub(super) starved: Line,
    pub(super) buffers: Buffers,
    pub(super) waiting: Waiting,
    poll_time: Duration,
    events: Vec<TargetEvent>,
    reaped: Vec<Reaped>,
    ending: Option<Instant>,
}

impl Reactor {
    pub(super) fn new(
        hub: Arc<Hub>,
        inbox: Inbox<Message>,
        ring: Ring,
        buffers: Buffers,
        poll_time: Duration,
    ) -> Self {
        Self {
            hub,
            inbox,
            ring,
            queues: Slab::new(),
            keys: Vec::new(),
            requests: Requests::new(),
            starved: Line::default(),
            buffers,
            waiting: Waiting::default(),
            poll_time,
            events: Vec::with_capacity(256),
            reaped: Vec::with_capacity(256),
            ending: None,
        }
    }

    /// Serves until told to end.
    pub(super) fn run(mut self) {
        if let Err(error) = self.serve() {
            // Not through the log: its thread ends unheard with the process.
            eprintln!("umpath-target: a reactor's ring failed, the target cannot go on: {error}");
            std::process::exit(1);
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        self.ring.watch(self.inbox.fd(), Tag::Mailbox)?;
        let mut last_work = Instant::now();
        loop {
            let busy = self.turn()?;
            if self.is_over() {
                return Ok(());
            }
            if busy {
                last_work = Instant::now();
            } else if last_work.elapsed() < self.poll_time {
                std::hint::spin_loop();
            } else {
                self.sleep()?;
            }
        }
    }

    /// Does everything there is to do now; says whether there was anything.
    fn turn(&mut self) -> io::Result<bool> {
        let start = Instant::now();
        let mut busy = self.read_mail()?;
        busy |= self.poll_queues();
        busy |= self.reap_ring()?;
        busy |= self.wake_waiting();
        self.feed_starved();
        self.ring_doorbells();
        self.ring.submit(None)?;
        self.bury_queues(start)?;
        Ok(busy)
    }

    fn sleep(&mut self) -> io::Result<()> {
        let closing = self.queues.iter().any(|(_, queue)| queue.is_closing());
        self.arm();
        // What arrived before arming does not ring.
        if self.poll_queues() {
            self.ring_doorbells();
            return self.ring.submit(None);
        }
        let time = if closing || self.ending.is_some() {
            CLOSING_INTERVAL
        } else if self.queues.iter().any(|(_, queue)| queue.is_watched()) {
            WATCH_INTERVAL
        } else {
            IDLE_SLEEP
        };
        let due = self.waiting.next();
        let time = due.map_or(time, |due| time.min(due.saturating_sub(self.hub.now())));
        self.ring.submit(Some(time))
    }

    fn read_mail(&mut self) -> io::Result<bool> {
        let mut busy = false;
        while let Some(message) = self.inbox.take() {
            busy = true;
            match message {
                Message::Adopt { id, port, queue } => self.adopt(id, port, queue)?,
                Message::Respond {
                    queue,
                    cid,
                    dword,
                    aborted,
                } => {
                    let status = if aborted {
                        Status::ABORT_REQUESTED
                    } else {
                        Status::SUCCESS
                    };
                    if let Some(queue) = self.find(queue) {
                        self.respond_parked(queue, cid, status, dword);
                    }
                }
                Message::Recall {
                    queue,
                    cid,
                    asker,
                    asker_cid,
                } => {
                    let found = self
                        .find(queue)
                        .is_some_and(|queue| self.recall(queue, cid));
                    self.hub.recalled(asker, asker_cid, found);
                }
                Message::Close { queue } => {
                    if let Some(queue) = self.find(queue) {
                        self.close(queue);
                    }
                }
                Message::Destroyed { queue } => {
                    if let Some(queue) = self.find(queue) {
                        self.destroyed(queue);
                    }
                }
                Message::End => {
                    self.ending = Some(Instant::now() + END_TIME);
                    self.abandon_waiting();
                    for key in self.keys.clone() {
                        self.close(key);
                    }
                }
            }
        }
        Ok(busy)
    }

    fn adopt(&mut self, id: QueueId, port: PortId, transport: Box<TargetQueue>) -> io::Result<()> {
        let mut queue = Queue::new(id, port, transport);
        let entry = self.queues.vacant_entry();
        let key = entry.key() as u32;
        if let Some(transport) = queue.transport() {
            self.ring
                .watch(transport.completion_fd(), Tag::Completions(key))?;
            self.ring.watch(transport.cm_fd(), Tag::Connection(key))?;
        }
        entry.insert(queue);
        self.keys.push(key);
        if self.ending.is_some() {
            self.close(key);
        }
        Ok(())
    }

    fn find(&self, id: QueueId) -> Option<u32> {
        self.queues
            .iter()
            .find(|(_, queue)| queue.id == id)
            .map(|(key, _)| key as u32)
    }

    fn poll_queues(&mut self) -> bool {
        let mut busy = false;
        let mut events = std::mem::take(&mut self.events);
        for position in 0..self.keys.len() {
            let Some(&key) = self.keys.get(position) else {
                break;
            };
            let Some(queue) = self.queues.get_mut(key as usize) else {
                continue;
            };
            let Some(transport) = queue.live() else {
                continue;
            };
            let polled = transport.poll(|event| events.push(event));
            busy |= !events.is_empty();
            for event in events.drain(..) {
                self.handle(key, event);
            }
            if let Err(error) = polled {
                self.fail(key, &error);
                busy = true;
            }
        }
        self.events = events;
        busy
    }

    fn reap_ring(&mut self) -> io::Result<bool> {
        let mut reaped = std::mem::take(&mut self.reaped);
        self.ring.reap(&mut reaped);
        let busy = !reaped.is_empty();
        for Reaped { tag, result, more } in reaped.drain(..) {
            match tag {
                Tag::Media(request) => self.media_done(request, result),
                Tag::Mailbox => {
                    self.inbox.acknowledge();
                    if !more {
                        self.ring.watch(self.inbox.fd(), tag)?;
                    }
                }
                Tag::Completions(key) => self.completions_woke(key)?,
                Tag::Connection(key) => self.connection_woke(key),
                Tag::Ignored => {}
            }
            if !more && result != -libc::ECANCELED {
                self.watch_again(tag)?;
            }
        }
        self.reaped = reaped;
        Ok(busy)
    }

    fn arm(&mut self) {
        for position in 0..self.keys.len() {
            let Some(&key) = self.keys.get(position) else {
                break;
            };
            let Some(queue) = self.queues.get_mut(key as usize) else {
                continue;
            };
            if queue.armed {
                continue;
            }
            queue.armed = true;
            let Some(transport) = queue.live() else {
                continue;
            };
            if let Err(error) = transport.arm() {
                self.fail(key, &error);
            }
        }
    }

    fn ring_doorbells(&mut self) {
        for position in 0..self.keys.len() {
            let Some(&key) = self.keys.get(position) else {
                break;
            };
            let Some(queue) = self.queues.get_mut(key as usize) else {
                continue;
            };
            let Some(transport) = queue.live() else {
                continue;
            };
            if let Err(error) = transport.ring() {
                self.fail(key, &error);
            }
        }
    }

    /// Requests that wait for memory, as far as there is some again.
    fn feed_starved(&mut self) {
        while let Some(index) = self.starved.first() {
            // One that ended meanwhile kept its place.
            if self.requests.is(index, State::Starved) {
                let request = &mut self.requests[index];
                let Some(buffer) = self.buffers.take(request.transfer.bytes()) else {
                    return;
                };
                request.buffer = Some(buffer);
                self.starved.pass_first();
                self.advance(index);
            } else {
                self.starved.pass_first();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ending
            .is_some_and(|end| self.keys.is_empty() || Instant::now() >= end)
    }
}
