//! The state of the whole: host, fabric, controllers, medium and application.

use super::judge::{Application, Violation};
use super::ladder::LadderMachine;
use super::list::List;
use super::machine::Id;
use super::vocabulary::{Association, LANES, Mail, PATHS, Report, Write, only};
use super::{Bounds, Engine};

/// How a controller stands to an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Truth {
    /// It takes commands and executes them when it likes.
    Alive,
    /// It takes none any more, and may execute those it has.
    Closing,
    /// It executes nothing of the association, ever.
    Dead,
}

/// A reset of one controller through another, as the other's log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Log {
    Nothing,
    InProgress,
    Success,
    Failed,
}

/// One association, from all sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AssociationState {
    pub(super) path: u8,
    pub(super) truth: Truth,
    pub(super) log: Log,
    /// The host has given it up, or inherited it.
    pub(super) lost: bool,
    /// By a daemon that has died: every queue pair went with it.
    pub(super) inherited: bool,
    /// It is on disk.
    pub(super) recorded: bool,
    /// Every lane keeps off its ghosts, as far as the host knows.
    pub(super) locked: bool,
    /// Queue pairs, the admin queue's included, of which the host knows that they are silent.
    pub(super) silent: u8,
    /// Lanes that have read its conviction, and lanes that have drained.
    pub(super) heard: [bool; LANES],
    pub(super) drained: [bool; LANES],
    /// The way to its order fence, until that stands.
    pub(super) ladder: Option<Id>,
    /// The ladder waits for a time.
    pub(super) waits: bool,
}

impl AssociationState {
    pub(super) fn new(path: u8) -> Self {
        Self {
            path,
            truth: Truth::Alive,
            log: Log::Nothing,
            lost: false,
            inherited: false,
            recorded: true,
            locked: false,
            silent: 0,
            heard: [false; LANES],
            drained: [false; LANES],
            ladder: None,
            waits: false,
        }
    }

    /// It is fenced, and no lane has anything of it any more.
    fn is_over(&self) -> bool {
        self.lost && self.truth == Truth::Dead && self.ladder.is_none() && self.is_silent()
    }

    /// Nothing of ours reaches the controller any more, whatever the host believes.
    pub(super) fn is_silent(&self) -> bool {
        self.inherited || self.drained == [true; LANES]
    }
}

/// A command that a controller has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Sent {
    pub(super) association: Association,
    pub(super) write: Write,
    /// It was executed, and its answer is under way.
    pub(super) executed: bool,
    /// Nobody waits for its answer any more.
    pub(super) lost: bool,
}

/// A command of the host's to a surviving controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Request {
    Reset { lost: Association, via: Association },
    ReadLog { lost: Association, via: Association },
}

impl Request {
    pub(super) fn via(self) -> Association {
        match self {
            Self::Reset { via, .. } | Self::ReadLog { via, .. } => via,
        }
    }

    pub(super) fn lost(self) -> Association {
        match self {
            Self::Reset { lost, .. } | Self::ReadLog { lost, .. } => lost,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) lanes: [Id; LANES],
    pub(super) device: Id,
    /// What the control side has sent each lane and it has not read, oldest first.
    pub(super) mail: [List<Mail, 16>; LANES],
    /// What each lane has sent the control side, likewise.
    pub(super) reports: [List<Report, 12>; LANES],
    /// How many tables of ghosts came after the one that each lane read last.
    pub(super) ages: [u8; LANES],
    /// The newest of them.
    pub(super) table: u16,
    pub(super) associations: List<AssociationState, 8>,
    pub(super) copies: List<Sent, 16>,
    pub(super) requests: List<Request, 8>,
    pub(super) application: Application,
    /// What may still happen.
    pub(super) left: Bounds,
    pub(super) violation: Option<Violation>,
}

impl World {
    /// Both paths are in use, and nothing was asked for yet.
    pub(super) fn new(engine: &mut Engine, bounds: Bounds) -> Self {
        let mut world = Self {
            lanes: [0, 1].map(|lane| engine.lanes.start(lane)),
            device: engine.devices.start(0),
            mail: no_mail(),
            reports: no_reports(),
            ages: [0; LANES],
            table: engine.tables.note_ghosts(Vec::new()),
            associations: List::new(AssociationState::new(0)),
            copies: List::new(Sent::default()),
            requests: List::new(Request::Reset { lost: 0, via: 0 }),
            application: Application::default(),
            left: bounds,
            violation: None,
        };
        for path in 0..PATHS as u8 {
            world.connect(engine, path);
        }
        for lane in 0..LANES {
            while !world.mail[lane].is_empty() {
                world.read(engine, lane, 1, 0);
            }
        }
        world
    }

