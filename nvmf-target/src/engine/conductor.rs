//! The conductor: starts the threads, keeps the listeners and the timers, and ends everything.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use thiserror::Error;
use tracing::info;
use umpath_rdma::ListenError;
use umpath_transport::ArenaError;

use super::buffers::Buffers;
use super::clock::Clock;
use super::devices::{self, Devices};
use super::hub::Hub;
use super::listeners::{Acceptor, PortListener};
use super::mailbox::{Bell, Inbox, Mailbox, mailbox};
use super::reactor::Reactor;
use super::ring::Ring;
use super::signals::EndSignals;
use crate::array::Array;
use crate::config::Config;
use crate::controller::TargetLimits;
use crate::model::PortId;

/// Why the target cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// No memory for data.
    #[error("no data memory: {0}; use a smaller [rdma] buffer")]
    Memory(#[from] ArenaError),
    /// No ring.
    #[error(
        "io_uring is not available: {0}; it needs Linux 6.1 or later and sysctl \
         kernel.io_uring_disabled = 0"
    )]
    Ring(#[source] io::Error),
    /// Another system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// An order to the conductor.
#[derive(Debug)]
enum Order {
    Listen(PortListener),
    Stop(PortId),
}

/// The way to open and close listeners, for the control thread.
#[derive(Debug, Clone)]
pub struct ListenerOrders(Mailbox<Order>);

impl ListenerOrders {
    /// Listens on an address, from before this returns.
    pub fn listen(&self, port: PortId, address: SocketAddr) -> Result<(), ListenError> {
        self.0
            .send(Order::Listen(PortListener::open(port, address)?));
        Ok(())
    }

    /// Stops listening.
    pub fn stop(&self, port: PortId) {
        self.0.send(Order::Stop(port));
    }
}

/// The main thread's part.
pub struct Conductor {
    hub: Arc<Hub>,
    acceptor: Acceptor,
    listeners: Vec<PortListener>,
    inbox: Inbox<Order>,
    mailbox: Mailbox<Order>,
    timers: Bell,
    signals: EndSignals,
    reactors: Vec<JoinHandle<()>>,
}

/// A number nobody can guess: the standard library keys its hashers from the system's entropy.
fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn system(what: &'static str) -> impl FnOnce(Errno) -> StartError {
    move |errno| StartError::System {
        what,
        source: errno.into(),
    }
}

impl Conductor {
    /// Starts the reactors. Nothing listens yet, and the array is empty.
    pub fn start(config: &Config, signals: EndSignals) -> Result<Self, StartError> {
        let limits = TargetLimits {
            cntlid: config.process.cntlid,
            depth_max: config.rdma.depth_max,
            io_queues_max: config.rdma.io_queues_max,
            in_capsule_bytes: config.rdma.in_capsule_bytes,
        };
        let timers = Bell::new().map_err(system("no eventfd"))?;
        let (mut mailboxes, mut parts) = (Vec::new(), Vec::new());
        for _ in 0..config.process.reactors {
            let (sender, inbox) = mailbox().map_err(system("no eventfd"))?;
            let ring = Ring::new().map_err(StartError::Ring)?;
            mailboxes.push(sender);
            parts.push((inbox, ring, Buffers::new(config.rdma.buffer.0)?));
        }
        let hub = Arc::new(Hub::new(
            Clock::start(),
            Array::new(limits, random_seed()),
            mailboxes,
            timers.clone(),
            Devices::new(config.rdma.replace_dead_devices),
        ));
        let arenas = parts
            .iter()
            .map(|(_, _, buffers)| Arc::clone(buffers.arena()))
            .collect();
        let poll_time = Duration::from_micros(u64::from(config.process.poll_us));
        let mut reactors = Vec::new();
        for (number, (inbox, ring, buffers)) in parts.into_iter().enumerate() {
            let reactor = Reactor::new(Arc::clone(&hub), inbox, ring, buffers, poll_time);
            let thread = std::thread::Builder::new().name(format!("reactor-{number}"));
            let started = thread.spawn(move || reactor.run());
            reactors.push(started.map_err(|source| StartError::System {
                what: "cannot start a thread",
                source,
            })?);
        }
        devices::watch(Arc::clone(hub.devices())).map_err(|source| StartError::System {
            what: "cannot start a thread",
            source,
        })?;
        let (mailbox, inbox) = mailbox().map_err(system("no eventfd"))?;
        let acceptor = Acceptor::new(Arc::clone(&hub), limits, arenas);
        Ok(Self {
            hub,
            acceptor,
            listeners: Vec::new(),
            inbox,
            mailbox,
            timers,
            signals,
            reactors,
        })
    }

    /// What all threads share.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The way to open and close listeners.
    pub fn listener_orders(&self) -> ListenerOrders {
        ListenerOrders(self.mailbox.clone())
    }

    /// Works until SIGTERM or SIGINT, then ends everything in order.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            while let Some(order) = self.inbox.take() {
                self.carry_out(order);
            }
            let alarm = self.hub.handle_timers();
            if self.wait(alarm)? {
                break;
            }
            for listener in &mut self.listeners {
                self.acceptor.answer(listener);
            }
        }
        info!("ending");
        self.listeners.clear();
        self.hub.with_array(|array| array.shut_down(self.hub.now()));
        self.hub.end_reactors();
        for reactor in self.reactors {
            let _ = reactor.join();
        }
        Ok(())
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Listen(listener) => {
                listener.announce(self.hub.devices());
                self.listeners.push(listener);
            }
            Order::Stop(port) => {
                self.hub.devices().stopped(port);
                self.listeners.retain(|listener| listener.port() != port);
            }
        }
    }

    /// Sleeps until something happens; true when it is the end.
    fn wait(&mut self, alarm: Option<Duration>) -> io::Result<bool> {
        let devices = self.hub.devices();
        let listeners = self.listeners.iter_mut();
        let retry = listeners
            .filter_map(|listener| listener.reopen(devices))
            .min();
        let until_retry = retry.map(|at| at.saturating_duration_since(Instant::now()));
        let until_alarm = alarm.map(|at| at.saturating_sub(self.hub.now()));
        let timeout = [until_retry, until_alarm].into_iter().flatten().min();
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs().cast_signed(),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut watched = vec![
            PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.inbox.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.timers.fd(), PollFlags::IN),
        ];
        let listeners = self.listeners.iter().filter_map(PortListener::fd);
        watched.extend(listeners.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let end = watched
            .first()
            .is_some_and(|signal| !signal.revents().is_empty());
        self.inbox.acknowledge();
        self.timers.silence();
        Ok(end)
    }
}
