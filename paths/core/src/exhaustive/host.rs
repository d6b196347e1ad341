//! The host's glue around the shipped machines: mail between control side and lanes, the order in
//! which fences are passed on, records, and a daemon that dies.
//!
//! It does what `Device`'s contract asks of a host and no more, and is where most mistakes are
//! planted.

use core::time::Duration;

use super::device::DeviceInput;
use super::judge::Violation;
use super::ladder::{LadderInput, News, Reply};
use super::lane::{Given, LaneInput, LaneOutput, given};
use super::mutant::Mutant;
use super::vocabulary::{Association, LANES, Mail, Report, Tables, WRITES, Write, Writes, each};
use super::world::{AssociationState, Request, Sent, Truth, World, no_mail, no_reports};
use super::{Engine, NOW};
use crate::association::{FenceTerms, OrderFence};

/// The lane that a mistake concerns.
const DEAF: usize = 1;
/// Queue pairs of an association: one of each lane, and the admin queue.
const QUEUES: u8 = LANES as u8 + 1;

impl World {
    /// A path gets a new association, which is on disk before anything is sent there.
    pub(super) fn connect(&mut self, engine: &mut Engine, path: u8) {
        let association = self.associations.len() as Association;
        self.associations.push(AssociationState::new(path));
        for lane in 0..LANES {
            let mail = Mail::Attach { path, association };
            self.post(engine, lane, mail);
        }
        self.device(engine, DeviceInput::Ready { path, association });
        self.escalate_all(engine, LadderInput::Up(association));
    }

    /// The host gives an association up: hard evidence, or two soft signals.
    pub(super) fn convict(&mut self, engine: &mut Engine, association: Association) {
        let state = self.association_mut(association);
        state.lost = true;
        // The admin queue's own.
        state.silent = 1;
        if engine.is(Mutant::RecordRemovedEarly) {
            state.recorded = false;
        }
        self.device(engine, DeviceInput::Convict(association));
        self.requests.retain(|request| request.via() != association);
        self.escalate_all(engine, LadderInput::Gone(association));
        self.start_ladder(engine, association);
        self.escalate_by_survivors(engine, association);
    }

    fn escalate_by_survivors(&mut self, engine: &mut Engine, association: Association) {
        let live: Vec<Association> = self
            .numbered()
            .filter(|(_, state)| !state.lost)
            .map(|(number, _)| number)
            .collect();
        for survivor in live {
            self.escalate(engine, association, LadderInput::Up(survivor));
        }
    }

    fn escalate_all(&mut self, engine: &mut Engine, input: LadderInput) {
        for association in 0..self.associations.len() as Association {
            self.escalate(engine, association, input);
        }
    }

    /// Tells the ladder of an association something, and does what it wants done.
    pub(super) fn escalate(
        &mut self,
        engine: &mut Engine,
        association: Association,
        input: LadderInput,
    ) {
        let input = match input {
            LadderInput::Reply(via, Reply::Pending) if engine.is(Mutant::PendingIsSuccess) => {
                LadderInput::Reply(via, Reply::Complete)
            }
            LadderInput::News(via, News::Failed) if engine.is(Mutant::FailedIsSuccess) => {
                LadderInput::News(via, News::Success)
            }
            input => input,
        };
        let Some(ladder) = self.association(association).ladder else {
            return;
        };
        let (next, answer) = engine.ladders.step(ladder, &input, &mut ());
        let state = self.association_mut(association);
        state.ladder = Some(next);
        state.waits = answer.waits;
        for (via, lost) in &answer.resets {
            assert_eq!(u64::from(association) + 100, lost.cirn, "names its own");
            self.requests.push(Request::Reset {
                lost: association,
                via: *via,
            });
        }
        for via in &answer.reads {
            self.requests.push(Request::ReadLog {
                lost: association,
                via: *via,
            });
        }
        if answer.fenced {
            self.order_fenced(engine, association);
        }
    }

    /// Something proves, for the host, that an association executes nothing any more.
    fn order_fenced(&mut self, engine: &mut Engine, association: Association) {
        if self.association(association).truth != Truth::Dead {
            self.blame(engine, Violation::FencedAlive);
        }
        let state = self.association_mut(association);
        state.ladder = None;
        state.waits = false;
        self.requests.retain(|request| match *request {
            Request::Reset { lost, .. } | Request::ReadLog { lost, .. } => lost != association,
        });
        self.device(engine, DeviceInput::OrderFenced(association));
    }

    /// When the fence by time stands, as far as the host knows. Its moment says only that there is one:
    /// that the controller has ended by then is the model's own business.
    pub(super) fn time_fence(&self, association: Association) -> Option<Duration> {
        let state = self.association(association);
        let kato = Duration::from_millis(100);
        let terms = FenceTerms::new(kato, 1, true, Duration::ZERO, Duration::ZERO);
        let fence = if state.inherited {
            OrderFence::silent_since(terms, NOW)
        } else {
            let mut fence = OrderFence::new(terms, 0..QUEUES);
            (0..state.silent).for_each(|queue| fence.queue_silent(&queue, NOW));
            fence
        };
        fence.at()
    }

