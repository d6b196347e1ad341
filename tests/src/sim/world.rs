//! The world of one run: virtual time, and everybody in it.
//!
//! One thread, one agenda. Whoever stands still (a lane, the control side, a target process) finds
//! what was due for it when it goes on, in order; its NIC and the medium never wait for it.

use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use umpath_core::association::LadderOutput;
use umpath_core::{AssociationId, Tag};
use umpath_nvme::{Cqe, Nqn};
use umpath_session::SessionConfig;
use umpath_target::array::Subsystem;
use umpath_target::controller::board::Memory;

use super::array::{Command, NQN};
use super::chance::Chance;
use super::checker::{Checker, OpId, Violation};
use super::clock::{Agenda, MILLI, Nanos, duration};
use super::fabric::{Packet, Qp, QpId, Route, TargetEnd, Values, Way};
use super::host::{Host, LaneOrder, LaneReport, Record};
use super::medium::Medium;
use super::mutant::Mutant;
use super::plan::Plan;
use super::process::{Graves, Process, subsystem};
use super::resets::Made;
use super::workload::{Client, Phase};

/// One copy of a part of a request on its way to a controller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy {
    pub(crate) op: OpId,
    pub(crate) lane: usize,
    pub(crate) tag: Tag,
    pub(crate) association: AssociationId,
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
    /// First block within the request.
    pub(crate) offset: usize,
    pub(crate) mutation: bool,
    /// Its response was reaped.
    pub(crate) answered: bool,
    /// Its queue pair was drained first.
    pub(crate) lost: bool,
}

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Happening {
    Client {
        lane: usize,
        tag: u16,
    },
    Fault {
        at: usize,
        begins: bool,
    },
    Phase,
    ToLane {
        life: u32,
        lane: usize,
        order: LaneOrder,
    },
    FromLane {
        life: u32,
        lane: usize,
        report: LaneReport,
    },
    LaneTimer {
        life: u32,
        lane: usize,
        at: Nanos,
    },
    Completion {
        life: u32,
        qp: QpId,
        lane: usize,
        cqe: Cqe,
        copy: u32,
    },
    SessionTimer {
        life: u32,
        path: usize,
        association: AssociationId,
        at: Nanos,
    },
    HealthTimer {
        life: u32,
        path: usize,
        association: AssociationId,
        at: Nanos,
    },
    DeviceTimer {
        life: u32,
        at: Nanos,
    },
    Reconnect {
        life: u32,
        path: usize,
    },
    /// A mutant unlocks what is locked.
    Unlock {
        life: u32,
        lane: usize,
        generation: u64,
    },
    FenceDue {
        life: u32,
        association: AssociationId,
    },
    OpenArrives {
        life: u32,
        path: usize,
        association: AssociationId,
        qid: u16,
    },
    Opened {
        life: u32,
        path: usize,
        association: AssociationId,
        qid: u16,
        qp: Option<QpId>,
    },
    Arrives {
        qp: QpId,
        way: Way,
        packet: Packet,
    },
    PatienceEnds {
        qp: QpId,
        way: Way,
        since: Nanos,
    },
    Farewell {
        qp: QpId,
        way: Way,
        tries: u32,
    },
    Drained {
        life: u32,
        qp: QpId,
        lane: Option<usize>,
    },
    Enter {
        command: usize,
    },
    EnterAgain {
        command: usize,
    },
    Medium {
        command: usize,
    },
    Executed {
        command: usize,
        values: Option<Box<Values>>,
    },
    ProcessTimer {
        process: usize,
        life: u32,
        at: Nanos,
    },
    /// A process that died takes its place again.
    Restart {
        process: usize,
    },
    /// An answer that a target kept back.
    LateAnswer {
        qp: QpId,
        packet: Packet,
    },
    /// A path's task gets an order of a ladder.
    AskSurvivor {
        life: u32,
        order: LadderOutput,
    },
    LadderTimer {
        life: u32,
        at: Nanos,
    },
}

/// A run with more events than this goes round in circles.
const EVENTS_MAX: u32 = 1_000_000;

/// Who has to be awake for something to happen.
enum Actor {
    Nobody,
    Control,
    Lane(usize),
    Process(usize),
}

/// Parts of a world that every run needs alike, made once.
#[derive(Debug, Clone)]
pub(crate) struct Templates {
    subsystem: Subsystem<()>,
    session: SessionConfig,
    /// For worlds that need none of their own.
    board: Arc<Memory>,
}

