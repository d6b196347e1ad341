//! The life of one block device.
//!
//! Decided here: the order in which a device comes and goes, and that nothing is left behind when
//! any step fails. Coming: `ADD_DEV`, `SET_PARAMS`, queue threads that fetch every tag, then
//! `START_DEV` from a thread of its own (it may read a partition table through the queues). Going:
//! fail what waits, `STOP_DEV`, which ends every fetch and with it the threads, then mappings and
//! rings, the character device, `DEL_DEV`.
//!
//! A [`Device`] that was never started is deleted when dropped. One that was started is not: its
//! requests then wait for another server ([`Device::recover`]), which is what a crash of this
//! process must come to. Removing it for good is [`Device::remove`], said in so many words.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::thread::CpuSet;
use umpath_core::{BlockLimits, LaneCommand};
use umpath_engine::{LaneReport, LaneSetup, QueueThread};
use umpath_transport::Pollable;

use crate::clock::Clock;
use crate::control::{Control, DeviceInfo, block_path, char_path};
use crate::features::Features;
use crate::frontend::{QueueShape, UblkQueue};
use crate::mailbox::{self, LaneHandle, Mailbox};
use crate::{Error, limits, numa, partitions};

/// What to create.
#[derive(Clone, Debug)]
pub struct DeviceSpec {
    /// The number in `/dev/ublkbN`; `None`: the driver takes the first free one.
    pub id: Option<u32>,
    /// Hardware queues wished for; the driver gives at most one for each CPU.
    pub queues: u16,
    /// Tags of each queue, at most 4,096.
    pub depth: u16,
    /// How the volume appears.
    pub limits: BlockLimits,
    /// Left with the device, to recognise it by after this process has died.
    pub cookie: u64,
}

/// Takes the reports of a queue thread, on that thread.
pub type Reports<T> = Box<dyn FnMut(LaneReport<T>) + Send>;

/// Called with the result of `START_DEV`, from the thread that waited for it.
pub type Started = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// How far a removal got.
#[derive(Debug)]
pub enum Removed {
    /// The device is gone.
    Deleted,
    /// It has stopped for good and its threads have ended, but the driver still has it.
    Stopped(Error),
}

struct Queue<T> {
    handle: LaneHandle<T>,
    thread: Option<JoinHandle<()>>,
}

/// One block device and the threads that serve it.
pub struct Device<T: Pollable + Send + 'static> {
    control: Control,
    info: DeviceInfo,
    limits: BlockLimits,
    /// The only opening of the character device there can be.
    node: Option<Arc<File>>,
    queues: Vec<Queue<T>>,
    starter: Option<JoinHandle<()>>,
    origin: Origin,
    started: bool,
    deleted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Created,
    Recovered,
}

