//! The data path of one queue thread.
//!
//! Decided here: which path carries a command, how a request is split, what an answer means, when
//! a lost command is sent again. Not decided here: which paths may be used (the table says so),
//! how a capsule travels, when an association is given up.
//!
//! # Contract with the host
//! - One thread; `now` never runs backwards. After any input, take all of [`Lane::poll_action`]
//!   and [`Lane::poll_event`].
//! - Every [`Action::Send`] is pushed to the queue pair of its association, or handed back with
//!   [`Lane::send_failed`]; its identifier is in the SQE, and `cid % depth` is unique among the
//!   commands in flight there.
//! - A tag is submitted again only after its [`Action::Complete`]. Until then the tag's buffer may
//!   be in use by the device.
//! - After [`Lane::convict`] nothing is sent to that association any more, actions not yet taken
//!   included. Its answers may still be passed on until [`Lane::drained`], which promises that no
//!   memory of this lane will be touched by it.
//! - The ghosts that [`Lane::drained`] returns reach [`Device::lane_drained`](crate::Device) before
//!   any event taken from the lane afterwards. Tables of ghosts reach the lane in order.
//! - [`Lane::locked`] promises that every lane of the volume has answered
//!   [`LaneEvent::Guarded`] for a table with all ghosts of the association.
//! - [`Lane::fenced`] promises that the association executes nothing more *and* that every lane of
//!   the volume has drained.
//!
//! # Mutations of unknown fate
//! A mutation lost with an association is a *ghost* ([`crate::ghost`]): it may have been executed,
//! or may be at any time before the order fence. It is sent again as soon as every lane keeps off
//! its blocks; its blocks stay locked until the order fence all the same, whether it was answered
//! meanwhile or failed to the caller. Other mutations are not concerned, nor are reads and flushes:
//! those are sent again right after the buffer fence.
//!
//! Reads never wait for mutations: queues and commands are separate, and every tag owns its
//! commands.

mod age;
mod answer;
mod command;
mod fences;
mod guard;
mod offers;
mod queue_pair;
mod send;
mod store;

use std::collections::VecDeque;
use std::sync::Arc;

use core::time::Duration;

use umpath_nvme::Sqe;
use umpath_policies::Selector;

use crate::event::{LaneEvent, LaneId};
use crate::request::{BlockError, BlockRequest, Data, Op, Tag};
use crate::shared::VolumeShared;
use crate::table::{AssociationId, OnNoPath, PATHS_MAX, PathId, PathTable};

use command::{COMMANDS_PER_TAG, Command, Request, tag_of};
use guard::Guard;
pub use guard::HeldStats;
use offers::Offers;
use queue_pair::{QueuePair, QueuePairState};
use store::{Queues, Table};

/// Queue pairs a lane can have: a path may have an old association draining while the new one works.
pub const QUEUE_PAIRS_MAX: usize = 2 * PATHS_MAX;

/// Shape of a lane, fixed for its life.
#[derive(Debug, Clone, Copy)]
pub struct LaneConfig {
    /// Which lane of the volume.
    pub id: LaneId,
    /// Requests it may have at a time: tags are below this. At most 8,191.
    pub tags: u16,
    /// Bytes of a tag's buffer: no read or write is larger. At least 128, for parameters.
    pub buffer_bytes: u32,
    /// log2 of the logical block size.
    pub lba_shift: u8,
}

/// A command to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendCommand {
    /// The path, for counters.
    pub path: PathId,
    /// Whose queue pair takes it.
    pub association: AssociationId,
    /// The command, complete but for its data pointer.
    pub sqe: Sqe,
    /// Whose buffer `data` is part of.
    pub tag: Tag,
    /// Its data.
    pub data: Data,
}

/// What the host does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a command.
    Send(SendCommand),
    /// A request is over; its buffer is the block layer's again.
    Complete {
        /// Tag of the request.
        tag: Tag,
        /// How it went.
        result: Result<(), BlockError>,
    },
}

/// A request that was not taken. It has no completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// The lane has no such tag.
    TagOutOfRange,
    /// The tag's request is not over.
    TagBusy,
    /// No blocks, too many for the buffer, or blocks beyond 2^64.
    Invalid,
}

impl core::fmt::Display for SubmitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TagOutOfRange => "the queue has no such tag",
            Self::TagBusy => "the tag's request is not over",
            Self::Invalid => "the request names no blocks, or blocks that cannot be",
        })
    }
}

