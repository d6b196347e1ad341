//! The fabric: queue pairs, packets, partitions.
//!
//! A queue pair keeps its order in each direction; nothing orders two of them. A packet into a
//! partition is repeated until the partition heals or the sender's patience ends, and then the
//! sender's queue pair fails while its peer knows nothing. A partition of the way back alone lets
//! packets through and loses what acknowledges them: the sender fails after its packet was
//! executed. After a queue pair is in the error state nothing leaves it, but what its NIC had
//! accepted may still reach its memory until it is drained.

use std::collections::VecDeque;

use super::clock::{MILLI, Nanos};
use super::happening::Happening;
use super::qp::{Assoc, HostEnd, Packet, Qp, QpId, TargetEnd, Values, Way};
use super::world::World;

/// How often a disconnect request is repeated, and after how long, give or take a half.
const FAREWELLS: u32 = 15;
const FAREWELL_AGAIN: Nanos = 100 * MILLI;

/// A path's condition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    /// Partitions in force, by way.
    pub(crate) cut: [u32; 2],
    /// Carrier losses in force at the host's port.
    pub(crate) no_carrier: u32,
    /// Failures in force of the host's adapter.
    pub(crate) no_adapter: u32,
    pub(crate) extra: Nanos,
    /// Admin commands vanish.
    pub(crate) admin_dead: u32,
}

impl Route {
    pub(crate) fn is_cut(&self, way: Way) -> bool {
        self.cut[way as usize] > 0 || self.no_carrier > 0 || self.no_adapter > 0
    }
}

impl World {
    pub(crate) fn new_qp(&mut self, path: usize, association: Assoc, qid: u16, depth: u16) -> QpId {
        let process = self.process_of(path);
        self.qps.push(Qp {
            path,
            association,
            qid,
            depth,
            process,
            life: self.processes[process].life,
            host: HostEnd::Open,
            sent: false,
            silent_at: 0,
            lane: None,
            port: None,
            cut: 0,
            cut_since: 0,
            marker_lost: false,
            target: TargetEnd::Fresh,
            last: [0; 2],
            waiting: [VecDeque::new(), VecDeque::new()],
            unacknowledged: [None; 2],
        });
        self.qps.len() - 1
    }

    /// How long a packet takes now on a path.
    pub(crate) fn travel(&mut self, path: usize) -> Nanos {
        let longest = self.plan.delay;
        self.fabric_chance.tail(longest / 20 + 1, longest) + self.routes[path].extra
    }

    pub(crate) fn transmit(&mut self, qp: QpId, way: Way, packet: Packet) {
        self.qps[qp].sent |= way == Way::ToTarget;
        let back = if way == Way::ToTarget {
            Way::ToHost
        } else {
            Way::ToTarget
        };
        let (cut, deaf) = (self.is_cut(qp, way), self.is_cut(qp, back));
        if cut || deaf || self.peer_is_gone(qp, way) {
            self.arm_retry(qp, way);
            if let (Packet::Capsule { sqe, .. }, Some(port)) = (&packet, &self.qps[qp].port) {
                port.unacknowledged.borrow_mut().insert(sqe.cid.get());
            }
        }
        if cut {
            self.qps[qp].waiting[way as usize].push_back(packet);
            return;
        }
        self.carry(qp, way, packet);
    }

    fn is_cut(&self, qp: QpId, way: Way) -> bool {
        self.qps[qp].cut > 0 || self.routes[self.qps[qp].path].is_cut(way)
    }

    fn carry(&mut self, qp: QpId, way: Way, packet: Packet) {
        let delay = self.travel(self.qps[qp].path);
        let last = &mut self.qps[qp].last[way as usize];
        let at = (self.now + delay).max(*last);
        *last = at;
        let packet = self.packets.insert(packet);
        self.agenda.push(at, Happening::Arrives { qp, way, packet });
    }

    /// The answer to an RDMA READ. The NIC gives it as long as the queue pair is not drained.
    pub(crate) fn carry_fetched(&mut self, qp: QpId, command: usize, values: Values) {
        let packet = Packet::Fetched { command, values };
        if self.qps[qp].host == HostEnd::Open {
            self.transmit(qp, Way::ToTarget, packet);
        } else if !self.is_cut(qp, Way::ToTarget) {
            self.carry(qp, Way::ToTarget, packet);
        }
    }

