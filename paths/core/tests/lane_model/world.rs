//! Host, control side and controllers of one volume with several lanes.

mod control;
mod host;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use umpath_core::association::Conviction;
use umpath_core::policies::SelectorConfig;
use umpath_core::{
    AssociationId, BlockRequest, CommandLimits, Device, GhostTable, GroupEntry, Lane, LaneConfig,
    LaneId, OnNoPath, Op, Owner, PathEntry, PathId, PathTable, SendCommand, Tag, VolumeShared,
};
use umpath_nvme::{Cqe, Status};

use control::Mail;

pub(crate) const LANES: usize = 3;
pub(crate) const PATHS: usize = 3;
pub(crate) const TAGS: u16 = 4;
const DEPTH: u16 = 9;
const SHIFT: u8 = 9;
/// Largest read or write, blocks.
const BUFFER_BLOCKS: u32 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Success,
    PathError,
    Ana,
    NotReady,
    /// An error that may not be retried.
    Final,
}

/// A request the block layer waits for, or waited for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) body: BlockRequest,
    pub(crate) submitted: u64,
    pub(crate) completed: Option<u64>,
    /// It was answered with an error that explains a failure.
    pub(crate) may_fail: bool,
    /// It is over and failed.
    pub(crate) failed: bool,
}

/// A command in the hands of the host, the fabric or a controller.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) request: usize,
    pub(crate) lane: usize,
    pub(crate) send: SendCommand,
    pub(crate) lba: u64,
    pub(crate) blocks: u32,
    pub(crate) executed: bool,
    pub(crate) answered: bool,
    /// The lane has passed the buffer fence with this copy unanswered.
    pub(crate) lost: bool,
}

#[derive(Debug)]
pub(crate) struct Association {
    pub(crate) id: AssociationId,
    pub(crate) convicted: bool,
    pub(crate) heard: [bool; LANES],
    pub(crate) drained: [bool; LANES],
    /// Lanes notified that all keep off its ghosts.
    pub(crate) lock_known: [bool; LANES],
    /// It executes nothing more.
    pub(crate) fenced: bool,
    /// Lanes notified of that.
    pub(crate) fence_known: [bool; LANES],
    /// Lanes notified of an ANA status, until the state is read again.
    pub(crate) ana_refuses: [bool; LANES],
}

#[derive(Debug)]
struct Path {
    association: Option<usize>,
    suspect: bool,
    ana_epoch: u32,
    blocked: [bool; LANES],
}

pub(crate) struct World {
    pub(crate) lanes: Vec<Lane>,
    /// Only for its ghosts: which paths are usable is the model's own decision.
    pub(crate) device: Device,
    /// What the control side has sent each lane and it has not read.
    mail: Vec<VecDeque<Mail>>,
    /// Others write to the namespace too.
    pub(crate) sharing: bool,
    /// The table each lane works by.
    pub(crate) tables: Vec<Arc<GhostTable>>,
    /// The request of each ghost's owner.
    pub(crate) owners: BTreeMap<Owner, usize>,
    pub(crate) shared: Arc<VolumeShared>,
    pub(crate) requests: Vec<Request>,
    /// The request of a tag, by lane.
    pub(crate) tags: Vec<BTreeMap<u16, usize>>,
    pub(crate) copies: Vec<Copy>,
    pub(crate) associations: Vec<Association>,
    paths: Vec<Path>,
    /// Who wrote a block last, by block.
    pub(crate) medium: BTreeMap<u64, usize>,
    /// When the youngest request that was ever executed on a block was submitted.
    pub(crate) youngest: BTreeMap<u64, u64>,
    pub(crate) now: Duration,
    pub(crate) step: u64,
    generation: u64,
    on_no_path: OnNoPath,
    past: Vec<(usize, PathId, AssociationId, Cqe)>,
    pub(crate) starving: [bool; LANES],
}

