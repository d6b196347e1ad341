//! The fabric: queue pairs, packets, partitions.
//!
//! A queue pair keeps its order in each direction; nothing orders two of them. A packet into a
//! partition is repeated until the partition heals or the sender's patience ends, and then the
//! sender's queue pair fails while its peer knows nothing. A partition of the way back alone lets
//! packets through and loses what acknowledges them: the sender fails after its packet was
//! executed. After a queue pair is in the error state nothing leaves it, but what its NIC had
//! accepted may still reach its memory until it is drained.

use std::collections::VecDeque;

use umpath_core::AssociationId;
use umpath_nvme::{Cqe, Sqe};
use umpath_target::controller::view::IoAccess;

use super::clock::{MILLI, Nanos};
use super::plan::REQUEST_BLOCKS;
use super::world::{Happening, World};

/// How often a disconnect request is repeated, and after how long, give or take a half.
const FAREWELLS: u32 = 15;
const FAREWELL_AGAIN: Nanos = 100 * MILLI;

/// A queue pair's number.
pub(crate) type QpId = usize;

/// A command's data: one stamp for each block.
pub(crate) type Values = [u64; REQUEST_BLOCKS];

/// The host's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostEnd {
    Open,
    /// Sends nothing any more; its NIC may still touch memory.
    Error,
    /// Touches nothing any more.
    Drained,
}

/// The target's end.
#[derive(Debug)]
pub(crate) enum TargetEnd {
    Closed,
    /// No Connect yet.
    Fresh,
    Admin {
        cntlid: u16,
    },
    Io {
        cntlid: u16,
        access: IoAccess<()>,
    },
}

/// Direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToTarget = 0,
    ToHost = 1,
}

#[derive(Debug)]
pub(crate) struct Qp {
    pub(crate) path: usize,
    pub(crate) association: AssociationId,
    pub(crate) qid: u16,
    pub(crate) process: usize,
    /// Which life of the process.
    pub(crate) life: u32,
    pub(crate) host: HostEnd,
    pub(crate) silent_at: Nanos,
    pub(crate) target: TargetEnd,
    /// When the last packet arrives, by way.
    last: [Nanos; 2],
    /// Its marker will not come in time.
    pub(crate) marker_lost: bool,
    /// Its lane took it for drained, rightly or not.
    pub(crate) told: bool,
    /// Packets that are being repeated, by way.
    waiting: [VecDeque<Packet>; 2],
    /// Since when a sender has had no acknowledgement, by way.
    unacknowledged: [Option<Nanos>; 2],
}

/// What crosses the fabric.
#[derive(Debug)]
pub(crate) enum Packet {
    /// A capsule of a session, with the data it brings.
    Admin {
        sqe: Sqe,
        data: Vec<u8>,
    },
    /// Its answer, with the data it brings.
    AdminAnswer {
        cqe: Cqe,
        data: Vec<u8>,
    },
    /// A capsule of a lane. `values`: in-capsule data.
    Capsule {
        sqe: Sqe,
        copy: u32,
        values: Option<Values>,
    },
    /// RDMA READ of a write's data, and its answer.
    Fetch {
        command: usize,
        copy: u32,
    },
    Fetched {
        command: usize,
        values: Values,
    },
    /// RDMA WRITE of a read's data, if any, and the response.
    Response {
        cqe: Cqe,
        copy: u32,
        values: Option<Values>,
    },
    /// The connection is over. `counts`: a controller may take it for traffic.
    Goodbye {
        counts: bool,
    },
}

/// A path's condition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    /// Partitions in force, by way.
    pub(crate) cut: [u32; 2],
    /// Carrier losses in force at the host's port.
    pub(crate) no_carrier: u32,
    pub(crate) extra: Nanos,
    /// Admin commands vanish.
    pub(crate) admin_dead: u32,
}

impl Route {
    pub(crate) fn is_cut(&self, way: Way) -> bool {
        self.cut[way as usize] > 0 || self.no_carrier > 0
    }
}

impl World {
    pub(crate) fn new_qp(&mut self, path: usize, association: AssociationId, qid: u16) -> QpId {
        let process = self.process_of(path);
        self.qps.push(Qp {
            path,
            association,
            qid,
            process,
            life: self.processes[process].life,
            host: HostEnd::Open,
            silent_at: 0,
            marker_lost: false,
            told: false,
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
        let path = self.qps[qp].path;
        let back = if way == Way::ToTarget {
            Way::ToHost
        } else {
            Way::ToTarget
        };
        let (cut, deaf) = (
            self.routes[path].is_cut(way),
            self.routes[path].is_cut(back),
        );
        if cut || deaf || self.peer_is_gone(qp, way) {
            self.arm_retry(qp, way);
        }
        if cut {
            self.qps[qp].waiting[way as usize].push_back(packet);
            return;
        }
        self.carry(qp, way, packet);
    }

    fn carry(&mut self, qp: QpId, way: Way, packet: Packet) {
        let delay = self.travel(self.qps[qp].path);
        let last = &mut self.qps[qp].last[way as usize];
        let at = (self.now + delay).max(*last);
        *last = at;
        self.agenda.push(at, Happening::Arrives { qp, way, packet });
    }

    /// The answer to an RDMA READ. The NIC gives it as long as the queue pair is not drained.
    pub(crate) fn carry_fetched(&mut self, qp: QpId, command: usize, values: Values) {
        let packet = Packet::Fetched { command, values };
        if self.qps[qp].host == HostEnd::Open {
            self.transmit(qp, Way::ToTarget, packet);
        } else if !self.routes[self.qps[qp].path].is_cut(Way::ToTarget) {
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
        let path = self.qps[qp].path;
        let route = &self.routes[path];
        let broken =
            route.is_cut(Way::ToTarget) || route.is_cut(Way::ToHost) || self.peer_is_gone(qp, way);
        self.qps[qp].unacknowledged[way as usize] = None;
        if !broken {
            return;
        }
        match way {
            Way::ToTarget => self.host_qp_failed(qp),
            Way::ToHost => {
                let counts = self.end_counts(qp);
                self.target_qp_failed(qp, counts);
            }
        }
    }

    /// A path works better than before: what was repeated gets through.
    pub(crate) fn route_healed(&mut self, path: usize) {
        let open = [Way::ToTarget, Way::ToHost].map(|way| !self.routes[path].is_cut(way));
        for qp in 0..self.qps.len() {
            if self.qps[qp].path != path {
                continue;
            }
            for way in [Way::ToTarget, Way::ToHost] {
                if open == [true, true] {
                    self.qps[qp].unacknowledged[way as usize] = None;
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
        if !self.routes[self.qps[qp].path].is_cut(way) {
            let counts = self.end_counts(qp);
            self.carry(qp, way, Packet::Goodbye { counts });
        } else if tries > 0 {
            let at = self.now + FAREWELL_AGAIN / 2 + self.fabric_chance.below(FAREWELL_AGAIN);
            let tries = tries - 1;
            self.agenda.push(at, Happening::Farewell { qp, way, tries });
        }
    }
}
