//! That what is well serves: every path nothing has befallen for a while serves every volume.

use std::collections::BTreeMap;

use umpath_protocol::{DaemonView, PathState, Snapshot};

use crate::sim::blockdev::{BlockDevice, State};
use crate::sim::checker::{OpKind, Violation};
use crate::sim::clock::{MILLI, Nanos, SECOND};
use crate::sim::course::Phase;
use crate::sim::happening::Happening;
use crate::sim::plan::{Fault, FaultKind, NamespaceChange, Plan};
use crate::sim::qp::{HostEnd, Qp, QpId};
use crate::sim::world::{Copy, World};

/// How often the listings are checked while faults happen.
const INSPECTION: Nanos = 300 * MILLI;

/// How long a path may take to serve again after all is well: attempts, pauses, controllers of old
/// associations that have to end first.
const PATIENCE: Nanos = 4 * SECOND;

/// How long commands may stay on a queue pair that is cut off alone.
const CUT_OFF: Nanos = 3 * SECOND;

/// How long a path may take that nothing has ever befallen.
const UNTROUBLED: Nanos = 1_500 * MILLI;

/// What the judge of service remembers.
#[derive(Debug)]
pub(crate) struct Patient {
    /// Faults in force, by route.
    troubles: Vec<u32>,
    /// When the last one ended.
    well_since: Vec<Nanos>,
    /// When suspicions were raised and taken back, by path.
    pub(super) suspicions: BTreeMap<u32, Vec<Nanos>>,
}

impl Patient {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            troubles: vec![0; plan.paths()],
            well_since: vec![0; plan.paths()],
            suspicions: BTreeMap::new(),
        }
    }

    fn is_well(&self, route: usize, now: Nanos, patience: Nanos) -> bool {
        let since = self.well_since[route];
        // One that never had any trouble needs time to connect only.
        let patience = if since == 0 { UNTROUBLED } else { patience };
        self.troubles[route] == 0 && since + patience <= now
    }
}

impl Plan {
    /// How long things may take to be tried again that a disk, a driver or an operator had refused.
    pub(crate) fn repair_time(&self) -> Nanos {
        let slow = |kind: FaultKind| {
            matches!(
                kind,
                FaultKind::DiskFull
                    | FaultKind::DriverFails
                    | FaultKind::DriverBusy
                    | FaultKind::RefusesOnce { .. }
                    | FaultKind::Unreadable { .. }
                    | FaultKind::Namespace(_)
            )
        };
        let slow = self.faults.iter().any(|fault| slow(fault.kind));
        if slow || !self.verbs.is_empty() {
            12 * SECOND
        } else {
            PATIENCE
        }
    }

    /// Paths that a fault concerns.
    pub(crate) fn concerned(&self, kind: FaultKind) -> Vec<usize> {
        let of = |process: usize| {
            let paths = 0..self.paths();
            paths
                .filter(|path| path % self.processes == process)
                .collect()
        };
        match kind {
            FaultKind::Partition { path, .. }
            | FaultKind::QueueSilent { path, .. }
            | FaultKind::LinkDown { path }
            | FaultKind::AdapterFails { path }
            | FaultKind::Slow { path, .. }
            | FaultKind::AdminDead { path }
            | FaultKind::QueueFails { path, .. }
            | FaultKind::Ana { path, .. } => vec![path],
            FaultKind::Park { process, .. }
            | FaultKind::Forget { process }
            | FaultKind::Crash { process }
            | FaultKind::Lingers { process }
            | FaultKind::Stop { process }
            | FaultKind::RefusesOnce { process, .. }
            | FaultKind::Unreadable { process }
            | FaultKind::Namespace(NamespaceChange::Detach { process, .. }) => of(process),
            FaultKind::Resets { .. } => Vec::new(),
            _ => (0..self.paths()).collect(),
        }
    }
}

impl World {
    /// A fault begins or ends, or people interfere: that is an excuse for a while.
    pub(crate) fn trouble(&mut self, routes: &[usize], begins: bool) {
        for route in routes {
            if begins {
                self.patient.troubles[*route] += 1;
            } else {
                self.patient.troubles[*route] -= 1;
                self.patient.well_since[*route] = self.now;
            }
        }
    }

    /// Something short has befallen every path.
    pub(crate) fn trouble_all(&mut self) {
        for since in &mut self.patient.well_since {
            *since = self.now;
        }
    }

    pub(crate) fn begin_inspections(&mut self) {
        let at = self.now + INSPECTION;
        self.agenda.push(at, Happening::Inspection);
    }

    /// The host's listings are checked.
    pub(crate) fn inspect(&mut self) {
        if self.phase != Phase::Active {
            return;
        }
        self.judge_service();
        self.judge_cut_off();
        self.begin_inspections();
    }

