//! What all threads share: the array, the clock, and the way to each reactor.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tracing::{error, info, warn};
use umpath_rdma::TargetQueue;

use super::clock::Clock;
use super::devices::Devices;
use super::faults::Faults;
use super::mailbox::{Bell, Mailbox};
use super::pending_connects::PendingConnects;
use crate::array::Array;
use crate::controller::abort_result;
use crate::fault::Table;
use crate::media::SharedMedia;
use crate::model::PortId;
use crate::output::{ArrayOutput, Event, Gone, QueueId};

/// A message to a reactor.
#[derive(Debug)]
pub(super) enum Message {
    /// Serve this queue from now on.
    Adopt {
        id: QueueId,
        port: PortId,
        queue: Box<TargetQueue>,
    },
    /// Complete a parked command.
    Respond {
        queue: QueueId,
        cid: u16,
        dword: u32,
        aborted: bool,
    },
    /// Take a command back, and say on the other queue whether that was possible.
    Recall {
        queue: QueueId,
        cid: u16,
        asker: QueueId,
        asker_cid: u16,
    },
    /// Close a queue.
    Close { queue: QueueId },
    /// A queue's queue pair is destroyed.
    Destroyed { queue: QueueId },
    /// Close everything and end.
    End,
}

/// What all threads share.
#[derive(Debug)]
pub struct Hub {
    clock: Clock,
    array: Mutex<Array<SharedMedia>>,
    reactors: Vec<Mailbox<Message>>,
    next_queue: AtomicU64,
    faults: Faults,
    pending_connects: PendingConnects,
    devices: Arc<Devices>,
    /// Wakes the conductor when it must check its timers again.
    timers: Bell,
    /// What the conductor sleeps until, in nanoseconds.
    alarm_ns: AtomicU64,
}

const REACTOR_SHIFT: u32 = 48;

impl Hub {
    pub(super) fn new(
        clock: Clock,
        array: Array<SharedMedia>,
        reactors: Vec<Mailbox<Message>>,
        timers: Bell,
        devices: Devices,
    ) -> Self {
        Self {
            clock,
            array: Mutex::new(array),
            reactors,
            next_queue: AtomicU64::new(0),
            faults: Faults::default(),
            pending_connects: PendingConnects::default(),
            devices: Arc::new(devices),
            timers,
            alarm_ns: AtomicU64::new(u64::MAX),
        }
    }

    /// The present time, as the array counts it.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Reads or changes the rules of faults.
    pub fn with_faults<T>(&self, work: impl FnOnce(&mut Table) -> T) -> T {
        self.faults.with(work)
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(super) fn pending_connects(&self) -> &PendingConnects {
        &self.pending_connects
    }

    pub(super) fn devices(&self) -> &Arc<Devices> {
        &self.devices
    }

    /// What keeps hosts from connecting to a port, in words.
    pub fn trouble(&self, port: PortId) -> Option<String> {
        self.devices.trouble(port)
    }

    /// How often a port's RDMA device was deleted and added again.
    pub fn devices_replaced(&self, port: PortId) -> u32 {
        self.devices.replaced(port)
    }

    /// Works on the array and carries out what it then wants done.
    pub fn with_array<T>(&self, work: impl FnOnce(&mut Array<SharedMedia>) -> T) -> T {
        let mut array = self.array.lock();
        let result = work(&mut array);
        self.carry_out(array);
        result
    }

    fn carry_out(&self, mut array: MutexGuard<'_, Array<SharedMedia>>) {
        while let Some(output) = array.poll_output() {
            match output {
                ArrayOutput::Respond { queue, cid, dword } => {
                    self.send(
                        queue,
                        Message::Respond {
                            queue,
                            cid,
                            dword,
                            aborted: false,
                        },
                    );
                }
                ArrayOutput::Abort { queue, cid } => {
                    self.send(
                        queue,
                        Message::Respond {
                            queue,
                            cid,
                            dword: 0,
                            aborted: true,
                        },
                    );
                }
                ArrayOutput::Recall {
                    queue,
                    cid,
                    asker,
                    asker_cid,
                } => self.send(
                    queue,
                    Message::Recall {
                        queue,
                        cid,
                        asker,
                        asker_cid,
                    },
                ),
                ArrayOutput::Close { queue } => self.send(queue, Message::Close { queue }),
                ArrayOutput::Event(event) => log(&event),
            }
        }
        let next = array
            .next_timeout(self.now())
            .map_or(u64::MAX, |time| time.as_nanos() as u64);
        if next < self.alarm_ns.load(Relaxed) {
            self.timers.ring();
        }
    }

    /// Answers an Abort command whose target was looked for.
    pub(super) fn recalled(&self, asker: QueueId, cid: u16, aborted: bool) {
        self.send(
            asker,
            Message::Respond {
                queue: asker,
                cid,
                dword: abort_result(aborted),
                aborted: false,
            },
        );
    }

    /// The conductor's turn: does what is due and says when to come back.
    pub(super) fn handle_timers(&self) -> Option<Duration> {
        self.with_array(|array| array.handle_timeout(self.now()));
        let array = self.array.lock();
        let next = array.next_timeout(self.now());
        self.alarm_ns.store(
            next.map_or(u64::MAX, |time| time.as_nanos() as u64),
            Relaxed,
        );
        next
    }

    /// Gives a new queue, which waits for its Connect, to the reactor whose turn it is.
    pub(super) fn adopt(&self, port: PortId, queue: TargetQueue) {
        let number = self.next_queue.fetch_add(1, Relaxed);
        let reactor = number % self.reactors.len() as u64;
        let id = QueueId(reactor << REACTOR_SHIFT | number & ((1 << REACTOR_SHIFT) - 1));
        self.send(
            id,
            Message::Adopt {
                id,
                port,
                queue: Box::new(queue),
            },
        );
    }

    /// A queue pair that its reactor let go of is destroyed. `fresh`: it never had a controller.
    pub(super) fn destroyed(&self, queue: QueueId, fresh: bool) {
        if fresh {
            self.pending_connects.leave();
        }
        self.send(queue, Message::Destroyed { queue });
    }

    pub(super) fn end_reactors(&self) {
        self.reactors
            .iter()
            .for_each(|reactor| reactor.send(Message::End));
    }

    fn send(&self, queue: QueueId, message: Message) {
        if let Some(reactor) = self.reactors.get((queue.0 >> REACTOR_SHIFT) as usize) {
            reactor.send(message);
        }
    }
}

fn log(event: &Event) {
    match event {
        Event::Connected {
            cntlid,
            host,
            subsystem,
            kato_ms,
        } => {
            info!(cntlid, %host, %subsystem, kato_ms, "controller created");
        }
        Event::Gone {
            cntlid,
            why: Gone::KeepAlive,
        } => {
            warn!(cntlid, "keep-alive timer expired, controller removed");
        }
        Event::Gone {
            cntlid,
            why: Gone::QueueClosed,
        } => {
            info!(cntlid, "host disconnected, controller removed");
        }
        Event::Gone {
            cntlid,
            why: Gone::Removed,
        } => info!(cntlid, "controller removed"),
        Event::Gone {
            cntlid,
            why: Gone::Reset,
        } => warn!(cntlid, "reset through another controller, removed"),
        Event::QuiesceLate {
            cntlid,
            promised_ms,
            took_ms,
        } => error!(
            cntlid,
            promised_ms,
            took_ms,
            "the backing store took longer than the command quiesce time promised: raise cqt_ms"
        ),
    }
}