impl<T: Pollable + Send + 'static> Device<T> {
    /// Creates the device. It is invisible as yet; [`DeviceInfo::queues`] of [`Self::info`] says
    /// for how many queues lanes are needed.
    pub fn create(spec: &DeviceSpec) -> Result<Self, Error> {
        // Refused before the kernel knows of anything.
        limits::to_params(&spec.limits)?;
        let mut control = Control::open()?;
        let info = control.add(
            spec.id,
            spec.queues,
            spec.depth,
            spec.limits.max_io_bytes,
            spec.cookie,
        )?;
        let mut device = Self::new(control, info, spec.limits.clone(), Origin::Created);
        device.control.set_params(info.id, &spec.limits)?;
        Ok(device)
    }

    /// Takes over a device whose server died. `limits` are those it was created with. Requests the
    /// dead server held come again, so the caller has fenced that server's associations before it
    /// lets mutations through.
    pub fn recover(id: u32, limits: BlockLimits) -> Result<Self, Error> {
        let mut control = Control::open()?;
        control.start_recovery(id)?;
        let info = control
            .info(id)?
            .ok_or(Error::NoSuchDevice { device: id })?;
        Ok(Self::new(control, info, limits, Origin::Recovered))
    }

    fn new(control: Control, info: DeviceInfo, limits: BlockLimits, origin: Origin) -> Self {
        Self {
            control,
            info,
            limits,
            node: None,
            queues: Vec::new(),
            starter: None,
            origin,
            // A device under recovery exists for its users; it must survive our failure.
            started: origin == Origin::Recovered,
            deleted: false,
        }
    }

    /// What the driver made of the wish.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The block device's node.
    pub fn path(&self) -> String {
        block_path(self.info.id)
    }

    /// The limits it was created with.
    pub fn limits(&self) -> &BlockLimits {
        &self.limits
    }

    /// The threads' mailboxes, in the order of the queues; empty before [`Self::serve`].
    pub fn lanes(&self) -> impl ExactSizeIterator<Item = &LaneHandle<T>> {
        self.queues.iter().map(|queue| &queue.handle)
    }

    /// Starts the queue threads, one for each lane, and returns when all of them are ready for
    /// requests. Afterwards queue pairs can be attached. All of them go by `clock`.
    pub fn serve(&mut self, lanes: Vec<LaneSetup<Reports<T>>>, clock: Clock) -> Result<(), Error> {
        self.check_lanes(&lanes)?;
        let path = char_path(self.info.id);
        let node = File::options().read(true).write(true).open(&path);
        let node = node.map_err(|source| Error::CharDevice {
            action: "open",
            path,
            source,
        })?;
        let node = Arc::clone(self.node.insert(Arc::new(node)));
        let outcome = self.spawn_all(&node, lanes, clock);
        if outcome.is_err() {
            self.end_threads();
            self.node = None;
        }
        outcome
    }

    fn spawn_all(
        &mut self,
        node: &Arc<File>,
        lanes: Vec<LaneSetup<Reports<T>>>,
        clock: Clock,
    ) -> Result<(), Error> {
        let mut waiting = Vec::with_capacity(lanes.len());
        for (number, setup) in (0..).zip(lanes) {
            let cpus = self.control.queue_affinity(self.info.id, number)?;
            let (ready, outcome) = sync_channel(1);
            let (handle, mailbox) = mailbox::pair().map_err(Error::Thread)?;
            let opening = Opening {
                node: Arc::clone(node),
                queue: number,
                depth: self.info.depth,
                lba_shift: limits::lba_shift(&self.limits),
                clock,
                cpus,
                ready,
            };
            let thread = std::thread::Builder::new()
                .name(format!("ublk{}q{number}", self.info.id))
                .spawn(move || opening.run(setup, mailbox))
                .map_err(Error::Thread)?;
            self.queues.push(Queue {
                handle,
                thread: Some(thread),
            });
            waiting.push(outcome);
        }
        for (queue, outcome) in (0..).zip(waiting) {
            self.await_ready(queue, &outcome)?;
        }
        Ok(())
    }

    fn await_ready(&self, queue: u16, outcome: &Receiver<io::Result<()>>) -> Result<(), Error> {
        let device = self.info.id;
        match outcome.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(Error::QueueSetup {
                queue,
                device,
                source,
            }),
            Err(_) => Err(Error::QueueEnded { queue, device }),
        }
    }

    fn check_lanes(&self, lanes: &[LaneSetup<Reports<T>>]) -> Result<(), Error> {
        let (queues, depth) = (self.info.queues, self.info.depth);
        if lanes.len() != usize::from(queues) {
            return Err(Error::LaneCount {
                given: lanes.len(),
                queues,
            });
        }
        let bytes = self.limits.max_io_bytes;
        for (queue, setup) in (0..).zip(lanes) {
            let lane = setup.lane.config();
            assert!(
                lane.tags >= depth
                    && lane.buffer_bytes >= bytes
                    && 1 << lane.lba_shift == self.limits.logical_block_bytes,
                "{lane:?} is no lane for {:?} with {depth} tags",
                self.limits
            );
            let arena = &setup.arena;
            if arena.slots() < u32::from(depth) || arena.slot_bytes() < bytes {
                return Err(Error::ArenaTooSmall {
                    queue,
                    depth,
                    bytes,
                });
            }
        }
        Ok(())
    }

    /// Makes the block device appear, from a thread that calls `done` with the result. Until then
    /// requests already arrive: reading a partition table is I/O, and waits for a path as all I/O.
    pub fn start(&mut self, done: Started) -> Result<(), Error> {
        let (id, origin) = (self.info.id, self.origin);
        // A ring of its own: this command may block for as long as there is no path.
        let mut control = Control::open()?;
        let scan =
            origin == Origin::Created && self.info.flags.contains(Features::NO_AUTO_PARTITION_SCAN);
        let starter = std::thread::Builder::new()
            .name(format!("ublk{id}start"))
            .spawn(move || {
                let pid = std::process::id();
                let outcome = match origin {
                    Origin::Created => control.start(id, pid),
                    Origin::Recovered => control.end_recovery(id, pid),
                };
                let live = outcome.is_ok();
                done(outcome);
                if live && scan {
                    partitions::read(&block_path(id));
                }
            });
        self.starter = Some(starter.map_err(Error::Thread)?);
        self.started = true;
        Ok(())
    }

    /// Changes the size of the live device.
    pub fn resize(&mut self, size_bytes: u64) -> Result<(), Error> {
        if !self.info.flags.contains(Features::UPDATE_SIZE) {
            return Err(Error::MissingFeature("live resize (Linux 6.16)"));
        }
        let resized = BlockLimits {
            size_bytes,
            ..self.limits.clone()
        };
        limits::to_params(&resized)?;
        self.control
            .update_size(self.info.id, limits::sectors(&resized))?;
        self.limits = resized;
        Ok(())
    }

    /// Removes the device for good: what waits fails, what is in flight ends first. With
    /// `only_unused` it is left alone, and [`Error::InUse`] returned, while somebody has it open;
    /// otherwise nobody's open file or mount is waited for.
    ///
    /// Each thread hands back its queue pairs in its last report. After an error the device is served
    /// as before.
    pub fn remove(&mut self, only_unused: bool) -> Result<Removed, Error> {
        let id = self.info.id;
        if only_unused {
            // An unused device has nothing queued, so the lanes need not be closed first.
            self.control.stop_if_unused(id)?;
        }
        for queue in &self.queues {
            // A thread that has gone has nothing queued.
            drop(queue.handle.send(LaneCommand::Close));
        }
        let stopped = self.control.stop(id);
        if !only_unused {
            stopped?;
        }
        self.join();
        // Not where the device lives on: there it may wait for a server to answer it.
        drop(self.starter.take().map(JoinHandle::join));
        Ok(match self.delete(only_unused) {
            Ok(()) => Removed::Deleted,
            Err(error) => Removed::Stopped(error),
        })
    }

    /// Stops serving and leaves the device to the next server, which finds it waiting.
    pub fn abandon(mut self) {
        self.end_threads();
    }

    fn delete(&mut self, unused: bool) -> Result<(), Error> {
        // The driver waits for this very reference.
        self.node = None;
        if unused {
            self.control.delete(self.info.id)?;
        } else {
            self.control.delete_in_use(self.info.id)?;
        }
        self.deleted = true;
        Ok(())
    }

    fn end_threads(&mut self) {
        for queue in &self.queues {
            drop(queue.handle.send(LaneCommand::Stop));
        }
        self.join();
    }

    fn join(&mut self) {
        for thread in self
            .queues
            .iter_mut()
            .filter_map(|queue| queue.thread.take())
        {
            // A panic has been reported where it happened.
            drop(thread.join());
        }
        self.queues.clear();
    }
}

