//! State of an association that was given up, until its order fence is proved.

use std::collections::BTreeSet;
use std::time::Duration;

use umpath_core::AssociationId;
use umpath_core::association::{FenceTerms, Ladder, OrderFence};
use umpath_nvme::Nqn;
use umpath_nvme::command::Instance;
use umpath_session::StableId;

use crate::events::FailoverId;
use crate::order::QueueKey;
use crate::record::RecordKey;
use crate::spec::VolumeKey;

/// The association that was lost.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    /// The path that had it; 0: a path of an earlier process.
    pub(super) path: u32,
    pub(super) nqn: Nqn,
    /// The controller incarnation to fence.
    pub(super) instance: Instance,
    /// Terms of the fence by time; `None` if time proves nothing for this controller.
    pub(super) terms: Option<FenceTerms>,
}

/// An association that was given up, until its order fence is proved and the aftermath is over.
#[derive(Debug)]
pub(super) struct Teardown {
    pub(super) lost: Lost,
    /// The failover its marks belong to; an orderly end has none.
    pub(super) failover: Option<FailoverId>,
    pub(super) fence: OrderFence<QueueKey>,
    /// Queue threads that have not passed their buffer fence.
    pub(super) lanes: BTreeSet<(VolumeKey, u16)>,
    /// Volumes that had a path on it.
    pub(super) volumes: BTreeSet<StableId>,
    /// When time proves the fence, once known.
    pub(super) fence_due: Option<Duration>,
    /// The path is being removed by request. Its admin queue lives until the queue threads have
    /// drained, and then falls silent in good order.
    pub(super) orderly: bool,
    /// The ladder to its fence. An orderly end has none until a queue thread reports ghosts.
    pub(super) ladder: Option<Ladder>,
    /// The proof that it executes nothing more, in words.
    pub(super) proof: Option<String>,
    /// End of the aftermath; set when the volumes are notified.
    pub(super) over_at: Option<Duration>,
    /// Number of its record, if an earlier process wrote it.
    inherited: Option<u64>,
}

impl Teardown {
    /// A convicted association. `others`: its I/O queue pairs that no queue thread holds.
    pub(super) fn convicted(
        lost: Lost,
        failover: FailoverId,
        ladder: Ladder,
        lanes: BTreeSet<(VolumeKey, u16)>,
        volumes: BTreeSet<StableId>,
        others: BTreeSet<QueueKey>,
    ) -> Self {
        Self {
            failover: Some(failover),
            ladder: Some(ladder),
            orderly: false,
            ..Self::orderly(lost, lanes, volumes, others)
        }
    }

    /// The end of a path removed by request; its admin queue is still alive. `others`: its I/O queue
    /// pairs that no queue thread holds.
    pub(super) fn orderly(
        lost: Lost,
        lanes: BTreeSet<(VolumeKey, u16)>,
        volumes: BTreeSet<StableId>,
        mut others: BTreeSet<QueueKey>,
    ) -> Self {
        others.insert(QueueKey::Admin);
        others.extend(
            lanes
                .iter()
                .map(|(key, queue)| QueueKey::Lane(*key, *queue)),
        );
        Self {
            fence: OrderFence::new(lost.terms, others),
            lost,
            failover: None,
            lanes,
            volumes,
            fence_due: None,
            orderly: true,
            ladder: None,
            proof: None,
            over_at: None,
            inherited: None,
        }
    }

    /// An association left by an earlier process, found at `now`; its queue pairs ended with that
    /// process.
    pub(super) fn inherited(lost: Lost, record: u64, now: Duration) -> Self {
        Self {
            fence: OrderFence::silent_since(lost.terms, now),
            ladder: Some(Ladder::new(lost.instance)),
            orderly: false,
            inherited: Some(record),
            ..Self::orderly(lost, BTreeSet::new(), BTreeSet::new(), BTreeSet::new())
        }
    }

