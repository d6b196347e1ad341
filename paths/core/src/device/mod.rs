//! The control side of one volume.
//!
//! Decided here: which paths are usable, their groups and the active one, what becomes of I/O
//! without a path. Not decided here: whether an association is healthy or fenced
//! ([`association`](crate::association)), and which path carries a request ([`Lane`](crate::Lane)).
//!
//! Usable is decided in this one place: a path is usable when it has an association that is neither
//! suspect nor retired, and its namespace is there and accessible. A suspicion that commands are late
//! only makes others better: the last path stays in use.
//!
//! After every input all paths are checked once; a table is published when it differs from the last.
//! Take all of [`Device::poll_output`] after any input, and carry it out in order.

mod config;
mod ghosts;
mod operator;
mod outliers;
mod path;
mod settle;
mod view;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use umpath_policies::{ActiveGroup, AnaState, Fault, Outliers};

use crate::association::{Conviction, Suspicion};
use crate::event::{Event, EventKind, LaneEvent, LaneId};
use crate::ghost::{Ghost, GhostTable};
use crate::table::{AssociationId, PATHS_MAX, PathId, PathTable};

pub use config::{DeviceConfig, DeviceError, NoPath, PathConfig, Ready};
use ghosts::{Dying, Guards};
pub use operator::Unchanged;
use path::{Live, Path};
pub use view::PathView;

/// What the host does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceOutput {
    /// Give every lane this table.
    Publish(Arc<PathTable>),
    /// Tell every lane to give this association up ([`Lane::convict`](crate::Lane::convict)).
    Convict(AssociationId),
    /// Give every lane this table of ghosts ([`Lane::guard`](crate::Lane::guard)).
    Guard(Arc<GhostTable>),
    /// Tell every lane that all of them keep off the ghosts of this association
    /// ([`Lane::locked`](crate::Lane::locked)).
    Locked(AssociationId),
    /// Tell every lane that this association is fenced ([`Lane::fenced`](crate::Lane::fenced)).
    Fenced(AssociationId),
    /// Tell every lane to fail what waits ([`Lane::fail_queued`](crate::Lane::fail_queued)).
    FailQueued,
    /// Something happened.
    Event(Event),
}

/// One volume. See the [module](self).
#[derive(Debug)]
pub struct Device {
    config: DeviceConfig,
    /// In order of their numbers, which is configuration order.
    paths: Vec<Path>,
    dying: Vec<Dying>,
    guards: Guards,
    /// Associations fenced before any request got through elsewhere: writes wait for the fence.
    silent: Vec<AssociationId>,
    active: ActiveGroup,
    outliers: Outliers,
    /// Counted by the end of the last window, by path.
    windows: outliers::Windows,
    table: Arc<PathTable>,
    /// When all paths were last checked; what was due until then has been dealt with.
    settled_at: Duration,
    /// Since when no path is usable and none can be hoped for.
    hopeless_since: Option<Duration>,
    expired: bool,
    /// An operator has ended the waiting for lost paths.
    no_hope: bool,
    /// There has been a path.
    had_path: bool,
    had_usable: bool,
    /// Lanes with requests that wait for a path.
    starving: Vec<LaneId>,
    /// Lanes that have ended.
    gone: Vec<LaneId>,
    outputs: VecDeque<DeviceOutput>,
}

impl Device {
    /// A volume without paths.
    #[must_use]
    pub fn new(config: DeviceConfig, now: Duration) -> Self {
        let mut device = Self {
            table: Arc::new(PathTable {
                selector: config.selector,
                ..PathTable::empty(config.lba_shift)
            }),
            guards: Guards::new(config.lanes),
            config,
            paths: Vec::new(),
            dying: Vec::new(),
            silent: Vec::new(),
            active: ActiveGroup::default(),
            outliers: Outliers::default(),
            windows: outliers::Windows::default(),
            settled_at: now,
            hopeless_since: None,
            expired: false,
            no_hope: false,
            had_path: false,
            had_usable: false,
            starving: Vec::new(),
            gone: Vec::new(),
            outputs: VecDeque::new(),
        };
        device.settle(now);
        device
    }

