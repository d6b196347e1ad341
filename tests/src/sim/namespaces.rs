//! The array's administrator: namespaces made, enlarged, taken away, given other numbers.
//!
//! A number that means another namespace from one moment to the next is what no host can stand: what
//! is on its way then reaches the wrong one. Arrays do it all the same, so here they do, but refuse
//! what was meant for the former one ([`World::is_misdirected`]). What the host may not do is judged
//! when it gives its orders: send to a number that it knows to be another namespace's.

use umpath_core::AssociationId;
use umpath_session::Namespace;

use super::array::NQN;
use super::plan::{FaultKind, NamespaceChange};
use super::store::StoreId;
use super::world::World;

impl World {
    /// Controllers of a process have a namespace now.
    pub(crate) fn is_presented(&self, store: StoreId, process: usize) -> bool {
        let taken = |at: &usize| match self.plan.faults[*at].kind {
            FaultKind::Namespace(NamespaceChange::Detach {
                volume,
                process: from,
            }) => (volume, from) == (store, process),
            FaultKind::Namespace(NamespaceChange::Replace { volume, by }) => {
                volume == store && by != store
            }
            _ => false,
        };
        self.stores[store].exists && !self.active_faults.iter().any(taken)
    }

    /// An array's administrator begins a change, or ends it.
    pub(crate) fn change_namespace(&mut self, change: NamespaceChange, begins: bool) {
        let all = 0..self.processes.len();
        match change {
            NamespaceChange::Add { volume } if begins => {
                self.stores[volume].exists = true;
                self.present(&[volume], all);
            }
            NamespaceChange::Grow { volume } if begins => {
                let store = &mut self.stores[volume];
                store.blocks = store.medium.seen.len() as u64;
                self.present(&[volume], all);
            }
            NamespaceChange::Detach { volume, process } => {
                self.present(&[volume], process..process + 1);
            }
            NamespaceChange::Renumber { volume } if begins => {
                self.withdraw(&[volume]);
                self.stores[volume].nsid = self.free_nsid();
                self.renumbered = true;
                self.present(&[volume], all);
            }
            NamespaceChange::Replace { volume, by } if begins && volume != by => {
                self.withdraw(&[volume, by]);
                let nsid = self.free_nsid();
                self.stores[by].nsid = std::mem::replace(&mut self.stores[volume].nsid, nsid);
                self.stores[by].exists = true;
                self.renumbered = true;
                self.present(&[volume, by], all);
            }
            NamespaceChange::Replace { volume, .. } => self.present(&[volume], all),
            NamespaceChange::Add { .. }
            | NamespaceChange::Grow { .. }
            | NamespaceChange::Renumber { .. } => {}
        }
    }

    fn free_nsid(&self) -> u32 {
        let taken = self.stores.iter().map(|store| store.nsid);
        taken.max().unwrap_or(0) + 1
    }

    /// Takes namespaces with the numbers they have now from every process.
    fn withdraw(&mut self, stores: &[StoreId]) {
        for process in &mut self.processes {
            for store in stores {
                // It may not have been there.
                let nsid = self.stores[*store].nsid;
                let _ = process.array.remove_namespace(NQN, nsid);
            }
        }
    }

    /// Processes present namespaces as they are now.
    fn present(&mut self, stores: &[StoreId], processes: std::ops::Range<usize>) {
        for process in processes {
            if !self.processes[process].alive {
                continue;
            }
            for store in stores {
                let known = &self.stores[*store];
                let namespace = known.namespace(*store, self.plan.cache);
                let there = self.is_presented(*store, process);
                let array = &mut self.processes[process].array;
                let _ = array.remove_namespace(NQN, namespace.nsid);
                if there {
                    let added = array.add_namespace(NQN, namespace);
                    debug_assert!(added.is_ok());
                }
            }
            self.array_outputs(process);
        }
    }

    /// A command was meant for the namespace that had its number before.
    pub(crate) fn is_misdirected(&self, copy: u32, store: StoreId) -> bool {
        self.renumbered && self.copies[copy as usize].store != store
    }

    /// The host hears which namespaces a controller has.
    pub(crate) fn hears_of(&mut self, association: AssociationId, list: &[Namespace]) {
        let meant = |namespace: &Namespace| {
            let facts = namespace.facts.as_ref().ok()?;
            let store = self.stores.iter().position(|store| store.id == facts.id)?;
            Some((namespace.nsid, store))
        };
        let list = list.iter().filter_map(meant).collect();
        self.listed.insert(self.host.assoc(association), list);
    }
}
