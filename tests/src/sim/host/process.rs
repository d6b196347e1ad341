//! The host's process: its death at any moment, and its successors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use umpath_host::path::AssociationNumbers;
use umpath_host::policy::VolumePolicy;
use umpath_host::record::{Asked, VolumeRecord};
use umpath_host::{DeviceFacts, Host, VolumeSpec, Wanted};

use super::settings::{InForce, asked_for, route_of, spec_for};
use super::{Daemon, Work};
use crate::sim::blockdev::State;
use crate::sim::clock::{EPOCH, MILLI, Nanos, duration};
use crate::sim::disk::Disk;
use crate::sim::happening::Happening;
use crate::sim::mutant::Mutant;
use crate::sim::plan::{FaultKind, Plan};
use crate::sim::qp::HostEnd;
use crate::sim::store::Store;
use crate::sim::world::World;

/// How long a supervisor takes to start the host again, at most.
const RESTART: Nanos = 100 * MILLI;

impl Daemon {
    /// A process that has just begun, with what its predecessor kept.
    pub(crate) fn new(
        plan: &Plan,
        mutant: Option<Mutant>,
        (stores, disk): (&[Store], &Disk),
        life: u32,
        now: Nanos,
    ) -> Self {
        let volumes = stores.iter().zip(&plan.volumes);
        let policy = |policy| Mutant::policy(mutant, policy);
        let settings = InForce {
            volumes: volumes
                .map(|(store, plan)| (store.id, policy(plan.policy)))
                .collect(),
            default: policy(VolumePolicy::default()),
            quiesce: Some(Mutant::quiesce(mutant, plan)),
        };
        let (names, numbers) = (disk.names.clone(), disk.numbers.clone());
        let core = Host::new(
            Arc::new(settings),
            names,
            numbers,
            duration(now),
            now / MILLI,
        );
        Self {
            alive: true,
            life,
            core,
            paths: BTreeMap::new(),
            numbers: AssociationNumbers::default(),
            held: BTreeMap::new(),
            handed_back: BTreeMap::new(),
            registered: BTreeSet::new(),
            released: BTreeSet::new(),
            served: BTreeMap::new(),
            inherited: BTreeMap::new(),
            stalled_until: 0,
            timer: None,
            calls: BTreeMap::new(),
            call_last: 0,
            reported_at: None,
            record_failed: false,
            memory_failed: false,
            orders_left: None,
        }
    }
}

impl World {
    /// The host's process is killed. Its queue pairs are destroyed with it, its block devices wait.
    pub(crate) fn kill_host(&mut self) {
        if !self.host.alive {
            return;
        }
        self.note(|| "the host's process is dead".to_owned());
        self.host.alive = false;
        self.host.life += 1;
        self.host.orders_left = None;
        self.cut_work_short();
        for qp in 0..self.qps.len() {
            self.silence(qp);
            self.qps[qp].host = HostEnd::Drained;
            self.qps[qp].lane = None;
            self.qps[qp].port = None;
        }
        for copy in &mut self.copies {
            copy.lost |= !copy.answered;
        }
        for device in 0..self.devices.len() {
            self.judge_record(device);
            let known = &mut self.devices[device];
            known.lanes.clear();
            known.ending = None;
            known.state = match known.state {
                State::Made | State::Dying => State::Dead,
                State::Live => State::Waiting,
                other => other,
            };
            if known.state == State::Dead {
                self.fail_requests(device);
            }
        }
        self.fences.bequeath(self.host.life);
        self.host.calls.clear();
        self.log.borrow_mut().clear();
        if !self.death_lasts() {
            let at = self.now + self.host_chance.below(RESTART);
            self.agenda.push(at, Happening::Revive);
        }
    }

    /// A device that somebody may use is left with paths to connect it by, unless somebody removed them.
    fn judge_record(&mut self, device: usize) {
        let known = &self.devices[device];
        let mut records = self.disk.volumes.values();
        let record = records.find(|record| record.cookie == known.cookie);
        let pathless = record.is_some_and(|record| record.paths.is_empty());
        if known.state == State::Live && pathless && !self.people.has_removed() {
            self.absurd(&format!("device {device} is on record without a path"));
        }
    }

    /// The host's process has ended by itself, in good order; a supervisor starts it again.
    pub(super) fn end_process(&mut self) {
        self.kill_host();
    }

    /// A fault is in force that lets no process begin before it is over.
    fn death_lasts(&self) -> bool {
        let kinds = self
            .active_faults
            .iter()
            .map(|at| self.plan.faults[*at].kind);
        kinds
            .into_iter()
            .any(|kind| matches!(kind, FaultKind::Kill { .. } | FaultKind::Reboot))
    }

