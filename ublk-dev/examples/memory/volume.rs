//! The control side of the volume: creates the device, attaches queue pairs, gives paths up.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use umpath_core::policies::SelectorConfig;
use umpath_core::{
    AssociationId, BlockLimits, CommandLimits, Discard, GroupEntry, Lane, LaneCommand, LaneConfig,
    LaneId, OnNoPath, PathEntry, PathId, PathTable, Steering, VolumeShared,
};
use umpath_engine::{LaneReport, LaneSetup, Polling};
use umpath_transport::Arena;
use umpath_ublk::{Clock, Device, DeviceSpec, Removed, Reports};

use crate::store::{BLOCK, Cable, MemoryQueue, Store};

type Error = Box<dyn std::error::Error>;
type Report = (u16, LaneReport<MemoryQueue>);

/// Largest request.
const MAX_IO: u32 = 1 << 20;
/// Commands of a queue pair; more than tags, because large requests are split.
const QUEUE_DEPTH: u16 = 128;

/// What was asked for.
pub(crate) struct Options {
    pub(crate) mebibytes: u32,
    pub(crate) queues: u16,
    pub(crate) depth: u16,
    pub(crate) paths: u8,
    pub(crate) poll_us: u32,
    pub(crate) null: bool,
    pub(crate) volatile_cache: bool,
    pub(crate) recover: Option<u32>,
    pub(crate) image: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mebibytes: 256,
            queues: 2,
            depth: 64,
            paths: 2,
            poll_us: 50,
            null: false,
            volatile_cache: true,
            recover: None,
            image: None,
        }
    }
}

/// A path: its present association and its cable, while it has them.
struct Path {
    association: AssociationId,
    cable: Arc<Cable>,
    usable: bool,
}

/// The volume.
pub(crate) struct Volume {
    device: Device<MemoryQueue>,
    store: Arc<Store>,
    paths: Vec<Path>,
    reports: Receiver<Report>,
    clock: Clock,
    generation: u64,
    next_association: u64,
}

impl Volume {
    pub(crate) fn start(options: &Options) -> Result<Self, Error> {
        let store = Store::new(options.mebibytes, options.null);
        if let Some(image) = &options.image {
            store.load(&std::fs::read(image)?);
        }
        let limits = limits(options);
        let device = match options.recover {
            Some(id) => Device::recover(id, limits)?,
            None => Device::create(&DeviceSpec {
                id: None,
                queues: options.queues,
                depth: options.depth,
                limits,
                cookie: 0,
            })?,
        };
        let (outbox, reports) = channel();
        let clock = Clock {
            origin: Instant::now(),
        };
        let paths = Vec::new();
        let mut volume = Self {
            device,
            store,
            paths,
            reports,
            clock,
            generation: 0,
            next_association: 1,
        };
        volume.serve(options, &outbox)?;
        for path in 0..options.paths {
            let path = volume.connect(path)?;
            volume.paths.push(path);
        }
        volume.publish();
        let (started, outcome) = channel();
        volume
            .device
            .start(Box::new(move |result| drop(started.send(result))))?;
        if options.paths > 0 {
            outcome.recv()??;
        }
        eprintln!("{} ready: {:?}", volume.device.path(), volume.device.info());
        Ok(volume)
    }

    fn serve(&mut self, options: &Options, outbox: &Sender<Report>) -> Result<(), Error> {
        let shared = Arc::new(VolumeShared::new());
        let lba_shift = BLOCK.trailing_zeros() as u8;
        let table = Arc::new(PathTable::empty(lba_shift));
        let mut setups: Vec<LaneSetup<Reports<MemoryQueue>>> = Vec::new();
        for queue in 0..self.device.info().queues {
            let outbox = outbox.clone();
            let config = LaneConfig {
                id: LaneId(queue),
                tags: self.device.info().depth,
                buffer_bytes: MAX_IO,
                lba_shift,
            };
            setups.push(LaneSetup {
                lane: Lane::new(config, Arc::clone(&table), Arc::clone(&shared)),
                arena: Arena::new(u32::from(self.device.info().depth), MAX_IO)?,
                reports: Box::new(move |report| drop(outbox.send((queue, report)))),
                polling: Polling {
                    at_most: Duration::from_micros(options.poll_us.into()),
                },
                drain_deadline: Duration::from_millis(500),
            });
        }
        Ok(self.device.serve(setups, self.clock)?)
    }

    /// A new association on `path`, with a queue pair for each lane.
    fn connect(&mut self, path: u8) -> Result<Path, Error> {
        let association = AssociationId(self.next_association);
        self.next_association += 1;
        let cable = Cable::new(self.device.info().queues)?;
        for (number, lane) in (0..).zip(self.device.lanes()) {
            let transport = MemoryQueue::new(&self.store, &cable, number, QUEUE_DEPTH)?;
            let attach = LaneCommand::Attach {
                path: PathId(path),
                association,
                transport,
            };
            lane.send(attach).map_err(|_| "a queue thread is gone")?;
        }
        Ok(Path {
            association,
            cable,
            usable: true,
        })
    }

