//! The course of a run: work under faults, rest, scan, wait, scan again.
//!
//! The second scan comes after the longest time anything can have been held back, or a ghost that
//! executes late would never be seen.

use super::checker::Violation;
use super::clock::{EPOCH, MILLI, Nanos};
use super::happening::Happening;
use super::host::LaneAt;
use super::world::World;

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Requests are made, faults happen.
    Active,
    /// All is well; what was begun ends.
    Settling,
    FirstScan,
    /// For as long as anything may be held back.
    Waiting,
    LastScan,
    Over,
}

/// Slack of the liveness budget: reconnects, detection, messages.
const SLACK: Nanos = 3_000 * MILLI;

/// How often it is checked whether all is well again.
const TICK: Nanos = 20 * MILLI;

impl World {
    pub(crate) fn begin_run(&mut self) {
        for at in 0..self.plan.faults.len() {
            let fault = self.plan.faults[at];
            let begins = Happening::Fault { at, begins: true };
            let ends = Happening::Fault { at, begins: false };
            self.agenda.push(EPOCH + fault.at, begins);
            if !self.is_for_ever(at) {
                let end = (fault.at + fault.lasts).min(self.plan.active);
                self.agenda.push(EPOCH + end.max(fault.at), ends);
            }
        }
        for at in 0..self.plan.verbs.len() {
            let (when, _) = self.plan.verbs[at];
            self.agenda.push(EPOCH + when, Happening::Nuisance(at));
        }
        self.agenda.push(EPOCH + self.plan.active, Happening::Phase);
    }

    pub(crate) fn is_scanning(&self) -> bool {
        matches!(self.phase, Phase::FirstScan | Phase::LastScan)
    }

    fn is_idle(&self) -> bool {
        let mut stores = self.stores.iter();
        stores.all(|store| store.checker.outstanding().next().is_none())
    }

    fn is_scanned(&self) -> bool {
        let mut stores = 0..self.stores.len();
        stores.all(|store| {
            let device = self.device_for(store);
            let scanned = |device: usize| {
                let device = &self.devices[device];
                device.scanned >= device.blocks
            };
            device.is_none_or(scanned)
        })
    }

    /// Time for the next phase may have come.
    pub(crate) fn phase_due(&mut self) {
        if self.phase == Phase::Settling {
            self.put_right();
        }
        self.next_phase();
        if self.phase == Phase::Settling {
            self.agenda.push(self.now + TICK, Happening::Phase);
        }
    }

    /// Goes on to the next phase when the present one has come to its end.
    pub(crate) fn next_phase(&mut self) {
        let idle = self.is_idle();
        match self.phase {
            Phase::Active => {
                self.enter_phase(Phase::Settling);
                self.put_right();
                self.next_phase();
            }
            Phase::Settling if idle => {
                if self.is_put_right() {
                    self.enter_phase(Phase::FirstScan);
                } else {
                    self.check_budget();
                }
            }
            Phase::FirstScan if idle && self.is_scanned() => {
                self.phase = Phase::Waiting;
                let repairs = self.plan.repair_time();
                self.budget_ends = self.now + self.plan.longest_hold().max(repairs);
                self.agenda.push(self.budget_ends, Happening::Phase);
            }
            Phase::Waiting if self.now >= self.budget_ends => {
                if self.commands_pending() && !self.plan.for_ever {
                    self.fail(Violation("a command stays in a target for ever".to_owned()));
                }
                self.judge_service();
                self.judge_records();
                self.enter_phase(Phase::LastScan);
            }
            Phase::LastScan if idle && self.is_scanned() => self.phase = Phase::Over,
            Phase::Settling | Phase::FirstScan | Phase::LastScan => self.check_budget(),
            Phase::Waiting | Phase::Over => {}
        }
    }

    fn enter_phase(&mut self, phase: Phase) {
        self.note(|| format!("phase {phase:?}"));
        self.phase = phase;
        for device in &mut self.devices {
            device.scanned = 0;
        }
        self.budget_ends = self.now + self.plan.longest_hold() + SLACK + self.plan.repair_time();
        self.agenda.push(self.budget_ends, Happening::Phase);
        if phase != Phase::Settling {
            for device in 0..self.devices.len() {
                let at = LaneAt { device, queue: 0 };
                self.agenda.push(self.now, Happening::Client { at, tag: 0 });
            }
        }
    }

    fn check_budget(&mut self) {
        if self.now < self.budget_ends {
            return;
        }
        for store in 0..self.stores.len() {
            let late = self.stores[store].checker.outstanding().next();
            if let Some((id, op)) = late.map(|(id, op)| (id, *op)) {
                let what = format!(
                    "(13) op {id} of namespace {store}, called at {} ms, has not returned",
                    (op.called_at - EPOCH) / MILLI
                );
                return self.fail(Violation(what));
            }
        }
        self.fail(Violation(format!(
            "(13) nothing moves while {:?}",
            self.phase
        )));
    }
}
