//! What the hub does: the device's orders to the lanes, the lanes' reports to the device.

use umpath_core::association::Stuck;
use umpath_core::policies::AnaState;
use umpath_core::{LaneEvent, LaneId, Limits, Output, PathId};
use umpath_session::Ready;

use super::{FencedQueue, LaneOrder, LaneReport, Record, instance_of, terms_of};
use crate::sim::array::LBA_SHIFT;
use crate::sim::clock::{MICRO, Nanos, duration, nanos};
use crate::sim::mutant::Mutant;
use crate::sim::world::{Happening, World};

impl World {
    /// An association is ready for I/O: every lane gets its queue pair, then the table.
    pub(crate) fn association_ready(&mut self, path: usize, ready: Box<Ready>) {
        let now = duration(self.now);
        let Some(attempt) = &mut self.host.paths[path].attempt else {
            return;
        };
        let association = attempt.association;
        let io: Vec<(u16, usize)> = attempt
            .qps
            .iter()
            .copied()
            .filter(|(qid, _)| *qid != 0)
            .collect();
        // Written down before the first I/O can be.
        self.host.used.push(association);
        self.records.push(Record {
            association,
            terms: terms_of(&ready.facts, &self.plan, self.mutant),
            instance: instance_of(&ready.facts),
        });
        let ana = ready.ana.as_ref().and_then(|table| table.state(1, 1));
        attempt.ready = Some(ready);
        self.start_health(path);
        let number = PathId(path as u8);
        for lane in 0..self.host.lanes.len() {
            if let Some((_, qp)) = io.iter().find(|(qid, _)| usize::from(*qid) == lane + 1) {
                let order = LaneOrder::Attach {
                    path: number,
                    association,
                    qp: *qp,
                };
                self.order(lane, order);
            }
        }
        let most = self.plan.transfer_blocks[path];
        let ready = umpath_core::Ready {
            association,
            nsid: 1,
            limits: Limits {
                transfer_bytes_max: most << LBA_SHIFT,
                write_zeroes_blocks_max: most * 2,
                write_zeroes_deallocate: true,
                discard_blocks_max: most * 3,
                ..Limits::default()
            },
            ana: ana.map(ana_state),
            ana_group: 1,
            controller: None,
            node: None,
        };
        self.host.device.path_ready(number, ready, now);
        self.pump_device();
        self.survivor_up(path);
    }

    pub(crate) fn ana_read(&mut self, path: usize, state: Option<umpath_session::AnaState>) {
        let now = duration(self.now);
        if let Some(state) = state {
            self.host
                .device
                .ana(PathId(path as u8), ana_state(state), now);
            self.pump_device();
        }
    }

    /// Sends a message to a lane.
    pub(crate) fn order(&mut self, lane: usize, order: LaneOrder) {
        let delay = self.fabric_chance.tail(MICRO, self.plan.message_delay);
        let actor = &mut self.host.lanes[lane];
        actor.inbox_at = actor.inbox_at.max(self.now + delay);
        let (at, life) = (actor.inbox_at, self.host.life);
        self.agenda
            .push(at, Happening::ToLane { life, lane, order });
    }

    /// Carries out the device's orders, and sets its timer.
    pub(crate) fn pump_device(&mut self) {
        while let Some(output) = self.host.device.poll_output() {
            let order = match output {
                Output::Publish(table) => LaneOrder::Table(table),
                Output::Convict(association) => LaneOrder::Convict(association),
                Output::Guard(table) => LaneOrder::Guard(table),
                Output::Locked(association) => {
                    self.host.locked.push(association);
                    LaneOrder::Locked(association)
                }
                Output::Fenced(association) => LaneOrder::Fenced(association),
                Output::FailQueued => LaneOrder::FailQueued,
                Output::Event(event) => {
                    self.note(|| format!("event: {}", event.kind));
                    continue;
                }
            };
            for lane in 0..self.host.lanes.len() {
                self.order(lane, order.clone());
            }
        }
        if let Some(due) = self.host.device.poll_timeout() {
            let at = nanos(due).max(self.now + MICRO);
            if self
                .host
                .device_timer
                .is_none_or(|timer| at < timer || timer <= self.now)
            {
                self.host.device_timer = Some(at);
                let life = self.host.life;
                self.agenda.push(at, Happening::DeviceTimer { life, at });
            }
        }
    }

    pub(crate) fn device_timer(&mut self, at: Nanos) {
        if self.host.device_timer == Some(at) {
            self.host.device_timer = None;
            self.host.device.handle_timeout(duration(self.now));
            let due = self.host.device.poll_timeout();
            self.check_due("the device", due);
            self.pump_device();
        }
    }

    /// A lane's message reaches the control side.
    pub(crate) fn lane_report(&mut self, lane: usize, report: LaneReport) {
        let now = duration(self.now);
        let number = LaneId(lane as u16);
        match report {
            LaneReport::Drained {
                association,
                silent_at,
                ghosts,
            } => {
                self.note(|| format!("lane {lane} left {} ghosts on {association}", ghosts.len()));
                self.host
                    .device
                    .lane_drained(association, number, ghosts, now);
                if self.is(Mutant::OneDrainsForAll) {
                    for other in 0..self.host.lanes.len() as u16 {
                        let (none, other) = (Vec::new(), LaneId(other));
                        self.host.device.lane_drained(association, other, none, now);
                    }
                }
                self.pump_device();
                self.queue_silent(association, silent_at, FencedQueue::Lane(lane));
            }
            LaneReport::Broken(association) => {
                for path in 0..self.host.paths.len() {
                    let attempt = self.host.paths[path].attempt.as_mut();
                    let attempt = attempt.filter(|attempt| attempt.association == association);
                    if let Some(health) = attempt.and_then(|attempt| attempt.health.as_mut()) {
                        health.queue_failed(now);
                        self.judge(path);
                    }
                }
            }
            LaneReport::Event(mut event) => {
                if let (LaneEvent::Guarded { generation }, Some(mutant)) = (&mut event, self.mutant)
                    && mutant.unlocks()
                {
                    *generation /= 2;
                }
                self.host.device.lane_event(number, event, now);
                self.pump_device();
                match event {
                    LaneEvent::AnaStatus { path, .. } => {
                        let path = path.index();
                        if let Some(attempt) = &mut self.host.paths[path].attempt {
                            attempt.session.refresh_ana(now);
                        }
                        self.pump_session(path);
                    }
                    LaneEvent::Overdue {
                        path,
                        association,
                        since,
                        cid,
                    } if !self.is(Mutant::AgeIgnored) => {
                        let path = path.index();
                        let attempt = self.host.paths[path].attempt.as_mut();
                        let attempt = attempt.filter(|known| known.association == association);
                        if let Some(attempt) = attempt
                            && let Some(health) = &mut attempt.health
                        {
                            health.io_overdue(since, now);
                            let qid = number.0 + 1;
                            if let Some(cid) = cid {
                                attempt.ask_back(Stuck { qid, cid, since }, now);
                            }
                            self.judge(path);
                            self.pump_session(path);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

pub(crate) fn ana_state(state: umpath_session::AnaState) -> AnaState {
    use umpath_session::AnaState as Wire;
    match state {
        Wire::Optimized => AnaState::Optimized,
        Wire::NonOptimized => AnaState::NonOptimized,
        Wire::Inaccessible => AnaState::Inaccessible,
        Wire::PersistentLoss => AnaState::PersistentLoss,
        Wire::Change => AnaState::Change,
    }
}