impl core::error::Error for SubmitError {}

/// A queue pair was refused: too many old ones have not drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowded;

impl core::fmt::Display for Crowded {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the lane waits for the end of too many queue pairs")
    }
}

impl core::error::Error for Crowded {}

/// Counters since the lane began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Commands sent.
    pub sent: u64,
    /// Commands answered.
    pub answered: u64,
    /// Commands that had to be sent again.
    pub resent: u64,
    /// Answers that fit no command in flight.
    pub stale: u64,
    /// Mutations lost with an association, their fate unknown.
    pub lost: u64,
    /// Requests over.
    pub completed: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Longest time from a request's submission to its completion.
    pub longest: Duration,
    /// Commands that had to wait because of ghosts.
    pub held: HeldStats,
}

/// One lane. See the [module](self).
#[derive(Debug)]
pub struct Lane {
    config: LaneConfig,
    table: Arc<PathTable>,
    shared: Arc<VolumeShared>,
    selector: Selector,
    /// The NUMA node this lane runs on, if known.
    node: Option<u16>,
    requests: Table<Request>,
    commands: Table<Command>,
    /// As many as were ever open at a time: every round goes through them.
    pairs: Table<QueuePair>,
    queues: Queues,
    offers: Offers,
    actions: VecDeque<Action>,
    events: VecDeque<LaneEvent>,
    guard: Guard,
    /// The conviction after which no answer came yet.
    convicted: Option<(AssociationId, Duration)>,
    /// Something waits for want of a path.
    starving: bool,
    /// Which of plain and mutation goes first this time.
    mutations_first: bool,
    sequence: u64,
    /// When the ages of commands in flight are checked next.
    check_due: Duration,
    stats: LaneStats,
}

impl Lane {
    /// A lane without paths.
    pub fn new(config: LaneConfig, table: Arc<PathTable>, shared: Arc<VolumeShared>) -> Self {
        assert!(
            config.tags < u16::MAX / COMMANDS_PER_TAG,
            "{} tags are too many",
            config.tags
        );
        let tags = usize::from(config.tags);
        let commands = tags * usize::from(COMMANDS_PER_TAG);
        Self {
            selector: table.selector.start(),
            node: None,
            table,
            shared,
            requests: Table::new(tags, Request::idle()),
            commands: Table::new(commands, Command::free()),
            pairs: Table::with_room(QUEUE_PAIRS_MAX),
            queues: Queues::new(tags, commands),
            offers: Offers::none(),
            actions: VecDeque::with_capacity(commands + tags),
            events: VecDeque::with_capacity(64),
            guard: Guard::default(),
            convicted: None,
            starving: false,
            mutations_first: false,
            sequence: 0,
            check_due: Duration::ZERO,
            stats: LaneStats::default(),
            config,
        }
    }

    /// Its shape.
    pub fn config(&self) -> &LaneConfig {
        &self.config
    }

    /// Takes a request. `Ok`: its completion will come, exactly once.
    pub fn submit(&mut self, request: BlockRequest, now: Duration) -> Result<(), SubmitError> {
        let tag = request.tag.0;
        if tag >= self.config.tags {
            return Err(SubmitError::TagOutOfRange);
        }
        if self.requests[tag].active {
            return Err(SubmitError::TagBusy);
        }
        let total = self.validated(&request)?;
        self.requests[tag] = Request {
            active: true,
            body: request,
            total,
            submitted: now,
            waiting: true,
            ..Request::idle()
        };
        let mutation = request.op.is_mutation();
        // Nothing waits in front of it: no queue.
        if self.queues.nothing_to_send() && self.issue(tag, now) {
            self.requests[tag].waiting = false;
            return Ok(());
        }
        if self.requests[tag].active {
            self.queues.fresh.of(mutation).push_back(tag);
            self.pump(now);
        }
        Ok(())
    }

