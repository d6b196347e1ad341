//! Asymmetric Namespace Access: which namespaces this controller serves well, badly or not at all.

use std::collections::BTreeMap;

use umpath_nvme::log::AnaLog;
pub use umpath_nvme::log::AnaState;

use crate::error::Fault;
use crate::facts::AnaFacts;

/// One ANA group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnaGroup {
    /// Group identifier, not zero.
    pub id: u32,
    /// Its state.
    pub state: AnaState,
    /// The controller's count of changes of this group.
    pub change_count: u64,
    /// Namespaces in it, ascending. Empty where the log was read without namespaces.
    pub nsids: Vec<u32>,
}

/// The ANA log of one controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnaTable {
    /// The controller's count of changes of this log.
    pub change_count: u64,
    /// Groups, ascending by identifier.
    pub groups: Vec<AnaGroup>,
}

impl AnaTable {
    /// Checks a log read from a controller.
    pub(crate) fn parse(bytes: &[u8], facts: &AnaFacts) -> Result<Self, Fault> {
        let log = AnaLog::parse(bytes).map_err(|_| Fault::AnaTruncated)?;
        let mut groups = BTreeMap::new();
        let mut homes = BTreeMap::new();
        for group in log.groups() {
            let group = group.map_err(|_| Fault::AnaTruncated)?;
            let id = group.id();
            let state = group.state().ok_or(Fault::AnaState { group: id })?;
            let mut nsids: Vec<u32> = group.nsids().collect();
            nsids.sort_unstable();
            let elsewhere = nsids.iter().any(|nsid| homes.insert(*nsid, id).is_some());
            let change_count = group.change_count();
            let known = groups
                .insert(
                    id,
                    AnaGroup {
                        id,
                        state,
                        change_count,
                        nsids,
                    },
                )
                .is_some();
            if known || elsewhere || id == 0 || id > facts.group_max {
                return Err(Fault::AnaContradiction { group: id });
            }
        }
        let groups = groups.into_values().collect();
        Ok(Self {
            change_count: log.change_count(),
            groups,
        })
    }

    /// Some group is between two states.
    pub fn is_changing(&self) -> bool {
        let changing = |group: &AnaGroup| group.state == AnaState::Change;
        self.groups.iter().any(changing)
    }

    /// Group of a namespace: by the log's own list where it has one, else the one that Identify
    /// Namespace gave.
    pub fn group_of(&self, nsid: u32, ana_group: u32) -> u32 {
        let listed = |group: &&AnaGroup| group.nsids.binary_search(&nsid).is_ok();
        let group = self.groups.iter().find(listed);
        group.map_or(ana_group, |group| group.id)
    }

    /// State of a namespace: by the log's own list where it has one, else by the group Identify
    /// Namespace gave. `None` if neither is known to the log.
    pub fn state(&self, nsid: u32, ana_group: u32) -> Option<AnaState> {
        let id = self.group_of(nsid, ana_group);
        let group = self.groups.iter().find(|group| group.id == id);
        group.map(|group| group.state)
    }
}