    fn publish(&mut self) {
        self.generation += 1;
        let paths: Vec<PathEntry> = (0..)
            .zip(&self.paths)
            .map(|(number, path)| PathEntry {
                path: PathId(number),
                association: path.association,
                usable: path.usable,
                nsid: 1,
                limits: CommandLimits {
                    transfer_bytes_max: MAX_IO,
                    write_zeroes_blocks_max: 1 << 16,
                    write_zeroes_deallocate: true,
                    discard_blocks_max: u32::MAX,
                    ..CommandLimits::default()
                },
                priority: Default::default(),
                ana: None,
                ana_epoch: 0,
                steering: Steering::default(),
            })
            .collect();
        let usable = paths.iter().any(|entry| entry.usable);
        let group = GroupEntry {
            paths: (0..paths.len() as u8).collect(),
            priority: Default::default(),
        };
        let table = Arc::new(PathTable {
            generation: self.generation,
            lba_shift: BLOCK.trailing_zeros() as u8,
            paths,
            groups: vec![group],
            active: usable.then_some(0),
            on_no_path: OnNoPath::Queue,
            selector: SelectorConfig::default(),
        });
        self.send_all(|| LaneCommand::SetTable(Arc::clone(&table)));
    }

    fn send_all(&self, command: impl Fn() -> LaneCommand<MemoryQueue>) {
        for lane in self.device.lanes() {
            if lane.send(command()).is_err() {
                eprintln!("a queue thread is gone");
            }
        }
    }

    /// One verb of the control side.
    pub(crate) fn obey(&mut self, words: &[&str]) -> Result<(), Error> {
        match *words {
            ["stats"] => self.stats(),
            ["seen"] => self.seen(),
            ["resize", mebibytes] => self.device.resize(mebibytes.parse::<u64>()? << 20)?,
            [verb, path] => self.change(verb, path.parse()?)?,
            _ => return Err(format!("what is {words:?}?").into()),
        }
        self.print_reports(Duration::from_millis(100));
        Ok(())
    }

    fn change(&mut self, verb: &str, number: u8) -> Result<(), Error> {
        let index = usize::from(number);
        let path = self.paths.get_mut(index).ok_or("no such path")?;
        let association = path.association;
        match verb {
            "cut" => path.cable.cut(),
            "silence" => path.cable.silence(),
            "convict" => {
                path.usable = false;
                self.publish();
                self.send_all(|| LaneCommand::Convict(association));
            }
            "fence" => self.send_all(|| LaneCommand::Fenced(association)),
            "restore" => {
                self.paths[index] = self.connect(number)?;
                self.publish();
            }
            _ => return Err(format!("what is {verb}?").into()),
        }
        eprintln!("{:?} {verb} {number}", self.clock.now());
        Ok(())
    }

    pub(crate) fn stats(&self) {
        self.send_all(|| LaneCommand::Snapshot);
        self.print_reports(Duration::from_millis(100));
    }

    pub(crate) fn seen(&self) {
        let seen = &self.store.seen;
        let count = |n: &std::sync::atomic::AtomicU64| n.load(Relaxed);
        eprintln!(
            "seen: reads {} writes {} fua {} flushes {} discards {} ({} blocks) zeroes {} ({} blocks) refused {}",
            count(&seen.reads),
            count(&seen.writes),
            count(&seen.fua),
            count(&seen.flushes),
            count(&seen.discards),
            count(&seen.discarded_blocks),
            count(&seen.zeroes),
            count(&seen.zeroed_blocks),
            count(&seen.refused),
        );
    }

    /// Prints what the lanes report until they have been quiet for a while.
    fn print_reports(&self, quiet: Duration) {
        while let Ok((queue, report)) = self.reports.recv_timeout(quiet) {
            eprintln!("queue {queue}: {}", Shown(&report));
        }
    }

    pub(crate) fn remove(&mut self, only_unused: bool) -> Result<(), Error> {
        let outcome = self.device.remove(only_unused);
        self.print_reports(Duration::from_millis(10));
        match outcome? {
            Removed::Deleted => Ok(()),
            Removed::Stopped(error) => Err(error.into()),
        }
    }

    pub(crate) fn abandon(self) {
        self.device.abandon();
    }
}

/// A report without the queue pairs in it.
struct Shown<'a>(&'a LaneReport<MemoryQueue>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            LaneReport::Drained {
                association,
                silent_at,
                quiet,
                at,
                ..
            } => {
                write!(
                    f,
                    "{at:?} drained {association}, quiet {quiet}, silent at {silent_at:?}"
                )
            }
            LaneReport::BufferFenced {
                association,
                ghosts,
                at,
            } => {
                write!(f, "{at:?} {association} left {} ghosts", ghosts.len())
            }
            LaneReport::Broken {
                association,
                why,
                at,
            } => {
                write!(f, "{at:?} association {association} broken: {why:?}")
            }
            LaneReport::Event { event, at } => write!(f, "{at:?} {event:?}"),
            LaneReport::Stats(stats) => write!(f, "{stats:?}"),
            LaneReport::Ended {
                transports,
                outcome,
            } => {
                write!(
                    f,
                    "ended {outcome:?}, {} queue pairs left",
                    transports.len()
                )
            }
        }
    }
}

fn limits(options: &Options) -> BlockLimits {
    BlockLimits {
        size_bytes: u64::from(options.mebibytes) << 20,
        logical_block_bytes: BLOCK,
        physical_block_bytes: BLOCK,
        io_min_bytes: BLOCK,
        io_opt_bytes: BLOCK,
        max_io_bytes: MAX_IO,
        volatile_cache: options.volatile_cache,
        read_only: false,
        discard: Some(Discard {
            max_bytes: 1 << 30,
            granularity_bytes: BLOCK,
        }),
        write_zeroes_max_bytes: 1 << 28,
    }
}
