//! Fences carried over: associations left behind by an earlier process, or by a removed volume to
//! its successor.
//!
//! Nothing is known of the writes lost with them. So a volume of their subsystem created before
//! they are fenced holds back all its writes until they are; reads proceed. They are fenced like
//! any other: by a survivor's reset, or by time, counted from the start of this process, when every
//! queue pair of the dead one was already gone.

use std::time::Duration;

use umpath_core::AssociationId;
use umpath_protocol::{EventKind, Failure};
use umpath_session::StableId;

use super::Host;
use super::teardown::{Lost, Teardown};
use crate::events::Subject;
use crate::order::Order;
use crate::record::{AssociationRecord, RecordKey};

/// First number of carried-over associations; no process ever creates this many itself.
const INHERITED: u64 = 1 << 63;

/// Delay before retrying to write an association's record.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// State of an association's on-disk record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Being written.
    Pending,
    /// Durable: volumes may use the association.
    Durable,
    /// Could not be written; the write will be retried.
    Failed { retry_at: Duration },
}

impl Host {
    /// An earlier process left this association; no write may pass before it is fenced. The shell
    /// calls this for each one before anything else happens. `number` is the record's, for
    /// [`Order::Forget`].
    pub fn handle_inherited(&mut self, number: u64, record: &AssociationRecord, now: Duration) {
        self.begin(now);
        let nqn = record.nqn.clone();
        let instance = record.instance();
        let words = format!(
            "{} controller {} of {nqn}: writes wait until it is fenced",
            record.address, instance.cntlid,
        );
        self.fx
            .event(EventKind::Inherited, Subject::default(), words);
        let terms = record.terms(self.settings.quiesce_floor());
        if terms.is_none() {
            tracing::error!(
                "controller {} of {nqn} has no keep-alive timer, so unless another one resets it \
                 nothing proves that it has stopped: volumes of it take no writes. Once it has \
                 certainly stopped, end umpathd, remove its file in associations/ of the state \
                 directory and start again",
                instance.cntlid,
            );
        }
        let lost = Lost {
            path: 0,
            nqn,
            instance,
            terms,
        };
        let association = AssociationId(INHERITED + number);
        let teardown = Teardown::inherited(lost, number, now);
        self.teardowns.insert(association, teardown);
        self.fence_if_known(association);
    }

    /// Carries all unproved fences over to a volume that was just created and has no path yet.
    pub(super) fn carry_over_to(&mut self, id: StableId) {
        let volume = self.volumes.get_mut(&id).expect("a volume that was made");
        for (association, teardown) in &mut self.teardowns {
            if teardown.lost.nqn.as_str() == volume.nqn() && teardown.carry_over(id) {
                volume.carry_over(*association, &mut self.fx);
            }
        }
    }

    /// Orders the association's record; no volume is attached until it is durable.
    pub(super) fn put_on_record(&mut self, path: u32) {
        let record = self.paths.get_mut(&path).expect("a path that is there");
        let live = record.live.as_mut().expect("an association to record");
        live.recorded = Recorded::Pending;
        self.recording.insert(live.association);
        let facts = &live.ready.facts;
        let (nqn, address) = (&record.spec.nqn, record.spec.address());
        self.fx.order(Order::Record {
            path,
            association: live.association,
            record: Box::new(AssociationRecord::new(nqn, address, facts)),
        });
    }

    /// A record is of no further use. One that is still being written is removed after that, or it
    /// would stay.
    pub(super) fn forget(&mut self, record: RecordKey) {
        match record {
            RecordKey::Own(association) if self.recording.contains(&association) => {
                self.forgotten.insert(association);
            }
            record => self.fx.order(Order::Forget(record)),
        }
    }

    /// An association's record is durable, or could not be written.
    pub fn handle_recorded(
        &mut self,
        path: u32,
        association: AssociationId,
        outcome: Result<(), Failure>,
        now: Duration,
    ) {
        self.begin(now);
        self.recorded(path, association, outcome);
        self.settle();
    }

    fn recorded(&mut self, path: u32, association: AssociationId, outcome: Result<(), Failure>) {
        let retry_at = self.fx.now + RECORD_AGAIN;
        self.recording.remove(&association);
        if self.forgotten.remove(&association) {
            return self.forget(RecordKey::Own(association));
        }
        let Some(live) = self.still_live(path, association) else {
            // Given up before any volume was attached: it carried no I/O.
            if !self.teardowns.contains_key(&association) {
                self.forget(RecordKey::Own(association));
            }
            return;
        };
        match outcome {
            Ok(()) => {
                live.recorded = Recorded::Durable;
                live.refusals.clear(0);
                for namespace in live.ready.namespaces.clone() {
                    self.match_namespace(path, &namespace);
                }
            }
            Err(failure) => {
                live.recorded = Recorded::Failed { retry_at };
                // NSID 0 stands for the whole association.
                self.note_refusal(path, 0, &failure);
            }
        }
    }
}
