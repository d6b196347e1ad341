//! Exhaustive where it is small: every order in which things can happen, to the end.
//!
//! Two paths, two lanes, three writes that overlap, associations that are lost, resets that fail, and
//! a daemon that dies. The lanes, the device, the ladders and the fence are the shipped ones
//! ([`machine`]); the model plays what is around them: mail that is read late ([`host`]), controllers
//! that execute a command whenever they like until they have ended ([`target`]), the application and
//! the medium ([`judge`]). Time does not pass: a timer runs out or does not, at any moment, and the
//! fence by time may stand once nothing of ours can reach the controller any more.
//!
//! `docs/simulator.md` says what is covered and how to run it.

mod device;
mod host;
mod judge;
mod ladder;
mod lane;
mod list;
mod machine;
mod mutant;
mod runs;
mod steps;
mod target;
mod vocabulary;
mod world;

use core::time::Duration;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use device::DeviceMachine;
use ladder::LadderMachine;
use lane::LaneMachine;
use machine::Machines;
use mutant::Mutant;
use steps::Step;
use vocabulary::{Tables, Writes};
use world::{Truth, World};

/// It is always now.
const NOW: Duration = Duration::from_secs(1);

/// What may go wrong, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Bounds {
    convictions: u8,
    /// How many of them may come after the crash.
    convictions_later: u8,
    /// Associations made for a path that has had one under this daemon.
    reconnects: u8,
    crashes: u8,
    /// Resets that do not go well: busy, refused, unanswered, failed.
    troubles: u8,
}

#[derive(Debug, Clone, Copy)]
struct Setup {
    writes: Writes,
    bounds: Bounds,
    /// A lane reads its mail message by message or all at once, and not only by what the device said
    /// in one breath.
    one_by_one: bool,
    mutant: Option<Mutant>,
    /// Only what the application can see counts.
    data_only: bool,
}

/// The machines, and all that is known of them.
struct Engine {
    setup: Setup,
    lanes: Machines<LaneMachine>,
    devices: Machines<DeviceMachine>,
    ladders: Machines<LadderMachine>,
    tables: Tables,
}

impl Setup {
    /// What goes well, with nothing lost.
    const QUIET: Self = Self {
        writes: 0b111,
        bounds: Bounds {
            convictions: 0,
            convictions_later: 0,
            reconnects: 0,
            crashes: 0,
            troubles: 0,
        },
        one_by_one: false,
        mutant: None,
        data_only: false,
    };

    /// Enough happens to see everything that the model has.
    fn expects_all(&self) -> bool {
        self.bounds.convictions > 0 && self.writes.count_ones() > 1
    }
}

impl Engine {
    fn is(&self, mutant: Mutant) -> bool {
        self.setup.mutant == Some(mutant)
    }
}

struct Exhaustive(Mutex<Engine>);

impl Exhaustive {
    fn new(setup: Setup) -> Self {
        Self(Mutex::new(Engine {
            setup,
            lanes: Machines::new(),
            devices: Machines::new(),
            ladders: Machines::new(),
            tables: Tables::default(),
        }))
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing can happen any more, and the application still waits, or something is not fenced.
    fn is_stuck(&self, world: &World) -> bool {
        let engine = self.engine();
        let ended = world.application.is_over(engine.setup.writes) && world.is_quiet();
        if ended || engine.setup.data_only || world.is_under_way() {
            return false;
        }
        let mut steps = Vec::new();
        world.steps(&engine, &mut steps);
        steps.is_empty() && world.violation.is_none()
    }
}

impl Model for Exhaustive {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let mut engine = self.engine();
        let bounds = engine.setup.bounds;
        vec![World::new(&mut engine, bounds)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(&self.engine(), steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut engine = self.engine();
        if world.is_double(&mut engine, step) {
            return None;
        }
        let mut next = *world;
        next.take(&mut engine, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(KEPT, |_, world: &World| world.violation.is_none()),
            Property::always(ENDS, |model: &Self, world: &World| !model.is_stuck(world)),
            Property::sometimes("ghosts are locked", |_, world: &World| {
                world.associations.iter().any(|state| state.locked)
            }),
            Property::sometimes("an acknowledged write has a ghost", |_, world: &World| {
                world.has_late_ghost()
            }),
            Property::sometimes("a reset is under way", |_, world: &World| {
                world
                    .associations
                    .iter()
                    .any(|state| state.truth == Truth::Closing)
            }),
            Property::sometimes("all is over", |model: &Self, world: &World| {
                world.is_quiet() && world.application.is_over(model.engine().setup.writes)
            }),
        ]
    }
}

/// What every step keeps.
const KEPT: &str = "no promise is broken";
/// What every run comes to, since no step can be taken for ever: each takes a message, a command or a
/// bound.
const ENDS: &str = "everything ends";

/// Past the test harness, which shows what tests print only when they fail.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// What was found against a setup: the promise, and the steps that break it.
type Counterexample = (String, Vec<Step>);

/// Every order of everything. `Some`: an order that breaks a promise, none being shorter by much.
fn explore(name: &str, setup: Setup) -> Option<Counterexample> {
    let began = Instant::now();
    let checker = Exhaustive::new(setup)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut found = checker.discoveries();
    if let Some(at) = [KEPT, ENDS]
        .into_iter()
        .find(|name| found.contains_key(name))
    {
        let path = found.remove(at)?;
        let broken = path.last_state().violation;
        let words = broken.map_or(at.to_owned(), |broken| format!("{broken:?}"));
        return Some((words, path.into_actions()));
    }
    let engine = checker.model().engine();
    say(&format!(
        "exhaustive: {name}: {} states, {} steps, {} deep, in {:.1} s; {} states of a lane, {} of a \
         device, {} of a ladder",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f32(),
        engine.lanes.count(),
        engine.devices.count(),
        engine.ladders.count(),
    ));
    let seen = engine.setup.expects_all();
    drop(engine);
    for property in checker.model().properties() {
        let sought = property.expectation == stateright::Expectation::Sometimes;
        assert!(
            !(seen && sought) || found.contains_key(property.name),
            "never so: {}",
            property.name
        );
    }
    None
}