    /// A path is configured; it carries nothing before [`path_ready`](Self::path_ready).
    pub fn add_path(
        &mut self,
        path: PathId,
        config: PathConfig,
        now: Duration,
    ) -> Result<(), DeviceError> {
        if path.index() >= PATHS_MAX {
            return Err(DeviceError::OutOfRange(path));
        }
        match self.paths.binary_search_by_key(&path, |known| known.id) {
            Ok(_) => return Err(DeviceError::Exists(path)),
            Err(at) => self.paths.insert(at, Path::new(path, config)),
        }
        self.had_path = true;
        self.event(now, Some(path), None, EventKind::PathAdded);
        self.settle(now);
        Ok(())
    }

    /// A path is not configured any more. Where it still has an association, that is given up:
    /// what is in flight on it is moved elsewhere under the usual fences.
    pub fn remove_path(&mut self, path: PathId, now: Duration) {
        if let Some(live) = self.path(path).and_then(|known| known.live.as_ref()) {
            let association = live.association;
            self.convict(association, Conviction::Operator, now);
        }
        let known = self.paths.len();
        self.paths.retain(|known| known.id != path);
        if self.paths.len() != known {
            self.event(now, Some(path), None, EventKind::PathRemoved);
        }
        self.settle(now);
    }

    /// Sends nothing new on a path, for as long as it has this association: it is to be removed,
    /// and what is in flight should end in good order first.
    pub fn retire_path(&mut self, path: PathId, now: Duration) {
        if let Some(live) = self.path_mut(path).and_then(|known| known.live.as_mut()) {
            live.retired = true;
        }
        self.settle(now);
    }

    /// Whether the path's controller has lost the namespace: nothing new is sent there meanwhile.
    /// False: that is no news.
    pub fn withdraw(&mut self, path: PathId, withdrawn: bool, now: Duration) -> bool {
        let live = self.path_mut(path).and_then(|known| known.live.as_mut());
        let news = live
            .is_some_and(|live| core::mem::replace(&mut live.withdrawn, withdrawn) != withdrawn);
        if news {
            self.settle(now);
        }
        news
    }

    /// A path has a new association, with a queue pair on its way to every lane. An association it
    /// still had is given up.
    pub fn path_ready(&mut self, path: PathId, ready: Ready, now: Duration) {
        let before = self.path(path).and_then(|known| known.live.as_ref());
        if let Some(before) = before.map(|live| live.association) {
            if before == ready.association {
                return;
            }
            self.convict(before, Conviction::QueueFailed, now);
        }
        let Some(known) = self.path_mut(path) else {
            return;
        };
        known.ana_epoch += 1;
        known.live = Some(Live::new(&ready));
        known.lost_at = None;
        self.event(now, Some(path), Some(ready.association), EventKind::PathUp);
        self.settle(now);
    }

    /// The namespace belongs to this ANA group, and no transition lasts longer than `transition`.
    pub fn ana_terms(&mut self, path: PathId, group: u32, transition: Duration, now: Duration) {
        let live = self.path_mut(path).and_then(|known| known.live.as_mut());
        if let Some(live) = live {
            live.ana_group = group;
            live.ana_transition = Some(transition);
            live.note_transition(now);
            self.settle(now);
        }
    }

    /// The controller reports this ANA state for the namespace; the same state as before counts as
    /// news too, for lanes that were refused.
    pub fn ana(&mut self, path: PathId, state: AnaState, now: Duration) {
        let Some(known) = self.path_mut(path) else {
            return;
        };
        let Some(live) = known.live.as_mut() else {
            return;
        };
        let changed = live.ana != Some(state);
        let refused = live.ana_refused_at.take().is_some();
        live.ana = Some(state);
        if changed {
            live.changing_until = None;
        }
        live.note_transition(now);
        let association = live.association;
        if changed || refused {
            known.ana_epoch += 1;
        }
        if changed {
            self.event(
                now,
                Some(path),
                Some(association),
                EventKind::AnaChanged(state),
            );
        }
        self.settle(now);
    }

    /// There is evidence against an association: nothing new is sent on it, or only where there is
    /// no other ([`Suspicion::stops`]).
    pub fn suspect(&mut self, association: AssociationId, why: Suspicion, now: Duration) {
        let Some(live) = self.live_mut(association) else {
            return;
        };
        let before = live.suspicion.replace(why).map(Suspicion::stops);
        if before != Some(why.stops()) {
            self.path_event(now, association, EventKind::Suspected(why));
            self.came_back(association, before, now);
            self.settle(now);
        }
    }

