//! That no table uses a number of which the host has heard that it means another namespace.

use umpath_core::PathTable;

use crate::sim::checker::Violation;
use crate::sim::store::StoreId;
use crate::sim::world::World;

impl World {
    /// The host has handled a report: its tables agree with what it has heard by now.
    pub(crate) fn judge_numbers(&mut self) {
        if !self.renumbered || !self.host.alive {
            return;
        }
        let mut served = self.host.served.values();
        let wrong = served.find_map(|device| {
            let known = &self.devices[*device];
            self.wrong_number(known.store, known.table.as_deref()?)
        });
        if let Some(what) = wrong {
            self.fail(Violation(what));
        }
    }

    /// A path of a table under a number that is another namespace's.
    fn wrong_number(&self, store: StoreId, table: &PathTable) -> Option<String> {
        let usable = table.paths.iter().filter(|entry| entry.usable);
        let mut numbers = usable.filter_map(|entry| {
            let assoc = self.host.assoc(entry.association);
            let mut listed = self.listed.get(&assoc)?.iter();
            let (nsid, other) = listed.find(|(nsid, _)| *nsid == entry.nsid)?;
            (*other != store).then(|| {
                format!(
                    "(23) namespace {store} is served under number {nsid} of {assoc}, which is \
                     namespace {other}'s"
                )
            })
        });
        numbers.next()
    }
}
