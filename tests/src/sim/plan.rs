//! What a seed stands for: the shape of the world, its assumptions, its faults.
//!
//! Everything a run may vary is decided here, before it begins, and can be printed. What the
//! product is entitled to assume is kept by construction: a medium ends a command within half of
//! CQT, a packet arrives within a quarter of CQT after it was sent, clocks differ by at most a
//! tenth, and a controller asks its gate before it touches the medium. Whatever breaks one of
//! these can corrupt any multipath host and would prove nothing.

mod fault;
mod policy;
mod show;

use umpath_core::association::CLOCK_ERROR_PERMILLE;
use umpath_host::policy::VolumePolicy;

use super::arenas::SLOTS;
use super::chance::Chance;
use super::clock::{MICRO, MILLI, Nanos, SECOND};
use super::schedule::{faults, verbs};

pub(crate) use fault::{Fault, FaultKind, NamespaceChange, Nuisance};
pub(crate) use policy::Swarm;

/// Most blocks of a request.
pub(crate) const REQUEST_BLOCKS: usize = 8;

/// How wrong a process's clock is at most, in thousandths: what the product grants.
pub(crate) const CLOCK_ERROR: i64 = CLOCK_ERROR_PERMILLE as i64;

/// The shape of one run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) volumes: Vec<VolumePlan>,
    /// Suspicions, drains and reconnects have the times that are configured by default.
    pub(crate) shipped: bool,
    /// Queues wished for each volume.
    pub(crate) lanes: usize,
    /// The same of a host's process that is not the first: its configuration may have changed.
    pub(crate) lanes_later: usize,
    /// Most queues the driver gives a device.
    pub(crate) driver_queues: u16,
    pub(crate) tags: u16,
    /// Entries of an I/O submission queue.
    pub(crate) depth: u16,
    pub(crate) request_blocks: u64,
    /// Ways to a controller.
    pub(crate) routes: Vec<RoutePlan>,
    /// Target processes; path `n` leads to process `n % processes`.
    pub(crate) processes: usize,
    pub(crate) kato: Nanos,
    pub(crate) heartbeat: Nanos,
    /// How long a session waits for the answer to an admin command.
    pub(crate) command_timeout: Nanos,
    /// A command without an answer for so long convicts, whatever becomes of others. The longer one is
    /// longer than a path is drained that is removed in good order, as in what ships.
    pub(crate) io_timeout: Nanos,
    /// A path is given up when it was lost for so long.
    pub(crate) ctrl_loss: Option<Nanos>,
    pub(crate) cqt: Nanos,
    /// How much faster each process's clock runs, in thousandths.
    pub(crate) skew: Vec<i64>,
    /// Every clock is as slow as the product has to stand, and processes sleep for as long as that
    /// lets them.
    pub(crate) slowest: bool,
    /// One path fails and all else is well: then a lost write must not wait for its order fence.
    pub(crate) plain: bool,
    /// One queue pair is cut off alone, for so long that its NIC does not notice.
    pub(crate) one_queue: bool,
    /// Controllers offer cross-controller reset.
    pub(crate) ccr: bool,
    /// Processes see each other's gates, as those of one machine do that serve one store.
    pub(crate) common_board: bool,
    /// Controller identifiers of a process: few, and a successor soon has its predecessor's.
    pub(crate) cntlids: u16,
    /// I/O queues a controller has.
    pub(crate) io_queues: u16,
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
    /// Longest usual way of a message between two actors of the host.
    pub(crate) message_delay: Nanos,
    /// Longest usual time of a write to disk, a call of the driver, the end of a queue pair.
    pub(crate) work_delay: Nanos,
    /// How long a queue thread polls before it sleeps.
    pub(crate) polling: Nanos,
    /// A flush marker that has not come by then never counts: the queue pair is destroyed.
    pub(crate) drain_deadline: Nanos,
    /// In a hundred drains, how many miss their marker.
    pub(crate) lost_markers: u64,
    /// Writes carry their data in the capsule.
    pub(crate) inline: bool,
    /// Requests may overlap others in flight.
    pub(crate) overlaps: bool,
    pub(crate) think: Nanos,
    /// When faults stop and requests are no longer made.
    pub(crate) active: Nanos,
    /// One path stays healthy, and what befalls the others never ends.
    pub(crate) for_ever: bool,
    pub(crate) swarm: Swarm,
    pub(crate) faults: Vec<Fault>,
    /// What operators ask, and when.
    pub(crate) verbs: Vec<(Nanos, Nuisance)>,
}

