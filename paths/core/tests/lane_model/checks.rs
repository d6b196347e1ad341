//! The promises.

use umpath_core::{BlockError, Data, Op, Tag};

use crate::world::{Copy, LANES, World};

fn overlap(a: &Copy, b: &Copy) -> bool {
    a.lba < b.lba + u64::from(b.blocks) && b.lba < a.lba + u64::from(a.blocks)
}

impl World {
    /// Mutations that were in flight when their lane heard of the conviction, and are not settled:
    /// not answered, not sent again and answered, not fenced after their request failed.
    fn is_ghost(&self, copy: &Copy) -> bool {
        let association = self.association_of(copy);
        let request = &self.requests[copy.request];
        if !request.body.op.is_mutation() || copy.answered || !association.heard[copy.lane] {
            return false;
        }
        // A request that failed sends nothing again, so the fence alone settles its copies.
        if request.completed.is_some() || request.may_fail {
            return !association.fenced;
        }
        // Sent again and answered with success, block by block.
        let settled = |block: u64| {
            self.copies.iter().any(|other| {
                other.request == copy.request
                    && other.answered
                    && other.executed
                    && (other.lba..other.lba + u64::from(other.blocks)).contains(&block)
            })
        };
        !(copy.lba..copy.lba + u64::from(copy.blocks)).all(settled)
    }

    pub(crate) fn check_send(&self, copy: &Copy) {
        let request = &self.requests[copy.request];
        let association = self.association_of(copy);
        assert!(
            request.completed.is_none(),
            "sent for a request that is over"
        );
        assert!(
            !association.heard[copy.lane],
            "sent to a convicted association"
        );
        assert!(
            !association.ana_refuses[copy.lane],
            "sent to a controller that refuses the namespace"
        );
        self.check_data(copy);
        for other in &self.copies {
            let same_queue =
                other.lane == copy.lane && other.send.association == copy.send.association;
            if same_queue && !other.answered {
                let slot = |c: &Copy| c.send.sqe.cid.get() % 9;
                assert_ne!(slot(other), slot(copy), "one slot holds two commands");
            }
        }
        let earlier = |other: &&Copy| {
            other.request == copy.request && !other.answered && overlap(other, copy)
        };
        if !request.body.op.is_mutation() {
            for other in self.copies.iter().filter(earlier) {
                assert!(other.lost, "read again before the buffer fence");
            }
            return;
        }
        let mut was_lost = false;
        for other in self.copies.iter().filter(earlier) {
            assert!(other.lost, "mutation sent twice before the buffer fence");
            assert!(
                self.association_of(other).fenced,
                "mutation sent again before the order fence"
            );
            was_lost = true;
        }
        // The rest of a lost command that is split again is part of it.
        was_lost |= self
            .copies
            .iter()
            .any(|other| other.request == copy.request && other.lost);
        if !was_lost {
            let ghost = self.copies.iter().find(|other| self.is_ghost(other));
            assert!(ghost.is_none(), "new mutation sent while {ghost:?} is held");
            assert_eq!(self.shared.held(), 0);
        }
    }

    fn check_data(&self, copy: &Copy) {
        let body = &self.requests[copy.request].body;
        if body.op == Op::Flush {
            assert_eq!(copy.send.data, Data::None);
            return;
        }
        let first = copy.lba.checked_sub(body.lba).expect("within the request");
        assert!(copy.blocks > 0);
        assert!(
            first + u64::from(copy.blocks) <= u64::from(body.blocks),
            "beyond the request"
        );
        let most = [16_u32, 5, 3][copy.send.path.index()];
        let place = (first as u32) << 9;
        match (body.op, &copy.send.data) {
            (
                Op::Read,
                Data::FromController {
                    offset_bytes,
                    len_bytes,
                },
            )
            | (
                Op::Write,
                Data::ToController {
                    offset_bytes,
                    len_bytes,
                },
            ) => {
                assert_eq!((*offset_bytes, *len_bytes), (place, copy.blocks << 9));
                assert!(copy.blocks <= most);
            }
            (Op::WriteZeroes, Data::None) => assert!(copy.blocks <= most * 2),
            (Op::Discard, Data::Parameters { .. }) => assert!(copy.blocks <= most * 3),
            (op, data) => panic!("{op:?} with {data:?}"),
        }
    }

    pub(crate) fn check_completion(
        &mut self,
        lane: usize,
        tag: Tag,
        result: Result<(), BlockError>,
        no_path_fails: bool,
    ) {
        let at = self.tags[lane]
            .remove(&tag.0)
            .expect("completed once, and only what was submitted");
        for copy in self.copies.iter().filter(|copy| copy.request == at) {
            assert!(
                copy.answered || copy.lost,
                "completed while {copy:?} may touch its buffer"
            );
        }
        let request = &self.requests[at];
        if let Err(error) = result {
            assert!(
                request.may_fail || no_path_fails,
                "failed with {error} for no reason"
            );
        } else if request.body.op == Op::Flush {
            let done = |copy: &Copy| copy.request == at && copy.answered && copy.executed;
            assert!(self.copies.iter().any(done));
        } else {
            for block in request.body.lba..request.body.lba + u64::from(request.body.blocks) {
                let done = |copy: &Copy| {
                    copy.request == at
                        && copy.answered
                        && copy.executed
                        && (copy.lba..copy.lba + u64::from(copy.blocks)).contains(&block)
                };
                assert!(self.copies.iter().any(done), "block {block} was never done");
            }
        }
        self.requests[at].completed = Some(self.step);
    }

    /// A mutation that is over must not be executed over a later one.
    pub(crate) fn check_execution(&self, at: usize) {
        let copy = &self.copies[at];
        assert!(!self.association_of(copy).fenced);
        let request = &self.requests[copy.request];
        let Some(completed) = request.completed.filter(|_| request.body.op.is_mutation()) else {
            return;
        };
        for block in copy.lba..copy.lba + u64::from(copy.blocks) {
            if let Some(last) = self.medium.get(&block) {
                let last = &self.requests[*last];
                assert!(
                    last.submitted <= completed,
                    "{:?} was over, and its ghost overwrote {:?}",
                    request.body,
                    last.body
                );
            }
        }
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        let ghost = self.copies.iter().find(|copy| self.is_ghost(copy));
        let of = ghost.map(|ghost| &self.requests[ghost.request]);
        assert!(
            ghost.is_none() || self.shared.held() > 0,
            "nobody holds for {ghost:?} of {of:?}"
        );
        for lane in 0..LANES {
            self.check_nothing_waits_in_vain(lane);
        }
    }

    /// With a path open, a read or a flush is on its way; so is a mutation unless one is held.
    fn check_nothing_waits_in_vain(&self, lane: usize) {
        // A lane that waits for a time, or whose queues are full, is not idle in vain.
        let in_flight = |copy: &&Copy| copy.lane == lane && !copy.answered && !copy.lost;
        let busy = self.copies.iter().filter(in_flight).count();
        if self.open_to(lane).next().is_none()
            || self.lanes[lane].poll_timeout().is_some()
            || busy >= 8
        {
            return;
        }
        for at in self.tags[lane].values() {
            let request = &self.requests[*at];
            if request.body.op.is_mutation() && self.shared.held() > 0 {
                continue;
            }
            let moving = self
                .copies
                .iter()
                .filter(in_flight)
                .any(|copy| copy.request == *at);
            assert!(moving, "{:?} waits for nothing", request.body);
        }
    }
}
