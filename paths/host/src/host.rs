//! The host: the only owner of every path and every volume.
//!
//! Every input is a call that is handled to completion, so no half-done state is ever visible.
//! Anything that takes time (destroying a queue pair, creating a block device, writing a record) is
//! an order, and its completion is another call. `umpath_core` and [`Path`](crate::Path) decide
//! what a report about a single path *means*; this module maps it to the volumes concerned.
//!
//! | file | concern |
//! |---|---|
//! | `paths` | connecting and removing paths |
//! | `attach` | attaching a new association to its volumes |
//! | `build` | creating and starting a volume's block device, or failing to |
//! | `refusal` | namespaces an association cannot serve, and when to retry |
//! | `namespaces` | namespace and ANA changes on a live association |
//! | `ignore` | subsystems and namespaces the configuration ignores |
//! | `failover` | suspicion and conviction |
//! | `lanes` | reports from queue threads |
//! | `fence` | both fences of a lost association, and what follows |
//! | `ladder` | escalation: asking survivors to reset a lost controller |
//! | `inherited` | fences carried over from earlier processes and removed volumes |
//! | `disconnect` | removal of volumes and paths, all or nothing |
//! | `recover` | taking over the volumes of a dead process |
//! | `replace` | replacing one queue pair of a live association |
//! | `retire` | removing a path from volumes that stay |
//! | `verbs` | operator requests |
//! | `steer` | manual changes to paths, groups and policies |
//! | `stats` | counters, collected from the queue threads |
//! | `snapshot` | the state that listings show |
//! | `stop` | process shutdown |
//! | `sweep` | deleting block devices that have stopped for good |

mod attach;
mod build;
mod disconnect;
mod failover;
mod fence;
mod ignore;
mod inherited;
mod ladder;
mod lanes;
mod namespaces;
mod numbers;
mod paths;
mod recover;
mod refusal;
mod replace;
mod retire;
mod snapshot;
mod stats;
mod steer;
mod stop;
mod sweep;
mod teardown;
mod verbs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use umpath_core::AssociationId;
use umpath_protocol::{EventKind, EventListing};
use umpath_session::StableId;

use crate::effects::Effects;
use crate::events::Subject;
use crate::names::Names;
use crate::order::Order;
use crate::settings::Settings;
use crate::spec::VolumeKey;
use crate::volume::Volume;

use attach::Live;
pub use ignore::ignored_subsystem;
pub use lanes::LaneNews;
use numbers::Numbers;
use paths::PathRecord;
pub use paths::Wanted;
pub use recover::Found;
use teardown::Teardown;

/// The volume of this key, if it is still the same incarnation.
fn same(volumes: &mut BTreeMap<StableId, Volume>, key: VolumeKey) -> Option<&mut Volume> {
    let volume = volumes.get_mut(&key.id);
    volume.filter(|volume| volume.key() == key)
}

/// See the [module](self).
#[derive(Debug)]
pub struct Host {
    settings: Arc<dyn Settings>,
    fx: Effects,
    names: Names,
    numbers: Numbers,
    paths: BTreeMap<u32, PathRecord>,
    volumes: BTreeMap<StableId, Volume>,
    /// Lost associations, each until its order fence is proved and the aftermath has been measured.
    teardowns: BTreeMap<AssociationId, Teardown>,
    /// Associations whose record is being written.
    recording: BTreeSet<AssociationId>,
    /// Those of them whose record is of no further use already.
    forgotten: BTreeSet<AssociationId>,
    /// Queue pairs of queue threads that the shell is destroying, where that has to be known.
    destroying: BTreeSet<(AssociationId, VolumeKey, u16)>,
    /// Paths being removed that still have commands in flight.
    retirements: Vec<retire::Retirement>,
    removals: BTreeMap<u64, disconnect::Removal>,
    removal_last: u64,
    /// Paths that an operator removed, by what their numbers are bound to.
    removed: BTreeSet<String>,
    /// Counter requests not yet answered.
    questions: Vec<stats::Question>,
    /// Block devices that have stopped for good and are being deleted.
    sweeps: BTreeMap<StableId, sweep::Sweep>,
    /// Block devices whose server died and of which no record is left.
    orphans: BTreeSet<u32>,
    /// Set once the process is to end.
    stopping: Option<stop::Stopping>,
}

