//! What a seed stands for: the shape of the world, its assumptions, its faults.
//!
//! Everything a run may vary is decided here, before it begins, and can be printed. What the
//! product is entitled to assume is kept by construction: a medium ends a command within half of
//! CQT, a packet arrives within a quarter of CQT after it was sent, clocks differ by at most a
//! tenth, and a controller asks its gate before it touches the medium. Whatever breaks one of
//! these can corrupt any multipath host and would prove nothing.

use std::fmt;

use umpath_core::association::CLOCK_ERROR_PERMILLE;
use umpath_core::policies::{Grouping, SelectorConfig, SelectorKind};

use super::chance::Chance;
use super::clock::{MICRO, MILLI, Nanos};
use super::resets::OddReset;
use super::schedule::faults;

/// Most blocks of a request.
pub(crate) const REQUEST_BLOCKS: usize = 8;

/// How wrong a process's clock is at most, in thousandths: what the product grants.
pub(crate) const CLOCK_ERROR: i64 = CLOCK_ERROR_PERMILLE as i64;

/// The shape of one run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) lanes: usize,
    pub(crate) tags: u16,
    /// Entries of an I/O submission queue.
    pub(crate) depth: u16,
    pub(crate) blocks: u64,
    pub(crate) request_blocks: u64,
    /// Most blocks of a command, by path.
    pub(crate) transfer_blocks: Vec<u32>,
    /// Target processes; path `n` leads to process `n % processes`.
    pub(crate) processes: usize,
    pub(crate) kato: Nanos,
    pub(crate) heartbeat: Nanos,
    /// How long a session waits for the answer to an admin command.
    pub(crate) command_timeout: Nanos,
    pub(crate) cqt: Nanos,
    /// How much faster each process's clock runs, in thousandths.
    pub(crate) skew: Vec<i64>,
    /// Every clock is as slow as the product has to stand, and processes sleep for as long as that
    /// lets them.
    pub(crate) slowest: bool,
    /// One path fails and all else is well: then a lost write must not wait for its order fence.
    pub(crate) plain: bool,
    /// Controllers offer cross-controller reset.
    pub(crate) ccr: bool,
    /// Processes see each other's gates, as those of one machine do that serve one store.
    pub(crate) common_board: bool,
    /// Controller identifiers of a process: few, and a successor soon has its predecessor's.
    pub(crate) cntlids: u16,
    /// The medium has a volatile write cache, and the controllers say so.
    pub(crate) cache: bool,
    /// In a hundred long writes, how many take two steps.
    pub(crate) split: u64,
    /// Any command restarts the keep-alive timer, as it does in Linux nvmet.
    pub(crate) traffic_based: bool,
    /// So does the end of a queue pair.
    pub(crate) ends_count: bool,
    /// Controllers report no CQT; the host grants what they need by its own configuration.
    pub(crate) cqt_unreported: bool,
    /// How long a queue pair repeats a packet before it fails: the host's, the target's.
    pub(crate) patience: [Nanos; 2],
    /// Longest usual way of a packet.
    pub(crate) delay: Nanos,
    /// Longest usual way of a message between a lane and the control side.
    pub(crate) message_delay: Nanos,
    /// A flush marker that has not come by then never counts: the queue pair is destroyed.
    pub(crate) drain_deadline: Nanos,
    /// In a hundred drains, how many miss their marker.
    pub(crate) lost_markers: u64,
    /// Writes carry their data in the capsule.
    pub(crate) inline: bool,
    /// Requests may overlap others in flight.
    pub(crate) overlaps: bool,
    pub(crate) think: Nanos,
    /// The volume is configured as shared: ghosts wait for their order fence.
    pub(crate) shared: bool,
    pub(crate) grouping: Grouping,
    pub(crate) selector: SelectorConfig,
    /// When faults stop and requests are no longer made.
    pub(crate) active: Nanos,
    pub(crate) faults: Vec<Fault>,
}