impl Templates {
    pub(crate) fn new() -> Result<Self, umpath_nvme::nqn::NqnError> {
        let host = Nqn::new("nqn.2026-11.test:host")?;
        let session = SessionConfig::new(host, [1; 16], Nqn::new(NQN)?);
        Ok(Self {
            subsystem: subsystem(),
            session,
            board: Arc::default(),
        })
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) now: Nanos,
    pub(crate) agenda: Agenda<Happening>,
    pub(crate) fabric_chance: Chance,
    pub(crate) array_chance: Chance,
    pub(crate) client_chance: Chance,
    pub(crate) host: Host,
    /// What the host keeps on disk: associations that may have been used and are not fenced.
    pub(crate) records: Vec<Record>,
    /// Associations of earlier lives of the host that may have been used.
    pub(crate) inherited: Vec<AssociationId>,
    pub(crate) clients: Vec<Vec<Client>>,
    pub(crate) phase: Phase,
    pub(crate) scan_at: u64,
    /// When everything begun must have returned.
    pub(crate) budget_ends: Nanos,
    pub(crate) routes: Vec<Route>,
    pub(crate) qps: Vec<Qp>,
    pub(crate) copies: Vec<Copy>,
    /// Copies of mutations that are neither answered nor fenced.
    pub(crate) at_large: Vec<u32>,
    pub(crate) processes: Vec<Process>,
    /// Controllers that were made, oldest first.
    pub(crate) made: Vec<Made>,
    /// What processes that share a board know of each other.
    pub(crate) graves: Arc<Graves>,
    pub(crate) board: Arc<Memory>,
    pub(crate) subsystem: Subsystem<()>,
    pub(crate) commands: Slab<Command>,
    pub(crate) medium: Medium,
    /// Positions in the plan of faults in force.
    pub(crate) active_faults: Vec<usize>,
    pub(crate) checker: Checker,
    pub(crate) violation: Option<Violation>,
    trace: bool,
}

impl World {
    pub(crate) fn new(
        plan: Plan,
        mutant: Option<Mutant>,
        templates: &Templates,
        trace: bool,
    ) -> Self {
        let seed = plan.seed;
        let mut session = templates.session.clone();
        session.kato = duration(plan.kato);
        session.heartbeat = duration(plan.heartbeat);
        session.io_queues = plan.lanes as u16;
        session.io_depth = plan.depth;
        session.open_timeout = Duration::from_millis(300);
        session.command_timeout = duration(plan.command_timeout);
        let client = Client::new();
        let mut world = Self {
            now: 0,
            agenda: Agenda::new(),
            fabric_chance: Chance::new(seed, 2),
            array_chance: Chance::new(seed, 3),
            client_chance: Chance::new(seed, 4),
            host: Host::new(&plan, mutant, session, 0),
            records: Vec::new(),
            inherited: Vec::new(),
            clients: vec![vec![client; usize::from(plan.tags)]; plan.lanes],
            phase: Phase::Active,
            scan_at: 0,
            budget_ends: 0,
            routes: vec![Route::default(); plan.paths()],
            qps: Vec::new(),
            copies: Vec::with_capacity(512),
            at_large: Vec::new(),
            processes: Vec::new(),
            made: Vec::new(),
            graves: Arc::default(),
            board: if plan.common_board {
                Arc::default()
            } else {
                Arc::clone(&templates.board)
            },
            subsystem: templates.subsystem.clone(),
            commands: Slab::new(),
            medium: Medium::new(plan.blocks),
            active_faults: Vec::new(),
            checker: Checker::new(plan.blocks, plan.cache),
            violation: None,
            trace,
            mutant,
            plan,
        };
        for process in 0..world.plan.processes {
            let new = world.new_process(process, 1, process);
            world.processes.push(new);
        }
        world
    }

    /// Runs to the end, or to the first broken promise.
    pub(crate) fn run(&mut self) {
        if self.trace {
            print!("{}", self.plan);
        }
        self.pump_device();
        for path in 0..self.plan.paths() {
            self.connect(path);
        }
        self.begin_workload();
        let mut events = 0_u32;
        while self.violation.is_none() && self.phase != Phase::Over {
            let Some((at, order, happening)) = self.agenda.pop() else {
                break;
            };
            self.now = at;
            events += 1;
            if events > EVENTS_MAX {
                self.fail(Violation("(13) the run does not end".to_owned()));
            }
            self.happen(order, happening);
        }
        if let Some(Violation(what)) = &self.violation {
            self.note(|| format!("VIOLATION {what}"));
        }
    }

