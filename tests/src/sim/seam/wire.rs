//! Between queue threads and the fabric.

use umpath_engine::Channel;
use umpath_nvme::opcode::nvm;
use umpath_nvme::{Cqe, Sqe, Status};

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
            Mutant::StaleAnswer => self.answer_stale(at, qp, sqe),
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

    /// An answer comes on a queue pair that is drained: a mutant keeps it.
    pub(crate) fn seam_late_answer(&mut self, qp: QpId, cqe: Cqe, copy: u32) {
        if self.is(Mutant::StaleAnswer)
            && let Some(lane) = self.qps[qp].lane
        {
            self.stale_answer = Some((lane, self.qps[qp].path, cqe, copy));
        }
    }

    /// A mutant takes an answer of an old queue pair for one to the command that leaves now.
    fn answer_stale(&mut self, at: LaneAt, qp: QpId, sqe: &Sqe) {
        let path = self.qps[qp].path;
        let of = |(lane, of, ..): &mut (LaneAt, usize, Cqe, u32)| (*lane, *of) == (at, path);
        if let Some((.., mut cqe, copy)) = self.stale_answer.take_if(of) {
            cqe.cid.set(sqe.cid.get());
            self.answers(qp, cqe, copy);
        }
    }

    fn answers(&mut self, qp: QpId, cqe: Cqe, copy: u32) {
        if let Some(port) = &self.qps[qp].port {
            port.answers.borrow_mut().push_back((cqe, copy));
        }
        self.ring_bell(qp, Channel::Completions);
    }

    /// A command that a mutant's thread has made up is over.
    fn make_up_answer(&mut self, qp: QpId, sqe: &Sqe, copy: u32) {
        let cqe = Cqe::new(sqe.cid.get(), 0, Status::SUCCESS, 0);
        self.answers(qp, cqe, copy);
    }

    /// A target closes a connection.
    pub(crate) fn seam_goodbye(&mut self, qp: QpId) {
        if self.is(Mutant::GoodbyeIsFence) {
            self.goodbyes.insert(self.qps[qp].association);
        }
    }
}