impl Host {
    /// A host without paths or volumes. `names` and `numbers` are the saved bindings. `unix_ms` is
    /// the wall clock at `now`.
    #[must_use]
    pub fn new(
        settings: Arc<dyn Settings>,
        names: impl IntoIterator<Item = (String, String)>,
        numbers: impl IntoIterator<Item = (String, u32)>,
        now: Duration,
        unix_ms: u64,
    ) -> Self {
        let mut fx = Effects::new(now, unix_ms);
        fx.event(EventKind::Started, Subject::default(), "");
        Self {
            settings,
            fx,
            names: Names::new(names),
            numbers: Numbers::new(numbers),
            paths: BTreeMap::new(),
            volumes: BTreeMap::new(),
            teardowns: BTreeMap::new(),
            recording: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            destroying: BTreeSet::new(),
            retirements: Vec::new(),
            removals: BTreeMap::new(),
            removal_last: 0,
            removed: BTreeSet::new(),
            questions: Vec::new(),
            sweeps: BTreeMap::new(),
            orphans: BTreeSet::new(),
            stopping: None,
        }
    }

    /// The next order to carry out, oldest first.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.fx.orders.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let volumes = self.volumes.values().filter_map(Volume::poll_timeout);
        let teardowns = self.teardowns.values().filter_map(Teardown::poll_timeout);
        let retirements = self
            .retirements
            .iter()
            .map(retire::Retirement::poll_timeout);
        let questions = self.questions.iter().map(stats::Question::poll_timeout);
        let paths = self.paths.values().filter_map(PathRecord::poll_timeout);
        let stopping = self.stopping.as_ref().map(stop::Stopping::poll_timeout);
        let sweeps = self.sweeps.values().filter_map(sweep::Sweep::poll_timeout);
        volumes
            .chain(teardowns)
            .chain(retirements)
            .chain(questions)
            .chain(paths)
            .chain(stopping)
            .chain(sweeps)
            .min()
    }

    /// Handles everything due at `now`.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.begin(now);
        for volume in self.volumes.values_mut() {
            if volume.poll_timeout().is_some_and(|due| due <= now) {
                volume.handle_timeout(&mut self.fx);
            }
        }
        self.teardowns_due();
        self.escalate();
        self.retirements_due();
        self.questions_due();
        self.sweeps_due();
        self.refusals_due();
        self.check_whether_unused();
        self.settle();
    }

    /// Records that the wall clock reads `unix_ms` at `now`. It only appears in output; no decision
    /// uses it.
    pub fn handle_wall_clock(&mut self, unix_ms: u64, now: Duration) {
        self.fx.events.set_wall_clock(now, unix_ms);
    }

    /// The event log.
    pub fn events(&self) -> EventListing {
        self.fx.events.listing()
    }

    /// Starts handling an input at `now`.
    fn begin(&mut self, now: Duration) {
        assert!(now >= self.fx.now, "time runs backwards");
        self.fx.now = now;
    }

    /// Answers every caller whose condition now holds.
    fn settle(&mut self) {
        self.settle_connects();
        self.settle_removals();
    }

    fn live(&self, path: u32) -> Option<&Live> {
        self.paths.get(&path)?.live.as_ref()
    }

    fn live_mut(&mut self, path: u32) -> Option<&mut Live> {
        self.paths.get_mut(&path)?.live.as_mut()
    }

    /// The path's association, if it is still this one.
    fn still_live(&mut self, path: u32, association: AssociationId) -> Option<&mut Live> {
        let live = self.live_mut(path);
        live.filter(|live| live.association == association)
    }

    /// The path that has this association, and the association.
    fn path_with(&self, association: AssociationId) -> Option<(u32, &Live)> {
        let mut live = self
            .paths
            .iter()
            .filter_map(|(path, record)| Some((*path, record.live.as_ref()?)));
        live.find(|(_, live)| live.association == association)
    }

    /// A path the caller knows to exist.
    fn path(&self, path: u32) -> &PathRecord {
        self.paths.get(&path).expect("a path that is there")
    }

    fn path_mut(&mut self, path: u32) -> &mut PathRecord {
        self.paths.get_mut(&path).expect("a path that is there")
    }

    /// Passes a request to the path that has this association; drops it if no path has.
    fn tell(&mut self, association: AssociationId, request: crate::path::Request) {
        if let Some((path, _)) = self.path_with(association) {
            self.fx.ask_path(path, request);
        }
    }
}
