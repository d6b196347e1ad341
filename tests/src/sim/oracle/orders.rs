//! Commands of the host to its queue threads, and how often it changes its mind.

use umpath_core::{LaneCommand, OnNoPath, PathId, PathTable};
use umpath_host::policy::NoPathRetry;
use umpath_host::record::Asked;
use umpath_host::{Report, Request, VolumeSpec};
use umpath_session::StableId;

use crate::sim::blockdev::{BlockDevice, State};
use crate::sim::checker::Violation;
use crate::sim::clock::{Nanos, SECOND};
use crate::sim::host::route_of;
use crate::sim::store::StoreId;
use crate::sim::world::World;

/// Most changes of a suspicion in a second: more is oscillation, whatever the fabric does.
const SUSPICIONS_MAX: usize = 20;

/// The same of the paths that carry a volume's I/O: there are several.
const GROUPS_MAX: usize = 40;

/// Requests of a volume taken over wait so long for its first usable path, whatever its policy.
const FIRST_PATH_PATIENCE: Nanos = 30 * SECOND;

/// Whose tables had a usable path before something was handled that must not take it away.
pub(crate) type Judged = Option<Vec<usize>>;

fn active(table: &PathTable) -> Vec<PathId> {
    let group = table.active.and_then(|at| table.groups.get(at));
    let places = group.into_iter().flat_map(|group| &group.paths);
    let entries = places.filter_map(|at| table.paths.get(usize::from(*at)));
    entries.map(|entry| entry.path).collect()
}

impl World {
    /// An order of the host to a queue thread.
    pub(crate) fn judge_order(&mut self, device: usize, command: &LaneCommand<u16>) {
        let store = self.devices[device].store;
        match command {
            LaneCommand::Locked(association) => {
                let assoc = self.host.assoc(*association);
                self.fences.lock(store, assoc);
            }
            LaneCommand::SetTable(table) => {
                let known = &mut self.devices[device];
                if known
                    .table
                    .as_ref()
                    .is_some_and(|last| last.generation == table.generation)
                {
                    return;
                }
                let before = known.table.replace(table.clone());
                let now = self.now;
                if table.active.is_none() {
                    // The host counts from when a path saw it.
                    let seen = self.host.reported_at.map_or(now, |at| at.min(now));
                    known.pathless_since.get_or_insert(seen);
                } else {
                    known.pathless_since = None;
                    known.adopted_at = None;
                }
                if before.is_some_and(|before| active(&before) != active(table)) {
                    known.changes.push(now);
                    if oscillates(&mut known.changes, now, GROUPS_MAX) {
                        let what = format!("(17) the active group of device {device} oscillates");
                        self.fail(Violation(what));
                    }
                }
                if table.on_no_path == OnNoPath::Fail && !table.has_usable() {
                    self.judge_failing(device);
                }
            }
            LaneCommand::FailQueued => self.judge_failing(device),
            LaneCommand::Convict(association) => {
                self.host.released.insert(*association);
            }
            _ => {}
        }
    }

    /// A request of the host to a path. Whoever asks a process to stop wants volumes in use to be
    /// served until then, by paths that may not be there yet. Volumes that were not taken over wait for
    /// the next process.
    pub(crate) fn judge_request(&mut self, path: u32, request: &Request) {
        if !matches!(request, Request::Shutdown) {
            return;
        }
        if let Some(actor) = self.host.paths.get_mut(&path) {
            actor.shut_down = true;
        }
        let mut served = self.host.served.values().map(|at| &self.devices[*at]);
        if self.people.asks_to_stop() && served.any(BlockDevice::is_there) {
            let what = format!("(16) path {path} is ended by a stop while there are volumes");
            self.fail(Violation(what));
        }
    }

    /// Requests fail from now on, or those that wait do.
    fn judge_failing(&mut self, device: usize) {
        let known = &self.devices[device];
        if known.state == State::Made {
            // Nobody can have asked for anything.
            return;
        }
        let policy = &self.plan.volumes[known.store].policy;
        let deleted = self.people.removes() || self.plan.ctrl_loss.is_some();
        if self.people.lets_fail() || policy.flush_on_last_del && deleted {
            return;
        }
        let waited = self.now - known.pathless_since.unwrap_or(self.now);
        let granted = match policy.no_path_retry {
            NoPathRetry::Queue => Nanos::MAX,
            NoPathRetry::Fail => 0,
            NoPathRetry::For(time) => time.as_nanos() as Nanos,
        };
        let since = known.adopted_at.map(|at| self.now - at);
        if waited < granted || since.is_some_and(|since| since < FIRST_PATH_PATIENCE) {
            let what = format!(
                "(15) requests of device {device} fail after {waited} ns without a path, where {granted} \
                 are granted ({since:?} since it was taken over)"
            );
            self.fail(Violation(what));
        }
    }

