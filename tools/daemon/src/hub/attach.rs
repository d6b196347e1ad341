//! A new association meets its volumes.
//!
//! Each usable namespace either belongs to a volume that exists, and then must be the same in size,
//! format and identity, or begins a new one. A volume is made in three steps that take time: block
//! device and queue threads are made, the threads' memory is registered with the association, queue
//! pairs are attached. Only then the block device starts, so that reading its partition table finds
//! a path.

use std::collections::BTreeSet;
use std::sync::Arc;

use umpath_core::association::Suspicion;
use umpath_core::{AssociationId, PathConfig};
use umpath_protocol::{EventKind, Failure};
use umpath_rdma::{Domain, HostQueue};
use umpath_session::{Namespace, NamespaceFacts, Ready, StableId};

use super::paths::{Known, PathRecord};
use super::{Hub, Message};
use crate::association::{Order, Up};
use crate::events::Subject;
use crate::shape;
use crate::volume::{Attachment, Built, Volume, VolumeSpec, ana_state, build};

/// An association that is ready for I/O.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) association: AssociationId,
    pub(super) ready: Ready,
    pub(super) domain: Arc<Domain>,
    /// Queue pairs no queue thread has.
    pub(super) spare: Vec<HostQueue>,
    /// It is on disk, `Some(false)`: it could not be written there. No volume meets it before.
    pub(super) recorded: Option<bool>,
    /// Volumes it is still to be attached to.
    pub(super) pending: BTreeSet<StableId>,
    /// Namespaces that could not be used, and why.
    pub(super) refusals: Vec<Failure>,
    /// Namespaces that the configuration leaves alone, and the entries that do.
    pub(super) ignored: Vec<Failure>,
    /// The evidence against it, while there is some.
    pub(super) suspect: Option<Suspicion>,
}

