//! Between queue threads and the fabric.

use umpath_nvme::Sqe;
use umpath_nvme::opcode::nvm;

use crate::sim::host::LaneAt;
use crate::sim::mutant::Mutant;
use crate::sim::qp::{HostEnd, Packet, QpId, Way};
use crate::sim::world::{Copy, World};

impl World {
    /// A command leaves a queue thread. True: a mutant has dealt with it.
    pub(crate) fn seam_send(&mut self, at: LaneAt, qp: QpId, sqe: &mut Sqe, index: u32) -> bool {
        let Some(mutant) = self.mutant else {
            return false;
        };
        let copy = self.copies[index as usize];
        let again = |world: &Self| world.was_lost(&copy);
        match mutant {
            Mutant::HedgedWrite if copy.mutation && self.array_chance.percent(5) => {
                self.hedge(at, qp, copy, sqe);
            }
            Mutant::FuaNotResent if again(self) => {
                sqe.cdw12.set(sqe.cdw12.get() & !(1 << 30));
            }
            Mutant::FlushNotResent if sqe.opcode == nvm::FLUSH && again(self) => {
                self.make_up_answer(qp, sqe, index);
                return true;
            }
            _ => {}
        }
        false
    }

    /// A mutant sends a write on another path as well.
    fn hedge(&mut self, at: LaneAt, first: QpId, copy: Copy, sqe: &Sqe) {
        let Some(lane) = self.lane(at) else { return };
        let qps = lane.qps.clone();
        let open = |qp: &QpId| self.qps[*qp].host == HostEnd::Open && *qp != first;
        let Some(qp) = qps.into_iter().rev().find(open) else {
            return;
        };
        let index = self.copies.len() as u32;
        let association = self.qps[qp].association;
        // Nobody asks about this copy but the checker of what is read.
        self.copies.push(Copy {
            association,
            answered: true,
            ..copy
        });
        let packet = Packet::Capsule {
            sqe: sqe.with_cid(0xfff0),
            copy: index,
            values: Some(self.values_of(&copy)),
        };
        self.transmit(qp, Way::ToTarget, packet);
    }

    /// A mutant takes what comes on an old queue pair for an answer on the newest of its path.
    pub(crate) fn newest_of_path(&self, qp: QpId) -> QpId {
        let known = &self.qps[qp];
        let newer = |other: &crate::sim::qp::Qp| {
            other.lane == known.lane && other.path == known.path && other.port.is_some()
        };
        self.qps.iter().rposition(newer).unwrap_or(qp)
    }

    /// A target closes a connection.
    pub(crate) fn seam_goodbye(&mut self, qp: QpId) {
        if self.is(Mutant::GoodbyeIsFence) {
            self.goodbyes.insert(self.qps[qp].association);
        }
    }
}
