//! Associations that outlive what knew of them: those an earlier umpathd left behind, and those a
//! removed volume left to its successor.
//!
//! Nothing is known of the writes lost with them. So a volume of their subsystem that is made before
//! they are fenced keeps all its writes back until they are; reads flow. Their fences are reached
//! like any other: through a survivor's reset, or by time, counted from this umpathd's start, when
//! every queue pair of the dead one was gone already.

use std::path::PathBuf;

use umpath_core::AssociationId;
use umpath_nvme::Nqn;
use umpath_protocol::{EventKind, Failure};
use umpath_session::StableId;

use super::teardown::Teardown;
use super::{Hub, Message};
use crate::clock;
use crate::events::Subject;
use crate::records::{self, AssociationRecord};

/// Inherited associations are numbered from here: this run never makes so many.
const INHERITED: u64 = 1 << 63;

impl Hub {
    /// Begins to fence what the last umpathd has left. Blocks for a few reads, before anything runs.
    pub(super) fn inherit_associations(&mut self) {
        let left = match self.context.records.load() {
            Ok(left) => left,
            Err(error) => {
                // Looked at before anything was started; so they have come since.
                tracing::error!("{error:#}");
                return;
            }
        };
        for (number, (file, record)) in (INHERITED..).zip(left) {
            self.inherit_association(AssociationId(number), file, &record);
        }
    }

    fn inherit_association(
        &mut self,
        association: AssociationId,
        file: PathBuf,
        record: &AssociationRecord,
    ) {
        let Ok(nqn) = record.nqn.parse::<Nqn>() else {
            tracing::error!("{} names no subsystem", file.display());
            return;
        };
        let words = format!(
            "{} controller {} of {}: writes wait until it is fenced",
            record.address,
            record.instance().cntlid,
            record.nqn
        );
        self.context
            .events
            .record(EventKind::Inherited, Subject::default(), words);
        let terms = record.terms();
        if terms.is_none() {
            tracing::error!(
                "controller {} of {} has no keep-alive timer, so unless another one resets it \
                 nothing proves that it has stopped: volumes of it take no writes. Once it has \
                 certainly stopped, end umpathd, remove {} and start again",
                record.instance().cntlid,
                record.nqn,
                file.display()
            );
        }
        let teardown = Teardown::inherited((nqn, record.instance()), terms, file, clock::now());
        self.teardowns.insert(association, teardown);
        self.fence_if_known(association);
    }

    /// A volume has just been made, and has no path yet: it inherits what is not fenced.
    pub(super) fn bequeath(&mut self, id: StableId) {
        let Some(volume) = self.volumes.get_mut(&id) else {
            return;
        };
        let now = clock::now();
        for (association, teardown) in &mut self.teardowns {
            if teardown.nqn.as_str() == volume.nqn() && teardown.bequeath(id) {
                volume.inherit(*association, now);
            }
        }
    }

    /// Puts a new association on disk. No volume meets it before that.
    pub(super) fn put_on_record(&self, path: u32) {
        let Some(record) = self.paths.get(&path) else {
            return;
        };
        let Some(live) = &record.live else { return };
        let association = live.association;
        let facts = AssociationRecord::new(
            record.spec.nqn.as_str(),
            record.spec.address(),
            &live.ready.facts,
        );
        let records = self.context.records.clone();
        self.elsewhere(move || {
            let outcome = records.write(association, &facts).map_err(|error| {
                Failure::new(
                    "an association cannot be used",
                    format!("{error:#}"),
                    "make room for the state directory; then disconnect the path and connect it \
                     again",
                )
            });
            Message::Recorded(path, association, outcome)
        });
    }

    /// A new association is on disk: it meets its volumes.
    pub(super) fn recorded(
        &mut self,
        path: u32,
        association: AssociationId,
        outcome: Result<(), Failure>,
    ) {
        let Some(live) = self.still_live(path, association) else {
            // It was given up before any volume met it: nothing was ever sent.
            if !self.teardowns.contains_key(&association) {
                forget_association(self.context.records.file(association));
            }
            return;
        };
        live.recorded = Some(outcome.is_ok());
        if let Err(failure) = outcome {
            tracing::error!(path, "{failure}");
            live.refusals.push(failure);
            return;
        }
        let namespaces = live.ready.namespaces.clone();
        for namespace in namespaces {
            self.meet(path, &namespace);
        }
    }
}

/// An association is fenced, or nothing was in flight on it: its file goes.
pub(super) fn forget_association(file: PathBuf) {
    tokio::task::spawn_blocking(move || records::forget(&file));
}
