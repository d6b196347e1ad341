//! Suspicion and conviction, passed from paths to volumes.
//!
//! A suspicion takes new I/O off an association. A conviction gives the association up: from then
//! on it is a teardown (`fence`), whatever becomes of the path.

use std::collections::BTreeSet;
use std::time::Duration;

use umpath_core::AssociationId;
use umpath_core::association::{Conviction, Suspicion};
use umpath_protocol::EventKind;
use umpath_session::StableId;

use super::Host;
use super::ladder::instance_of;
use super::teardown::{Lost, Teardown};
use crate::events::{FailoverId, Subject};
use crate::order::{Order, QueueKey, Remains};
use crate::spec::VolumeKey;

impl Host {
    pub(super) fn suspect(
        &mut self,
        path: u32,
        association: AssociationId,
        at: Duration,
        why: Suspicion,
    ) {
        let Some(live) = self.still_live(path, association) else {
            return;
        };
        live.suspect = Some(why);
        self.failover(path, at, EventKind::Suspected, &why.to_string());
        for volume in self.volumes.values_mut() {
            volume.suspect(association, why, at, &mut self.fx);
        }
    }

    pub(super) fn clear(&mut self, path: u32, association: AssociationId, at: Duration) {
        let Some(live) = self.still_live(path, association) else {
            return;
        };
        live.suspect = None;
        let failover = self.path_mut(path).failover.take();
        if let Some(failover) = failover {
            self.fx
                .events
                .mark(failover, at, EventKind::Cleared, Subject::default(), "");
        }
        for volume in self.volumes.values_mut() {
            volume.clear(association, at, &mut self.fx);
            volume.note_failover(path, None, &mut self.fx);
            if let Some(failover) = failover {
                volume.call_off(failover);
            }
        }
    }

    /// Adds a mark to the path's open failover, or opens one with it.
    fn failover(&mut self, path: u32, at: Duration, kind: EventKind, why: &str) -> FailoverId {
        let record = self.paths.get_mut(&path).expect("a path that is there");
        let events = &mut self.fx.events;
        let id = if let Some(id) = record.failover {
            events.mark(id, at, kind, Subject::default(), why);
            id
        } else {
            events.failover(at, kind, path, &record.spec.address(), why)
        };
        record.failover = Some(id);
        for volume in self
            .volumes
            .values_mut()
            .filter(|volume| volume.has_path(path))
        {
            volume.note_failover(path, Some(id), &mut self.fx);
            self.fx.events.concerns(id, volume.name());
        }
        id
    }

    pub(super) fn convict(
        &mut self,
        path: u32,
        association: AssociationId,
        at: Duration,
        why: Conviction,
    ) {
        if self.still_live(path, association).is_none() {
            return;
        }
        let failover = self.failover(path, at, EventKind::Convicted, &why.to_string());
        let record = self.path_mut(path);
        let live = record.live.take().expect("it was just found");
        record.last_error = why.to_string();
        // The next loss opens another failover.
        record.failover = None;
        let nqn = record.spec.nqn.clone();
        let instance = instance_of(&live.ready.facts);
        let lost = Lost {
            path,
            nqn: nqn.clone(),
            instance,
            terms: self.fence_terms(&live.ready.facts),
        };
        let ladder = self.ladder_for(path, &nqn, instance);
        let (lanes, volumes) = self.convict_volumes(association, why, at);
        let unfenceable = lost.terms.is_none();
        let others = live.queues_apart();
        let spare = others.contains(&QueueKey::Spare);
        let teardown = Teardown::convicted(lost, failover, ladder, lanes, volumes, others);
        self.teardowns.insert(association, teardown);
        // It may have been asked to reset another controller.
        self.survivor_gone(association);
        self.fx.order(Order::Destroy {
            association,
            remains: Remains::Spare,
            report: spare,
        });
        self.carry_out(association);
        if unfenceable {
            tracing::error!(
                path,
                "this controller has no keep-alive timer, so nothing proves that it has stopped: \
                 writes lost with it are held for ever; disconnect the volume with --force to fail \
                 them"
            );
        }
        self.fence_if_known(association);
    }

    /// Makes every volume give the association up. Returns the queue threads that will confirm it
    /// and the volumes concerned.
    pub(super) fn convict_volumes(
        &mut self,
        association: AssociationId,
        why: Conviction,
        at: Duration,
    ) -> (BTreeSet<(VolumeKey, u16)>, BTreeSet<StableId>) {
        let mut lanes = BTreeSet::new();
        let mut volumes = BTreeSet::new();
        for volume in self.volumes.values_mut() {
            let queues = volume.convict(association, why, at, &mut self.fx);
            if !queues.is_empty() {
                volumes.insert(volume.id());
                lanes.extend(queues.into_iter().map(|queue| (volume.key(), queue)));
            }
        }
        (lanes, volumes)
    }

    /// Destroys the queue pairs of a path that no queue thread holds.
    pub(super) fn destroy_spares(&mut self, path: u32) {
        if let Some(live) = self.live_mut(path)
            && !std::mem::take(&mut live.spare).is_empty()
        {
            let association = live.association;
            self.fx.order(Order::Destroy {
                association,
                remains: Remains::Spare,
                report: false,
            });
        }
    }
}
