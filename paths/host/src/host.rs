//! The host: the one owner of every path and every volume.
//!
//! Everything that happens arrives as a call and is handled to its end, so there are no half-done
//! states to see. Whatever takes time (destroying a queue pair, a block device, a record on disk) is
//! an order, and its end is another call. What the reports of single paths *mean* is decided in
//! `umpath_core` and in [`Path`](crate::Path); here they are matched with the volumes they concern.
//!
//! | file | concern |
//! |---|---|
//! | `paths` | paths come, try, and go |
//! | `attach` | a new association is matched with its volumes |
//! | `build` | a volume's block device is made, started, or cannot be had |
//! | `refusal` | what an association could not be used for, and when that is tried again |
//! | `namespaces` | what a live association says of its namespaces |
//! | `ignore` | what the configuration leaves alone |
//! | `failover` | suspicion and conviction |
//! | `lanes` | what queue threads report |
//! | `fence` | both fences of a lost association, and what follows from them |
//! | `ladder` | how the order fence is reached |
//! | `inherited` | associations that outlive what knew of them |
//! | `disconnect` | removal that refuses rather than half-removes |
//! | `recover` | taking over the volumes of a process that died |
//! | `retire` | taking a path from volumes that live on |
//! | `verbs` | what an operator asks |
//! | `steer` | paths, groups and policies changed by hand |
//! | `stats` | counters, asked of the queue threads |
//! | `snapshot` | what listings are drawn from |
//! | `stop` | the end of the process |

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
mod retire;
mod snapshot;
mod stats;
mod steer;
mod stop;
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
use crate::volume::Volume;

use attach::Live;
pub use ignore::ignored_subsystem;
pub use lanes::LaneNews;
use numbers::Numbers;
use paths::PathRecord;
pub use paths::Wanted;
pub use recover::Found;
use teardown::Teardown;

/// The owner of everything. See the [module](self).
#[derive(Debug)]
pub struct Host {
    settings: Arc<dyn Settings>,
    fx: Effects,
    names: Names,
    numbers: Numbers,
    paths: BTreeMap<u32, PathRecord>,
    volumes: BTreeMap<StableId, Volume>,
    /// Associations given up, until the effects of that are over.
    teardowns: BTreeMap<AssociationId, Teardown>,
    /// Paths that are taken away and have commands in flight.
    retirements: Vec<retire::Retirement>,
    removals: BTreeMap<u64, disconnect::Removal>,
    removal_last: u64,
    /// Questions for counters.
    questions: Vec<stats::Question>,
    /// Block devices whose server died and of which no record is left.
    orphans: BTreeSet<u32>,
    /// Set once the process is to end.
    stopping: Option<stop::Stopping>,
}

impl Host {
    /// A host without anything. `names` and `numbers`: as they were kept. `unix_ms`: what the wall
    /// clock shows at `now`.
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
            retirements: Vec::new(),
            removals: BTreeMap::new(),
            removal_last: 0,
            questions: Vec::new(),
            orphans: BTreeSet::new(),
            stopping: None,
        }
    }

    /// The next thing to do, oldest first.
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
        volumes
            .chain(teardowns)
            .chain(retirements)
            .chain(questions)
            .chain(paths)
            .chain(stopping)
            .min()
    }

    /// Time has passed.
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
        self.refusals_due();
        self.check_whether_unused();
        self.settle();
    }

    /// The wall clock shows `unix_ms` at `now`; for people, never for decisions.
    pub fn handle_wall_clock(&mut self, unix_ms: u64, now: Duration) {
        self.fx.events.set_wall_clock(now, unix_ms);
    }

    /// The event log.
    pub fn events(&self) -> EventListing {
        self.fx.events.listing()
    }

    /// An input is handled now.
    fn begin(&mut self, now: Duration) {
        assert!(now >= self.fx.now, "time runs backwards");
        self.fx.now = now;
    }

    /// Answers whoever waited for what is true now.
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

    /// A path's association, if it still is this one.
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

    /// A path of this number, which its caller has just found.
    fn path(&self, path: u32) -> &PathRecord {
        self.paths.get(&path).expect("a path that is there")
    }

    fn path_mut(&mut self, path: u32) -> &mut PathRecord {
        self.paths.get_mut(&path).expect("a path that is there")
    }

    /// Passes something to the path whose association it is; to nobody when it is gone.
    fn tell(&mut self, association: AssociationId, request: crate::path::Request) {
        if let Some((path, _)) = self.path_with(association) {
            self.fx.to_path(path, request);
        }
    }
}