    /// The evidence is gone.
    pub fn clear(&mut self, association: AssociationId, now: Duration) {
        let Some(live) = self.live_mut(association) else {
            return;
        };
        let before = live.suspicion.take().map(Suspicion::stops);
        if before.is_some() {
            self.path_event(now, association, EventKind::Cleared);
            self.came_back(association, before, now);
            self.settle(now);
        }
    }

    /// A suspicion has given way to none or to another; `stopped` says what the old one did. Silence
    /// that ended by itself is what a shaky path looks like; a late command says nothing of it.
    fn came_back(&mut self, association: AssociationId, stopped: Option<bool>, now: Duration) {
        if stopped == Some(true)
            && let Some(path) = self.path_of(association)
        {
            self.fault(path, Fault::Lost, now);
        }
    }

    /// An association is given up. From here on it is only waited for: for the buffer fence of
    /// every lane, then for the order fence.
    pub fn convict(&mut self, association: AssociationId, why: Conviction, now: Duration) {
        let live = |path: &&mut Path| path.association() == Some(association);
        let Some(path) = self.paths.iter_mut().find(live) else {
            return;
        };
        path.live = None;
        path.lost_at = Some(now);
        let path = path.id;
        self.dying
            .push(Dying::new(association, Some(path), self.config.lanes));
        self.event(
            now,
            Some(path),
            Some(association),
            EventKind::Convicted(why),
        );
        self.outputs.push_back(DeviceOutput::Convict(association));
        // Lanes that have ended confirm nothing any more; what they had in flight is unknown.
        for lane in self.gone.clone() {
            let ghosts = vec![Ghost::of_everything(association)];
            self.lane_drained(association, lane, ghosts, now);
        }
        if why != Conviction::Operator {
            self.fault(path, Fault::Lost, now);
        }
        self.settle(now);
    }

    /// A path is at fault: damping decides whether it is held.
    fn fault(&mut self, path: PathId, fault: Fault, now: Duration) {
        let config = self.config.damping;
        let known = self.paths.iter_mut().find(|known| known.id == path);
        let Some(known) = known else { return };
        if let Some(time) = known.damping.fault(&config, fault, now) {
            let association = known.association();
            self.event(
                now,
                Some(path),
                association,
                EventKind::Held { fault, time },
            );
        }
    }

    /// A lane noticed something.
    pub fn lane_event(&mut self, lane: LaneId, event: LaneEvent, now: Duration) {
        match event {
            LaneEvent::AnaStatus {
                path,
                association,
                status,
            } => {
                if let Some(live) = self.live_mut(association) {
                    live.ana_refused_at.get_or_insert(now);
                    self.event(
                        now,
                        Some(path),
                        Some(association),
                        EventKind::AnaStatus(status),
                    );
                    self.settle(now);
                }
            }
            LaneEvent::PathError {
                path,
                association,
                status,
                count,
            } => {
                let kind = EventKind::PathErrors { status, count };
                self.event(now, Some(path), Some(association), kind);
            }
            LaneEvent::FirstIo { lost, path, stall } => {
                let dying = self
                    .dying
                    .iter_mut()
                    .find(|dying| dying.association == lost);
                let first = if let Some(dying) = dying {
                    !core::mem::replace(&mut dying.first_io, true)
                } else {
                    let waiting = self.silent.len();
                    self.silent.retain(|known| *known != lost);
                    self.silent.len() < waiting
                };
                if first {
                    self.event(now, Some(path), Some(lost), EventKind::FirstIo { stall });
                }
            }
            LaneEvent::QueueingStarted => {
                if self.starving.is_empty() {
                    self.event(now, None, None, EventKind::QueueingStarted);
                }
                if !self.starving.contains(&lane) {
                    self.starving.push(lane);
                }
            }
            LaneEvent::QueueingEnded => {
                let before = self.starving.len();
                self.starving.retain(|known| *known != lane);
                if before > 0 && self.starving.is_empty() {
                    self.event(now, None, None, EventKind::QueueingEnded);
                }
            }
            LaneEvent::Guarded { generation } => self.lane_guarded(lane, generation, now),
            // Evidence about the association, which several volumes may share: for its health.
            LaneEvent::Overdue { .. } | LaneEvent::QueueSilent { .. } => {}
        }
    }

