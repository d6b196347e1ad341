//! One path of a volume, with or without an association.

use core::time::Duration;

use umpath_policies::{AnaState, ControllerKey, Damping, PathFacts, PathId, Ranked, Standing};

use super::{PathConfig, Ready};
use crate::association::Suspicion;
use crate::table::{AssociationId, CommandLimits, PathEntry, Steering};

/// Longest time a path is left alone for one ANA status.
const REFUSAL_MAX: Duration = Duration::from_secs(1);

/// What is known while there is an association.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) association: AssociationId,
    pub(super) nsid: u32,
    pub(super) limits: CommandLimits,
    pub(super) ana: Option<AnaState>,
    pub(super) ana_group: u32,
    /// Longest transition between ANA states, if the controller says.
    pub(super) ana_transition: Option<Duration>,
    /// When the transition under way must be over.
    pub(super) changing_until: Option<Duration>,
    pub(super) controller: Option<ControllerKey>,
    /// NUMA node of its device.
    pub(super) node: Option<u16>,
    /// What speaks against it.
    pub(super) suspicion: Option<Suspicion>,
    /// It is to be removed.
    pub(super) retired: bool,
    /// The controller has no such namespace (any more).
    pub(super) withdrawn: bool,
    /// When a lane was refused with an ANA status, if no ANA state has been reported since.
    pub(super) ana_refused_at: Option<Duration>,
}

impl Live {
    pub(super) fn new(ready: &Ready) -> Self {
        Self {
            association: ready.association,
            nsid: ready.nsid,
            limits: ready.limits,
            ana: ready.ana,
            ana_group: ready.ana_group,
            ana_transition: None,
            changing_until: None,
            controller: ready.controller,
            node: ready.node,
            suspicion: None,
            retired: false,
            withdrawn: false,
            ana_refused_at: None,
        }
    }

    /// A transition begins to count when it is first heard of.
    pub(super) fn note_transition(&mut self, now: Duration) {
        if self.ana != Some(AnaState::Change) {
            self.changing_until = None;
        } else if let Some(transition) = self.ana_transition {
            self.changing_until
                .get_or_insert(now.saturating_add(transition));
        }
    }

    /// Nothing new may be sent there.
    fn is_stopped(&self) -> bool {
        self.suspicion.is_some_and(Suspicion::stops)
    }

    fn is_accessible(&self) -> bool {
        self.ana.is_none_or(AnaState::accessible)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) id: PathId,
    pub(super) config: PathConfig,
    /// Counts readings of the ANA state; never goes back.
    pub(super) ana_epoch: u32,
    pub(super) live: Option<Live>,
    /// When it lost its association, if it has none.
    pub(super) lost_at: Option<Duration>,
    /// Its record of faults, over all its associations.
    pub(super) damping: Damping,
    /// Failed by an operator: carries nothing until reinstated.
    pub(super) failed: bool,
}

impl Path {
    pub(super) fn new(id: PathId, config: PathConfig) -> Self {
        Self {
            id,
            config,
            ana_epoch: 0,
            live: None,
            lost_at: None,
            damping: Damping::default(),
            failed: false,
        }
    }

    /// When a refusal is forgotten although nobody read the ANA state again: the controller may
    /// report none, or its admin queue may be slow.
    pub(super) fn forgives_at(&self) -> Option<Duration> {
        let refused_at = self.live.as_ref()?.ana_refused_at?;
        Some(refused_at.saturating_add(REFUSAL_MAX))
    }

    /// Lets lanes try again where that time has come.
    pub(super) fn forgive(&mut self, now: Duration) {
        if self.forgives_at().is_some_and(|at| at <= now)
            && let Some(live) = &mut self.live
        {
            live.ana_refused_at = None;
            self.ana_epoch += 1;
        }
    }

    pub(super) fn association(&self) -> Option<AssociationId> {
        self.live.as_ref().map(|live| live.association)
    }

    /// It may carry new I/O, if there is no better path.
    pub(super) fn is_usable(&self) -> bool {
        self.live.as_ref().is_some_and(|live| {
            !self.failed
                && !live.is_stopped()
                && !live.retired
                && !live.withdrawn
                && live.ana_refused_at.is_none()
                && live.is_accessible()
        })
    }

    /// Commands are late there: others are better.
    pub(super) fn is_slow(&self) -> bool {
        let suspicion = self.live.as_ref().and_then(|live| live.suspicion);
        suspicion.is_some_and(|why| !why.stops())
    }

    /// Until when a lost path counts as on its way back.
    pub(super) fn hoped_until(&self, fast_io_fail: Duration) -> Option<Duration> {
        self.lost_at
            .filter(|_| !fast_io_fail.is_zero() && !self.failed)
            .map(|lost_at| lost_at.saturating_add(fast_io_fail))
    }

    /// Not usable, but may be again without a new association, and soon.
    pub(super) fn is_hoped_for(&self, now: Duration) -> bool {
        self.live.as_ref().is_some_and(|live| {
            let passing = live.is_stopped() || live.ana_refused_at.is_some();
            let changing = live.ana == Some(AnaState::Change)
                && live.changing_until.is_none_or(|until| now < until);
            !live.retired
                && !live.withdrawn
                && !self.failed
                && (changing || (passing && live.is_accessible()))
        })
    }

    pub(super) fn facts(&self) -> PathFacts {
        let live = self.live.as_ref();
        PathFacts {
            id: self.id,
            usable: self.is_usable(),
            ana: live.and_then(|live| live.ana),
            ana_group: live.map_or(0, |live| live.ana_group),
            controller: live.and_then(|live| live.controller),
            preferred: self.config.preferred,
            weight: self.config.weight,
            marginal: self.damping.is_marginal(),
        }
    }

    pub(super) fn entry(&self, ranked: Ranked) -> Option<PathEntry> {
        let live = self.live.as_ref()?;
        Some(PathEntry {
            path: self.id,
            association: live.association,
            usable: ranked.usable,
            nsid: live.nsid,
            limits: live.limits,
            priority: ranked.priority,
            ana: live.ana,
            ana_epoch: self.ana_epoch,
            steering: Steering {
                throughput: self.config.throughput,
                node: live.node,
                probation: matches!(self.damping.standing(), Standing::Probation { .. }),
            },
        })
    }
}
