//! What a fault does when it begins and when it ends.

use umpath_target::model::AnaState;

use super::clock::{EPOCH, Nanos};
use super::host::LaneAt;
use super::plan::FaultKind;
use super::qp::{HostEnd, Way};
use super::world::World;

impl World {
    /// Nothing starts without power; its return starts everything.
    fn is_powerless(&self) -> bool {
        self.has_fault(FaultKind::PowerFails)
    }

    /// A fault that never ends.
    pub(crate) fn is_for_ever(&self, at: usize) -> bool {
        self.plan.for_ever && self.plan.faults[at].kind.may_last()
    }

    pub(crate) fn fault(&mut self, at: usize, begins: bool) {
        let fault = self.plan.faults[at];
        let ends = EPOCH + (fault.at + fault.lasts).min(self.plan.active);
        let ends = if self.is_for_ever(at) {
            Nanos::MAX / 2
        } else {
            ends.max(self.now)
        };
        if begins {
            self.active_faults.push(at);
        } else {
            self.active_faults.retain(|known| *known != at);
        }
        self.note(|| {
            format!(
                "{}fault-{at}: {:?}",
                if begins { "" } else { "end of " },
                fault.kind
            )
        });
        let concerned = self.plan.concerned(fault.kind);
        self.trouble(&concerned, begins);
        match fault.kind {
            FaultKind::Partition { .. }
            | FaultKind::QueueSilent { .. }
            | FaultKind::LinkDown { .. }
            | FaultKind::AdapterFails { .. }
            | FaultKind::Slow { .. }
            | FaultKind::QueueFails { .. }
            | FaultKind::AdminDead { .. } => self.fabric_fault(fault.kind, begins),
            FaultKind::PowerFails if begins => self.power_fails(),
            FaultKind::PowerFails => {
                for process in 0..self.plan.processes {
                    self.restart(process);
                }
            }
            FaultKind::Resets { process, .. } => {
                if !begins {
                    self.processes[process].failing.clear();
                }
            }
            FaultKind::Crash { process } => {
                if begins {
                    self.crash(process);
                } else if !self.is_powerless() {
                    self.restart(process);
                }
            }
            FaultKind::Stop { process } => {
                let until = &mut self.processes[process].stopped_until;
                *until = ends.max(*until);
            }
            FaultKind::Ana { path, inaccessible } => {
                let state = match (begins, inaccessible) {
                    (true, true) => AnaState::Inaccessible,
                    (true, false) => AnaState::NonOptimized,
                    (false, _) => AnaState::Optimized,
                };
                if self.processes[self.process_of(path)].alive {
                    self.set_ana(path, state);
                }
            }
            FaultKind::Namespace(change) => self.change_namespace(change, begins),
            FaultKind::Park { .. }
            | FaultKind::Forget { .. }
            | FaultKind::Lingers { .. }
            | FaultKind::RefusesOnce { .. }
            | FaultKind::Unreadable { .. }
            | FaultKind::DiskFull
            | FaultKind::DiskSlow
            | FaultKind::DriverFails
            | FaultKind::DriverBusy => {}
            FaultKind::Kill { .. }
            | FaultKind::Reboot
            | FaultKind::ThreadFails { .. }
            | FaultKind::ControlStall
            | FaultKind::LaneStall { .. }
            | FaultKind::HostStall => self.host_fault(fault.kind, begins, ends),
        }
    }

    fn fabric_fault(&mut self, kind: FaultKind, begins: bool) {
        let change = |count: &mut u32| if begins { *count += 1 } else { *count -= 1 };
        match kind {
            FaultKind::Partition {
                path,
                to_target,
                to_host,
            } => {
                if to_target {
                    change(&mut self.routes[path].cut[Way::ToTarget as usize]);
                }
                if to_host {
                    change(&mut self.routes[path].cut[Way::ToHost as usize]);
                }
                self.route_healed(path);
            }
            FaultKind::QueueSilent { path, queue } => {
                // Those that are open then; a new one takes another way through the fabric.
                for qp in &mut self.qps {
                    if begins && qp.path == path && qp.qid == queue {
                        qp.cut += u32::from(qp.host == HostEnd::Open);
                        qp.cut_since = self.now;
                    } else if !begins && qp.path == path && qp.qid == queue {
                        qp.cut = 0;
                    }
                }
                self.route_healed(path);
            }
            FaultKind::LinkDown { path } => {
                change(&mut self.routes[path].no_carrier);
                self.route_healed(path);
                self.link_changed(path);
            }
            FaultKind::AdapterFails { path } => {
                change(&mut self.routes[path].no_adapter);
                self.route_healed(path);
                self.link_changed(path);
                for qp in 0..self.qps.len() {
                    if begins && self.qps[qp].path == path {
                        self.host_qp_failed(qp, false);
                    }
                }
            }
            FaultKind::Slow { path, extra } => {
                let extra = if begins { extra } else { 0 };
                self.routes[path].extra = extra;
            }
            FaultKind::AdminDead { path } => change(&mut self.routes[path].admin_dead),
            FaultKind::QueueFails { path, queue } => {
                let found = self
                    .qps
                    .iter()
                    .rposition(|qp| qp.path == path && qp.qid == queue);
                if let Some(qp) = found.filter(|_| begins) {
                    self.host_qp_failed(qp, false);
                }
            }
            _ => {}
        }
    }

    fn host_fault(&mut self, kind: FaultKind, begins: bool, ends: Nanos) {
        match kind {
            FaultKind::Kill { orders } => match (begins, orders) {
                (true, 0) => self.kill_host(),
                (true, orders) => self.host.orders_left = Some(orders),
                (false, _) => {
                    // So many orders were not to be had.
                    self.kill_host();
                    self.revive_host();
                }
            },
            FaultKind::Reboot if begins => self.reboot(),
            FaultKind::Reboot => self.revive_host(),
            FaultKind::ThreadFails { volume, lane } => {
                let device = self
                    .device_for(volume)
                    .filter(|_| begins && self.host.alive);
                if let Some(device) = device {
                    let queue = lane;
                    self.break_ring(LaneAt { device, queue });
                }
            }
            FaultKind::ControlStall => self.stall_control(ends),
            FaultKind::LaneStall { volume, lane } => {
                if let Some(device) = self.device_for(volume) {
                    let queue = lane;
                    self.stall_lane(LaneAt { device, queue }, ends);
                }
            }
            FaultKind::HostStall => {
                self.stall_control(ends);
                for at in self.lanes().collect::<Vec<_>>() {
                    self.stall_lane(at, ends);
                }
            }
            _ => {}
        }
    }

    fn stall_control(&mut self, ends: Nanos) {
        let until = &mut self.host.stalled_until;
        *until = ends.max(*until);
    }

    fn stall_lane(&mut self, at: LaneAt, ends: Nanos) {
        if let Some(lane) = self.lane(at) {
            lane.stalled_until = ends.max(lane.stalled_until);
        }
    }

    /// A fault is in force in which a process refuses such a command, and has not done so yet.
    pub(crate) fn refuses(&mut self, process: usize, opcode: u8) -> bool {
        let odd = FaultKind::RefusesOnce { process, opcode };
        let mut active = self.active_faults.iter();
        let Some(at) = active
            .find(|at| self.plan.faults[**at].kind == odd)
            .copied()
        else {
            return false;
        };
        // Once.
        self.active_faults.retain(|known| *known != at);
        true
    }
}