    /// What becomes of I/O without a path, from now on. `Fail` also ends a wait under way.
    pub fn set_no_path(&mut self, no_path: NoPath, now: Duration) {
        self.config.no_path = no_path;
        self.no_hope = false;
        self.expired = false;
        self.settle(now);
    }

    /// I/O without a path fails from now on, by an operator's word: no lost path is waited for, however
    /// long `fast_io_fail` is. [`set_no_path`](Self::set_no_path) takes it back.
    pub fn stop_queueing(&mut self, now: Duration) {
        self.set_no_path(NoPath::Fail, now);
        self.no_hope = true;
        self.settle(now);
    }

    /// I/O waits while no path is usable.
    pub fn is_queueing(&self) -> bool {
        match self.config.no_path {
            NoPath::Queue => true,
            NoPath::Fail => false,
            NoPath::QueueFor(_) => !self.expired,
        }
    }

    /// How long a lost path is hoped for.
    pub(super) fn hope(&self) -> Duration {
        if self.no_hope {
            Duration::ZERO
        } else {
            self.config.fast_io_fail
        }
    }

    /// What the host does next; `None`: nothing.
    pub fn poll_output(&mut self) -> Option<DeviceOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout). Right after that call it lies in the
    /// future.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let refusals = self.paths.iter().filter_map(Path::forgives_at);
        let damped = self
            .paths
            .iter()
            .filter_map(|path| path.damping.poll_timeout());
        let transitions = self
            .paths
            .iter()
            .filter_map(|path| path.live.as_ref()?.changing_until);
        // One hope that has run out does not end the wait while there is another.
        let hopes = self
            .paths
            .iter()
            .filter_map(|path| path.hoped_until(self.hope()))
            .chain(transitions)
            .filter(|until| *until > self.settled_at)
            .filter(|_| self.hopeless_since.is_none() && self.table.active.is_none());
        [self.active.poll_timeout(), self.expires_at()]
            .into_iter()
            .flatten()
            .chain(refusals)
            .chain(damped)
            .chain(hopes)
            .min()
    }

    /// The time asked for has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        for path in &mut self.paths {
            path.forgive(now);
        }
        self.end_holds(now);
        self.settle(now);
    }

    /// Holds and probations that are over.
    fn end_holds(&mut self, now: Duration) {
        let config = self.config.damping;
        let mut changed = Vec::new();
        for path in &mut self.paths {
            if path.damping.handle_timeout(&config, now) {
                changed.push((path.id, path.association(), path.damping.is_marginal()));
            }
        }
        for (path, association, marginal) in changed {
            let kind = if marginal {
                EventKind::Probation
            } else {
                EventKind::Sound
            };
            // Of a path that is not there it says nothing.
            if association.is_some() {
                self.event(now, Some(path), association, kind);
            }
        }
    }

    /// The table the lanes work by, or are about to.
    pub fn table(&self) -> &Arc<PathTable> {
        &self.table
    }

    fn path(&self, id: PathId) -> Option<&Path> {
        self.paths.iter().find(|path| path.id == id)
    }

    fn path_mut(&mut self, id: PathId) -> Option<&mut Path> {
        self.paths.iter_mut().find(|path| path.id == id)
    }

    fn live_mut(&mut self, association: AssociationId) -> Option<&mut Live> {
        self.paths
            .iter_mut()
            .filter_map(|path| path.live.as_mut())
            .find(|live| live.association == association)
    }

    /// Remembers an association that was fenced before any request got through elsewhere.
    fn note_silent(&mut self, dying: &Dying) {
        if dying.first_io {
            return;
        }
        // As many as there can be paths: older ones are of no interest any more.
        if self.silent.len() == PATHS_MAX {
            self.silent.remove(0);
        }
        self.silent.push(dying.association);
    }

    fn path_of(&self, association: AssociationId) -> Option<PathId> {
        let known = |path: &&Path| path.association() == Some(association);
        self.paths.iter().find(known).map(|path| path.id)
    }

    fn path_event(&mut self, now: Duration, association: AssociationId, kind: EventKind) {
        let path = self.path_of(association);
        self.event(now, path, Some(association), kind);
    }

    fn event(
        &mut self,
        at: Duration,
        path: Option<PathId>,
        association: Option<AssociationId>,
        kind: EventKind,
    ) {
        self.outputs.push_back(DeviceOutput::Event(Event {
            at,
            path,
            association,
            kind,
        }));
    }
}

#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod regression_tests;
#[cfg(test)]
mod tests;
