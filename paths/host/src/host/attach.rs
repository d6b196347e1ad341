//! Attaching a new association to its volumes.
//!
//! Each usable namespace either matches an existing volume, and then must agree with it in format
//! and identity, or starts a new one (`build`). Attaching takes three slow steps: the association
//! is recorded, the queue threads' memory is registered with it, and more queue pairs are opened if
//! it has too few for the volume. Then each queue thread receives its queue pair.

use std::collections::BTreeSet;
use std::time::Duration;

use umpath_core::association::Suspicion;
use umpath_core::{AssociationId, PathConfig};
use umpath_protocol::{EventKind, Failure};
use umpath_session::{Namespace, NamespaceFacts, Ready, StableId};

use super::inherited::Recorded;
use super::refusal::Refusals;
use super::replace::Replacements;
use super::{Host, same};
use crate::events::Subject;
use crate::order::{Order, QueueKey, Remains};
use crate::path::{Request, Up};
use crate::shape;
use crate::spec::VolumeKey;
use crate::volume::{Attachment, Volume, ana_state};

/// What a controller reports about itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) serial: String,
    pub(super) model: String,
    pub(super) cntlid: u16,
    pub(super) kato: Option<Duration>,
}

/// An association that is ready for I/O.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) association: AssociationId,
    pub(super) ready: Ready,
    /// The RDMA device it runs over, and that device's NUMA node.
    pub(super) device: String,
    pub(super) node: Option<u16>,
    /// Queue pairs not handed to a queue thread.
    pub(super) spare: BTreeSet<u16>,
    /// Queue pairs of removed volumes, and others that are being replaced, until they are destroyed.
    pub(super) leaving: BTreeSet<QueueKey>,
    pub(super) replacements: Replacements,
    /// How many more queue pairs are being opened.
    pub(super) opening: Option<u16>,
    pub(super) recorded: Recorded,
    /// Volumes still to be attached to it.
    pub(super) pending: BTreeSet<StableId>,
    /// Those of `pending` whose memory is registered with it.
    pub(super) registered: BTreeSet<StableId>,
    /// Namespaces it cannot serve, and why.
    pub(super) refusals: Refusals,
    /// Namespaces the configuration ignores, with the entries that name them.
    pub(super) ignored: Vec<Failure>,
    /// Evidence against it, if any.
    pub(super) suspect: Option<Suspicion>,
}

impl Live {
    fn new(up: Up) -> Self {
        Self {
            association: up.association,
            spare: up.ready.io_queues.iter().copied().collect(),
            ready: up.ready,
            device: up.device,
            node: up.node,
            leaving: BTreeSet::new(),
            replacements: Replacements::default(),
            opening: None,
            recorded: Recorded::Pending,
            pending: BTreeSet::new(),
            registered: BTreeSet::new(),
            refusals: Refusals::default(),
            ignored: Vec::new(),
            suspect: None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        match self.recorded {
            Recorded::Failed { retry_at } => Some(retry_at),
            Recorded::Pending => None,
            Recorded::Durable => self.refusals.poll_timeout(),
        }
    }

    /// Queue pairs that may still be open and are not held by a queue thread.
    pub(super) fn queues_apart(&self) -> BTreeSet<QueueKey> {
        let spare = (!self.spare.is_empty()).then_some(QueueKey::Spare);
        self.leaving.iter().copied().chain(spare).collect()
    }

    /// The NSID and facts of the namespace with this identity.
    pub(super) fn namespace(&self, id: StableId) -> Option<(u32, &NamespaceFacts)> {
        let namespaces = self.ready.namespaces.iter();
        let mut usable = namespaces.filter_map(|it| Some((it.nsid, it.facts.as_ref().ok()?)));
        usable.find(|(_, facts)| facts.id == id)
    }
}

impl Host {
    pub(super) fn up(&mut self, path: u32, up: Up) {
        let Some(record) = self.paths.get_mut(&path) else {
            return;
        };
        assert!(
            record.live.is_none(),
            "a path has one association at a time"
        );
        if record.ending {
            // Lost during its removal, and reconnected before the removal finished. It must not be
            // used: ending the path would cut off commands in flight.
            self.fx.order(Order::Destroy {
                association: up.association,
                remains: Remains::Spare,
                report: false,
            });
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
            up.ready.io_queues.len(),
            up.ready.io_depth,
        );
        record.live = Some(Live::new(up));
        self.fx
            .event(EventKind::PathReady, Subject::path(path), words);
        self.put_on_record(path);
        self.survivor_up(path);
    }