impl<T: Pollable + Send + 'static> Drop for Device<T> {
    fn drop(&mut self) {
        if self.deleted {
            return;
        }
        self.end_threads();
        self.node = None;
        if !self.started {
            // Nobody ever saw it. If even this fails, the driver's own message is all there is.
            drop(self.control.stop(self.info.id));
            drop(self.control.delete(self.info.id));
        }
    }
}

/// What a queue thread needs before it is one.
struct Opening {
    node: Arc<File>,
    queue: u16,
    depth: u16,
    lba_shift: u32,
    clock: Clock,
    cpus: CpuSet,
    ready: SyncSender<io::Result<()>>,
}

impl Opening {
    fn run<T: Pollable>(self, mut setup: LaneSetup<Reports<T>>, mailbox: Mailbox<T>) {
        // Requests of these CPUs arrive here. Not being allowed there is no reason not to serve.
        let _ = rustix::thread::sched_setaffinity(None, &self.cpus);
        setup.lane.set_node(numa::node_of(&self.cpus));
        let shape = QueueShape {
            device: self.node.as_fd(),
            queue: self.queue,
            depth: self.depth,
            lba_shift: self.lba_shift,
        };
        let arena = Arc::clone(&setup.arena);
        match UblkQueue::open(&shape, arena, mailbox, self.clock) {
            Ok(frontend) => {
                let mut thread = QueueThread::new(frontend, setup);
                drop(self.ready.send(Ok(())));
                // Whatever breaks in here, queue pairs go back and somebody hears of it.
                let outcome = catch_unwind(AssertUnwindSafe(|| thread.serve()));
                let panicked = |_| Err(io::Error::other("the queue thread panicked"));
                thread.end(outcome.unwrap_or_else(panicked));
                // Held until the ring has gone: the ring's registered file is this one.
                drop(self.node);
            }
            Err(e) => drop(self.ready.send(Err(e))),
        }
    }
}
