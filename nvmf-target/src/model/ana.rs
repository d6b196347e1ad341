//! ANA states, and which group is in which state on which port.
//!
//! A group is optimized on every port until told otherwise. The change count is one per port, as
//! each controller reports its own view.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use umpath_nvme::log::AnaState as Wire;

use super::PortId;

/// Asymmetric namespace access state (NVMe Base 2.0 §8.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnaState {
    /// Full speed.
    #[default]
    Optimized,
    /// Works, but another controller is the better choice.
    NonOptimized,
    /// Media commands fail for now.
    Inaccessible,
    /// Media commands fail for good.
    PersistentLoss,
    /// Between two states.
    Change,
}

impl AnaState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Optimized,
        Self::NonOptimized,
        Self::Inaccessible,
        Self::PersistentLoss,
        Self::Change,
    ];

    /// The state as the ANA log encodes it.
    pub const fn to_wire(self) -> Wire {
        match self {
            Self::Optimized => Wire::Optimized,
            Self::NonOptimized => Wire::NonOptimized,
            Self::Inaccessible => Wire::Inaccessible,
            Self::PersistentLoss => Wire::PersistentLoss,
            Self::Change => Wire::Change,
        }
    }

    /// The name used in configuration files, commands and reports.
    pub const fn name(self) -> &'static str {
        self.to_wire().as_str()
    }
}

impl fmt::Display for AnaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AnaState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or_else(|| {
                format!(
                    "\"{text}\" is not an ANA state: use optimized, non-optimized, inaccessible, \
                 persistent-loss or change"
                )
            })
    }
}

/// The ANA states of one subsystem.
#[derive(Debug, Clone, Default)]
pub struct AnaMap {
    groups: BTreeMap<(PortId, u32), Group>,
    changes: BTreeMap<PortId, u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Group {
    state: AnaState,
    /// The port's change count when this group last changed.
    changed: u64,
}

impl AnaMap {
    /// The state of a group on a port.
    pub fn state(&self, port: PortId, group: u32) -> AnaState {
        self.groups
            .get(&(port, group))
            .map(|group| group.state)
            .unwrap_or_default()
    }

    /// How often any group changed on a port.
    pub fn change_count(&self, port: PortId) -> u64 {
        self.changes.get(&port).copied().unwrap_or(0)
    }

    /// The change count of the last change of one group.
    pub fn group_change_count(&self, port: PortId, group: u32) -> u64 {
        self.groups
            .get(&(port, group))
            .map_or(0, |group| group.changed)
    }

    /// Sets a state; says whether it differs from before.
    pub fn set(&mut self, port: PortId, group: u32, state: AnaState) -> bool {
        if self.state(port, group) == state {
            self.groups.entry((port, group)).or_default();
            return false;
        }
        self.touch(port, group).state = state;
        true
    }

    /// A group gained or lost a namespace.
    pub fn membership_changed(&mut self, ports: &BTreeSet<PortId>, group: u32) {
        for port in ports {
            self.touch(*port, group);
        }
    }

    /// Groups whose state was ever set or whose members changed.
    pub fn groups(&self) -> impl Iterator<Item = u32> + '_ {
        self.groups.keys().map(|(_, group)| *group)
    }

    fn touch(&mut self, port: PortId, group: u32) -> &mut Group {
        let count = self.changes.entry(port).or_default();
        *count += 1;
        let entry = self.groups.entry((port, group)).or_default();
        entry.changed = *count;
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_once_and_per_port() {
        let mut map = AnaMap::default();
        let (a, b) = (PortId(1), PortId(2));
        assert!(!map.set(a, 1, AnaState::Optimized), "that is what it was");
        assert!(map.set(a, 1, AnaState::Inaccessible));
        assert!(!map.set(a, 1, AnaState::Inaccessible));
        assert_eq!((map.change_count(a), map.change_count(b)), (1, 0));
        assert_eq!(map.state(b, 1), AnaState::Optimized);
    }

    #[test]
    fn names_parse_back() {
        for state in AnaState::ALL {
            assert_eq!(state.name().parse(), Ok(state));
        }
    }
}
