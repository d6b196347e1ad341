//! Ghosts, and the table that keeps new mutations off their blocks.
//!
//! A *ghost* is a mutation that was sent on an association which was then given up, and whose
//! answer never came: the old controller may have executed it, or may do so at any moment before
//! the association's order fence. Executed early it is harmless; executed after a later mutation of
//! the same blocks it would silently revert that one. So every ghost locks its blocks: while it is
//! in the table, no lane sends a mutation that overlaps it, unless that mutation *is* the ghost,
//! sent again with the same data.
//!
//! A table is an immutable snapshot of all ghosts of one volume, made by the control side
//! ([`Device`](crate::Device)) and handed to every lane; a search costs O(log n), and a lane without
//! ghosts asks one boolean. What is done about a conflict is the lane's decision.

use crate::event::LaneId;
use crate::table::AssociationId;

/// Most ghosts of a table. Beyond it the table holds one ghost over the whole volume for each
/// association instead: slower, never less safe.
pub const GHOSTS_MAX: usize = 16_384;

/// The command of which a ghost is a copy. A command that is lost twice leaves two ghosts with the
/// same owner and the same data, which cannot harm each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Whose command.
    pub lane: LaneId,
    /// Number of the command in its lane, never used again.
    pub birth: u64,
}

/// A mutation of unknown fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ghost {
    /// Whose copy it is; `None`: nobody's who could send it again.
    pub owner: Option<Owner>,
    /// The association that may still execute it.
    pub association: AssociationId,
    /// First block.
    pub lba: u64,
    /// Blocks.
    pub blocks: u64,
}

impl Ghost {
    /// Stands for mutations of which nothing is known but the association.
    #[must_use]
    pub fn of_everything(association: AssociationId) -> Self {
        Self {
            owner: None,
            association,
            lba: 0,
            blocks: u64::MAX,
        }
    }

    fn end(&self) -> u64 {
        self.lba.saturating_add(self.blocks)
    }
}

/// When lanes may send a ghost again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resend {
    /// When every lane keeps off its blocks.
    #[default]
    OnceGuarded,
    /// At its order fence: others write to the namespace too, and what they write is not held.
    OnceFenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    ghost: Ghost,
    /// Largest end in the subtree of which this is the root.
    reach: u64,
}

/// All ghosts of a volume.
///
/// Entries are sorted by first block. They also form a balanced tree, the middle of a range being
/// its root, in which every root knows how far the ghosts below it reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GhostTable {
    generation: u64,
    resend: Resend,
    entries: Box<[Entry]>,
}

impl GhostTable {
    /// A table of these ghosts, in any order.
    #[must_use]
    pub fn new(generation: u64, resend: Resend, ghosts: impl IntoIterator<Item = Ghost>) -> Self {
        let entry = |ghost: Ghost| Entry {
            ghost,
            reach: ghost.end(),
        };
        let mut entries: Box<[Entry]> = ghosts.into_iter().map(entry).collect();
        entries.sort_unstable_by_key(|entry| entry.ghost.lba);
        spread(&mut entries);
        Self {
            generation,
            resend,
            entries,
        }
    }

    /// Grows with every table of a volume; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When ghosts may be sent again.
    pub fn resend(&self) -> Resend {
        self.resend
    }

    /// No blocks are locked.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many ghosts there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The ghosts, by first block.
    pub fn ghosts(&self) -> impl Iterator<Item = &Ghost> {
        self.entries.iter().map(|entry| &entry.ghost)
    }

    /// A ghost that keeps `owner` from changing these blocks: one that overlaps them and is not
    /// its own.
    pub fn conflict(&self, owner: Owner, lba: u64, blocks: u64) -> Option<&Ghost> {
        let wanted = Wanted {
            owner,
            lba,
            end: lba.saturating_add(blocks),
        };
        wanted.within(&self.entries)
    }
}

/// Sets `reach` throughout the tree, and returns the root's.
fn spread(entries: &mut [Entry]) -> u64 {
    let middle = entries.len() / 2;
    let Some((left, [root, right @ ..])) = entries.split_at_mut_checked(middle) else {
        return 0;
    };
    root.reach = root.ghost.end().max(spread(left)).max(spread(right));
    root.reach
}