    pub(super) fn association(&self, association: Association) -> &AssociationState {
        &self.associations[usize::from(association)]
    }

    pub(super) fn association_mut(&mut self, association: Association) -> &mut AssociationState {
        &mut self.associations[usize::from(association)]
    }

    /// Every association, with its number.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (Association, &AssociationState)> {
        (0..).zip(&*self.associations)
    }

    /// The association that a path has now.
    pub(super) fn current(&self, path: u8) -> Option<Association> {
        self.numbered()
            .find(|(_, state)| state.path == path && !state.lost)
            .map(|(number, _)| number)
    }

    /// What matters no more looks the same whatever it was.
    pub(super) fn tidy(&mut self) {
        self.copies.sort_unstable();
        let unexecuted = self.copies.iter().filter(|copy| !copy.executed);
        self.application
            .forget(unexecuted.fold(0, |writes, copy| writes | only(copy.write)));
        if self.left.convictions == 0
            && self.associations.iter().all(|state| state.ladder.is_none())
        {
            self.left.troubles = 0;
        }
        for state in self.associations.iter_mut().filter(|state| state.is_over()) {
            *state = AssociationState {
                truth: Truth::Dead,
                lost: true,
                inherited: state.inherited,
                recorded: false,
                heard: [true; LANES],
                drained: [true; LANES],
                ..AssociationState::new(state.path)
            };
        }
        self.drop_confirmations();
    }

    /// Confirmations that can have no effect any more: where nothing waits to be locked, what is lost
    /// later is locked by a later table, or has no ghosts.
    fn drop_confirmations(&mut self) {
        let waits = |state: &AssociationState| {
            state.lost && !state.inherited && !state.locked && !state.is_over()
        };
        if self.associations.iter().any(waits) {
            return;
        }
        self.ages = [0; LANES];
        for reports in &mut self.reports {
            reports.retain(|report| matches!(report, Report::Drained { .. }));
        }
    }

    /// A write that was answered may still be executed once more.
    pub(super) fn has_late_ghost(&self) -> bool {
        let late = |copy: &Sent| copy.lost && self.application.has_answered(copy.write);
        self.copies.iter().any(late)
    }

    /// A message or an answer is.
    pub(super) fn is_under_way(&self) -> bool {
        self.mail.iter().any(|mail| !mail.is_empty())
            || self.reports.iter().any(|reports| !reports.is_empty())
            || !self.copies.is_empty()
    }

    /// Nothing is under way, and what was lost is fenced.
    pub(super) fn is_quiet(&self) -> bool {
        let fenced = |state: &AssociationState| !state.lost || state.is_over();
        !self.is_under_way() && self.associations.iter().all(fenced)
    }

    /// A new way to the fence of an association; survivors are notified one by one.
    pub(super) fn start_ladder(&mut self, engine: &mut Engine, association: Association) {
        let path = self.association(association).path;
        let number = LadderMachine::number(path, association);
        let id = engine.ladders.start(number);
        self.association_mut(association).ladder = Some(id);
    }

    pub(super) fn blame(&mut self, engine: &Engine, violation: Violation) {
        if !(engine.setup.data_only && violation.is_of_order()) {
            self.violation.get_or_insert(violation);
        }
    }
}

pub(super) fn no_mail() -> [List<Mail, 16>; LANES] {
    [List::new(Mail::Paths(0)); LANES]
}

pub(super) fn no_reports() -> [List<Report, 12>; LANES] {
    [List::new(Report::Guarded { age: 0 }); LANES]
}
