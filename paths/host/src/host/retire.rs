//! Taking a path away from volumes that live on.
//!
//! The path gets no new I/O; what is in flight is answered in good order, within [`PATIENCE`]. Then
//! the queue threads drain their queue pairs as after a conviction. If nothing of unknown fate is
//! left, there is nothing to fence; otherwise the order fence is waited for like any other, from the
//! moment when neither the queue threads nor the admin queue can send any more. Last the controller
//! is shut down.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::association::Conviction;
use umpath_core::{AssociationId, PathId, VolumeShared};

use super::attach::Live;
use super::failover::fence_terms;
use super::ladder::instance_of;
use super::teardown::Teardown;
use super::{Hub, Message};
use crate::clock;

/// Longest wait for commands in flight.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(5);

impl Hub {
    /// Takes a path away and ends it.
    pub(super) fn take_path_away(&mut self, path: u32) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        record.ending = true;
        for volume in self.volumes.values().filter(|volume| volume.has_path(path)) {
            self.note_paths_of(volume);
        }
        let Some(live) = self.live(path) else {
            return self.end_path(path);
        };
        let association = live.association;
        let now = clock::now();
        let mut loads: Vec<(PathId, Arc<VolumeShared>)> = Vec::new();
        for volume in self.volumes.values_mut() {
            volume.retire(association);
            loads.extend(volume.load_of(association));
        }
        if loads.is_empty() {
            return self.end_path(path);
        }
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            let until = now + PATIENCE;
            let busy = |load: &(PathId, Arc<VolumeShared>)| load.1.in_flight(load.0) > 0;
            while loads.iter().any(busy) && clock::now() < until {
                tokio::time::sleep(LOOK).await;
            }
            let _ = outbox.send(Message::Idle(path, association));
        });
    }

    pub(super) fn idle(&mut self, path: u32, association: AssociationId) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        let Some(live) = record.live.take_if(|live| live.association == association) else {
            // Convicted meanwhile: that teardown does the rest.
            return self.end_path(path);
        };
        self.let_go_in_order(path, live);
        self.retired_if_drained(association);
    }

    /// Makes the queue threads drain an association that is not convicted.
    pub(super) fn let_go_in_order(&mut self, path: u32, live: Live) {
        let Some(record) = self.paths.get(&path) else {
            return;
        };
        let association = live.association;
        let terms = fence_terms(&live.ready.facts);
        let whose = (record.spec.nqn.clone(), instance_of(&live.ready.facts));
        tokio::task::spawn_blocking(move || drop((live.spare, live.domain)));
        let (lanes, volumes) =
            self.convict_volumes(association, Conviction::Operator, clock::now());
        let teardown = Teardown::orderly(path, whose, terms, lanes, volumes);
        self.teardowns.insert(association, teardown);
        self.survivor_gone(association);
    }

    /// Ends a path whose queue threads have let go of it.
    pub(super) fn retired_if_drained(&mut self, association: AssociationId) {
        let Some(teardown) = self.teardowns.get(&association) else {
            return;
        };
        if !teardown.is_orderly_and_drained() {
            return;
        }
        let path = teardown.path();
        // Every queue thread has said what it lost.
        let ghosts = teardown
            .volumes()
            .map(|id| self.volumes.get(id))
            // A volume removed meanwhile told nobody: the next one of its subsystem inherits.
            .any(|volume| volume.is_none_or(|volume| volume.has_ghosts(association)));
        if !ghosts {
            self.nothing_lost(association);
        }
        self.end_path(path);
    }

    /// Counts the time to the fence of an orderly end, once nothing of it can be sent any more.
    pub(super) fn fence_if_silent(&mut self, association: AssociationId) {
        let teardown = self.teardowns.get_mut(&association);
        if teardown.is_some_and(|teardown| teardown.falls_silent(clock::now())) {
            self.fence_if_known(association);
        }
    }
}
