//! What controllers say of a volume's namespace: its ANA state, its size, whether it is there.

use std::time::Duration;

use umpath_core::{AssociationId, PathId, policies};
use umpath_session::{AnaState, NamespaceFacts};

use super::{Member, Volume, ana_state};
use crate::clock;

impl Volume {
    /// Under which number an association serves the volume, if it does.
    pub(crate) fn nsid_on(&self, association: AssociationId) -> Option<u32> {
        self.member_on(association).map(|member| member.nsid)
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
        let served = self.member_on(association).filter(|known| !known.withdrawn);
        if let Some(number) = served.map(|member| member.number) {
            self.core.ana(number, ana_state(state), clock::now());
            self.pump();
        }
    }

    /// The namespace is not to be found any more: nothing new is sent there. False: known already.
    pub(crate) fn withdraw(&mut self, association: AssociationId) -> bool {
        let number = self.set_withdrawn(association, true);
        if let Some(number) = number {
            let state = policies::AnaState::Inaccessible;
            self.core.ana(number, state, clock::now());
            self.pump();
        }
        number.is_some()
    }

    /// It is back, and its state will be told; false: it was never gone.
    pub(crate) fn restore(&mut self, association: AssociationId) -> bool {
        self.set_withdrawn(association, false).is_some()
    }

    /// The size the array says the namespace has. The block device keeps the one it was made with;
    /// this one is what further paths are compared with.
    pub(crate) fn resized(&mut self, blocks: u64) {
        self.spec.namespace.blocks = blocks;
    }

    fn set_withdrawn(&mut self, association: AssociationId, withdrawn: bool) -> Option<PathId> {
        let member = self.member_on_mut(association)?;
        let before = std::mem::replace(&mut member.withdrawn, withdrawn);
        (before != withdrawn).then_some(member.number)
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