    /// Matches a namespace, of a new association or new on an existing one, with its volume.
    pub(super) fn match_namespace(&mut self, path: u32, namespace: &Namespace) {
        let facts = match &namespace.facts {
            Ok(facts) => facts,
            Err(problem) => {
                let fix = "give the namespace a UUID or NGUID, 512 or 4096 byte blocks and no \
                           metadata on the array";
                return self.refuse(path, namespace.nsid, problem.to_string(), fix);
            }
        };
        let record = self.path(path);
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
                return self.refuse(path, namespace.nsid, why, fix);
            }
            let limits = &volume.spec().limits;
            let cached = self
                .live(path)
                .is_some_and(|live| live.ready.facts.volatile_cache);
            if cached && !limits.volatile_cache {
                let why = format!(
                    "the controller has a volatile write cache, and the block device of volume {} \
                     was made without one: what its users sync would not reach the medium",
                    volume.name()
                );
                let fix = "stop using the volume, disconnect it and connect it again";
                return self.refuse(path, namespace.nsid, why, fix);
            }
            if volume.is_going() {
                let why = format!("volume {} is being removed", volume.name());
                return self.refuse_until_gone(path, namespace.nsid, why);
            }
        } else if self.leaves_alone(path, namespace.nsid, facts) {
            return;
        } else if self.sweeps.contains_key(&facts.id) {
            let why = "its last block device has stopped and is not deleted yet".to_owned();
            return self.refuse(path, namespace.nsid, why, "");
        } else if let Some(why) = self.is_another_s(path, namespace.nsid, facts) {
            let fix = "make all controllers of the array report the same identifiers; if it is another \
                       namespace, disconnect that volume first";
            return self.refuse(path, namespace.nsid, why, fix);
        } else {
            self.begin_volume(path, namespace.nsid, facts);
        }
        let live = self.live_mut(path).expect("an association to match");
        live.pending.insert(facts.id);
        self.register(path, facts.id);
    }

    /// Why a namespace that no volume has may be that of a volume of its subsystem all the same.
    fn is_another_s(&self, path: u32, nsid: u32, facts: &NamespaceFacts) -> Option<String> {
        let nqn = self.path(path).spec.nqn.as_str();
        let mut volumes = self.volumes.values().filter(|volume| volume.nqn() == nqn);
        volumes.find_map(|volume| {
            let mut nsids = volume.nsids();
            let why = nsids
                .find_map(|known| shape::overlap((known, volume.namespace()), (nsid, facts)))?;
            Some(format!(
                "it calls itself {}, and volume {} ({}) is {}, but {why}",
                facts.id,
                volume.name(),
                volume.device_name(),
                volume.id(),
            ))
        })
    }

    /// Registers a volume's memory with an association that waits for it, if the volume is built.
    pub(super) fn register(&mut self, path: u32, id: StableId) {
        let volume = self.volumes.get(&id).filter(|volume| volume.is_built());
        if let (Some(volume), Some(live)) = (volume, self.live(path)) {
            let (volume, association) = (volume.key(), live.association);
            self.fx.order(Order::Register {
                volume,
                association,
            });
        }
    }

    /// The memory of a volume's queue threads was registered with an association, or could not be.
    pub fn handle_registered(
        &mut self,
        key: VolumeKey,
        association: AssociationId,
        outcome: Result<(), Failure>,
        now: Duration,
    ) {
        self.begin(now);
        self.registered(key, association, outcome);
        self.settle();
    }

    fn registered(
        &mut self,
        key: VolumeKey,
        association: AssociationId,
        outcome: Result<(), Failure>,
    ) {
        let id = key.id;
        if same(&mut self.volumes, key).is_none() {
            // The volume went meanwhile. A later one of its namespace has other memory.
            return;
        }
        let Some((path, _)) = self.path_with(association) else {
            return self.discard_if_unwanted(id);
        };
        let live = self.live_mut(path).expect("it was just found");
        if !live.pending.contains(&id) {
            return;
        }
        match outcome {
            Ok(()) => {
                live.registered.insert(id);
                self.attach_when_it_can(path, id);
            }
            Err(failure) => self.not_attached(path, id, &failure),
        }
    }

    /// A volume cannot use an association.
    pub(super) fn not_attached(&mut self, path: u32, id: StableId, failure: &Failure) {
        let live = self
            .live_mut(path)
            .expect("an association that was to be attached");
        live.pending.remove(&id);
        live.registered.remove(&id);
        let nsid = live.namespace(id).map_or(0, |(nsid, _)| nsid);
        self.note_refusal(path, nsid, failure);
        self.discard_if_unwanted(id);
    }

    /// A volume whose memory is registered with an association that waits for it.
    fn registered_volume(&self, id: StableId) -> &Volume {
        let volume = self.volumes.get(&id).filter(|volume| volume.is_built());
        volume.expect("a volume whose memory is registered")
    }

    /// Attaches a volume if there are enough queue pairs for it, otherwise orders more.
    pub(super) fn attach_when_it_can(&mut self, path: u32, id: StableId) {
        let lanes = usize::from(self.registered_volume(id).lanes());
        let live = self
            .live_mut(path)
            .expect("an association that was to be attached");
        if live.spare.len() < lanes && live.namespace(id).is_some() {
            let missing = (lanes - live.spare.len()) as u16;
            return self.open_queues(path, missing);
        }
        live.pending.remove(&id);
        live.registered.remove(&id);
        if let Err(failure) = self.attach(path, id) {
            self.not_attached(path, id, &failure);
        }
    }

    /// Orders this many more queue pairs, unless some are being opened.
    pub(super) fn open_queues(&mut self, path: u32, count: u16) {
        let live = self.live_mut(path).expect("an association that needs them");
        if live.opening.is_none() {
            live.opening = Some(count);
            let request = Request::OpenQueues(live.association, count);
            self.fx.ask_path(path, request);
        }
    }

    /// More queue pairs were opened for an association, perhaps fewer than were asked for; none: there is no
    /// more to be had now.
    pub(super) fn queues_opened(&mut self, path: u32, association: AssociationId, qids: Vec<u16>) {
        let Some(live) = self.still_live(path, association) else {
            return;
        };
        let asked = live.opening.take();
        let none = qids.is_empty();
        live.spare.extend(qids);
        // First those that had one. Where none of several was to be had, one may still be.
        if none && asked == Some(1) {
            self.replacement_failed(path);
        } else {
            self.replace_when_it_can(path);
        }
        let live = self.live(path).expect("it is still live");
        let (spare, waiting) = (live.spare.len(), live.registered.clone());
        for id in waiting {
            let volume = self.registered_volume(id);
            let lanes = usize::from(volume.lanes());
            if none && spare < lanes {
                let address = self.path(path).spec.address();
                let name = volume.name();
                let failure = Failure::new(
                    format!("volume {name} cannot use {address}"),
                    format!(
                        "it has {lanes} queues, and the controller has {spare} I/O queues left for it"
                    ),
                    "raise the array's limit on I/O queues, or lower io_queues in umpath.toml",
                );
                self.not_attached(path, id, &failure);
            } else {
                self.attach_when_it_can(path, id);
            }
        }
    }

    /// Hands queue pairs to the volume's queue threads.
    fn attach(&mut self, path: u32, id: StableId) -> Result<(), Failure> {
        let record = self.paths.get_mut(&path).expect("a path that is there");
        let live = record.live.as_mut().expect("an association to attach");
        let volume = self.volumes.get_mut(&id).filter(|it| it.is_built());
        let volume = volume.expect("a volume whose memory is registered");
        assert!(volume.lanes() > 0, "a block device has queues");
        let address = record.spec.address();
        if volume.is_going() {
            return Err(Failure::new(
                format!("volume {} cannot use {address}", volume.name()),
                "it is being removed",
                "",
            ));
        }
        let namespace = live
            .namespace(id)
            .map(|(nsid, facts)| (nsid, facts.clone()));
        let Some((nsid, facts)) = namespace else {
            return Err(Failure::new(
                format!("volume {} cannot use {address}", volume.name()),
                "its namespace is gone from this controller again",
                "",
            ));
        };
        // Checked again: another path may have reported something else since the match.
        if let Some(difference) = volume.difference(record.spec.nqn.as_str(), &facts) {
            return Err(Failure::new(
                format!("volume {} cannot use {address}", volume.name()),
                difference,
                "correct the identity or the size on the array",
            ));
        }
        let preferred =
            record.spec.preferred || self.settings.prefers(&id, record.spec.traddr.ip());
        let ana = live.ready.ana.as_ref();
        let ana_group = ana.map_or(facts.ana_group, |table| {
            table.group_of(nsid, facts.ana_group)
        });
        let lanes = usize::from(volume.lanes());
        let qids: Vec<u16> = live.spare.iter().copied().take(lanes).collect();
        live.spare.retain(|qid| !qids.contains(qid));
        let attachment = Attachment {
            path,
            association: live.association,
            nsid,
            limits: shape::path_limits(&live.ready.facts, &facts),
            ana: ana.map(|table| ana_state(table.state(nsid, ana_group))),
            ana_group,
            serial: live.ready.facts.serial.clone(),
            cntlid: live.ready.facts.cntlid,
            address,
            steering: PathConfig {
                preferred,
                weight: record.spec.weight,
                throughput: record.spec.throughput,
            },
            node: live.node,
            qids,
        };
        let (association, suspect) = (live.association, live.suspect);
        let transition = live.ready.facts.ana.map(|terms| terms.transition);
        let number = match volume.attach(attachment, &mut self.fx) {
            Ok(number) => number,
            Err((failure, qids)) => {
                live.spare.extend(qids);
                return Err(failure);
            }
        };
        live.refusals.clear(nsid);
        if let Some(transition) = transition {
            volume.ana_terms(association, ana_group, transition, &mut self.fx);
        }
        if let Some(why) = suspect {
            volume.suspect(association, why, self.fx.now, &mut self.fx);
        }
        let shared = volume.shared().clone();
        self.fx
            .ask_path(path, Request::Serves(association, number, shared));
        volume.start(&mut self.fx);
        self.size_heard(path, id, facts.blocks);
        self.note_paths_of(id);
        Ok(())
    }
}