    fn peer_is_gone(&self, qp: QpId, way: Way) -> bool {
        match way {
            Way::ToTarget => matches!(self.qps[qp].target, TargetEnd::Closed),
            Way::ToHost => self.qps[qp].host != HostEnd::Open,
        }
    }

    fn arm_retry(&mut self, qp: QpId, way: Way) {
        let waiting = &mut self.qps[qp].unacknowledged[way as usize];
        if waiting.is_none() {
            *waiting = Some(self.now);
            let at = self.now + self.plan.patience[way as usize];
            let since = self.now;
            self.agenda
                .push(at, Happening::PatienceEnds { qp, way, since });
        }
    }

    /// The sender of a way has had no acknowledgement for too long, unless things changed.
    pub(crate) fn patience_ends(&mut self, qp: QpId, way: Way, since: Nanos) {
        if self.qps[qp].unacknowledged[way as usize] != Some(since) {
            return;
        }
        let broken = self.is_cut(qp, Way::ToTarget)
            || self.is_cut(qp, Way::ToHost)
            || self.peer_is_gone(qp, way);
        self.qps[qp].unacknowledged[way as usize] = None;
        if !broken {
            return;
        }
        match way {
            Way::ToTarget => self.host_qp_failed(qp, false),
            Way::ToHost => {
                let counts = self.end_counts(qp);
                self.target_qp_failed(qp, counts);
            }
        }
    }

    /// A path works better than before: what was repeated gets through.
    pub(crate) fn route_healed(&mut self, path: usize) {
        for qp in 0..self.qps.len() {
            if self.qps[qp].path != path {
                continue;
            }
            let open = [Way::ToTarget, Way::ToHost].map(|way| !self.is_cut(qp, way));
            for way in [Way::ToTarget, Way::ToHost] {
                if open == [true, true] {
                    self.qps[qp].unacknowledged[way as usize] = None;
                    if let Some(port) = &self.qps[qp].port {
                        port.unacknowledged.borrow_mut().clear();
                    }
                }
                if !open[way as usize] {
                    continue;
                }
                while let Some(packet) = self.qps[qp].waiting[way as usize].pop_front() {
                    self.carry(qp, way, packet);
                }
            }
        }
    }

    /// The host's end goes into the error state: nothing leaves it any more.
    pub(crate) fn silence(&mut self, qp: QpId) {
        if self.qps[qp].host != HostEnd::Open {
            return;
        }
        self.qps[qp].host = HostEnd::Error;
        self.qps[qp].silent_at = self.now;
        self.qps[qp].waiting[Way::ToTarget as usize].clear();
        self.qps[qp].unacknowledged[Way::ToTarget as usize] = None;
        self.farewell(qp, Way::ToTarget, FAREWELLS);
    }

    /// A controller may take the end of a queue pair for traffic now: until one KATO after the last of
    /// the association's queue pairs fell silent, by then all of them have ended.
    pub(crate) fn end_counts(&self, qp: QpId) -> bool {
        let association = self.qps[qp].association;
        let mut ends = self.qps.iter().filter(|qp| qp.association == association);
        ends.any(|qp| {
            qp.host == HostEnd::Open || self.now <= qp.silent_at.saturating_add(self.plan.kato)
        })
    }

    /// The target's end closes; what is under way to the host still arrives.
    pub(crate) fn close_target_end(&mut self, qp: QpId) {
        if matches!(self.qps[qp].target, TargetEnd::Closed) {
            return;
        }
        self.qps[qp].target = TargetEnd::Closed;
        self.qps[qp].waiting[Way::ToHost as usize].clear();
        self.qps[qp].unacknowledged[Way::ToHost as usize] = None;
        self.farewell(qp, Way::ToHost, FAREWELLS);
    }

    /// Tells the peer that the connection is over. The request is the connection manager's, not
    /// the queue pair's, and is repeated for a while.
    pub(crate) fn farewell(&mut self, qp: QpId, way: Way, tries: u32) {
        if !self.is_cut(qp, way) {
            let counts = self.end_counts(qp);
            self.carry(qp, way, Packet::Goodbye { counts });
        } else if tries > 0 {
            let at = self.now + FAREWELL_AGAIN / 2 + self.fabric_chance.below(FAREWELL_AGAIN);
            let tries = tries - 1;
            self.agenda.push(at, Happening::Farewell { qp, way, tries });
        }
    }
}
