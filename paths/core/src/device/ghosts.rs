//! The control side of the ghost-range lock: which ghosts there are, which lanes keep off them,
//! and when they may be sent again.
//!
//! An association that was given up passes through three states here: *draining* until every lane
//! has passed its buffer fence and handed over its ghosts; *guarding* until every lane has
//! confirmed a table with all of them; *locked* until the order fence. Ghosts are in the table from
//! the moment they are handed over until the order fence, whatever became of their requests.

use core::time::Duration;
use std::sync::Arc;

use super::{Device, DeviceOutput};
use crate::event::{EventKind, LaneId};
use crate::ghost::{GHOSTS_MAX, Ghost, GhostTable, Resend};
use crate::table::{AssociationId, PathId};

/// A convicted association until its order fence.
#[derive(Debug, Clone)]
pub(super) struct Dying {
    pub(super) association: AssociationId,
    /// `None`: inherited from an earlier run of the host.
    pub(super) path: Option<PathId>,
    /// Lanes that have not drained.
    pub(super) lanes: Vec<LaneId>,
    /// The order fence stands; what is missing is a lane.
    pub(super) order_fenced: bool,
    pub(super) first_io: bool,
    ghosts: Vec<Ghost>,
    /// How many there were before they were counted as one.
    ghosts_seen: u32,
    /// The first table with all of its ghosts, once every lane has drained. Never for an inherited
    /// association: none of its mutations is ours to send again.
    complete_in: Option<u64>,
    /// Every lane has confirmed that table.
    locked: bool,
}

impl Dying {
    pub(super) fn new(association: AssociationId, path: Option<PathId>, lanes: u16) -> Self {
        Self {
            association,
            path,
            lanes: (0..lanes).map(LaneId).collect(),
            order_fenced: false,
            first_io: false,
            ghosts: Vec::new(),
            ghosts_seen: 0,
            complete_in: None,
            locked: false,
        }
    }
}

/// What the lanes were sent, and what they confirmed.
#[derive(Debug)]
pub(super) struct Guards {
    table: Arc<GhostTable>,
    /// Generation that each lane keeps off, by lane.
    confirmed: Vec<u64>,
    overflowed: bool,
}

impl Guards {
    pub(super) fn new(lanes: u16) -> Self {
        Self {
            table: Arc::default(),
            confirmed: vec![0; usize::from(lanes)],
            overflowed: false,
        }
    }

    /// Every lane keeps off the ghosts of this table.
    fn all_confirm(&self, generation: u64) -> bool {
        self.confirmed.iter().all(|known| *known >= generation)
    }
}

impl Device {
    /// A lane has passed its buffer fence and handed over what it lost
    /// ([`Lane::drained`](crate::Lane::drained)).
    pub fn lane_drained(
        &mut self,
        association: AssociationId,
        lane: LaneId,
        ghosts: Vec<Ghost>,
        now: Duration,
    ) {
        let known = |dying: &&mut Dying| dying.association == association;
        let Some(dying) = self.dying.iter_mut().find(known) else {
            assert!(
                ghosts.is_empty(),
                "ghosts of {association}, which was not given up"
            );
            return;
        };
        assert!(ghosts.iter().all(|ghost| ghost.association == association));
        let news = !ghosts.is_empty();
        dying.ghosts_seen += ghosts.len() as u32;
        dying.ghosts.extend(ghosts);
        let waiting = dying.lanes.len();
        dying.lanes.retain(|known| *known != lane);
        let last = waiting > 0 && dying.lanes.is_empty();
        let (path, order_fenced) = (dying.path, dying.order_fenced);
        if news && !(last && order_fenced) {
            self.publish_ghosts(now);
        }
        if !last {
            return;
        }
        let generation = self.guards.table.generation();
        if let Some(dying) = self.dying_mut(association) {
            dying.complete_in = Some(generation);
        }
        self.event(now, path, Some(association), EventKind::BufferFenced);
        if order_fenced {
            self.order_fenced(association, now);
        } else {
            self.lock_what_is_guarded(now);
        }
    }

    /// A lane has ended without saying what it had in flight, and will send nothing more. Whatever
    /// it lost with associations given up until now, or later, is unknown, so it could be any block.
    pub fn lane_gone(&mut self, lane: LaneId, now: Duration) {
        if !self.gone.contains(&lane) {
            self.gone.push(lane);
        }
        if let Some(confirmed) = self.guards.confirmed.get_mut(usize::from(lane.0)) {
            *confirmed = u64::MAX;
        }
        let waiting: Vec<AssociationId> = self
            .dying
            .iter()
            .filter(|dying| dying.lanes.contains(&lane))
            .map(|dying| dying.association)
            .collect();
        for association in waiting {
            let ghosts = vec![Ghost::of_everything(association)];
            self.lane_drained(association, lane, ghosts, now);
        }
        self.lock_what_is_guarded(now);
    }