    /// Notifies a new volume of the fence as well; `false`: it is proved already.
    pub(super) fn carry_over(&mut self, volume: StableId) -> bool {
        let open = self.over_at.is_none();
        if open {
            self.volumes.insert(volume);
        }
        open
    }

    /// The record of this association.
    pub(super) fn record(&self, association: AssociationId) -> RecordKey {
        match self.inherited {
            Some(number) => RecordKey::Inherited(number),
            None => RecordKey::Own(association),
        }
    }

    /// A queue pair has sent nothing since `at`. Its destruction may be reported after its silence.
    pub(super) fn queue_silent(&mut self, key: QueueKey, at: Duration) {
        if self.fence.awaits(&key) {
            self.fence.queue_silent(&key, at);
        }
    }

    /// When the fence by time comes, or when the aftermath of a proved one ends.
    pub(super) fn poll_fence(&self) -> Option<Duration> {
        // A proved fence needs no more time; at most it waits for queue threads.
        let due = self.fence_due.filter(|_| self.proof.is_none());
        self.over_at.or(due)
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let ladder = self.ladder.as_ref().filter(|_| self.over_at.is_none());
        let ladder = ladder.and_then(Ladder::poll_timeout);
        self.poll_fence().into_iter().chain(ladder).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSOCIATION_ENDS: Duration = Duration::from_secs(100);
    const KATO: Duration = Duration::from_secs(1);
    const VOLUME: VolumeKey = VolumeKey {
        id: StableId::Uuid([1; 16]),
        incarnation: 1,
    };

    fn terms() -> Option<FenceTerms> {
        FenceTerms::new(KATO, 1, false, Duration::ZERO, Duration::ZERO)
    }

    fn lost() -> Lost {
        Lost {
            path: 1,
            nqn: "nqn.2024-01.org.example:array".parse().unwrap(),
            instance: Instance {
                cntlid: 1,
                ciu: 0,
                cirn: 0,
            },
            terms: terms(),
        }
    }

    /// A path taken away from a volume with two queue threads.
    fn orderly() -> Teardown {
        let lanes = [(VOLUME, 0), (VOLUME, 1)].into();
        Teardown::orderly(lost(), lanes, [VOLUME.id].into(), BTreeSet::new())
    }

    /// The fence counts from the last silence, whichever queue pair that is.
    #[test]
    fn an_orderly_end_counts_from_the_last_silence_in_any_order() {
        let queues = [
            QueueKey::Admin,
            QueueKey::Lane(VOLUME, 0),
            QueueKey::Lane(VOLUME, 1),
        ];
        for last in queues {
            let mut teardown = orderly();
            for other in queues.into_iter().filter(|other| *other != last) {
                teardown.queue_silent(other, ASSOCIATION_ENDS);
            }
            assert_eq!(teardown.fence.at(), None);
            let later = ASSOCIATION_ENDS + Duration::from_secs(5);
            teardown.queue_silent(last, later);
            // Its destruction is reported as well, and changes nothing.
            teardown.queue_silent(last, later + KATO);
            let expected = OrderFence::<QueueKey>::silent_since(terms(), later).at();
            assert_eq!(teardown.fence.at(), expected);
        }
    }

    #[test]
    fn spare_queue_pairs_count_where_there_were_any() {
        for spare in [false, true] {
            let failover = {
                let mut log = crate::events::EventLog::new(Duration::ZERO, 0);
                let kind = umpath_protocol::EventKind::Convicted;
                log.failover(Duration::ZERO, kind, 1, "a", "b")
            };
            let ladder = Ladder::new(lost().instance);
            let mut teardown = Teardown::convicted(
                lost(),
                failover,
                ladder,
                BTreeSet::new(),
                BTreeSet::new(),
                spare.then_some(QueueKey::Spare).into_iter().collect(),
            );
            teardown.queue_silent(QueueKey::Admin, ASSOCIATION_ENDS);
            assert_eq!(teardown.fence.at().is_some(), !spare);
            teardown.queue_silent(QueueKey::Spare, ASSOCIATION_ENDS);
            assert!(teardown.fence.at().is_some());
        }
    }
}