impl Hub {
    pub(super) fn up(&mut self, path: u32, up: Up) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        if record.ending {
            // Lost while it was being taken away, and back before that was over. Nobody may use it:
            // the path's end would cut off what is in flight.
            tokio::task::spawn_blocking(move || drop((up.queues, up.domain)));
            return self.end_path(path);
        }
        let facts = &up.ready.facts;
        record.known = Known {
            serial: facts.serial.clone(),
            model: facts.model.clone(),
            cntlid: facts.cntlid,
            kato: facts.kato,
        };
        record.last_error.clear();
        record.connects += 1;
        let words = format!(
            "{} {} controller {} with {} I/O queues of {}",
            record.spec.address(),
            record.spec.nqn,
            facts.cntlid,
            up.ready.io_queues,
            up.ready.io_depth,
        );
        self.context
            .events
            .record(EventKind::PathReady, Subject::path(path), words);
        record.live = Some(Live {
            association: up.association,
            ready: up.ready,
            domain: up.domain,
            spare: up.queues,
            recorded: None,
            pending: BTreeSet::new(),
            refusals: Vec::new(),
            ignored: Vec::new(),
            suspect: None,
        });
        self.put_on_record(path);
        self.survivor_up(path);
    }

    /// A namespace of a new association, or a new namespace of an old one.
    pub(super) fn meet(&mut self, path: u32, namespace: &Namespace) {
        let facts = match &namespace.facts {
            Ok(facts) => facts,
            Err(problem) => {
                let fix = "give the namespace a UUID or NGUID, 512 or 4096 byte blocks and no \
                           metadata on the array";
                self.refuse(path, namespace.nsid, problem.to_string(), fix);
                return;
            }
        };
        let Some(record) = self.paths.get(&path) else {
            return;
        };
        if record.ending || record.ignored.contains(&facts.id) {
            return;
        }
        if let Some(volume) = self.volumes.get(&facts.id) {
            let nqn = record.spec.nqn.as_str();
            if let Some(difference) = volume.difference(nqn, facts) {
                let why = format!(
                    "it calls itself {}, as volume {} ({}) does, but they differ: {difference}",
                    facts.id,
                    volume.name(),
                    volume.device_name(),
                );
                let fix = "two disks with one identity must not become one: correct the identity or \
                           the size on the array";
                self.refuse(path, namespace.nsid, why, fix);
                return;
            }
        } else if self.leaves_alone(path, namespace.nsid, facts) {
            return;
        } else if let Err(failure) = self.begin_volume(path, namespace.nsid, facts) {
            self.refuse(path, namespace.nsid, failure, "");
            return;
        }
        let Some(live) = self.live_mut(path) else {
            return;
        };
        live.pending.insert(facts.id);
        self.register(path, facts.id);
    }

    fn refuse(&mut self, path: u32, nsid: u32, why: String, fix: &str) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        let what = format!(
            "namespace {nsid} of {} at {} is refused",
            record.spec.nqn,
            record.spec.address()
        );
        let failure = Failure::new(what, why, fix);
        self.context
            .events
            .record(EventKind::Refused, Subject::path(path), failure.to_string());
        if let Some(live) = &mut record.live {
            live.refusals.push(failure);
        }
    }

    /// Begins the volume of a namespace seen for the first time.
    fn begin_volume(&mut self, path: u32, nsid: u32, facts: &NamespaceFacts) -> Result<(), String> {
        let Some(record) = self.paths.get(&path) else {
            return Err("the path is gone".into());
        };
        let Some(live) = &record.live else {
            return Err("the association is gone".into());
        };
        let id = facts.id.to_string();
        let entry = self.context.config.volume(&id);
        let policy = self.context.config.policy(&id, &live.ready.facts.model);
        let alias = entry
            .and_then(|entry| entry.alias.clone())
            .or_else(|| record.alias.clone());
        let volumes = &self.volumes;
        let in_use = |name: &str| volumes.values().any(|volume| volume.name() == name);
        let name = self.names.name(&id, alias.as_deref(), &in_use);
        let defaults = &self.context.config.defaults;
        let queues = record.spec.session.io_queues_per_namespace;
        let limits = shape::block_limits(&live.ready.facts, facts, defaults.max_io_kib * 1024);
        let spec = VolumeSpec {
            id: facts.id,
            name,
            nqn: record.spec.nqn.to_string(),
            serial: live.ready.facts.serial.clone(),
            model: live.ready.facts.model.clone(),
            firmware: live.ready.facts.firmware.clone(),
            nsid,
            namespace: facts.clone(),
            limits,
            queues,
            depth: record.spec.session.io_depth - 1,
            polling: std::time::Duration::from_micros(defaults.poll_us.into()),
            drain_deadline: std::time::Duration::from_millis(defaults.drain_deadline_ms),
            policy,
        };
        let volume = Volume::new(spec.clone(), self.context.events.clone());
        let (shared, outbox) = (volume.shared().clone(), self.outbox.clone());
        self.volumes.insert(facts.id, volume);
        let keeper = self.context.keeper.clone();
        self.elsewhere(move || {
            let outcome = build(&spec, &keeper, &shared, &outbox);
            Message::Built(spec.id, outcome.map(Box::new))
        });
        Ok(())
    }

    pub(super) fn built(&mut self, id: StableId, outcome: Result<Box<Built>, Failure>) {
        match outcome {
            Ok(built) => {
                let Some(volume) = self.volumes.get_mut(&id) else {
                    return;
                };
                volume.built(*built);
                self.bequeath(id);
                let Some(volume) = self.volumes.get_mut(&id) else {
                    return;
                };
                if volume.is_recovered() {
                    // Its requests have waited long enough in the kernel; here they can be seen.
                    volume.start(&self.outbox);
                }
                let waiting: Vec<u32> = self
                    .paths
                    .iter()
                    .filter(|(_, record)| {
                        record
                            .live
                            .as_ref()
                            .is_some_and(|live| live.pending.contains(&id))
                    })
                    .map(|(path, _)| *path)
                    .collect();
                for path in waiting {
                    self.register(path, id);
                }
                // Its paths may have gone while it was made.
                self.drop_unborn(id);
            }
            Err(failure) => self.volume_failed(id, &failure),
        }
    }

    /// A volume cannot be had: whoever waited for it is told.
    pub(super) fn volume_failed(&mut self, id: StableId, failure: &Failure) {
        let Some(volume) = self.volumes.remove(&id) else {
            return;
        };
        let subject = Subject::volume(volume.name());
        self.context
            .events
            .record(EventKind::Refused, subject, failure.to_string());
        for record in self.paths.values_mut() {
            if let Some(live) = &mut record.live
                && live.pending.remove(&id)
            {
                live.refusals.push(failure.clone());
            }
        }
    }

    /// Registers the memory of a volume that is built with an association that waits for it.
    fn register(&mut self, path: u32, id: StableId) {
        let Some(live) = self.live(path) else {
            return;
        };
        let Some(arenas) = self.volumes.get(&id).and_then(Volume::arenas) else {
            return;
        };
        let (association, domain) = (live.association, live.domain.clone());
        self.elsewhere(move || {
            let outcome = arenas.iter().try_for_each(|arena| domain.register(arena));
            let outcome = outcome.map_err(|error| {
                let what = format!("cannot register memory with {}", domain.device());
                let fix = "raise the memlock limit (LimitMEMLOCK=infinity), or lower queue_depth, \
                           io_queues or max_io_kib in umpath.toml";
                Failure::new(what, error.to_string(), fix)
            });
            Message::Registered(id, association, outcome)
        });
    }

    pub(super) fn registered(
        &mut self,
        id: StableId,
        association: AssociationId,
        outcome: Result<(), Failure>,
    ) {
        let found = self.path_with(association);
        let Some(path) = found.map(|(record, _)| record.spec.id) else {
            return self.drop_unborn(id);
        };
        let Some(live) = self.live_mut(path) else {
            return;
        };
        if !live.pending.remove(&id) {
            return;
        }
        let attached = outcome.and_then(|()| self.attach(path, id));
        if let Err(failure) = attached {
            self.context.events.record(
                EventKind::Refused,
                Subject::path(path),
                failure.to_string(),
            );
            if let Some(live) = self.live_mut(path) {
                live.refusals.push(failure);
            }
            self.drop_unborn(id);
        }
    }

    /// Hands queue pairs to the volume's queue threads.
    fn attach(&mut self, path: u32, id: StableId) -> Result<(), Failure> {
        let Some(record) = self.paths.get_mut(&path) else {
            return Ok(());
        };
        let (Some(live), Some(volume)) = (&mut record.live, self.volumes.get_mut(&id)) else {
            return Ok(());
        };
        let lanes = volume.lanes();
        let address = record.spec.address();
        if live.spare.len() < lanes {
            return Err(Failure::new(
                format!("volume {} cannot use {address}", volume.name()),
                format!(
                    "it has {lanes} queues, and the controller has {} I/O queues left for it",
                    live.spare.len()
                ),
                "a path has I/O queues for the namespaces there were when it connected: disconnect and \
                 connect it once more (umpath disconnect -p, umpath connect). Otherwise lower io_queues \
                 in umpath.toml, or raise the array's limit on I/O queues",
            ));
        }
        let namespace = live.ready.namespaces.iter().find_map(|namespace| {
            namespace
                .facts
                .as_ref()
                .ok()
                .filter(|facts| facts.id == id)
                .map(|f| (namespace.nsid, f))
        });
        let Some((nsid, facts)) = namespace else {
            return Err(Failure::new(
                format!("volume {} cannot use {address}", volume.name()),
                "its namespace is gone from this controller again",
                "",
            ));
        };
        let preferred = record.spec.preferred
            || self
                .context
                .config
                .volume(&id.to_string())
                .is_some_and(|entry| entry.prefers(record.spec.traddr.ip()));
        let ana = live.ready.ana.as_ref();
        let ana_group = ana.map_or(facts.ana_group, |table| {
            table.group_of(nsid, facts.ana_group)
        });
        let attachment = Attachment {
            path,
            association: live.association,
            nsid,
            limits: shape::path_limits(&live.ready.facts, facts),
            ana: live
                .ready
                .ana
                .as_ref()
                .map(|table| ana_state(table.state(nsid, ana_group))),
            ana_group,
            serial: live.ready.facts.serial.clone(),
            cntlid: live.ready.facts.cntlid,
            address,
            steering: PathConfig {
                preferred,
                weight: record.spec.weight,
                throughput: record.spec.throughput,
            },
            node: crate::links::node_of(live.domain.device()),
            queues: live.spare.drain(..lanes).collect(),
        };
        let association = live.association;
        let suspect = live.suspect;
        let number = volume.attach(attachment)?;
        if let Some(terms) = live.ready.facts.ana {
            volume.ana_terms(association, ana_group, terms.transition);
        }
        if let Some(why) = suspect {
            volume.suspect(association, why, crate::clock::now());
        }
        let order = Order::Serves(association, number, volume.shared().clone());
        let _ = record.orders.send(order);
        volume.start(&self.outbox);
        if let Some(volume) = self.volumes.get(&id) {
            self.note_paths_of(volume);
        }
        Ok(())
    }

    /// Removes a volume that never got a path.
    fn drop_unborn(&mut self, id: StableId) {
        let wanted = self.paths.values().any(|record| {
            record
                .live
                .as_ref()
                .is_some_and(|live| live.pending.contains(&id))
        });
        if !wanted
            && let Some(volume) = self.volumes.get_mut(&id)
            && volume.is_unborn()
            && let Some(device) = volume.take_device()
        {
            let record = volume.record();
            self.volumes.remove(&id);
            let keeper = self.context.keeper.clone();
            tokio::task::spawn_blocking(move || {
                drop(device);
                keeper.remove(record.as_ref());
            });
        }
    }

    pub(super) fn started(&mut self, id: StableId, outcome: Result<(), Failure>) {
        let Some(volume) = self.volumes.get_mut(&id) else {
            return;
        };
        match outcome {
            Ok(()) => {
                volume.started();
                let words = format!("/dev/{} {id}", volume.device_name());
                let subject = Subject::volume(volume.name());
                let kind = if volume.is_recovered() {
                    EventKind::VolumeRecovered
                } else {
                    EventKind::VolumeAdded
                };
                self.context.events.record(kind, subject, words);
            }
            Err(failure) => {
                let device = volume.take_device();
                let record = volume.record();
                self.volume_failed(id, &failure);
                if let Some(mut device) = device {
                    let keeper = self.context.keeper.clone();
                    tokio::task::spawn_blocking(move || {
                        if device.remove(false).is_ok() {
                            keeper.remove(record.as_ref());
                        }
                    });
                }
            }
        }
    }

    /// Answers those who wait for a path once all its volumes are there or refused.
    pub(super) fn settle_connects(&mut self) {
        let settled: Vec<u32> = self
            .paths
            .iter()
            .filter(|(path, record)| {
                !record.waiting.is_empty()
                    && record
                        .live
                        .as_ref()
                        .is_some_and(|live| live.recorded.is_some() && live.pending.is_empty())
                    && self
                        .volumes
                        .values()
                        .filter(|volume| volume.has_path(**path))
                        .all(Volume::is_started)
            })
            .map(|(path, _)| *path)
            .collect();
        for path in settled {
            self.settle_connect(path);
        }
    }

    fn settle_connect(&mut self, path: u32) {
        let Some(record) = self.paths.get(&path) else {
            return;
        };
        let Some(live) = &record.live else { return };
        let mut outcome = self.outcome(path, record);
        outcome.refused.clone_from(&live.refusals);
        outcome.ignored.clone_from(&live.ignored);
        let none = outcome.volumes.is_empty();
        let useless = none && !(live.refusals.is_empty() && live.ignored.is_empty());
        let answer = match live.refusals.first() {
            Some(failure) if none => Err(failure.clone()),
            _ => Ok(outcome),
        };
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        for waiting in record.waiting.drain(..) {
            waiting.tell(answer.clone());
        }
        if useless && !record.standing {
            self.end_path(path);
        }
    }

    pub(super) fn live(&self, path: u32) -> Option<&Live> {
        self.paths.get(&path)?.live.as_ref()
    }

    pub(super) fn live_mut(&mut self, path: u32) -> Option<&mut Live> {
        self.paths.get_mut(&path)?.live.as_mut()
    }

    /// A path's association, if it still is this one.
    pub(super) fn still_live(
        &mut self,
        path: u32,
        association: AssociationId,
    ) -> Option<&mut Live> {
        let live = self.live_mut(path);
        live.filter(|live| live.association == association)
    }

    /// The path that has this association, and the association.
    pub(super) fn path_with(&self, association: AssociationId) -> Option<(&PathRecord, &Live)> {
        let mut live = self
            .paths
            .values()
            .filter_map(|record| Some((record, record.live.as_ref()?)));
        live.find(|(_, live)| live.association == association)
    }
}
