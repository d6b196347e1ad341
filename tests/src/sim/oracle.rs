//! What may be sent: the oracles that see every command before it leaves.
//!
//! They judge by the copies themselves, which no real system can see at once: what was sent for a
//! request before, what became of it, and which association it may still be executed by.

use umpath_core::AssociationId;
use umpath_core::association::FencedBy;

use super::checker::Violation;
use super::world::{Copy, World};

impl World {
    /// What may be sent.
    pub(crate) fn check_send(&self, copy: &Copy) -> Result<(), Violation> {
        let client = &self.clients[copy.lane][usize::from(copy.tag.0)];
        if client.op != Some(copy.op) || copy.op == 0 {
            return Err(Violation(
                "(7) a command is sent for a request that is over".to_owned(),
            ));
        }
        for other in &self.copies[client.first_copy..] {
            if other.op == copy.op && !other.answered && !other.lost && overlap(other, copy) {
                let what = format!(
                    "(11) op {} is sent again while a copy of it is in flight",
                    copy.op
                );
                return Err(Violation(what));
            }
        }
        if copy.mutation {
            self.check_mutation(copy)?;
        }
        Ok(())
    }

    /// Where one path fails and all else is well, no lost write waits for its order fence.
    pub(crate) fn check_prompt(&self, association: AssociationId) -> Result<(), Violation> {
        let at_large = self.at_large.iter().map(|at| &self.copies[*at as usize]);
        let mut lost = at_large.filter(|copy| copy.lost && copy.association == association);
        let waits = lost.find(|copy| {
            let op = &self.checker.ops[copy.op as usize];
            let again = |other: &Copy| {
                other.op == copy.op && other.association != association && overlap(other, copy)
            };
            op.end == u64::MAX && !self.copies.iter().any(again)
        });
        match waits {
            // A reset may stand before the ghosts are locked.
            Some(copy) if self.plan.plain && !self.plan.ccr => Err(Violation(format!(
                "(13) op {} has waited for the order fence of {association}",
                copy.op
            ))),
            _ => Ok(()),
        }
    }

    /// Where one path fails and another controller can reset the lost one, nobody waits for time.
    pub(crate) fn check_reset(
        &self,
        association: AssociationId,
        surety: Option<FencedBy>,
    ) -> Result<(), Violation> {
        if self.plan.plain && self.plan.ccr && surety == Some(FencedBy::Time) {
            let what = format!("(13) {association} is fenced by time where a reset was offered");
            return Err(Violation(what));
        }
        Ok(())
    }

    /// What the ghost-range lock promises, judged by the copies themselves.
    fn check_mutation(&self, copy: &Copy) -> Result<(), Violation> {
        let op = copy.op;
        if let Some(old) = self
            .inherited
            .iter()
            .find(|old| !self.host.fenced.contains(old))
        {
            let what =
                format!("(12) op {op} is sent before the earlier association {old} is fenced");
            return Err(Violation(what));
        }
        let at_large = || self.at_large.iter().map(|at| &self.copies[*at as usize]);
        let locked = |other: &Copy| self.host.locked.contains(&other.association);
        for ghost in at_large().filter(|ghost| ghost.lost && overlap(ghost, copy)) {
            let association = ghost.association;
            if ghost.op != op {
                if locked(ghost) {
                    let ghost = ghost.op;
                    let what = format!(
                        "(5) op {op} is sent over the ghost of op {ghost} on {association}"
                    );
                    return Err(Violation(what));
                }
                continue;
            }
            if !locked(ghost) || self.plan.shared {
                let what = format!(
                    "(5) op {op} is sent again before its ghost on {association} is locked"
                );
                return Err(Violation(what));
            }
            if let Some(other) = at_large().find(|other| other.op != op && overlap(ghost, other)) {
                let other = other.op;
                let what = format!("(5) op {op} is sent again while op {other} is at large");
                return Err(Violation(what));
            }
        }
        Ok(())
    }
}

fn overlap(a: &Copy, b: &Copy) -> bool {
    a.lba < b.lba + b.blocks && b.lba < a.lba + a.blocks
}