    fn happen(&mut self, order: u32, happening: Happening) {
        if self.is_void(&happening) {
            return;
        }
        let until = match actor(&happening, self) {
            Actor::Nobody => 0,
            Actor::Control => self.host.control_stalled_until,
            Actor::Lane(lane) => self.host.lanes[lane].stalled_until,
            Actor::Process(process) => self.processes[process].stopped_until,
        };
        if until > self.now {
            // Whoever goes on may look at its timers last.
            let late = matches!(happening, Happening::ProcessTimer { .. });
            let until = if late { until + MILLI } else { until };
            return self.agenda.put_off(until, order, happening);
        }
        match happening {
            Happening::Client { lane, tag } => self.client(lane, tag),
            Happening::Fault { at, begins } => self.fault(at, begins),
            Happening::Phase => self.next_phase(),
            Happening::ToLane { lane, order, .. } => self.lane_order(lane, order),
            Happening::FromLane { lane, report, .. } => self.lane_report(lane, report),
            Happening::LaneTimer { lane, at, .. } => self.lane_timer(lane, at),
            Happening::Completion {
                qp,
                lane,
                cqe,
                copy,
                ..
            } => {
                self.completion(qp, lane, &cqe, copy);
            }
            Happening::SessionTimer {
                path,
                association,
                at,
                ..
            } => {
                self.session_timer(path, association, at);
            }
            Happening::HealthTimer {
                path,
                association,
                at,
                ..
            } => {
                self.health_timer(path, association, at);
            }
            Happening::DeviceTimer { at, .. } => self.device_timer(at),
            Happening::Reconnect { path, .. } => self.connect(path),
            Happening::Unlock {
                lane, generation, ..
            } => self.unlock(lane, generation),
            Happening::FenceDue { association, .. } => self.fence_due(association),
            Happening::OpenArrives {
                path,
                association,
                qid,
                ..
            } => {
                self.open_arrives(path, association, qid);
            }
            Happening::Opened {
                path,
                association,
                qid,
                qp,
                ..
            } => {
                self.opened(path, association, qid, qp);
            }
            Happening::Arrives {
                qp,
                way: Way::ToTarget,
                packet,
            } => self.target_receives(qp, packet),
            Happening::Arrives {
                qp,
                way: Way::ToHost,
                packet,
            } => self.host_receives(qp, packet),
            Happening::PatienceEnds { qp, way, since } => self.patience_ends(qp, way, since),
            Happening::Farewell { qp, way, tries } => self.farewell(qp, way, tries),
            Happening::Drained { qp, lane, .. } => self.qp_drained(qp, lane),
            Happening::Enter { command } => self.enter(command),
            Happening::EnterAgain { command } => self.enter_again(command),
            Happening::Medium { command } => self.medium(command),
            Happening::Executed { command, values } => self.executed(command, values),
            Happening::ProcessTimer { process, life, at } => self.process_timer(process, life, at),
            Happening::Restart { process } => self.restart(process),
            Happening::LateAnswer { qp, packet } => self.late_answer(qp, packet),
            Happening::AskSurvivor { order, .. } => self.ask_survivor(order),
            Happening::LadderTimer { at, .. } => self.ladder_timer(at),
        }
    }

    /// It concerns a life of the host that is over.
    fn is_void(&self, happening: &Happening) -> bool {
        match happening {
            Happening::ToLane { life, .. }
            | Happening::FromLane { life, .. }
            | Happening::LaneTimer { life, .. }
            | Happening::Completion { life, .. }
            | Happening::SessionTimer { life, .. }
            | Happening::HealthTimer { life, .. }
            | Happening::DeviceTimer { life, .. }
            | Happening::Reconnect { life, .. }
            | Happening::FenceDue { life, .. }
            | Happening::OpenArrives { life, .. }
            | Happening::Drained { life, .. }
            | Happening::Unlock { life, .. }
            | Happening::AskSurvivor { life, .. }
            | Happening::LadderTimer { life, .. }
            | Happening::Opened { life, .. } => *life != self.host.life,
            _ => false,
        }
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(crate) fn fail(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// A line of the trace.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if self.trace {
            println!("{:12.6} {}", self.now as f64 / MILLI as f64, line());
        }
    }
}

fn actor(happening: &Happening, world: &World) -> Actor {
    match happening {
        Happening::ToLane { lane, .. }
        | Happening::LaneTimer { lane, .. }
        | Happening::Unlock { lane, .. }
        | Happening::Completion { lane, .. }
        | Happening::Client { lane, .. }
        | Happening::Drained {
            lane: Some(lane), ..
        } => Actor::Lane(*lane),
        Happening::FromLane { .. }
        | Happening::SessionTimer { .. }
        | Happening::HealthTimer { .. }
        | Happening::DeviceTimer { .. }
        | Happening::AskSurvivor { .. }
        | Happening::LadderTimer { .. }
        | Happening::Reconnect { .. }
        | Happening::FenceDue { .. }
        | Happening::Opened { .. }
        | Happening::Drained { lane: None, .. }
        | Happening::Arrives {
            way: Way::ToHost,
            packet: Packet::AdminAnswer { .. } | Packet::Goodbye { .. },
            ..
        } => Actor::Control,
        Happening::OpenArrives { path, .. } => Actor::Process(world.process_of(*path)),
        Happening::Arrives {
            qp,
            way: Way::ToTarget,
            ..
        } => match world.qps[*qp].target {
            TargetEnd::Closed => Actor::Nobody,
            _ => Actor::Process(world.qps[*qp].process),
        },
        Happening::Enter { command }
        | Happening::EnterAgain { command }
        | Happening::Executed { command, .. } => world
            .commands
            .get(*command)
            .map_or(Actor::Nobody, |known| Actor::Process(known.process)),
        Happening::ProcessTimer { process, .. } => Actor::Process(*process),
        Happening::Fault { .. }
        | Happening::Phase
        | Happening::Restart { .. }
        | Happening::LateAnswer { .. }
        | Happening::Arrives { .. }
        | Happening::PatienceEnds { .. }
        | Happening::Farewell { .. }
        | Happening::Medium { .. } => Actor::Nobody,
    }
}