struct Wanted {
    owner: Owner,
    lba: u64,
    end: u64,
}

impl Wanted {
    /// The first conflict in a subtree. As deep as the tree: 15 calls for [`GHOSTS_MAX`] entries.
    fn within<'a>(&self, entries: &'a [Entry]) -> Option<&'a Ghost> {
        let (left, [root, right @ ..]) = entries.split_at_checked(entries.len() / 2)? else {
            return None;
        };
        if root.reach <= self.lba {
            return None;
        }
        if let Some(found) = self.within(left) {
            return Some(found);
        }
        let ghost = &root.ghost;
        if ghost.lba >= self.end {
            return None;
        }
        if ghost.end() > self.lba && ghost.owner != Some(self.owner) {
            return Some(ghost);
        }
        self.within(right)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(birth: u64) -> Owner {
        Owner {
            lane: LaneId(0),
            birth,
        }
    }

    fn ghost(birth: u64, lba: u64, blocks: u64) -> Ghost {
        Ghost {
            owner: Some(owner(birth)),
            association: AssociationId(1),
            lba,
            blocks,
        }
    }

    fn table(ghosts: impl IntoIterator<Item = Ghost>) -> GhostTable {
        GhostTable::new(1, Resend::OnceGuarded, ghosts)
    }

    #[test]
    fn neighbours_do_not_overlap() {
        let table = table([ghost(1, 10, 5)]);
        let hit = |lba, blocks| table.conflict(owner(2), lba, blocks).is_some();
        assert!(!hit(5, 5));
        assert!(hit(5, 6));
        assert!(hit(10, 1));
        assert!(hit(14, 1));
        assert!(hit(14, 100));
        assert!(hit(0, 1_000));
        assert!(!hit(15, 1));
    }

    #[test]
    fn a_command_is_not_kept_from_its_own_blocks() {
        let table = table([ghost(1, 10, 5), ghost(1, 10, 3), ghost(2, 14, 2)]);
        assert_eq!(table.conflict(owner(1), 10, 4), None);
        assert_eq!(table.conflict(owner(1), 10, 5), Some(&ghost(2, 14, 2)));
        let other_lane = Owner {
            lane: LaneId(1),
            birth: 1,
        };
        assert!(table.conflict(other_lane, 10, 1).is_some());
    }

    #[test]
    fn a_ghost_of_everything_keeps_everybody_off() {
        let table = table([Ghost::of_everything(AssociationId(3)), ghost(1, 10, 5)]);
        for (lba, blocks) in [(0, 1), (10, 1), (u64::MAX - 1, 1), (5, u64::MAX)] {
            assert!(table.conflict(owner(1), lba, blocks).is_some());
        }
        let end = [Ghost::of_everything(AssociationId(3))];
        assert!(
            self::table(end)
                .conflict(owner(1), u64::MAX - 1, 1)
                .is_some()
        );
    }

    #[test]
    fn no_ghosts_keep_nobody() {
        assert!(GhostTable::default().is_empty());
        assert_eq!(GhostTable::default().conflict(owner(1), 0, u64::MAX), None);
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_scan_finds(
            ghosts in prop::collection::vec((0_u64..4, 0_u64..60, 1_u64..20), 0..40),
            asked in prop::collection::vec((0_u64..4, 0_u64..80, 1_u64..20), 1..20),
        ) {
            let ghosts: Vec<Ghost> = ghosts.iter().map(|g| ghost(g.0, g.1, g.2)).collect();
            let table = table(ghosts.clone());
            prop_assert_eq!(table.len(), ghosts.len());
            for (birth, lba, blocks) in asked {
                let overlaps = |g: &&Ghost| {
                    g.owner != Some(owner(birth)) && g.lba < lba + blocks && lba < g.lba + g.blocks
                };
                let found = table.conflict(owner(birth), lba, blocks);
                prop_assert_eq!(found.is_some(), ghosts.iter().any(|g| overlaps(&g)));
                prop_assert!(found.is_none_or(|g| overlaps(&g)));
            }
        }
    }
}
