//! What policies know about a path.

use core::fmt;

/// Number of a path within its volume, small and dense: it indexes tables.
///
/// A number may name another path later; whoever remembers a path for longer than a table lives
/// remembers the association as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u8);

impl PathId {
    /// The number as a table index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Asymmetric namespace access state (NVMe Base 2.1 §8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnaState {
    /// Full access, best performance.
    Optimized,
    /// Full access, worse performance.
    NonOptimized,
    /// No access through this controller for now.
    Inaccessible,
    /// No access through this controller ever again.
    PersistentLoss,
    /// Between two of the other states.
    Change,
}

impl AnaState {
    /// Commands on the namespace's media are accepted in this state.
    pub fn accessible(self) -> bool {
        matches!(self, Self::Optimized | Self::NonOptimized)
    }
}

impl fmt::Display for AnaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        })
    }
}

/// Which controller is at the other end, for grouping by it.
///
/// In NVMe the serial number belongs to the subsystem, so it takes the controller identifier to
/// tell two controllers of one array apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControllerKey {
    /// Serial number as Identify Controller gives it.
    pub serial: [u8; 20],
    /// Controller identifier.
    pub cntlid: u16,
}

/// A path as policies see it. Configuration order is the order of the slice it comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathFacts {
    /// Its number.
    pub id: PathId,
    /// It may carry I/O now: live, accessible, not suspect, not held down.
    pub usable: bool,
    /// ANA state of the namespace, if this controller reports any.
    pub ana: Option<AnaState>,
    /// ANA group of the namespace, 0 without ANA.
    pub ana_group: u32,
    /// The controller behind it, once known.
    pub controller: Option<ControllerKey>,
    /// Preferred by configuration.
    pub preferred: bool,
    /// Priority by configuration, for [`Prioritizer::Weighted`](crate::Prioritizer::Weighted).
    pub weight: i32,
    /// Shaky: belongs to the group of last resort.
    pub marginal: bool,
}