/// Something that goes wrong, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Nanos,
    pub(crate) lasts: Nanos,
    pub(crate) kind: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Packets of a path do not get through, one way or both.
    Partition {
        path: usize,
        to_target: bool,
        to_host: bool,
    },
    /// The host's own port loses its carrier.
    LinkDown { path: usize },
    /// Every packet takes longer.
    Slow { path: usize, extra: Nanos },
    /// I/O commands that arrive at a process wait before they ask the gate.
    Park { process: usize, longest: Nanos },
    /// A process executes some commands and never answers them.
    Forget { process: usize },
    /// A process dies, and its place is taken by a new one afterwards. Commands on the medium
    /// complete.
    Crash { process: usize },
    /// The power fails: every process dies, and so does what is not durable.
    PowerFails,
    /// What a controller of a process had accepted is executed for as long as its keep-alive timer
    /// allows, although the controller has said that it is over (CSTS.RDY is 0).
    Lingers { process: usize },
    /// A process stands still; its NIC does not.
    Stop { process: usize },
    /// Admin commands of a path vanish in the controller.
    AdminDead { path: usize },
    /// The host's process is killed; another takes its place.
    Kill,
    /// The control side of the host stands still.
    ControlStall,
    /// A lane stands still.
    LaneStall { lane: usize },
    /// The whole host stands still.
    HostStall,
    /// A queue pair of the host fails.
    QueueFails { path: usize, lane: usize },
    /// A path's ANA state changes, and changes back.
    Ana { path: usize, inaccessible: bool },
    /// A process answers requests to reset oddly.
    Resets { process: usize, odd: OddReset },
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let chance = &mut Chance::new(seed, 1);
        let paths = chance.within(2, 3) as usize;
        let processes = chance.within(1, 2) as usize;
        let mut kato = chance.pick(&[200, 300, 500]) * MILLI;
        let mut cqt = chance.pick(&[20, 50, 100]) * MILLI;
        let mut active = chance.within(2, 6) * kato;
        let skewed = chance.percent(30);
        let slowest = processes > 1 && chance.percent(15);
        if slowest {
            // The clocks' error is large against everything else, and there is time to sleep out.
            (kato, cqt) = (500 * MILLI, 20 * MILLI);
            active = 6 * kato;
        }
        let skew = (0..processes)
            .map(|_| match (slowest, skewed) {
                (true, _) => -CLOCK_ERROR,
                (false, true) => chance.within(0, 2 * CLOCK_ERROR as u64) as i64 - CLOCK_ERROR,
                (false, false) => 0,
            })
            .collect();
        let selector = SelectorConfig {
            kind: chance.pick(&[SelectorKind::QueueLength, SelectorKind::RoundRobin]),
            rr_min_io: chance.within(1, 3) as u32,
            rr_weight_priorities: false,
        };
        let lanes = chance.within(1, 3) as usize;
        // A Keep Alive must be on its way when a controller with a slow clock falls asleep.
        let beats = if slowest {
            16
        } else {
            chance.pick(&[2, 3, 4, 5, 8])
        };
        let mut plan = Self {
            seed,
            lanes,
            tags: chance.within(1, 4) as u16,
            depth: chance.within(3, 9) as u16,
            blocks: chance.pick(&[REQUEST_BLOCKS as u64, 12, 24]),
            request_blocks: chance.pick(&[1, 2, REQUEST_BLOCKS as u64]),
            transfer_blocks: (0..paths).map(|_| chance.pick(&[8, 8, 3, 1])).collect(),
            processes,
            kato,
            heartbeat: kato / beats,
            command_timeout: chance.pick(&[100, 500]) * MILLI,
            cqt,
            skew,
            slowest,
            plain: chance.percent(4),
            ccr: chance.percent(60) && !slowest,
            common_board: processes > 1 && chance.percent(70),
            cntlids: chance.pick(&[4, 16]),
            cache: chance.percent(80),
            split: chance.pick(&[0, 30]),
            traffic_based: chance.percent(40),
            ends_count: chance.percent(60),
            cqt_unreported: chance.percent(20),
            patience: [
                chance.pick(&[20, 100, 400, 2_000]) * MILLI,
                chance.pick(&[20, 400, 2_000, 60_000]) * MILLI,
            ],
            delay: chance.pick(&[20, 200, 1_000]) * MICRO,
            message_delay: chance.pick(&[10, 500, 5_000]) * MICRO,
            drain_deadline: chance.pick(&[10, 100]) * MILLI,
            lost_markers: chance.pick(&[0, 0, 30]),
            inline: chance.percent(50),
            overlaps: chance.percent(60),
            think: chance.pick(&[3, 10, 30]) * MILLI,
            shared: chance.percent(10),
            grouping: chance.pick(&[Grouping::Multibus, Grouping::Failover, Grouping::ByPriority]),
            selector,
            active,
            faults: Vec::new(),
        };
        if plan.plain {
            // Offered by a process that can do it, or not at all.
            plan.ccr &= (plan.common_board || plan.processes == 1) && chance.percent(50);
            plan.overlaps = false;
            plan.shared = false;
        }
        plan.faults = faults(chance, &plan);
        plan
    }

    pub(crate) fn paths(&self) -> usize {
        self.transfer_blocks.len()
    }

    /// How long a process may take for KATO, by the world's clock.
    pub(crate) fn kato_at_most(&self) -> Nanos {
        self.kato * 1000 / (1000 - CLOCK_ERROR as u64)
    }

    /// Longest time a command stays on the medium.
    pub(crate) fn media_max(&self) -> Nanos {
        self.cqt / 2
    }

    /// A command without an answer for so long convicts, whatever becomes of others.
    pub(crate) const IO_TIMEOUT: Nanos = 4_000 * MILLI;

    /// Longest time anything of an old association may take to become harmless: the longest park,
    /// the longest fence, and some slack.
    pub(crate) fn longest_hold(&self) -> Nanos {
        let forgotten = |fault: &Fault| matches!(fault.kind, FaultKind::Forget { .. });
        let unanswered = if self.faults.iter().any(forgotten) {
            // A lane looks twice a second, and a command sent again may be forgotten again.
            2 * (Self::IO_TIMEOUT + 500 * MILLI)
        } else {
            0
        };
        unanswered + 11 * self.kato + self.cqt
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at / MILLI, self.lasts / MILLI);
        write!(f, "{:?} from {at} ms for {lasts} ms", self.kind)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Nanos| time as f64 / MILLI as f64;
        let or = |is: bool, yes, no| if is { yes } else { no };
        let Self {
            seed,
            lanes,
            tags,
            depth,
            blocks,
            request_blocks,
            transfer_blocks,
            processes,
            skew,
            cntlids,
            split,
            lost_markers,
            ..
        } = self;
        let plain = or(self.plain, ", a plain failover", "");
        writeln!(f, "seed {seed}, {} ms of work{plain}", ms(self.active))?;
        writeln!(
            f,
            "  volume: {blocks} blocks, requests of up to {request_blocks}, {} overlapping, every {} \
             ms{}",
            or(self.overlaps, "some", "none"),
            ms(self.think),
            or(self.shared, ", shared with other hosts", "")
        )?;
        writeln!(
            f,
            "  host: {lanes} lanes of {tags} tags, queues of {depth}, {:?}, {:?}; messages take up \
             to {} ms, a drain up to {} ms, {lost_markers} % of the markers are lost",
            self.grouping,
            self.selector.kind,
            ms(self.message_delay),
            ms(self.drain_deadline)
        )?;
        writeln!(
            f,
            "  paths: commands of up to {transfer_blocks:?} blocks, packets take up to {} ms and are \
             repeated for {} ms by the host, {} ms by the target",
            ms(self.delay),
            ms(self.patience[0]),
            ms(self.patience[1])
        )?;
        writeln!(
            f,
            "  target: {processes} processes, {cntlids} controllers each, clocks {skew:?} thousandths \
             fast; {}, {}, {}, {split} % of long writes in two steps",
            or(self.cache, "a volatile cache", "no cache"),
            or(self.ccr, "resets offered", "no resets"),
            or(self.common_board, "a common board", "boards apart")
        )?;
        writeln!(
            f,
            "  times: KATO {} ms ({}), heartbeat {} ms, CQT {} ms{}, admin commands {} ms",
            ms(self.kato),
            match (self.traffic_based, self.ends_count) {
                (true, true) => "by traffic, ends of queue pairs included",
                (true, false) => "by traffic",
                (false, _) => "by command",
            },
            ms(self.heartbeat),
            ms(self.cqt),
            or(self.cqt_unreported, " (not reported)", ""),
            ms(self.command_timeout)
        )?;
        for (at, fault) in self.faults.iter().enumerate() {
            writeln!(f, "  fault-{at}: {fault}")?;
        }
        Ok(())
    }
}