    /// An earlier run of the host left this association behind, and with it mutations of which
    /// nothing is known: until its order fence no mutation is sent. Reads flow. Call before the
    /// first path is ready, so that no lane sends any before it has heard.
    pub fn inherit(&mut self, association: AssociationId, now: Duration) {
        let mut dying = Dying::new(association, None, 0);
        dying.ghosts.push(Ghost::of_everything(association));
        self.dying.push(dying);
        self.event(now, None, Some(association), EventKind::Inherited);
        self.publish_ghosts(now);
    }

    /// The association executes nothing more. Lanes hear of it when every one of them has drained.
    pub fn order_fenced(&mut self, association: AssociationId, now: Duration) {
        let known = |dying: &Dying| dying.association == association;
        let Some(at) = self.dying.iter().position(known) else {
            return;
        };
        if let Some(dying) = self
            .dying
            .get_mut(at)
            .filter(|dying| !dying.lanes.is_empty())
        {
            dying.order_fenced = true;
            return;
        }
        let dying = self.dying.remove(at);
        self.note_silent(&dying);
        self.event(now, dying.path, Some(association), EventKind::OrderFenced);
        // First what was lost, then what was kept off it: they go in the order in which they came.
        self.outputs.push_back(DeviceOutput::Fenced(association));
        if !dying.ghosts.is_empty() {
            self.publish_ghosts(now);
        }
    }

    /// An association left mutations of unknown fate, as far as lanes have drained.
    pub fn has_ghosts(&self, association: AssociationId) -> bool {
        self.dying
            .iter()
            .any(|dying| dying.association == association && !dying.ghosts.is_empty())
    }

    /// The ghosts the lanes keep off, or are about to.
    pub fn ghosts(&self) -> &Arc<GhostTable> {
        &self.guards.table
    }

    /// A lane keeps off the ghosts of a table.
    pub(super) fn lane_guarded(&mut self, lane: LaneId, generation: u64, now: Duration) {
        if let Some(confirmed) = self.guards.confirmed.get_mut(usize::from(lane.0)) {
            *confirmed = generation.max(*confirmed);
        }
        self.lock_what_is_guarded(now);
    }

    /// Tells the lanes of all ghosts there are.
    pub(super) fn publish_ghosts(&mut self, now: Duration) {
        self.bound_ghosts(now);
        let resend = if self.config.shared_with_other_hosts {
            Resend::OnceFenced
        } else {
            Resend::OnceGuarded
        };
        let ghosts = self.dying.iter().flat_map(|dying| &dying.ghosts).copied();
        let generation = self.guards.table.generation() + 1;
        self.guards.table = Arc::new(GhostTable::new(generation, resend, ghosts));
        self.outputs
            .push_back(DeviceOutput::Guard(Arc::clone(&self.guards.table)));
    }

    /// Keeps the table within its bound: one ghost over everything stands for any number.
    fn bound_ghosts(&mut self, now: Duration) {
        let count: usize = self.dying.iter().map(|dying| dying.ghosts.len()).sum();
        if count == 0 {
            self.guards.overflowed = false;
        }
        if count <= GHOSTS_MAX {
            return;
        }
        for dying in self.dying.iter_mut().filter(|d| !d.ghosts.is_empty()) {
            dying.ghosts = vec![Ghost::of_everything(dying.association)];
        }
        if !core::mem::replace(&mut self.guards.overflowed, true) {
            self.event(now, None, None, EventKind::GhostsOverflowed);
        }
    }

    /// Ghosts that every lane keeps off may be sent again.
    fn lock_what_is_guarded(&mut self, now: Duration) {
        let guards = &self.guards;
        let mut locked = Vec::new();
        for dying in &mut self.dying {
            let guarded = dying.complete_in.is_some_and(|at| guards.all_confirm(at));
            if guarded && !dying.ghosts.is_empty() && !dying.locked {
                dying.locked = true;
                locked.push((dying.association, dying.path, dying.ghosts_seen));
            }
        }
        for (association, path, ghosts) in locked {
            let kind = EventKind::GhostsLocked { ghosts };
            self.event(now, path, Some(association), kind);
            self.outputs.push_back(DeviceOutput::Locked(association));
        }
    }

    fn dying_mut(&mut self, association: AssociationId) -> Option<&mut Dying> {
        self.dying
            .iter_mut()
            .find(|dying| dying.association == association)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod projection;