    /// What was under way for the process was done or was not; nobody will know.
    fn cut_work_short(&mut self) {
        let mut works = std::mem::take(&mut self.works);
        for work in works.drain() {
            let done = self.host_chance.percent(50);
            match work {
                Work::Record {
                    association,
                    record,
                    ..
                } if done => {
                    let life = self.host.life - 1;
                    let id = association;
                    self.disk
                        .record(crate::sim::qp::Assoc { life, id }, *record);
                }
                Work::Forget(assoc) if done => self.disk.forget(assoc),
                Work::Build(spec) if done => self.half_built(&spec),
                _ => {}
            }
        }
        let written = self.host_chance.below(self.disk.later.len() as u64 + 1);
        for _ in 0..written {
            self.disk.rewrite(false);
        }
        self.disk.later.clear();
    }

    /// A block device was made and recorded when its process died.
    fn half_built(&mut self, spec: &VolumeSpec) {
        if self.has_fault(FaultKind::DiskFull) || self.disk.volumes.contains_key(&spec.id) {
            return;
        }
        let DeviceFacts { device, cookie, .. } = self.new_device(spec);
        let record = VolumeRecord::new(spec, device, cookie);
        self.disk.volumes.insert(spec.id, record);
    }

    /// The machine goes down with the host's process: block devices are gone, with whatever they had.
    pub(crate) fn reboot(&mut self) {
        self.kill_host();
        for device in 0..self.devices.len() {
            if self.devices[device].state != State::Gone {
                self.devices[device].state = State::Gone;
                self.fail_requests(device);
            }
        }
    }

    /// A new process takes over.
    pub(crate) fn revive_host(&mut self) {
        if self.host.alive || self.death_lasts() {
            return;
        }
        let (life, now) = (self.host.life, self.now);
        self.note(|| format!("the host's process begins its life {life}"));
        let mutant = self.mutant;
        // A mutant takes its predecessor's death for a fence: all that was long ago.
        let begins = if self.is(Mutant::DeathIsFence) {
            EPOCH / 2
        } else {
            now
        };
        let kept = (&self.stores[..], &self.disk);
        self.host = Daemon::new(&self.plan, mutant, kept, life, begins);
        self.people = self.people.in_another_life();
        self.begin_process(begins);
    }

    /// What a process does first: it looks at what earlier ones left, and asks for its paths.
    pub(crate) fn begin_process(&mut self, begins: Nanos) {
        if !self.is(Mutant::InheritNothing) {
            self.inherit(begins);
        }
        let records: Vec<VolumeRecord> = self.disk.volumes.values().cloned().collect();
        for record in records {
            self.find_device(record);
        }
        self.find_orphans();
        let routes = 0..self.plan.paths();
        let configured = routes.filter(|route| self.plan.routes[*route].configured);
        let mut configured: Vec<Asked> = configured.map(asked_for).collect();
        // Somebody has turned the configuration around meanwhile: numbers belong to paths, not to lines.
        if self.host.life.is_multiple_of(2) {
            configured.reverse();
        }
        for asked in &mut configured {
            let number = self.host.core.reserve(asked);
            self.judge_number(asked, number);
            asked.number = Some(number);
        }
        for asked in configured {
            self.connect(asked);
        }
        self.pump_host();
    }

    /// Reports what became of a recorded block device.
    fn find_device(&mut self, record: VolumeRecord) {
        let found = self.driver_says(&record);
        self.note(|| format!("volume {} of an earlier life: {found:?}", record.name));
        let paths = record.paths.clone();
        let now = duration(self.now);
        let adopted = self.host.core.handle_recorded_volume(record, found, now);
        for asked in paths.into_iter().filter(|_| adopted) {
            self.connect(asked);
        }
    }

    /// Block devices that wait, and of which nothing is on record.
    fn find_orphans(&mut self) {
        for device in 0..self.devices.len() {
            let known = &self.devices[device];
            let mut records = self.disk.volumes.values();
            let recorded = records.any(|record| record.cookie == known.cookie);
            if known.state == State::Waiting && !recorded {
                self.absurd(&format!("device {device} is there without a record"));
            }
        }
    }

    fn inherit(&mut self, now: Nanos) {
        let records: Vec<_> = self.disk.associations.iter().collect();
        for (number, (assoc, record)) in records {
            self.host.inherited.insert(*number, *assoc);
            let core = &mut self.host.core;
            core.handle_inherited(*number, record, duration(now));
        }
    }

    /// A path is wanted that is to stand.
    fn connect(&mut self, asked: Asked) {
        let wanted = Wanted {
            spec: self.spec_of(&asked),
            asked,
            standing: true,
            rediscovered: false,
            call: None,
        };
        self.host.core.handle_connect(wanted, duration(self.now));
    }

    pub(crate) fn spec_of(&self, asked: &Asked) -> umpath_host::PathSpec {
        let address = asked.portal.traddr.parse();
        let route = address.map_or(0, route_of);
        spec_for(&self.plan, self.host.life, route, &self.session)
    }
}
