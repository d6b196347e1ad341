//! Deleting block devices that have stopped for good.
//!
//! Such a device answers nothing: its server died before it started it, or stopped it and then could
//! not delete it. Or it could not be taken over, and an operator insisted on its removal. Deleting it
//! may fail and is retried. Its record stays until then, so that a later process finds the device, and
//! so no new volume of the same identity, which would overwrite the record, is created meanwhile.

use std::time::Duration;

use umpath_protocol::{EventKind, Failure};
use umpath_session::StableId;

use super::Host;
use super::attach::Live;
use crate::events::Subject;
use crate::order::Order;
use crate::record::VolumeRecord;
use crate::volume::Volume;

/// First and longest pause between attempts.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// A block device to delete.
#[derive(Debug)]
pub(super) struct Sweep {
    record: VolumeRecord,
    /// `None`: an attempt is in progress.
    retry_at: Option<Duration>,
    pause: Duration,
}

impl Sweep {
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.retry_at
    }
}

impl Host {
    /// Starts to delete the block device of a record.
    pub(super) fn sweep(&mut self, record: VolumeRecord) {
        self.fx.order(Order::Sweep(Box::new(record.clone())));
        self.add_sweep(record);
    }

    /// Deletes the block device of a record later: a first attempt has failed.
    pub(super) fn sweep_later(&mut self, record: VolumeRecord, failure: &Failure) {
        let id = record.id;
        self.add_sweep(record);
        self.not_swept(id, failure);
    }

    fn add_sweep(&mut self, record: VolumeRecord) {
        let sweep = Sweep {
            retry_at: None,
            pause: Duration::ZERO,
            record,
        };
        let before = self.sweeps.insert(sweep.record.id, sweep);
        assert!(before.is_none(), "a volume has one record");
    }

    /// A block device that had stopped for good was deleted with its record, or was not.
    pub fn handle_swept(&mut self, id: StableId, outcome: Result<(), Failure>, now: Duration) {
        self.begin(now);
        match outcome {
            Ok(()) => {
                let swept = self.sweeps.remove(&id);
                assert!(swept.is_some(), "a block device nobody swept");
                self.retry_refusals_for(id);
            }
            Err(failure) => self.not_swept(id, &failure),
        }
        self.settle();
    }

    fn not_swept(&mut self, id: StableId, failure: &Failure) {
        let [first, longest] = PAUSES;
        let sweep = self.sweeps.get_mut(&id);
        let sweep = sweep.expect("a block device that is swept");
        let news = sweep.pause.is_zero();
        sweep.pause = (sweep.pause * 2).clamp(first, longest);
        sweep.retry_at = Some(self.fx.now + sweep.pause);
        if news {
            let subject = Subject::volume(&sweep.record.name);
            let words = format!("{failure}; trying again");
            self.fx.event(EventKind::Refused, subject, words);
        }
    }

    /// Whether a namespace of an association waits for its last block device to be deleted, or for one
    /// that nobody saw to be dropped.
    pub(super) fn awaits_sweep(&self, live: &Live) -> bool {
        let dropped = |id: StableId| self.volumes.get(&id).is_some_and(Volume::is_unseen);
        let namespaces = live.ready.namespaces.iter();
        let mut usable = namespaces.filter_map(|it| Some((it.nsid, it.facts.as_ref().ok()?.id)));
        usable.any(|(nsid, id)| {
            let waits = live.refusals.waits_until_gone(nsid) && dropped(id);
            waits || self.sweeps.contains_key(&id)
        })
    }

    /// An operator may wait for it.
    pub(super) fn hurry_sweeps(&mut self) {
        let now = self.fx.now;
        for sweep in self.sweeps.values_mut() {
            sweep.retry_at = sweep.retry_at.map(|at| at.min(now));
        }
        self.sweeps_due();
    }

    pub(super) fn sweeps_due(&mut self) {
        let now = self.fx.now;
        for sweep in self.sweeps.values_mut() {
            if sweep.retry_at.is_some_and(|at| at <= now) {
                sweep.retry_at = None;
                self.fx.order(Order::Sweep(Box::new(sweep.record.clone())));
            }
        }
    }
}