impl World {
    pub(crate) fn new(sharing: bool, inherited: u8) -> Self {
        let shared = Arc::new(VolumeShared::new());
        let config = |lane: usize| LaneConfig {
            id: LaneId(lane as u16),
            tags: TAGS,
            buffer_bytes: BUFFER_BLOCKS << SHIFT,
            lba_shift: SHIFT,
        };
        let table = Arc::new(PathTable::empty(SHIFT));
        let lane = |at| Lane::new(config(at), Arc::clone(&table), Arc::clone(&shared));
        let path = |_| Path {
            association: None,
            suspect: false,
            ana_epoch: 0,
            blocked: [false; LANES],
        };
        let mut world = Self {
            lanes: (0..LANES).map(lane).collect(),
            device: control::device(sharing),
            mail: (0..LANES).map(|_| VecDeque::new()).collect(),
            sharing,
            tables: vec![Arc::default(); LANES],
            owners: BTreeMap::new(),
            shared: Arc::clone(&shared),
            requests: Vec::new(),
            tags: vec![BTreeMap::new(); LANES],
            copies: Vec::new(),
            associations: Vec::new(),
            paths: (0..PATHS).map(path).collect(),
            medium: BTreeMap::new(),
            youngest: BTreeMap::new(),
            now: Duration::from_secs(1),
            step: 0,
            generation: 0,
            on_no_path: OnNoPath::Queue,
            past: Vec::new(),
            starving: [false; LANES],
        };
        for _ in 0..inherited {
            world.inherit();
        }
        // A volume's first table comes after what it inherits.
        for lane in 0..LANES {
            world.read_mail(lane);
        }
        for path in 0..PATHS as u8 {
            world.reconnect(path);
        }
        world
    }

    pub(crate) fn submit(&mut self, lane: u8, kind: Kind, lba: u8, blocks: u8) {
        self.hand_over(usize::from(lane) % LANES, kind, lba, blocks);
        self.carry_out();
    }

    /// A conviction is heard of before the host has sent what a new request became.
    pub(crate) fn submit_and_hear(&mut self, lane: u8, kind: Kind, lba: u8, blocks: u8) {
        let lane = usize::from(lane) % LANES;
        self.hand_over(lane, kind, lba, blocks);
        self.read_mail(lane);
        self.carry_out();
    }

    fn hand_over(&mut self, lane: usize, kind: Kind, lba: u8, blocks: u8) {
        let Some(tag) = (0..TAGS).find(|tag| !self.tags[lane].contains_key(tag)) else {
            return;
        };
        let op = match kind {
            Kind::Read => Op::Read,
            Kind::Write => Op::Write,
            Kind::Flush => Op::Flush,
            Kind::Discard => Op::Discard,
            Kind::WriteZeroes => Op::WriteZeroes,
        };
        let flush = op == Op::Flush;
        let body = BlockRequest {
            tag: Tag(tag),
            op,
            lba: if flush { 0 } else { u64::from(lba % 32) },
            blocks: if flush {
                0
            } else {
                u32::from(blocks) % BUFFER_BLOCKS + 1
            },
            fua: false,
            no_unmap: false,
        };
        self.tick();
        let request = Request {
            body,
            submitted: self.step,
            completed: None,
            may_fail: false,
            failed: false,
        };
        self.tags[lane].insert(tag, self.requests.len());
        self.requests.push(request);
        self.lanes[lane].submit(body, self.now).expect("a free tag");
    }

    pub(crate) fn execute(&mut self, pick: u16) {
        let alive = |world: &Self, copy: &Copy| {
            !copy.executed && !copy.answered && !world.association_of(copy).fenced
        };
        if let Some(at) = self.pick_copy(pick, alive) {
            self.run(at);
        }
    }

    pub(crate) fn answer(&mut self, pick: u16, answer: Answer) {
        let waiting = |world: &Self, copy: &Copy| {
            let association = world.association_of(copy);
            !copy.answered
                && !association.drained[copy.lane]
                && (copy.executed || !association.fenced)
        };
        let Some(at) = self.pick_copy(pick, waiting) else {
            return;
        };
        self.answer_copy(at, answer);
    }

    pub(crate) fn answer_copy(&mut self, at: usize, answer: Answer) {
        self.tick();
        let status = match answer {
            Answer::Success => Status::SUCCESS,
            Answer::PathError => Status::PATH_INTERNAL_ERROR,
            Answer::Ana => Status::ANA_INACCESSIBLE,
            Answer::NotReady => Status::NAMESPACE_NOT_READY,
            Answer::Final => Status::INTERNAL_ERROR.with_dnr(),
        };
        if answer == Answer::Success && !self.copies[at].executed {
            self.run(at);
        }
        let copy = &mut self.copies[at];
        copy.answered = true;
        let (lane, path, association) = (copy.lane, copy.send.path, copy.send.association);
        let cqe = Cqe::new(copy.send.sqe.cid.get(), 0, status, 0);
        let request = copy.request;
        if answer == Answer::Ana {
            self.associations[association.0 as usize].ana_refuses[lane] = true;
        }
        self.requests[request].may_fail |= matches!(answer, Answer::Final | Answer::NotReady);
        self.past.push((lane, path, association, cqe));
        self.lanes[lane].complete(path, association, &cqe, self.now);
        self.carry_out();
    }

