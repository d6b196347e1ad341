//! The promises.

use umpath_core::{AssociationId, BlockError, BlockRequest, Data, Ghost, Op, Tag};

use crate::world::{Copy, LANES, World};

fn overlap(a: &Copy, b: &Copy) -> bool {
    a.lba < b.lba + u64::from(b.blocks) && b.lba < a.lba + u64::from(a.blocks)
}

impl World {
    /// A ghost of another request that a lane knows of, over some of these blocks. A scan, unlike
    /// the lane's search.
    fn ghost_over(&self, lane: usize, request: usize, lba: u64, blocks: u32) -> Option<&Ghost> {
        self.tables[lane].ghosts().find(|ghost| {
            let other = ghost
                .owner
                .is_none_or(|owner| self.owners.get(&owner) != Some(&request));
            let end = ghost.lba.saturating_add(ghost.blocks);
            other && ghost.lba < lba + u64::from(blocks) && lba < end
        })
    }

    /// All lanes are said to keep off the ghosts of an association.
    pub(crate) fn check_lock(&self, association: AssociationId) {
        let ghosts = |copy: &&Copy| copy.send.association == association && copy.lost;
        for ghost in self.copies.iter().filter(ghosts) {
            let in_flight = |copy: &&Copy| {
                copy.request != ghost.request
                    && self.requests[copy.request].body.op.is_mutation()
                    && !copy.answered
                    && !copy.lost
                    && overlap(copy, ghost)
            };
            let left = self.copies.iter().find(in_flight);
            let mutation = self.requests[ghost.request].body.op.is_mutation();
            assert!(
                !mutation || left.is_none(),
                "{left:?} is in flight over {ghost:?}"
            );
        }
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
        for other in self.copies.iter().filter(earlier) {
            assert!(other.lost, "mutation sent twice before the buffer fence");
            let of = self.association_of(other);
            let locked = of.lock_known[copy.lane] && !self.sharing;
            assert!(
                of.fence_known[copy.lane] || locked,
                "mutation sent again before every lane kept off it"
            );
        }
        let ghost = self.ghost_over(copy.lane, copy.request, copy.lba, copy.blocks);
        assert!(ghost.is_none(), "{copy:?} sent over {ghost:?}");
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
        let mutation = request.body.op.is_mutation();
        for copy in self.copies.iter().filter(|copy| copy.request == at) {
            let of = self.association_of(copy);
            let known = of.fence_known[lane] || of.lock_known[lane] && !self.sharing;
            assert!(
                !mutation || !copy.lost || known,
                "over while some lane may not keep off {copy:?}"
            );
        }
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
        self.requests[at].failed = result.is_err();
    }

    /// A mutation that is over must not be executed over a later one, nor change blocks that
    /// nobody is changing.
    pub(crate) fn check_execution(&self, at: usize) {
        let copy = &self.copies[at];
        assert!(!self.association_of(copy).fenced);
        let request = &self.requests[copy.request];
        let Some(completed) = request.completed.filter(|_| request.body.op.is_mutation()) else {
            return;
        };
        for block in copy.lba..copy.lba + u64::from(copy.blocks) {
            let covers = |body: &BlockRequest| {
                body.op.is_mutation()
                    && (body.lba..body.lba + u64::from(body.blocks)).contains(&block)
            };
            assert!(
                self.youngest.get(&block).is_none_or(|at| *at <= completed),
                "{:?} was over, and its ghost overwrote a younger one",
                request.body
            );
            let settled = self
                .requests
                .iter()
                .all(|other| other.completed.is_some() || !covers(&other.body));
            let now = self.medium.get(&block).copied();
            let same = now.is_none_or(|now| now == copy.request || self.requests[now].failed);
            assert!(
                !settled || request.failed || same,
                "{:?} changed a block that had settled",
                request.body
            );
        }
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        for lane in 0..LANES {
            self.check_nothing_waits_in_vain(lane);
        }
    }

    /// A mutation waits for ghosts: its own that may not be sent again yet, or another's.
    fn is_held(&self, lane: usize, at: usize) -> bool {
        let body = &self.requests[at].body;
        let own = self.copies.iter().any(|copy| {
            let of = self.association_of(copy);
            let locked = of.lock_known[lane] && !self.sharing;
            copy.request == at && copy.lost && !locked && !of.fence_known[lane]
        });
        own || self.ghost_over(lane, at, body.lba, body.blocks).is_some()
    }

    /// With a path open, a read or a flush is on its way; so is a mutation unless it is held.
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
            if request.body.op.is_mutation() && self.is_held(lane, *at) {
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
