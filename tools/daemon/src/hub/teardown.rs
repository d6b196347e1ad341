//! What is known of an association that was given up, until its order fence stands.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use umpath_core::association::{FenceTerms, Ladder, OrderFence};
use umpath_nvme::Nqn;
use umpath_nvme::command::Instance;
use umpath_session::StableId;

use crate::events::FailoverId;

/// An association that was given up, until its order fence stands.
#[derive(Debug)]
pub(super) struct Teardown {
    pub(super) path: u32,
    /// Where its marks go; an orderly end is no failover.
    pub(super) failover: Option<FailoverId>,
    pub(super) fence: OrderFence,
    /// Queue threads that have not passed their buffer fence.
    pub(super) lanes: BTreeSet<(StableId, u16)>,
    /// Queue threads whose queue pair may still send.
    pub(super) talking: BTreeSet<(StableId, u16)>,
    /// Volumes that had a path on it.
    pub(super) volumes: BTreeSet<StableId>,
    /// The time was found and is being waited for.
    pub(super) timed: bool,
    /// The path is taken away by request: its admin queue lives on, and with it the controller's
    /// timer, until the path has ended.
    pub(super) orderly: bool,
    /// Terms of the order fence; `None` where time is no fence.
    pub(super) terms: Option<FenceTerms>,
    /// The subsystem it was with.
    pub(super) nqn: Nqn,
    /// The incarnation that was lost.
    pub(super) instance: Instance,
    /// The way to its fence; an orderly end has none but time.
    pub(super) ladder: Option<Ladder>,
    /// What proves that it executes nothing more, in words, once something does.
    pub(super) surety: Option<String>,
    /// The volumes were told.
    pub(super) stood: bool,
    /// Its file, where an earlier umpathd has written that.
    pub(super) inherited: Option<PathBuf>,
}

impl Teardown {
    /// The end of a path taken away by request; its admin queue is alive still.
    pub(super) fn orderly(
        path: u32,
        (nqn, instance): (Nqn, Instance),
        terms: Option<FenceTerms>,
        lanes: BTreeSet<(StableId, u16)>,
        volumes: BTreeSet<StableId>,
    ) -> Self {
        // Not asked before the path has ended.
        let fence = OrderFence::new(None, Duration::ZERO, 1);
        Self {
            path,
            failover: None,
            fence,
            talking: lanes.clone(),
            lanes,
            volumes,
            timed: false,
            orderly: true,
            terms,
            nqn,
            instance,
            ladder: None,
            surety: None,
            stood: false,
            inherited: None,
        }
    }

    /// What an earlier umpathd has left, found at `now`: its queue pairs went with it.
    pub(super) fn inherited(
        (nqn, instance): (Nqn, Instance),
        terms: Option<FenceTerms>,
        file: PathBuf,
        now: Duration,
    ) -> Self {
        Self {
            path: 0,
            failover: None,
            // No keep-alive of it was answered later than now.
            fence: OrderFence::new(terms, now, 0),
            lanes: BTreeSet::new(),
            talking: BTreeSet::new(),
            volumes: BTreeSet::new(),
            timed: false,
            orderly: false,
            terms,
            nqn,
            instance,
            ladder: Some(Ladder::new(instance)),
            surety: None,
            stood: false,
            inherited: Some(file),
        }
    }

    /// A new volume is to be told of the fence as well; `false`: it stands already.
    pub(super) fn bequeath(&mut self, volume: StableId) -> bool {
        if !self.stood {
            self.volumes.insert(volume);
        }
        !self.stood
    }

    pub(super) fn path(&self) -> u32 {
        self.path
    }

    pub(super) fn volumes(&self) -> impl Iterator<Item = &StableId> {
        self.volumes.iter()
    }

    pub(super) fn is_orderly_and_drained(&self) -> bool {
        self.orderly && self.lanes.is_empty()
    }

    /// The path has ended at `now`: whatever is held waits for the time that counts from here.
    pub(super) fn path_ended(&mut self, now: Duration) {
        self.orderly = false;
        self.fence = OrderFence::new(self.terms, now, 1);
    }
}