    pub(crate) fn judge_service(&mut self) {
        if !self.host.alive || self.is_crowded() || self.people.meddled() {
            return;
        }
        let (now, patience) = (self.now, self.plan.repair_time());
        // One that was asked for by hand is given up for good, or refused while another path cannot say that
        // a namespace has grown.
        let unreadable = |fault: &Fault| matches!(fault.kind, FaultKind::Unreadable { .. });
        let gives_up = self.plan.ctrl_loss.is_some() || self.plan.faults.iter().any(unreadable);
        let well = |route: &usize| {
            let by_hand = || !gives_up && self.host.wants(*route);
            let stands = self.plan.routes[*route].configured || by_hand();
            stands && self.patient.is_well(*route, now, patience)
        };
        let well: Vec<usize> = (0..self.plan.paths()).filter(well).collect();
        if well.is_empty() {
            return;
        }
        let daemon = DaemonView {
            version: String::new(),
            pid: 0,
            uptime_ms: 0,
            hostnqn: String::new(),
            hostid: String::new(),
            rdma_devices: Vec::new(),
            detection: Vec::new(),
            orphans: Vec::new(),
        };
        let listing = self.host.core.snapshot(daemon);
        for store in 0..self.stores.len() {
            let exists = self.stores[store].exists;
            if let Some(route) = well
                .iter()
                .find(|route| exists && !self.serves(&listing, store, **route))
            {
                let what = format!(
                    "(19) route {route} is well and does not serve namespace {store}: {}",
                    excuse(&listing, *route)
                );
                return self.fail(Violation(what));
            }
        }
    }

    /// All is well: what is on record is what may still be in use. Anything else costs a pause at the
    /// next start.
    pub(crate) fn judge_records(&mut self) {
        let mut records = self.disk.associations.values();
        let stale = records.find(|(assoc, _)| self.fences.is_proven(*assoc));
        if let Some((assoc, _)) = stale {
            let what = format!("(22) association {assoc} is fenced, and its record stays");
            self.fail(Violation(what));
        }
        let dead = |device: &BlockDevice| device.state == State::Dead;
        if let Some(device) = self.devices.iter().position(dead) {
            let what = format!("(22) device {device} serves nobody, and is not deleted");
            self.fail(Violation(what));
        }
        if let Some(device) = self.host.registered_in_vain() {
            let what = format!("(22) memory of device {device}, which is gone, stays registered");
            self.fail(Violation(what));
        }
    }

    fn serves(&self, listing: &Snapshot, store: usize, route: usize) -> bool {
        let id = self.stores[store].id.to_string();
        let address = format!("10.0.{route}.1:4420");
        let volumes = listing.volumes.iter().filter(|volume| volume.id == id);
        let paths = volumes
            .flat_map(|volume| &volume.groups)
            .flat_map(|group| &group.paths);
        let fit = |state| {
            matches!(
                state,
                PathState::Ready | PathState::Held | PathState::Probation
            )
        };
        let mut own = paths.filter(|path| path.address == address);
        own.any(|path| fit(path.state)) && self.has_queue_pairs(store, route)
    }

    /// Every queue thread of a namespace has a queue pair there that works.
    fn has_queue_pairs(&self, store: usize, route: usize) -> bool {
        let Some(device) = self.device_for(store) else {
            return true;
        };
        let works = |qp: &QpId| {
            let known = &self.qps[*qp];
            known.path == route && known.host == HostEnd::Open && known.cut == 0
        };
        let mut lanes = self.devices[device].lanes.iter();
        lanes.all(|lane| lane.is_over() || lane.qps.iter().any(works))
    }

    /// What was sent on a queue pair that is cut off while all else of its path is well is taken back
    /// soon, whatever its NIC thinks.
    fn judge_cut_off(&mut self) {
        if !self.host.alive || self.people.meddled() {
            return;
        }
        let now = self.now;
        let cut = |qp: &&Qp| {
            qp.cut > 0 && qp.host == HostEnd::Open && self.patient.troubles[qp.path] == 1
        };
        let waits = |qp: &Qp, copy: &Copy| {
            let kind = self.stores[copy.store].checker.ops[copy.op as usize].kind;
            let quick = matches!(kind, OpKind::Read | OpKind::Write);
            let since = copy.sent_at.max(self.patient.well_since[qp.path]);
            let own = qp.lane == Some(copy.lane) && qp.association == copy.association;
            let out = own && quick && !copy.answered && !copy.lost;
            out && copy.sent_at > qp.cut_since && since + CUT_OFF <= now
        };
        let mut cut = self.qps.iter().filter(cut);
        let stuck = cut.find(|qp| self.copies.iter().any(|copy| waits(qp, copy)));
        if let Some(qp) = stuck {
            let what = format!(
                "(19) queue {} of route {} is cut off, and what was sent on it still waits",
                qp.qid, qp.path
            );
            self.fail(Violation(what));
        }
    }
}

/// What the host says of a path.
fn excuse(listing: &Snapshot, route: usize) -> String {
    let address = format!("10.0.{route}.1:4420");
    let known = listing
        .associations
        .iter()
        .find(|known| known.address == address);
    known.map_or_else(
        || "there is no path".to_owned(),
        |known| format!("{}, {:?}", known.state, known.last_error),
    )
}