    /// A queue pair of `depth` entries is connected for `path`. Used when the table says so, which it may
    /// do already where it takes the place of one that was [given up](Self::give_up_queue). `Err`: the
    /// lane does not know it and will never send on it, whatever the table says.
    ///
    /// # Panics
    /// If the lane has a queue pair of this association: the first has to be [drained](Self::drained).
    pub fn attach(
        &mut self,
        path: PathId,
        association: AssociationId,
        depth: u16,
        now: Duration,
    ) -> Result<(), Crowded> {
        assert!(
            self.pair_of(association).is_none(),
            "the lane has a queue pair of {association} already"
        );
        let free = |pair: &QueuePair| pair.state == QueuePairState::Free;
        let known = self.pairs.iter().position(free).map(|at| at as u16);
        let at = known
            .or_else(|| self.pairs.add(QUEUE_PAIRS_MAX, QueuePair::unused()))
            .ok_or(Crowded)?;
        self.pairs[at].open(path, association, depth);
        self.pairs[at].obey(&self.table);
        self.selector.forget(path, now);
        self.rebuild_offers();
        self.pump(now);
        Ok(())
    }

    /// The lane runs on this NUMA node, for selectors that care.
    pub fn set_node(&mut self, node: Option<u16>) {
        self.node = node;
        self.rebuild_offers();
    }

    /// Paths are chosen by `table` from now on. Another selector than before begins without any
    /// knowledge of the paths; what is in flight is not concerned.
    pub fn set_table(&mut self, table: Arc<PathTable>, now: Duration) {
        if table.selector != self.table.selector {
            self.selector = table.selector.start();
        }
        self.forget_returned(&table, now);
        self.table = table;
        for pair in self.pairs.iter_mut() {
            pair.obey(&self.table);
        }
        self.rebuild_offers();
        self.pump(now);
    }

    /// What was learnt of a path before it went away says nothing about it now.
    fn forget_returned(&mut self, table: &PathTable, now: Duration) {
        for entry in table.paths.iter().filter(|entry| entry.usable) {
            if self.table.entry(entry.path).is_some_and(|old| !old.usable) {
                self.selector.forget(entry.path, now);
            }
        }
    }

    /// What the host does next; `None`: nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What the control side should know; `None`: nothing.
    pub fn poll_event(&mut self) -> Option<LaneEvent> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Duration> {
        let delayed = self.queues.delayed.iter();
        let mut due = delayed.map(|at| self.commands[*at].not_before).min();
        let mut busy = false;
        // One pass: a queue thread asks this in every round.
        for pair in self.pairs.iter() {
            if pair.state != QueuePairState::Open {
                continue;
            }
            busy |= pair.in_flight() > 0;
            if let Some(until) = pair.blocked_until {
                due = Some(due.map_or(until, |due| due.min(until)));
            }
        }
        if busy {
            due = Some(due.map_or(self.check_due, |due| due.min(self.check_due)));
        }
        due
    }

    /// The time asked for has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.check_ages(now);
        for pair in self.pairs.iter_mut() {
            if pair.blocked_until.is_some_and(|until| until <= now) {
                pair.blocked_until = None;
            }
        }
        for _ in 0..self.queues.delayed.len() {
            let Some(command) = self.queues.delayed.pop_front() else {
                break;
            };
            if self.commands[command].not_before <= now {
                self.requeue(command);
            } else {
                self.queues.delayed.push_back(command);
            }
        }
        self.rebuild_offers();
        self.pump(now);
    }

    /// Counters.
    pub fn stats(&self) -> LaneStats {
        self.stats
    }

    /// When the oldest request that is not over was submitted.
    pub fn oldest_request(&self) -> Option<Duration> {
        self.requests
            .iter()
            .filter(|request| request.active)
            .map(|r| r.submitted)
            .min()
    }

    fn validated(&self, request: &BlockRequest) -> Result<u32, SubmitError> {
        if request.op == Op::Flush {
            return Ok(1);
        }
        let bytes = u64::from(request.blocks) << self.config.lba_shift;
        let moves_data = matches!(request.op, Op::Read | Op::Write);
        let fits = !moves_data || bytes <= u64::from(self.config.buffer_bytes);
        let exists = request.lba.checked_add(u64::from(request.blocks)).is_some();
        if request.blocks == 0 || !fits || !exists {
            return Err(SubmitError::Invalid);
        }
        Ok(request.blocks)
    }

    fn pair_of(&self, association: AssociationId) -> Option<u16> {
        let known = |pair: &QueuePair| {
            pair.association == association && pair.state != QueuePairState::Free
        };
        self.pairs.iter().position(known).map(|at| at as u16)
    }

    fn is_mutation(&self, command: u16) -> bool {
        self.requests[tag_of(command)].body.op.is_mutation()
    }

    /// Requests without a path fail instead of waiting.
    fn refuses_to_queue(&self) -> bool {
        self.table.on_no_path == OnNoPath::Fail && !self.table.has_usable()
    }
}