    /// Tells the device something, and passes on what it says.
    fn device(&mut self, engine: &mut Engine, input: DeviceInput) {
        let (next, mail) = engine.devices.step(self.device, &input, &mut engine.tables);
        self.device = next;
        for mail in mail.iter() {
            match *mail {
                Mail::Guard(table) => {
                    self.table = table;
                    self.age();
                }
                Mail::Locked(association) => self.note_locked(engine, association),
                Mail::Fenced(association) => self.association_mut(association).recorded = false,
                _ => {}
            }
            for lane in 0..LANES {
                self.post(engine, lane, *mail);
            }
        }
    }

    /// There is a new table of ghosts.
    fn age(&mut self) {
        for age in &mut self.ages {
            *age += 1;
        }
        for report in self
            .reports
            .iter_mut()
            .flat_map(|reports| reports.iter_mut())
        {
            if let Report::Guarded { age } = report {
                *age += 1;
            }
        }
    }

    fn note_locked(&mut self, engine: &Engine, association: Association) {
        self.association_mut(association).locked = true;
        let ghost = |copy: &&Sent| copy.lost && copy.association == association;
        let ghosts: Vec<Write> = self.copies.iter().filter(ghost).map(|c| c.write).collect();
        let in_flight = |copy: &&Sent| {
            !copy.lost && !copy.executed && ghosts.iter().any(|ghost| *ghost != copy.write)
        };
        if let Some(copy) = self.copies.iter().find(in_flight) {
            self.blame(engine, Violation::LockedInFlight(copy.write));
        }
    }

    fn post(&mut self, engine: &mut Engine, lane: usize, mail: Mail) {
        let tables = &mut engine.tables;
        let mail = match (engine.setup.mutant, mail) {
            (Some(Mutant::ConvictionUnheard), Mail::Convict(association)) if lane == DEAF => {
                self.reports[lane].push(Report::Drained {
                    association,
                    ghosts: 0,
                });
                return;
            }
            (Some(Mutant::ConvictionUnheard), Mail::Locked(_) | Mail::Fenced(_))
                if lane == DEAF =>
            {
                return;
            }
            (Some(Mutant::GuardUnheard), Mail::Guard(_)) if lane == DEAF => {
                self.reports[lane].push(Report::Guarded { age: 0 });
                return;
            }
            (Some(Mutant::GhostMissing), Mail::Guard(table)) => {
                let ghosts = tables.ghosts(table).iter().skip(1).copied().collect();
                Mail::Guard(tables.note_ghosts(ghosts))
            }
            (Some(Mutant::GhostsForgotten), Mail::Guard(table)) => {
                Mail::Guard(self.without_answered(tables, table))
            }
            (Some(Mutant::UnlockUnheard), Mail::Guard(table))
                if lane == DEAF && tables.ghosts(table).is_empty() =>
            {
                return;
            }
            (Some(Mutant::GuardedAtOnce), Mail::Guard(_)) => {
                self.reports[lane].push(Report::Guarded { age: 0 });
                mail
            }
            _ => mail,
        };
        self.mail[lane].push(mail);
    }

    /// A table without the ghosts of writes that were answered.
    fn without_answered(&self, tables: &mut Tables, table: u16) -> u16 {
        let ghosts = tables.ghosts(table).iter();
        let kept = ghosts
            .filter(|(write, _)| write.is_none_or(|write| !self.application.has_answered(write)));
        let kept = kept.copied().collect();
        tables.note_ghosts(kept)
    }

    /// The control side takes what a lane reported first.
    pub(super) fn take_report(&mut self, engine: &mut Engine, lane: usize) {
        match self.reports[lane].remove(0) {
            Report::Drained {
                association,
                ghosts,
            } => self.drained(engine, association, lane, ghosts),
            Report::Guarded { age } => {
                let every = engine.is(Mutant::LockedEarly);
                for other in (0..LANES).filter(|other| *other == lane || every) {
                    let lane = other as u8;
                    self.device(engine, DeviceInput::Guarded { lane, age });
                }
            }
        }
    }

    fn drained(
        &mut self,
        engine: &mut Engine,
        association: Association,
        lane: usize,
        ghosts: Writes,
    ) {
        let state = self.association_mut(association);
        state.silent = (state.silent + 1).min(QUEUES);
        let drained = DeviceInput::Drained {
            association,
            lane: lane as u8,
            ghosts,
        };
        self.device(engine, drained);
        if engine.is(Mutant::FenceSkipped) && self.time_fence(association).is_some() {
            self.escalate(engine, association, LadderInput::Time);
        }
    }

