//! What controllers report about a volume's namespace: ANA state, size, presence.

use std::time::Duration;

use umpath_core::AssociationId;
use umpath_session::{AnaState, NamespaceFacts};

use super::{Member, Volume, ana_state};
use crate::effects::Effects;

impl Volume {
    /// The NSID under which an association serves the volume, if it does.
    pub(crate) fn nsid_on(&self, association: AssociationId) -> Option<u32> {
        self.member_on(association).map(|member| member.nsid)
    }

    /// Every NSID under which it was found.
    pub(crate) fn nsids(&self) -> impl Iterator<Item = u32> {
        let members = self.members.iter().map(|member| member.nsid);
        members.chain([self.spec.nsid])
    }

    /// Identifier of a queue thread's queue pair on an association.
    pub(crate) fn qid_on(&self, association: AssociationId, queue: u16) -> Option<u16> {
        let member = self.member_on(association)?;
        member.qids.get(usize::from(queue)).copied()
    }

    pub(crate) fn namespace(&self) -> &NamespaceFacts {
        &self.spec.namespace
    }

    /// Why a namespace of `nqn` that claims this volume's identity is a different one.
    ///
    /// Size is not part of identity: it is compared with the size reported by a path in service.
    /// Without one there is nothing to compare with, and the array may have been resized meanwhile.
    pub(crate) fn difference(&self, nqn: &str, facts: &NamespaceFacts) -> Option<String> {
        let mut known = self.spec.namespace.clone();
        if !self.is_served() {
            known.blocks = facts.blocks;
        }
        crate::shape::difference((&self.spec.nqn, &known), (nqn, facts))
    }

    /// Whether any path has an association.
    fn is_served(&self) -> bool {
        self.core.paths().any(|path| path.association.is_some())
    }

    /// The ANA group of its namespace, and how long a transition may take.
    pub(crate) fn ana_terms(
        &mut self,
        association: AssociationId,
        group: u32,
        transition: Duration,
        fx: &mut Effects,
    ) {
        if let Some(member) = self.member_on_mut(association) {
            member.ana_group = group;
            let number = member.number;
            self.core.ana_terms(number, group, transition, fx.now);
            self.pump(fx);
        }
    }

    /// The controller reports an ANA state; `None`: its log does not list the namespace.
    pub(crate) fn ana(
        &mut self,
        association: AssociationId,
        state: Option<AnaState>,
        fx: &mut Effects,
    ) {
        let number = self.member_on(association).map(|member| member.number);
        if let Some(number) = number {
            self.core.ana(number, ana_state(state), fx.now);
            self.pump(fx);
        }
    }

    /// Sets whether the namespace is missing on a controller; nothing new is sent there while it
    /// is. Returns `false` if that was known already.
    pub(crate) fn withdraw(
        &mut self,
        association: AssociationId,
        withdrawn: bool,
        fx: &mut Effects,
    ) -> bool {
        let Some(number) = self.member_on(association).map(|member| member.number) else {
            return false;
        };
        let news = self.core.withdraw(number, withdrawn, fx.now);
        self.pump(fx);
        news
    }

    /// Sets the size the array reports; `true` if it is new. The block device keeps the size it was
    /// created with; further paths are compared with this one, also after a restart.
    pub(crate) fn resized(&mut self, blocks: u64) -> bool {
        let news = self.spec.namespace.blocks != blocks;
        self.spec.facts.namespace.blocks = blocks;
        if let Some(record) = &mut self.record {
            record.facts.namespace.blocks = blocks;
        }
        news
    }

    fn member_on(&self, association: AssociationId) -> Option<&Member> {
        let mut members = self.members.iter();
        members.find(|member| member.association == association)
    }

    pub(super) fn member_on_mut(&mut self, association: AssociationId) -> Option<&mut Member> {
        let mut members = self.members.iter_mut();
        members.find(|member| member.association == association)
    }
}
