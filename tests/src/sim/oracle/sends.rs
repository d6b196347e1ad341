//! What may be sent, judged by the copies themselves: what was sent for a request before, what
//! became of it, and which association it may still be executed by.

use std::collections::BTreeSet;

use umpath_protocol::EventKind;

use crate::sim::checker::Violation;
use crate::sim::qp::Assoc;
use crate::sim::store::StoreId;
use crate::sim::world::{Copy, World};

/// What the host was entitled to conclude of associations.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    /// A queue thread has had a queue pair of them.
    used: BTreeSet<Assoc>,
    /// Whose ghosts every lane of a volume keeps off, by the host's word.
    locked: Vec<(StoreId, Assoc)>,
    /// They execute nothing more, by the host's word.
    proven: BTreeSet<Assoc>,
    /// The host has word that another controller has reset theirs.
    reset: BTreeSet<Assoc>,
    /// Of earlier lives of the host, used and not fenced.
    inherited: Vec<Assoc>,
}

impl Fences {
    pub(crate) fn used(&mut self, assoc: Assoc) {
        self.used.insert(assoc);
    }

    pub(crate) fn lock(&mut self, store: StoreId, assoc: Assoc) {
        if !self.is_locked(store, assoc) {
            self.locked.push((store, assoc));
        }
    }

    fn is_locked(&self, store: StoreId, assoc: Assoc) -> bool {
        self.locked.contains(&(store, assoc))
    }

    pub(crate) fn is_proven(&self, assoc: Assoc) -> bool {
        self.proven.contains(&assoc)
    }

    pub(super) fn heard_reset(&mut self, assocs: impl IntoIterator<Item = Assoc>) {
        self.reset.extend(assocs);
    }

    pub(super) fn was_reset(&self, assoc: Assoc) -> bool {
        self.reset.contains(&assoc)
    }

    /// An association that a volume must not forget: one of the others that are not fenced.
    pub(crate) fn another_unfenced(&self, than: Assoc) -> Option<Assoc> {
        let mut used = self.used.iter().copied();
        used.find(|used| *used != than && used.life == than.life && !self.is_proven(*used))
    }

    /// A life of the host is over; this one is next.
    pub(crate) fn bequeath(&mut self, next: u32) {
        let left = |used: &&Assoc| used.life < next && !self.proven.contains(used);
        self.inherited = self.used.iter().filter(left).copied().collect();
    }

    fn prove(&mut self, assoc: Assoc) {
        self.proven.insert(assoc);
        self.inherited.retain(|known| *known != assoc);
    }
}

impl World {
    /// What may be sent.
    pub(crate) fn check_send(&self, copy: &Copy) -> Result<(), Violation> {
        let client = self.client(copy.lane, copy.tag);
        if client.op != Some(copy.op) || copy.op == 0 {
            return Err(Violation(
                "(7) a command is sent for a request that is over".to_owned(),
            ));
        }
        for other in client.copies.iter().map(|at| &self.copies[*at as usize]) {
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

    /// What the ghost-range lock promises, judged by the copies themselves.
    fn check_mutation(&self, copy: &Copy) -> Result<(), Violation> {
        let (op, store) = (copy.op, copy.store);
        if let Some(old) = self.fences.inherited.first() {
            let what =
                format!("(12) op {op} is sent before the earlier association {old} is fenced");
            return Err(Violation(what));
        }
        let at_large = || self.at_large.iter().map(|at| &self.copies[*at as usize]);
        let same = |other: &&Copy| other.store == store;
        let locked = |other: &Copy| self.fences.is_locked(store, other.association);
        let checker = &self.stores[store].checker;
        for ghost in at_large()
            .filter(same)
            .filter(|it| it.lost && overlap(it, copy))
        {
            let (association, other) = (ghost.association, ghost.op);
            if other != op {
                let over = checker.ops[other as usize].end != u64::MAX;
                if locked(ghost) || over {
                    let what = format!(
                        "(5) op {op} is sent over the ghost of op {other} on {association}"
                    );
                    return Err(Violation(what));
                }
                continue;
            }
            let shared = self.plan.volumes[store].policy.shared_with_other_hosts;
            if !locked(ghost) || shared {
                let what = format!(
                    "(5) op {op} is sent again before its ghost on {association} is locked"
                );
                return Err(Violation(what));
            }
            let mut others = at_large().filter(same);
            if let Some(other) = others.find(|other| other.op != op && overlap(ghost, other)) {
                let other = other.op;
                let what = format!("(5) op {op} is sent again while op {other} is at large");
                return Err(Violation(what));
            }
        }
        Ok(())
    }

    /// The host concludes that an association executes nothing more.
    pub(crate) fn fence_stands(&mut self, assoc: Assoc) {
        self.note(|| format!("association {assoc} is fenced, says the host"));
        let sound = self
            .check_fence(assoc)
            .and_then(|()| self.check_prompt(assoc))
            .and_then(|()| self.check_reset(assoc));
        if let Err(violation) = sound {
            return self.fail(violation);
        }
        self.fences.prove(assoc);
        let copies = &self.copies;
        self.at_large
            .retain(|at| copies[*at as usize].association != assoc);
    }

    /// Where one path fails and all else is well, no lost write waits for its order fence.
    fn check_prompt(&self, association: Assoc) -> Result<(), Violation> {
        let at_large = self.at_large.iter().map(|at| &self.copies[*at as usize]);
        let mut lost = at_large.filter(|copy| copy.lost && copy.association == association);
        let waits = lost.find(|copy| {
            let op = &self.stores[copy.store].checker.ops[copy.op as usize];
            let again = |other: &Copy| {
                (other.op, other.store) == (copy.op, copy.store)
                    && other.association != association
                    && overlap(other, copy)
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
    fn check_reset(&self, association: Assoc) -> Result<(), Violation> {
        if !self.plan.plain || !self.plan.ccr {
            return Ok(());
        }
        let events = self.host.core.events().events;
        let proof = events
            .iter()
            .rfind(|event| event.kind == EventKind::OrderFenced);
        if proof.is_some_and(|event| event.detail.contains("by time")) {
            let what = format!("(13) {association} is fenced by time where a reset was offered");
            return Err(Violation(what));
        }
        Ok(())
    }
}

fn overlap(a: &Copy, b: &Copy) -> bool {
    a.lba < b.lba + b.blocks && b.lba < a.lba + a.blocks
}
