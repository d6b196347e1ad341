//! What is known of an association that was given up, until its order fence stands.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use umpath_core::association::{FenceTerms, Ladder, OrderFence};
use umpath_nvme::Nqn;
use umpath_nvme::command::Instance;
use umpath_session::StableId;

use crate::events::FailoverId;

/// A queue pair that has to be silent before the order fence counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FencedQueue {
    Admin,
    /// Those that no queue thread has, which are destroyed together.
    Spare,
    /// A queue thread's.
    Lane(StableId, u16),
}

/// An association that was given up, until its order fence stands.
#[derive(Debug)]
pub(super) struct Teardown {
    pub(super) path: u32,
    /// Where its marks go; an orderly end is no failover.
    pub(super) failover: Option<FailoverId>,
    pub(super) fence: OrderFence<FencedQueue>,
    /// Queue threads that have not passed their buffer fence.
    pub(super) lanes: BTreeSet<(StableId, u16)>,
    /// Queue threads whose queue pair may still send.
    pub(super) talking: BTreeSet<(StableId, u16)>,
    /// Volumes that had a path on it.
    pub(super) volumes: BTreeSet<StableId>,
    /// The time was found and is being waited for.
    pub(super) timed: bool,
    /// The path is taken away by request: its admin queue lives on, and with it the controller's
    /// timer. False once nothing of the association can be sent any more.
    pub(super) orderly: bool,
    /// Of an orderly end: the admin queue sends nothing any more.
    pub(super) admin_silent: bool,
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
        // Not asked before everything is silent.
        let fence = OrderFence::new(None, [FencedQueue::Admin]);
        Self {
            path,
            failover: None,
            fence,
            talking: lanes.clone(),
            lanes,
            volumes,
            timed: false,
            orderly: true,
            admin_silent: false,
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
            fence: OrderFence::silent_since(terms, now),
            lanes: BTreeSet::new(),
            talking: BTreeSet::new(),
            volumes: BTreeSet::new(),
            timed: false,
            orderly: false,
            admin_silent: false,
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

    /// Of an orderly end: the admin queue sends nothing any more.
    pub(super) fn admin_silent(&mut self) {
        self.admin_silent = true;
    }

    /// Of an orderly end: true once, when nothing of the association can be sent any more. Whatever
    /// is held waits for the time that counts from `now`, wherever the path has got to by then: the
    /// admin queue and the queue threads fall silent in any order, before or after the path is gone.
    pub(super) fn falls_silent(&mut self, now: Duration) -> bool {
        let silent = self.is_orderly_and_drained() && self.talking.is_empty() && self.admin_silent;
        if silent {
            self.orderly = false;
            self.fence = OrderFence::silent_since(self.terms, now);
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use umpath_core::association::order_fence_at;

    use super::*;

    const ASSOCIATION_ENDS: Duration = Duration::from_secs(100);
    const KATO: Duration = Duration::from_secs(1);

    /// A path taken away from a volume with two queue threads.
    fn orderly() -> Teardown {
        let nqn: Nqn = "nqn.2024-01.org.example:array".parse().unwrap();
        let volume = StableId::Uuid([1; 16]);
        let instance = Instance {
            cntlid: 1,
            ciu: 1,
            cirn: 1,
        };
        let terms = FenceTerms::new(KATO, 1, false, Duration::ZERO, Duration::ZERO);
        Teardown::orderly(
            7,
            (nqn, instance),
            terms,
            BTreeSet::from([(volume, 0), (volume, 1)]),
            BTreeSet::from([volume]),
        )
    }

    fn fence_at(teardown: &Teardown, silent_at: Duration) -> Option<Duration> {
        let terms = teardown.terms.as_ref()?;
        Some(order_fence_at(silent_at, terms))
    }

    fn drain(teardown: &mut Teardown) {
        teardown.lanes.clear();
        teardown.talking.clear();
    }

    #[test]
    fn a_path_gone_before_its_queue_threads_have_drained_is_fenced_all_the_same() {
        let mut teardown = orderly();
        teardown.admin_silent();
        assert!(!teardown.falls_silent(ASSOCIATION_ENDS));
        assert_eq!(teardown.fence.at(), None);
        drain(&mut teardown);
        assert!(teardown.falls_silent(ASSOCIATION_ENDS));
        assert_eq!(teardown.fence.at(), fence_at(&teardown, ASSOCIATION_ENDS));
        assert!(!teardown.falls_silent(ASSOCIATION_ENDS + KATO), "once");
    }

    #[test]
    fn a_keep_alive_that_may_still_be_sent_delays_the_fence_of_an_orderly_end() {
        let mut teardown = orderly();
        drain(&mut teardown);
        assert!(!teardown.falls_silent(ASSOCIATION_ENDS), "admin queue");
        assert_eq!(teardown.fence.at(), None);
        teardown.admin_silent();
        assert!(teardown.falls_silent(ASSOCIATION_ENDS + KATO));
        assert_eq!(
            teardown.fence.at(),
            fence_at(&teardown, ASSOCIATION_ENDS + KATO)
        );
    }

    #[test]
    fn a_queue_pair_that_is_not_destroyed_yet_delays_the_fence_of_an_orderly_end() {
        let mut teardown = orderly();
        teardown.admin_silent();
        teardown.lanes.clear();
        assert!(!teardown.falls_silent(ASSOCIATION_ENDS));
        teardown.talking.clear();
        assert!(teardown.falls_silent(ASSOCIATION_ENDS));
    }
}