    /// A lane reads so much of its mail, oldest first, and does what follows from it.
    pub(super) fn read(&mut self, engine: &mut Engine, lane: usize, count: usize, idle: u8) {
        let input = self.reading(lane, count, idle);
        for _ in 0..count {
            match self.mail[lane].remove(0) {
                Mail::Convict(association) => self.association_mut(association).heard[lane] = true,
                Mail::Guard(_) => {
                    let unread = |mail: &&Mail| matches!(mail, Mail::Guard(_));
                    self.ages[lane] = self.mail[lane].iter().filter(unread).count() as u8;
                }
                _ => {}
            }
        }
        self.lane(engine, lane, &input);
    }

    pub(super) fn reading(&self, lane: usize, count: usize, idle: u8) -> LaneInput {
        LaneInput {
            first: Given::Mail(self.mail[lane][0]),
            mail: self.mail[lane][1..count].to_vec(),
            idle,
        }
    }

    /// A lane passes the buffer fence of an association.
    pub(super) fn drain(
        &mut self,
        engine: &mut Engine,
        lane: usize,
        association: Association,
        idle: u8,
    ) {
        self.association_mut(association).drained[lane] = true;
        for copy in self.copies.iter_mut() {
            copy.lost |= copy.association == association && lane_of(copy.write) == lane;
        }
        self.copies.retain(|copy| !(copy.lost && copy.executed));
        let input = given(Given::Drained(association), idle);
        let output = self.lane(engine, lane, &input);
        let ghosts = output.ghosts;
        let drained = Report::Drained {
            association,
            ghosts,
        };
        // Before anything that the lane says about later events.
        let later = usize::from(output.guarded && !engine.is(Mutant::GuardedAtOnce));
        let at = self.reports[lane].len() - later;
        self.reports[lane].insert(at, drained);
    }

    /// What a lane does with an input.
    pub(super) fn lane(
        &mut self,
        engine: &mut Engine,
        lane: usize,
        input: &LaneInput,
    ) -> std::sync::Arc<LaneOutput> {
        let (next, output) = engine
            .lanes
            .step(self.lanes[lane], input, &mut engine.tables);
        self.lanes[lane] = next;
        for (write, association) in &output.sends {
            self.send(engine, *write, *association);
        }
        for write in each(output.completed) {
            let broken = self.application.acknowledge(write);
            if let Some(broken) = broken {
                self.blame(engine, broken);
            }
            if engine.is(Mutant::GhostsForgotten) {
                let table = Mail::Guard(self.table);
                (0..LANES).for_each(|lane| self.post(engine, lane, table));
            }
        }
        if output.guarded && !engine.is(Mutant::GuardedAtOnce) {
            let age = self.ages[lane];
            self.reports[lane].push(Report::Guarded { age });
        }
        output
    }

    /// The daemon dies, and another one takes over what it left.
    pub(super) fn crash(&mut self, engine: &mut Engine) {
        self.left.convictions = self.left.convictions.min(self.left.convictions_later);
        self.lanes = [0, 1].map(|lane| engine.lanes.start(lane));
        self.device = engine.devices.start(0);
        self.mail = no_mail();
        self.reports = no_reports();
        self.ages = [0; LANES];
        self.requests.clear();
        self.application.given = self.application.acknowledged;
        for copy in self.copies.iter_mut() {
            copy.lost = true;
        }
        self.copies.retain(|copy| !copy.executed);
        for association in 0..self.associations.len() as Association {
            let state = self.association_mut(association);
            state.lost = true;
            state.inherited = true;
            state.locked = false;
            state.ladder = None;
            state.waits = false;
            if state.recorded && !engine.is(Mutant::InheritanceForgotten) {
                self.start_ladder(engine, association);
                self.device(engine, DeviceInput::Inherit(association));
            }
            let state = self.association_mut(association);
            state.silent = 0;
            (state.heard, state.drained) = Default::default();
        }
        // What is inherited comes before the first path, and without a path nothing is sent.
        for lane in 0..LANES {
            let count = self.mail[lane].len();
            if count > 0 {
                self.read(engine, lane, count, 0);
            }
        }
        // The kernel gives out again what was not answered.
        for write in each(self.application.unanswered()) {
            self.submit(engine, write, 0);
        }
    }

    /// The application writes, or the kernel gives a write out again.
    pub(super) fn submit(&mut self, engine: &mut Engine, write: Write, idle: u8) {
        self.application.submit(write);
        let input = given(Given::Request(write), idle);
        self.lane(engine, lane_of(write), &input);
    }

    /// Writes that this daemon's lanes were not given yet.
    pub(super) fn ungiven(&self, writes: Writes) -> Writes {
        writes & !self.application.given
    }
}

pub(super) fn lane_of(write: Write) -> usize {
    WRITES[usize::from(write)].lane
}