/// A namespace.
#[derive(Debug, Clone)]
pub(crate) struct VolumePlan {
    pub(crate) blocks: u64,
    pub(crate) policy: VolumePolicy,
    /// The array has it from the beginning.
    pub(crate) from_start: bool,
}

/// A way to a controller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoutePlan {
    /// Largest transfer as a power of two of 4 KiB pages; 0: without limit.
    pub(crate) mdts: u8,
    pub(crate) preferred: bool,
    /// The configuration wants it; otherwise somebody asks for it by hand.
    pub(crate) configured: bool,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let chance = &mut Chance::new(seed, 1);
        let swarm = Swarm::new(chance);
        let paths = chance.pick(&[2, 2, 3, 3, 4]);
        let processes = chance.within(1, 2) as usize;
        let shipped = chance.percent(28);
        let mut kato = if shipped {
            SECOND
        } else {
            chance.pick(&[200, 400, 600]) * MILLI
        };
        let mut cqt = chance.pick(&[20, 50, 100]) * MILLI;
        let mut active = if shipped { 2 } else { chance.within(2, 6) } * kato;
        let slowest = processes > 1 && !shipped && chance.percent(15);
        if slowest {
            // The clocks' error is large against everything else, and there is time to sleep out.
            (kato, cqt) = (500 * MILLI, 20 * MILLI);
            active = 6 * kato;
        }
        // A Keep Alive must be on its way when a controller with a slow clock falls asleep.
        let beats = if slowest {
            16
        } else {
            chance.pick(&[2, 3, 4, 5, 8])
        };
        let heartbeat = if shipped { 60 * MILLI } else { kato / beats };
        let skewed = chance.percent(30);
        let mut skew = || match (slowest, skewed) {
            (true, _) => -CLOCK_ERROR,
            (false, true) => chance.within(0, 2 * CLOCK_ERROR as u64) as i64 - CLOCK_ERROR,
            (false, false) => 0,
        };
        let skew = (0..processes).map(|_| skew()).collect();
        let volumes = chance.pick(&[1, 1, 1, 1, 2, 2, 3]);
        let policy = policy::draw(chance, &swarm);
        let volumes = (0..volumes).map(|nth| VolumePlan {
            blocks: chance.pick(&[REQUEST_BLOCKS as u64, 12, 24]),
            policy: if nth == 0 {
                policy
            } else {
                policy::draw(chance, &swarm)
            },
            from_start: nth == 0 || chance.percent(70),
        });
        let volumes: Vec<VolumePlan> = volumes.collect();
        let lanes = chance.pick(&[1, 2, 2, 3]);
        let mut plan = Self {
            seed,
            shipped,
            lanes,
            lanes_later: if chance.percent(80) {
                lanes
            } else {
                chance.within(1, lanes as u64) as usize
            },
            driver_queues: if chance.percent(15) { 1 } else { 8 },
            tags: chance.within(1, if volumes.len() > 1 { 2 } else { SLOTS.into() }) as u16,
            depth: chance.within(3, 9) as u16,
            request_blocks: chance.pick(&[1, 2, REQUEST_BLOCKS as u64]),
            routes: (0..paths)
                .map(|_| RoutePlan {
                    mdts: chance.pick(&[0, 0, 1, 2]),
                    preferred: chance.percent(10),
                    configured: chance.percent(80),
                })
                .collect(),
            processes,
            kato,
            heartbeat,
            command_timeout: chance.pick(&[100, 500]) * MILLI,
            io_timeout: if swarm.verbs > 0 && chance.percent(20) {
                14 * SECOND
            } else {
                4 * SECOND
            },
            ctrl_loss: chance.percent(15).then(|| chance.pick(&[100, 500]) * MILLI),
            cqt,
            skew,
            slowest,
            plain: chance.percent(4),
            one_queue: false,
            ccr: chance.percent(60) && !slowest,
            common_board: processes > 1 && chance.percent(70),
            cntlids: chance.pick(&[4, 16]),
            io_queues: if chance.percent(10) {
                (lanes * volumes.len()) as u16
            } else {
                32
            },
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
            work_delay: chance.pick(&[500, 5_000, 50_000]) * MICRO,
            polling: chance.pick(&[0, 0, 0, 50]) * MICRO,
            drain_deadline: if shipped {
                500
            } else {
                chance.pick(&[10, 100])
            } * MILLI,
            lost_markers: chance.pick(&[0, 0, 30]),
            inline: chance.percent(50),
            overlaps: chance.percent(60),
            think: chance.pick(&[3, 10, 30]) * MILLI,
            active,
            for_ever: chance.percent(6),
            volumes,
            swarm,
            faults: Vec::new(),
            verbs: Vec::new(),
        };
        if plan.plain {
            // Offered by a process that can do it, or not at all.
            plan.ccr &= (plan.common_board || plan.processes == 1) && chance.percent(50);
            plan.simplify();
        }
        if !plan.plain && !plan.for_ever && !slowest && chance.percent(5) {
            plan.cut_one_queue();
        }
        plan.faults = faults(chance, &plan);
        plan.verbs = verbs(chance, &plan);
        if !plan.verbs.is_empty() {
            // An association does not use again the identifiers of queues that were used, so whoever
            // removes a volume and connects it again needs more of them.
            plan.io_queues = 32;
        }
        plan
    }

    /// Nothing that could keep a lost write waiting but its own failover.
    fn simplify(&mut self) {
        self.overlaps = false;
        self.for_ever = false;
        self.io_queues = 32;
        for volume in &mut self.volumes {
            volume.policy.shared_with_other_hosts = false;
            volume.from_start = true;
        }
    }

    /// Nothing but the queue pair's own silence tells of it, and there is time to tell.
    fn cut_one_queue(&mut self) {
        self.one_queue = true;
        self.patience = [60 * SECOND, 60 * SECOND];
        self.active = 6 * SECOND;
        self.swarm.verbs = 0;
    }

    pub(crate) fn paths(&self) -> usize {
        self.routes.len()
    }

    /// How long a process may take for KATO, by the world's clock.
    pub(crate) fn kato_at_most(&self) -> Nanos {
        self.kato * 1000 / (1000 - CLOCK_ERROR as u64)
    }

    /// Longest time a command stays on the medium.
    pub(crate) fn media_max(&self) -> Nanos {
        self.cqt / 2
    }

    /// Longest pause between two attempts to connect.
    pub(crate) const PAUSE_MAX: Nanos = 500 * MILLI;

    /// Commands are waited for longer than a path is drained.
    pub(crate) fn is_patient(&self) -> bool {
        self.io_timeout > 10 * SECOND
    }

    /// Longest time anything of an old association may take to become harmless: the longest park,
    /// the longest fence, and some slack.
    pub(crate) fn longest_hold(&self) -> Nanos {
        let forgotten = |fault: &Fault| matches!(fault.kind, FaultKind::Forget { .. });
        let unanswered = if self.faults.iter().any(forgotten) {
            // A lane looks twice a second, and a command sent again may be forgotten again.
            2 * (self.io_timeout + 500 * MILLI)
        } else {
            0
        };
        unanswered + 11 * self.kato + self.cqt
    }
}
