//! The world of one run: virtual time, and everybody in it.
//!
//! One thread, one agenda. Whoever stands still (a queue thread, the control side, a target process)
//! finds what was due for it when it goes on, in order; its NIC and the medium never wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;
use umpath_nvme::{Cqe, Nqn};
use umpath_session::SessionConfig;
use umpath_target::gate::board::Memory;
use umpath_target::subsystem::Subsystem;

use super::array::{Command, NQN};
use super::blockdev::BlockDevice;
use super::chance::Chance;
use super::checker::{OpId, Violation};
use super::clock::{Agenda, EPOCH, MILLI, Nanos};
use super::course::Phase;
use super::disk::Disk;
use super::fabric::Route;
use super::happening::{Actor, Happening, actor};
use super::host::{Daemon, Inside, LaneAt, Log, Work};
use super::mutant::Mutant;
use super::operator::People;
use super::oracle::{Fences, Patient};
use super::plan::{FaultKind, Plan};
use super::process::{Graves, Process, subsystem};
use super::qp::{Assoc, Packet, Qp, Way};
use super::resets::Made;
use super::store::{Store, StoreId};

/// One copy of a part of a request on its way to a controller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy {
    pub(crate) op: OpId,
    pub(crate) store: StoreId,
    pub(crate) lane: LaneAt,
    pub(crate) tag: u16,
    pub(crate) association: Assoc,
    pub(crate) sent_at: Nanos,
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

/// A run with more events than this goes round in circles.
const EVENTS_MAX: u32 = 3_000_000;

