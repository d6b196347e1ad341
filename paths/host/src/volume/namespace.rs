//! What controllers say of a volume's namespace: its ANA state, its size, whether it is there.

use std::time::Duration;

use umpath_core::AssociationId;
use umpath_session::{AnaState, NamespaceFacts};

use super::{Member, Volume, ana_state};
use crate::clock;

impl Volume {
    /// Under which number an association serves the volume, if it does.
    pub(crate) fn nsid_on(&self, association: AssociationId) -> Option<u32> {
        self.member_on(association).map(|member| member.nsid)
    }

    /// The identifier of the queue pair that a queue thread has on an association.
    pub(crate) fn qid_on(&self, association: AssociationId, queue: u16) -> Option<u16> {
        let member = self.member_on(association)?;
        member.qids.get(usize::from(queue)).copied()
    }

    /// What is known of its namespace.
    pub(crate) fn namespace(&self) -> &NamespaceFacts {
        &self.spec.namespace
    }

    /// Why a namespace of `nqn` that claims this volume's identity is another one.
    pub(crate) fn difference(&self, nqn: &str, facts: &NamespaceFacts) -> Option<String> {
        let mut known = self.spec.namespace.clone();
        if self.recovered && self.members.is_empty() {
            // Nobody was there to hear of a change of its size.
            known.blocks = facts.blocks;
        }
        crate::shape::difference((&self.spec.nqn, &known), (nqn, facts))
    }

    /// In which ANA group its namespace is, and how long a transition may take.
    pub(crate) fn ana_terms(
        &mut self,
        association: AssociationId,
        group: u32,
        transition: Duration,
    ) {
        if let Some(member) = self.member_on_mut(association) {
            member.ana_group = group;
            let number = member.number;
            self.core.ana_terms(number, group, transition, clock::now());
            self.pump();
        }
    }

    /// The controller reports an ANA state; `None`: its log does not know the namespace.
    pub(crate) fn ana(&mut self, association: AssociationId, state: Option<AnaState>) {
        let number = self.member_on(association).map(|member| member.number);
        if let Some(number) = number {
            self.core.ana(number, ana_state(state), clock::now());
            self.pump();
        }
    }

    /// Whether the namespace is not to be found on a controller: nothing new is sent there then. False:
    /// known already.
    pub(crate) fn withdraw(&mut self, association: AssociationId, withdrawn: bool) -> bool {
        let Some(number) = self.member_on(association).map(|member| member.number) else {
            return false;
        };
        let news = self.core.withdraw(number, withdrawn, clock::now());
        self.pump();
        news
    }

    /// The size the array says the namespace has. The block device keeps the one it was made with;
    /// this one is what further paths are compared with.
    pub(crate) fn resized(&mut self, blocks: u64) {
        self.spec.namespace.blocks = blocks;
    }

    fn member_on(&self, association: AssociationId) -> Option<&Member> {
        let mut members = self.members.iter();
        members.find(|member| member.association == association)
    }

    fn member_on_mut(&mut self, association: AssociationId) -> Option<&mut Member> {
        let mut members = self.members.iter_mut();
        members.find(|member| member.association == association)
    }
}