    pub(crate) fn repeat(&mut self, pick: u16) {
        if self.past.is_empty() {
            return;
        }
        let (lane, path, association, cqe) = self.past[usize::from(pick) % self.past.len()];
        let reused = self.copies.iter().any(|copy| {
            copy.lane == lane
                && !copy.answered
                && copy.send.association == association
                && copy.send.sqe.cid == cqe.cid
        });
        if reused {
            return;
        }
        let stale = self.lanes[lane].stats().stale;
        self.lanes[lane].complete(path, association, &cqe, self.now);
        assert_eq!(self.lanes[lane].stats().stale, stale + 1);
        assert_eq!(
            self.lanes[lane].poll_action(),
            None,
            "a stale answer has no effect"
        );
    }

    pub(crate) fn suspect(&mut self, path: u8, suspect: bool) {
        self.paths[usize::from(path) % PATHS].suspect = suspect;
        self.publish();
    }

    pub(crate) fn convict(&mut self, path: u8) {
        let Some(at) = self.paths[usize::from(path) % PATHS].association.take() else {
            return;
        };
        self.associations[at].convicted = true;
        let id = self.associations[at].id;
        self.device.convict(id, Conviction::QueueFailed, self.now);
        self.collect();
        self.publish();
    }

    pub(crate) fn reconnect(&mut self, path: u8) {
        let path = usize::from(path) % PATHS;
        if self.paths[path].association.is_some() {
            return;
        }
        // No more old associations than a lane has room for.
        let undrained = self
            .associations
            .iter()
            .filter(|a| a.drained != [true; LANES] && a.convicted)
            .count();
        if undrained > 8 {
            return;
        }
        let id = self.new_association();
        self.ready(PathId(path as u8), id);
        self.paths[path].association = Some(self.associations.len() - 1);
        self.paths[path].suspect = false;
        self.paths[path].ana_epoch += 1;
        for lane in &mut self.lanes {
            let taken = lane.attach(PathId(path as u8), id, DEPTH, self.now);
            taken.expect("room for it");
        }
        self.publish();
    }

    pub(crate) fn read_ana(&mut self, path: u8) {
        let path = usize::from(path) % PATHS;
        self.paths[path].ana_epoch += 1;
        if let Some(at) = self.paths[path].association {
            self.associations[at].ana_refuses = [false; LANES];
        }
        self.publish();
    }

    pub(crate) fn block(&mut self, lane: u8, path: u8, block: bool) {
        self.paths[usize::from(path) % PATHS].blocked[usize::from(lane) % LANES] = block;
    }