/// Parts of a world that every run needs alike, made once.
#[derive(Debug, Clone)]
pub(crate) struct Templates {
    subsystem: Subsystem<StoreId>,
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
    pub(crate) host_chance: Chance,
    pub(crate) host: Daemon,
    pub(crate) session: SessionConfig,
    /// Work under way for the host.
    pub(crate) works: Slab<Work>,
    pub(crate) disk: Disk,
    pub(crate) devices: Vec<BlockDevice>,
    pub(crate) stores: Vec<Store>,
    pub(crate) phase: Phase,
    /// When everything begun must have returned.
    pub(crate) budget_ends: Nanos,
    pub(crate) routes: Vec<Route>,
    pub(crate) qps: Vec<Qp>,
    /// Packets under way.
    pub(crate) packets: Slab<Packet>,
    pub(crate) copies: Vec<Copy>,
    /// Copies of mutations that are neither answered nor fenced.
    pub(crate) at_large: Vec<u32>,
    pub(crate) processes: Vec<Process>,
    /// Controllers that were made, oldest first.
    pub(crate) made: Vec<Made>,
    /// What processes that share a board know of each other.
    pub(crate) graves: Arc<Graves>,
    pub(crate) board: Arc<Memory>,
    pub(crate) subsystem: Subsystem<StoreId>,
    pub(crate) commands: Slab<Command>,
    /// Positions in the plan of faults in force.
    pub(crate) active_faults: Vec<usize>,
    pub(crate) fences: Fences,
    pub(crate) patient: Patient,
    pub(crate) people: People,
    pub(crate) violation: Option<Violation>,
    /// When associations last had an answer on their admin queue, and when they were convicted.
    pub(crate) answered: BTreeMap<Assoc, Nanos>,
    pub(crate) convicted: BTreeMap<Assoc, Nanos>,
    /// Associations whose target has said goodbye.
    pub(crate) goodbyes: BTreeSet<Assoc>,
    /// Associations on which a namespace could not be identified.
    pub(crate) unread: BTreeSet<Assoc>,
    /// An answer that a mutant keeps: whose, on which path.
    pub(crate) stale_answer: Option<(LaneAt, usize, Cqe, u32)>,
    /// Which numbers mean which namespaces, as the host has heard last of each association.
    pub(crate) listed: BTreeMap<Assoc, Vec<(u32, StoreId)>>,
    /// A number has come to mean another namespace, or none.
    pub(crate) renumbered: bool,
    /// What a queue thread does in its round.
    pub(crate) log: Log,
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
        let stores = plan.volumes.iter().enumerate();
        let stores: Vec<Store> = stores
            .map(|(store, volume)| Store::new(store, volume, plan.cache))
            .collect();
        let disk = Disk::default();
        let mut world = Self {
            now: EPOCH,
            agenda: Agenda::new(),
            fabric_chance: Chance::new(seed, 2),
            array_chance: Chance::new(seed, 3),
            client_chance: Chance::new(seed, 4),
            host_chance: Chance::new(seed, 5),
            host: Daemon::new(&plan, mutant, (&stores, &disk), 1, EPOCH),
            session: templates.session.clone(),
            works: Slab::new(),
            disk,
            devices: Vec::new(),
            stores,
            phase: Phase::Active,
            budget_ends: 0,
            routes: vec![Route::default(); plan.paths()],
            qps: Vec::new(),
            packets: Slab::with_capacity(64),
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
            active_faults: Vec::new(),
            fences: Fences::default(),
            patient: Patient::new(&plan),
            people: People::default(),
            violation: None,
            answered: BTreeMap::new(),
            convicted: BTreeMap::new(),
            goodbyes: BTreeSet::new(),
            unread: BTreeSet::new(),
            stale_answer: None,
            listed: BTreeMap::new(),
            renumbered: false,
            log: Rc::default(),
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
        self.begin_run();
        self.begin_inspections();
        self.begin_process(EPOCH);
        self.ask_by_hand();
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
            Actor::Control => self.host.stalled_until,
            Actor::Lane(at) => self.lane(at).map_or(0, |lane| lane.stalled_until),
            Actor::Process(process) => self.processes[process].stopped_until,
        };
        if until > self.now {
            // Whoever goes on may look at its timers last.
            let late = matches!(happening, Happening::ProcessTimer { .. });
            let until = if late { until + MILLI } else { until };
            return self.agenda.put_off(until, order, happening);
        }
        match happening {
            Happening::Client { at, tag } => self.client_acts(at, tag),
            Happening::Fault { at, begins } => self.fault(at, begins),
            Happening::Nuisance(at) => self.nuisance(at),
            Happening::Phase => self.phase_due(),
            Happening::Round { at, due, .. } => self.round(at, due),
            Happening::Inside { what, .. } => self.happens_inside(*what),
            Happening::Revive => self.revive_host(),
            Happening::Flushed(qp) => self.flushed(qp),
            Happening::OpenArrives { opening, .. } => self.open_arrives(&opening),
            Happening::Arrives { qp, way, packet } => {
                let packet = self.packets.remove(packet);
                match way {
                    Way::ToTarget => self.target_receives(qp, packet),
                    Way::ToHost => self.host_receives(qp, packet),
                }
            }
            Happening::PatienceEnds { qp, way, since } => self.patience_ends(qp, way, since),
            Happening::Farewell { qp, way, tries } => self.farewell(qp, way, tries),
            Happening::Enter { command } => self.enter(command),
            Happening::EnterAgain { command } => self.enter_again(command),
            Happening::Medium { command } => self.medium(command),
            Happening::Executed { command, values } => self.executed(command, values),
            Happening::ProcessTimer { process, life, at } => self.process_timer(process, life, at),
            Happening::Restart { process } => self.restart(process),
            Happening::LateAnswer { qp, packet } => self.late_answer(qp, *packet),
            Happening::Inspection => self.inspect(),
        }
    }

    fn happens_inside(&mut self, what: Inside) {
        match what {
            Inside::ToLane(at, command) => self.mail(at, *command),
            Inside::FromLane(at, news, brought) => self.news_arrives(at, *news, brought),
            Inside::ToPath(path, request) => {
                self.tell_path(path, |core, now| core.handle_request(*request, now));
            }
            Inside::FromPath(path, report, brought) => self.report_arrives(path, *report, brought),
            Inside::PathTimer(path, at) => self.path_timer(path, at),
            Inside::HostTimer(at) => self.host_timer(at),
            Inside::Opened {
                path,
                association,
                qid,
                qp,
            } => self.opened(path, association, qid, qp),
            Inside::Released {
                path,
                association,
                report,
                qps,
            } => self.released(path, association, report, &qps),
            Inside::Link(path, association, link) => self.link(path, association, link),
            Inside::Done(work) => self.done(work),
            Inside::Verb(nuisance) => {
                self.people.interfere();
                self.ask(nuisance);
            }
            Inside::Unlock(at, generation) => self.unlock(at, generation),
            Inside::RecordedEarly(path, association) => {
                self.tell_host(|host, now| host.handle_recorded(path, association, Ok(()), now));
            }
            Inside::Destroyed(association, remains, at) => {
                self.tell_host(|host, now| host.handle_destroyed(association, remains, at, now));
            }
            Inside::AskedAgain(path) => self.ask_again(path),
            Inside::Swing(path, association, why, raised) => {
                self.swing(path, association, why, raised);
            }
        }
    }

    /// Something will happen in the host's process of this life.
    pub(crate) fn inside(&mut self, at: Nanos, life: u32, what: Inside) {
        let what = Box::new(what);
        self.agenda.push(at, Happening::Inside { life, what });
    }

    /// It concerns a life of the host that is over.
    fn is_void(&self, happening: &Happening) -> bool {
        match happening {
            Happening::Round { life, .. }
            | Happening::Inside { life, .. }
            | Happening::OpenArrives { life, .. } => !self.host.alive || *life != self.host.life,
            _ => false,
        }
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// A fault of this kind is in force.
    pub(crate) fn has_fault(&self, kind: FaultKind) -> bool {
        let mut active = self.active_faults.iter();
        active.any(|at| self.plan.faults[*at].kind == kind)
    }

    pub(crate) fn fail(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// A line of the trace.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if self.trace {
            println!(
                "{:12.6} {}",
                (self.now - EPOCH) as f64 / MILLI as f64,
                line()
            );
        }
    }
}
