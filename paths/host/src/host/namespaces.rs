//! Namespace changes on a live association: ANA states, arrivals, departures.
//!
//! Decided here: what a changed list means for volumes in service. A queue pair addresses its
//! namespace by an NSID that belongs to the controller, which may reassign it to another namespace
//! at any time. So a volume whose namespace is no longer found under its NSID gets no new I/O
//! there, as if its ANA state were inaccessible, until the namespace is back. Under *another* NSID
//! it needs new queue pairs, and the association is given up.

use std::collections::BTreeSet;

use umpath_core::AssociationId;
use umpath_protocol::EventKind;
use umpath_session::{AnaTable, Namespace, NamespaceFacts, NamespaceProblem, StableId};

use super::Host;
use super::attach::Live;
use super::inherited::Recorded;
use crate::events::Subject;
use crate::path::Request;
use crate::volume::Volume;

/// What a new namespace list means for a volume that an association serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Present, with the size the array now reports, if it reports one.
    Stays(Option<u64>),
    /// Not found: nothing may be sent to its NSID.
    Withdrawn,
    /// Found under another NSID.
    Moved(u32),
}

impl Fate {
    fn of(volume: &NamespaceFacts, nsid: u32, list: &[Namespace]) -> Self {
        // A namespace formatted differently is a different one, even under the same identity.
        let is_it =
            |facts: &&NamespaceFacts| (facts.id, facts.lba_shift) == (volume.id, volume.lba_shift);
        let here = list.iter().find(|namespace| namespace.nsid == nsid);
        match here.map(|namespace| namespace.facts.as_ref()) {
            Some(Ok(facts)) if is_it(&facts) => return Self::Stays(Some(facts.blocks)),
            // Identify failed this time; that changes nothing.
            Some(Err(NamespaceProblem::Refused(status))) if !status.dnr() => {
                return Self::Stays(None);
            }
            _ => {}
        }
        let elsewhere = list.iter().find(|namespace| {
            let facts = namespace.facts.as_ref().ok();
            facts.as_ref().is_some_and(is_it)
        });
        elsewhere.map_or(Self::Withdrawn, |namespace| Self::Moved(namespace.nsid))
    }
}

impl Host {
    pub(super) fn ana_changed(&mut self, path: u32, association: AssociationId, table: AnaTable) {
        let Some(live) = self.still_live(path, association) else {
            return;
        };
        live.ready.ana = Some(table);
        self.pass_ana_on(path);
    }

    /// Reports to every volume its namespace's ANA group and state.
    fn pass_ana_on(&mut self, path: u32) {
        let record = self.paths.get(&path).expect("a path that is there");
        let Some(live) = &record.live else { return };
        let (Some(table), Some(terms)) = (&live.ready.ana, live.ready.facts.ana) else {
            return;
        };
        for namespace in &live.ready.namespaces {
            let Ok(facts) = &namespace.facts else {
                continue;
            };
            let volume = self.volumes.get_mut(&facts.id);
            let serves =
                |volume: &&mut Volume| volume.nsid_on(live.association) == Some(namespace.nsid);
            if let Some(volume) = volume.filter(serves) {
                let group = table.group_of(namespace.nsid, facts.ana_group);
                volume.ana_terms(live.association, group, terms.transition, &mut self.fx);
                let state = table.state(namespace.nsid, group);
                volume.ana(live.association, state, &mut self.fx);
            }
        }
    }

    pub(super) fn namespaces_changed(
        &mut self,
        path: u32,
        association: AssociationId,
        namespaces: &[Namespace],
    ) {
        let Some(live) = self.still_live(path, association) else {
            return;
        };
        let before = std::mem::replace(&mut live.ready.namespaces, namespaces.to_vec());
        if live.recorded != Recorded::Durable {
            return;
        }
        self.note_changes(path, &before, namespaces);
        for (id, fate) in self.fates(association, namespaces) {
            self.apply_fate(path, association, id, fate);
        }
        // A namespace may have moved to another ANA group.
        self.pass_ana_on(path);
        for namespace in namespaces.iter().filter(|it| !before.contains(it)) {
            if !self.is_matched(path, association, namespace) {
                self.match_namespace(path, namespace);
            }
        }
    }

    /// Matches namespaces that were left alone and no longer are.
    pub(super) fn match_again(&mut self, path: u32, ids: &BTreeSet<StableId>) {
        let live = self
            .live_mut(path)
            .filter(|live| live.recorded == Recorded::Durable);
        let Some(live) = live else { return };
        let association = live.association;
        for namespace in live.ready.namespaces.clone() {
            let wanted = matches!(&namespace.facts, Ok(facts) if ids.contains(&facts.id));
            if wanted && !self.is_matched(path, association, &namespace) {
                self.match_namespace(path, &namespace);
            }
        }
    }

    /// A volume has queue pairs for the namespace on this path, or is about to get them.
    pub(super) fn is_matched(
        &self,
        path: u32,
        association: AssociationId,
        namespace: &Namespace,
    ) -> bool {
        let Ok(facts) = &namespace.facts else {
            return false;
        };
        let volume = self.volumes.get(&facts.id);
        let pending = |live: &Live| live.pending.contains(&facts.id);
        volume.is_some_and(|volume| volume.nsid_on(association).is_some())
            || self.live(path).is_some_and(pending)
    }

