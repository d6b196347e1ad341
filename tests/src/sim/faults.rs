//! What a fault does when it begins and when it ends.

use umpath_target::model::AnaState;

use super::clock::Nanos;
use super::fabric::Way;
use super::plan::FaultKind;
use super::world::World;

impl World {
    /// Nothing starts without power; its return starts everything.
    fn is_powerless(&self) -> bool {
        let mut kinds = self
            .active_faults
            .iter()
            .map(|at| self.plan.faults[*at].kind);
        kinds.any(|kind| kind == FaultKind::PowerFails)
    }

    pub(crate) fn fault(&mut self, at: usize, begins: bool) {
        let fault = self.plan.faults[at];
        let ends: Nanos = (fault.at + fault.lasts).min(self.plan.active).max(self.now);
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
        let change = |count: &mut u32| if begins { *count += 1 } else { *count -= 1 };
        match fault.kind {
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
            FaultKind::LinkDown { path } => {
                change(&mut self.routes[path].no_carrier);
                self.route_healed(path);
                let up = self.routes[path].no_carrier == 0;
                self.carrier(path, up);
            }
            FaultKind::Slow { path, extra } => {
                let extra = if begins { extra } else { 0 };
                self.routes[path].extra = extra;
            }
            FaultKind::Park { .. } | FaultKind::Forget { .. } | FaultKind::Lingers { .. } => {}
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
            FaultKind::Kill => {
                if begins {
                    self.kill_host();
                } else {
                    self.revive_host();
                }
            }
            FaultKind::AdminDead { path } => change(&mut self.routes[path].admin_dead),
            FaultKind::ControlStall => {
                let until = &mut self.host.control_stalled_until;
                *until = ends.max(*until);
            }
            FaultKind::LaneStall { lane } => {
                let until = &mut self.host.lanes[lane].stalled_until;
                *until = ends.max(*until);
            }
            FaultKind::HostStall => {
                let until = &mut self.host.control_stalled_until;
                *until = ends.max(*until);
                for lane in &mut self.host.lanes {
                    lane.stalled_until = ends.max(lane.stalled_until);
                }
            }
            FaultKind::QueueFails { path, lane } => {
                let found = self
                    .qps
                    .iter()
                    .rposition(|qp| qp.path == path && usize::from(qp.qid) == lane + 1);
                if let Some(qp) = found.filter(|_| begins) {
                    self.host_qp_failed(qp);
                }
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
        }
    }
}