    pub(crate) fn pass(&mut self, ms: u16) {
        self.now += Duration::from_millis(u64::from(ms % 2_000));
        for lane in 0..LANES {
            if self.lanes[lane]
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.lanes[lane].handle_timeout(self.now);
                let (due, now) = (self.lanes[lane].poll_timeout(), self.now);
                assert!(due.is_none_or(|due| due > now), "{due:?} at {now:?}");
            }
            self.carry_out();
        }
    }

    pub(crate) fn fail_queued(&mut self, lane: u8) {
        let lane = usize::from(lane) % LANES;
        for at in self.tags[lane].values() {
            self.requests[*at].may_fail = true;
        }
        self.lanes[lane].fail_queued(self.now);
        self.carry_out();
    }

    pub(crate) fn queue_if_no_path(&mut self, queue: bool) {
        self.on_no_path = if queue {
            OnNoPath::Queue
        } else {
            OnNoPath::Fail
        };
        self.publish();
    }

    /// Everything heals; everything must end.
    pub(crate) fn settle(&mut self) {
        for path in 0..PATHS as u8 {
            for lane in 0..LANES as u8 {
                self.block(lane, path, false);
            }
            self.suspect(path, false);
        }
        for _ in 0..self.associations.len() * LANES {
            self.read_all_mail();
            self.drain(0);
            self.check();
        }
        for _ in 0..self.associations.len() {
            self.fence(0);
            self.read_all_mail();
            self.check();
        }
        self.reconnect(0);
        for path in 0..PATHS as u8 {
            self.read_ana(path);
        }
        for _ in 0..2_000 {
            while let Some(at) = self.pick_copy(0, |world, copy| {
                !copy.answered && !world.association_of(copy).drained[copy.lane]
            }) {
                self.answer_copy(at, Answer::Success);
                self.check();
            }
            self.read_all_mail();
            self.pass(1_999);
            if self.tags.iter().all(BTreeMap::is_empty) {
                break;
            }
        }
        let left: Vec<&Request> = self
            .tags
            .iter()
            .flat_map(BTreeMap::values)
            .map(|at| &self.requests[*at])
            .collect();
        assert!(
            left.is_empty(),
            "with every path healthy these never ended: {left:?}"
        );
        assert!(self.device.ghosts().is_empty(), "nothing is lost any more");
        for lane in &self.lanes {
            assert_eq!(lane.stats().held.now, 0);
        }
        for path in 0..PATHS as u8 {
            assert_eq!(self.shared.in_flight(PathId(path)), 0);
        }
    }

    pub(crate) fn association_of(&self, copy: &Copy) -> &Association {
        &self.associations[copy.send.association.0 as usize]
    }

    /// Associations a lane could send to now.
    pub(crate) fn open_to(&self, lane: usize) -> impl Iterator<Item = &Association> {
        self.paths
            .iter()
            .filter(move |path| !path.suspect && !path.blocked[lane])
            .filter_map(move |path| {
                let association = &self.associations[path.association?];
                (!association.heard[lane] && !association.ana_refuses[lane]).then_some(association)
            })
    }

    pub(crate) fn tick(&mut self) {
        self.step += 1;
        self.now += Duration::from_micros(50);
    }

    fn pick_copy(&self, pick: u16, wanted: impl Fn(&Self, &Copy) -> bool) -> Option<usize> {
        let found: Vec<usize> = (0..self.copies.len())
            .filter(|at| wanted(self, &self.copies[*at]))
            .collect();
        found.get(usize::from(pick) % found.len().max(1)).copied()
    }

    fn pick_lane(
        &self,
        pick: u8,
        wanted: impl Fn(&Association, usize) -> bool,
    ) -> Option<(usize, usize)> {
        let found: Vec<(usize, usize)> = (0..self.associations.len())
            .flat_map(|at| (0..LANES).map(move |lane| (at, lane)))
            .filter(|(at, lane)| wanted(&self.associations[*at], *lane))
            .collect();
        found.get(usize::from(pick) % found.len().max(1)).copied()
    }

    /// A controller executes a command.
    fn run(&mut self, at: usize) {
        self.tick();
        self.check_execution(at);
        let copy = &mut self.copies[at];
        copy.executed = true;
        let (request, lba, blocks) = (copy.request, copy.lba, copy.blocks);
        if self.requests[request].body.op.is_mutation() {
            self.put(request, lba, blocks);
        }
    }

    /// Blocks are on the medium as a request wants them.
    pub(crate) fn put(&mut self, request: usize, lba: u64, blocks: u32) {
        let submitted = self.requests[request].submitted;
        for block in lba..lba + u64::from(blocks) {
            self.medium.insert(block, request);
            let youngest = self.youngest.entry(block).or_default();
            *youngest = submitted.max(*youngest);
        }
    }

    fn publish(&mut self) {
        self.generation += 1;
        let mut entries = Vec::new();
        for (number, path) in self.paths.iter().enumerate() {
            let Some(at) = path.association else { continue };
            // Paths differ in what they take, so that retries have to be split again.
            let blocks = [16_u32, 5, 3][number];
            entries.push(PathEntry {
                path: PathId(number as u8),
                association: self.associations[at].id,
                usable: !path.suspect,
                nsid: 1,
                limits: CommandLimits {
                    transfer_bytes_max: blocks << SHIFT,
                    write_zeroes_blocks_max: blocks * 2,
                    write_zeroes_deallocate: true,
                    discard_blocks_max: blocks * 3,
                    ..CommandLimits::default()
                },
                priority: if number == 2 { 10 } else { 50 },
                ana: None,
                ana_epoch: path.ana_epoch,
                steering: umpath_core::Steering::default(),
            });
        }
        let members = |priority| {
            let of =
                |(at, entry): (usize, &PathEntry)| (entry.priority == priority).then_some(at as u8);
            entries
                .iter()
                .enumerate()
                .filter_map(of)
                .collect::<Vec<u8>>()
        };
        let groups: Vec<GroupEntry> = [50, 10]
            .into_iter()
            .map(|priority| GroupEntry {
                paths: members(priority),
                priority,
            })
            .filter(|group| !group.paths.is_empty())
            .collect();
        let usable = |group: &GroupEntry| {
            group
                .paths
                .iter()
                .any(|at| entries[usize::from(*at)].usable)
        };
        let active = groups.iter().position(usable);
        if active.is_none() && self.on_no_path == OnNoPath::Fail {
            for request in self.requests.iter_mut().filter(|r| r.completed.is_none()) {
                request.may_fail = true;
            }
        }
        let table = Arc::new(PathTable {
            generation: self.generation,
            lba_shift: SHIFT,
            paths: entries,
            groups,
            active,
            on_no_path: self.on_no_path,
            selector: SelectorConfig::default(),
        });
        for lane in 0..LANES {
            self.lanes[lane].set_table(Arc::clone(&table), self.now);
        }
        self.carry_out();
    }
}