    /// The fate of each volume that an association serves.
    fn fates(&self, association: AssociationId, list: &[Namespace]) -> Vec<(StableId, Fate)> {
        let fate = |volume: &Volume| {
            let nsid = volume.nsid_on(association)?;
            Some((volume.id(), Fate::of(volume.namespace(), nsid, list)))
        };
        self.volumes.values().filter_map(fate).collect()
    }

    fn apply_fate(&mut self, path: u32, association: AssociationId, id: StableId, fate: Fate) {
        let Some(volume) = self.volumes.get_mut(&id) else {
            return;
        };
        let words = match fate {
            Fate::Stays(blocks) => {
                if let Some(blocks) = blocks {
                    self.size_heard(path, id, blocks);
                }
                let volume = self.volumes.get_mut(&id).expect("a volume that is served");
                if !volume.withdraw(association, false, &mut self.fx) {
                    return;
                }
                "its namespace is back on this controller"
            }
            Fate::Withdrawn => {
                if !volume.withdraw(association, true, &mut self.fx) {
                    return;
                }
                "its namespace is gone from this controller; the path is left alone until it is back"
            }
            Fate::Moved(nsid) => {
                volume.withdraw(association, true, &mut self.fx);
                let why = format!("the namespace of {} is now number {nsid}", volume.name());
                return self.tell(association, Request::Broken(association, why));
            }
        };
        let name = self.volumes.get(&id).map_or("", Volume::name);
        let words = format!("volume {name}: {words}");
        self.fx
            .event(EventKind::NamespaceChanged, Subject::path(path), words);
    }

    /// A path reports the size of a volume's namespace. A new size is recorded for the next
    /// process, and paths refused for a different size are retried.
    pub(super) fn size_heard(&mut self, path: u32, id: StableId, blocks: u64) {
        let volume = self.volumes.get_mut(&id).expect("a volume that is served");
        let device = volume.spec().limits.size_bytes;
        let bytes = blocks << volume.namespace().lba_shift;
        if !volume.resized(blocks) {
            return;
        }
        let words = format!(
            "volume {}: the array says {bytes} bytes, the block device has {device}",
            volume.name()
        );
        self.fx
            .event(EventKind::NamespaceChanged, Subject::path(path), words);
        self.note_paths_of(id);
        self.retry_refusals_for(id);
    }

    fn note_changes(&mut self, path: u32, before: &[Namespace], now: &[Namespace]) {
        let mut report = |words: String| {
            self.fx
                .event(EventKind::NamespaceChanged, Subject::path(path), words);
        };
        for namespace in now.iter().filter(|namespace| !before.contains(namespace)) {
            let nsid = namespace.nsid;
            let old = before.iter().find(|old| old.nsid == nsid);
            let old = old.and_then(|old| old.facts.as_ref().ok());
            report(match (&namespace.facts, old) {
                (Ok(facts), Some(old)) if facts.id == old.id => {
                    format!("namespace {nsid} changed: {} blocks", facts.blocks)
                }
                (Ok(facts), _) => format!("namespace {nsid} appeared: {}", facts.id),
                (Err(problem), _) => format!("namespace {nsid}: {problem}"),
            });
        }
        for old in before {
            if now.iter().all(|namespace| namespace.nsid != old.nsid) {
                report(format!("namespace {} is gone", old.nsid));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use umpath_nvme::Status;

    use super::*;
    use crate::shape::sample;

    fn namespace(nsid: u32, facts: NamespaceFacts) -> Namespace {
        let facts = Ok(facts);
        Namespace { nsid, facts }
    }

    #[test]
    fn a_number_that_means_another_namespace_carries_nothing() {
        let (ours, other) = (sample(1), sample(2));
        let fate = |list: &[Namespace]| Fate::of(&ours, 1, list);
        let stays = Fate::Stays(Some(ours.blocks));
        assert_eq!(fate(&[namespace(1, ours.clone())]), stays);
        assert_eq!(fate(&[]), Fate::Withdrawn);
        assert_eq!(fate(&[namespace(1, other.clone())]), Fate::Withdrawn);
        let swapped = [namespace(1, other), namespace(2, ours.clone())];
        assert_eq!(fate(&swapped), Fate::Moved(2));
        let formatted = NamespaceFacts {
            lba_shift: 9,
            ..ours.clone()
        };
        assert_eq!(fate(&[namespace(1, formatted)]), Fate::Withdrawn);
    }

    #[test]
    fn a_size_is_news_and_silence_is_none() {
        let ours = sample(1);
        let grown = NamespaceFacts {
            blocks: 2 * ours.blocks,
            ..ours.clone()
        };
        let stays = Fate::Stays(Some(grown.blocks));
        assert_eq!(Fate::of(&ours, 1, &[namespace(1, grown)]), stays);
        let problem = |status| {
            let facts = Err(NamespaceProblem::Refused(status));
            [Namespace { nsid: 1, facts }]
        };
        let busy = problem(Status::INTERNAL_ERROR);
        assert_eq!(Fate::of(&ours, 1, &busy), Fate::Stays(None));
        let never = problem(Status::INVALID_NAMESPACE.with_dnr());
        assert_eq!(Fate::of(&ours, 1, &never), Fate::Withdrawn);
    }
}
