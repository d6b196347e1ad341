//! A reactor: one thread that serves queues.
//!
//! It polls its completion queues, its ring and its mailbox while there is work and for a short
//! while after, then arms the completion channels and sleeps in the ring. Work is batched: all that
//! is there is taken, then each queue rings its doorbell once and the ring is entered once.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use umpath_nvme::Status;
use umpath_rdma::{QueueError, TargetEvent, TargetQueue};

use super::buffers::Buffers;
use super::flow::Flow;
use super::hub::{Hub, Message};
use super::mailbox::Inbox;
use super::queue::Queue;
use super::ring::{Reaped, Ring, Tag};
use crate::model::PortId;
use crate::output::QueueId;

/// How often queues that are being closed are checked.
const CLOSING_INTERVAL: Duration = Duration::from_millis(1);
/// How often queues that wait for their Connect, or for a host to take a response, are checked.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The longest sleep; everything that matters wakes the ring.
const IDLE_SLEEP: Duration = Duration::from_secs(60);
/// How long the end waits for media and devices.
const END_TIME: Duration = Duration::from_secs(3);

/// What a reactor owns.
pub(super) struct Reactor {
    flow: Flow,
    inbox: Inbox<Message>,
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
            flow: Flow::new(hub, ring, buffers),
            inbox,
            poll_time,
            events: Vec::with_capacity(256),
            reaped: Vec::with_capacity(256),
            ending: None,
        }
    }

    /// Serves until it is asked to end.
    pub(super) fn run(mut self) {
        if let Err(error) = self.serve() {
            // Not through the log: its thread ends unheard with the process.
            eprintln!("umpath-target: a reactor's ring failed, the target cannot go on: {error}");
            std::process::exit(1);
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        self.flow.ring.watch(self.inbox.fd(), Tag::Mailbox)?;
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
        busy |= self.flow.wake_waiting();
        self.flow.feed_starved();
        self.ring_doorbells();
        self.flow.ring.submit(None)?;
        self.flow.end_queues(start)?;
        Ok(busy)
    }

    fn sleep(&mut self) -> io::Result<()> {
        let closing = self.flow.queues.iter().any(|(_, queue)| queue.is_closing());
        self.arm();
        // What arrived before arming does not ring.
        if self.poll_queues() {
            self.ring_doorbells();
            return self.flow.ring.submit(None);
        }
        let time = if closing || self.ending.is_some() {
            CLOSING_INTERVAL
        } else if self.flow.queues.iter().any(|(_, queue)| queue.is_watched()) {
            WATCH_INTERVAL
        } else {
            IDLE_SLEEP
        };
        let due = self.flow.next_wake();
        let time = due.map_or(time, |due| {
            time.min(due.saturating_sub(self.flow.hub.now()))
        });
        self.flow.ring.submit(Some(time))
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
                        self.flow.respond_parked(queue, cid, status, dword);
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
                        .is_some_and(|queue| self.flow.recall(queue, cid));
                    self.flow.hub.recalled(asker, asker_cid, found);
                }
                Message::Close { queue } => {
                    if let Some(queue) = self.find(queue) {
                        self.flow.close(queue);
                    }
                }
                Message::Destroyed { queue } => {
                    if let Some(queue) = self.find(queue) {
                        self.flow.destroyed(queue);
                    }
                }
                Message::End => {
                    self.ending = Some(Instant::now() + END_TIME);
                    self.flow.abandon_waiting();
                    for key in self.flow.keys.clone() {
                        self.flow.close(key);
                    }
                }
            }
        }
        Ok(busy)
    }

    fn adopt(&mut self, id: QueueId, port: PortId, transport: Box<TargetQueue>) -> io::Result<()> {
        let mut queue = Queue::new(id, port, transport);
        let entry = self.flow.queues.vacant_entry();
        let key = entry.key() as u32;
        if let Some(transport) = queue.transport() {
            self.flow
                .ring
                .watch(transport.completion_fd(), Tag::Completions(key))?;
            self.flow
                .ring
                .watch(transport.cm_fd(), Tag::Connection(key))?;
        }
        entry.insert(queue);
        self.flow.keys.push(key);
        if self.ending.is_some() {
            self.flow.close(key);
        }
        Ok(())
    }

    fn find(&self, id: QueueId) -> Option<u32> {
        self.flow
            .queues
            .iter()
            .find(|(_, queue)| queue.id == id)
            .map(|(key, _)| key as u32)
    }

    fn poll_queues(&mut self) -> bool {
        let mut busy = false;
        let mut events = std::mem::take(&mut self.events);
        for position in 0..self.flow.keys.len() {
            let key = self.flow.keys[position];
            let Some(transport) = self.flow.queues[key as usize].live() else {
                continue;
            };
            let polled = transport.poll(|event| events.push(event));
            busy |= !events.is_empty();
            for event in events.drain(..) {
                self.flow.handle(key, event);
            }
            if let Err(error) = polled {
                self.flow.fail(key, &error);
                busy = true;
            }
        }
        self.events = events;
        busy
    }

    fn reap_ring(&mut self) -> io::Result<bool> {
        let mut reaped = std::mem::take(&mut self.reaped);
        self.flow.ring.reap(&mut reaped);
        let busy = !reaped.is_empty();
        for Reaped { tag, result, more } in reaped.drain(..) {
            match tag {
                Tag::Media(request) => self.flow.media_done(request, result),
                Tag::Mailbox => {
                    self.inbox.acknowledge();
                    if !more {
                        self.flow.ring.watch(self.inbox.fd(), tag)?;
                    }
                }
                Tag::Completions(key) => self.flow.completions_woke(key)?,
                Tag::Connection(key) => self.flow.connection_woke(key),
                Tag::Ignored => {}
            }
            if !more && result != -libc::ECANCELED {
                self.flow.watch_again(tag)?;
            }
        }
        self.reaped = reaped;
        Ok(busy)
    }

    fn arm(&mut self) {
        self.each_queue(|queue| {
            let armed = std::mem::replace(&mut queue.armed, true);
            match queue.live() {
                Some(transport) if !armed => transport.arm(),
                _ => Ok(()),
            }
        });
    }

    fn ring_doorbells(&mut self) {
        self.each_queue(|queue| queue.live().map_or(Ok(()), TargetQueue::ring));
    }

    /// Closes the queues for which `work` fails.
    fn each_queue(&mut self, mut work: impl FnMut(&mut Queue) -> Result<(), QueueError>) {
        for position in 0..self.flow.keys.len() {
            let key = self.flow.keys[position];
            if let Err(error) = work(&mut self.flow.queues[key as usize]) {
                self.flow.fail(key, &error);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ending
            .is_some_and(|end| self.flow.keys.is_empty() || Instant::now() >= end)
    }
}