    /// A path reports something about its health.
    pub(crate) fn judge_report(&mut self, path: u32, report: &Report) {
        let (Report::Suspect { .. } | Report::Clear { .. }) = report else {
            return;
        };
        let now = self.now;
        let changes = self.patient.suspicions.entry(path).or_default();
        changes.push(now);
        if oscillates(changes, now, SUSPICIONS_MAX) {
            let what = format!("(17) the suspicion against path {path} oscillates");
            self.fail(Violation(what));
        }
    }

    /// A report is about to be handled that says no more than that commands are late.
    pub(crate) fn begin_judging(&self, report: &Report) -> Judged {
        let Report::Suspect { why, .. } = report else {
            return None;
        };
        let has_path = |device: &usize| self.has_path(*device);
        (!why.stops()).then(|| (0..self.devices.len()).filter(has_path).collect())
    }

    fn has_path(&self, device: usize) -> bool {
        let table = self.devices[device].table.as_ref();
        table.is_some_and(|table| table.active.is_some())
    }

    pub(crate) fn end_judging(&mut self, judged: Judged) {
        let had = judged.unwrap_or_default();
        if had.iter().any(|device| !self.has_path(*device)) {
            let what = "(13) the last path is taken away because commands are late".to_owned();
            self.fail(Violation(what));
        }
    }

    /// A volume's record is written again: paths leave it when somebody takes them away, and not
    /// because they are down.
    pub(crate) fn judge_rewrite(&mut self) {
        let Some(new) = self.disk.later.front() else {
            return;
        };
        let Some(old) = self.disk.volumes.get(&new.id) else {
            return;
        };
        let excused = self.people.removes() || self.plan.ctrl_loss.is_some();
        let stays = |asked: &Asked| new.paths.iter().any(|path| path.portal == asked.portal);
        // A path asked for by hand whose first connect failed was never wanted for longer than that.
        let never_was = |asked: &Asked| {
            let address = asked.portal.traddr.parse();
            let route = route_of(address.expect("an address of the simulated fabric"));
            let by_hand = !self.plan.routes[route].configured && !self.host.wants(route);
            by_hand
                && !self
                    .qps
                    .iter()
                    .any(|qp| qp.path == route && qp.lane.is_some())
        };
        let mut gone = old.paths.iter().filter(|asked| !stays(asked));
        let gone = gone.find(|asked| !never_was(asked));
        if let Some(gone) = gone.filter(|_| !excused && old.cookie == new.cookie) {
            let what = format!(
                "(21) the record of {} forgets {}",
                new.name, gone.portal.traddr
            );
            self.fail(Violation(what));
        }
    }

    /// A namespace gets a block device: it must not have one already.
    pub(crate) fn check_one_device(&mut self, store: StoreId) {
        self.judge_return(store);
        if self.device_for(store).is_some() {
            let what = format!("(18) namespace {store} gets a second block device");
            self.fail(Violation(what));
        }
    }

    /// The record of a device that the driver still has is not overwritten: no later process would find
    /// that device.
    pub(crate) fn check_record(&mut self, id: StableId) {
        let known = self.disk.volumes.get(&id);
        let device = known.and_then(|known| self.device_of(known.device, known.cookie));
        if let Some(device) = device {
            let what =
                format!("(18) the record of device {device}, which is there, is overwritten");
            self.fail(Violation(what));
        }
    }

    /// How a volume appears to the kernel: no FLUSH and no FUA comes where it says no cache.
    pub(crate) fn check_cache(&mut self, spec: &VolumeSpec) {
        if self.plan.cache && !spec.limits.volatile_cache {
            let what = format!("(9) {} seems to have no cache", spec.name);
            self.fail(Violation(what));
        }
    }
}

/// Whether there were too many changes within the last second; older ones are forgotten.
fn oscillates(changes: &mut Vec<Nanos>, now: Nanos, most: usize) -> bool {
    changes.retain(|at| at + SECOND > now);
    changes.len() > most
}
