//! Messages between the parts of the model, kept small so that states are small.

use std::sync::Arc;

use crate::ghost::{Ghost, GhostTable, Owner, Resend};
use crate::{AssociationId, LaneId, PathTable};

pub(super) const LANES: usize = 2;
pub(super) const PATHS: usize = 2;
/// log2 of the block size.
pub(super) const SHIFT: u8 = 9;

/// Number of a write; also its tag.
pub(super) type Write = u8;
/// Number of an association, in the order in which they were made.
pub(super) type Association = u8;

/// A write that the application makes.
pub(super) struct Extent {
    pub(super) lane: usize,
    pub(super) lba: u64,
    pub(super) blocks: u32,
}

/// The writes. All of them change block 1, whose content is judged. The first and the last are mirror
/// images of each other.
pub(super) const WRITES: [Extent; 3] = [
    Extent {
        lane: 0,
        lba: 0,
        blocks: 2,
    },
    Extent {
        lane: 1,
        lba: 1,
        blocks: 1,
    },
    Extent {
        lane: 0,
        lba: 1,
        blocks: 2,
    },
];

/// A set of writes: bit n for write n.
pub(super) type Writes = u8;

pub(super) const fn only(write: Write) -> Writes {
    1 << write
}

pub(super) fn each(writes: Writes) -> impl Iterator<Item = Write> {
    (0..WRITES.len() as Write).filter(move |write| writes & only(*write) != 0)
}

/// Messages of the control side to a lane. Tables are known by number, see [`Tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mail {
    Attach { path: u8, association: Association },
    Paths(u16),
    Convict(Association),
    Guard(u16),
    Locked(Association),
    Fenced(Association),
}

/// Messages of a lane to the control side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Report {
    /// Its queue pair is silent and drained; these writes were lost.
    Drained {
        association: Association,
        ghosts: Writes,
    },
    /// It keeps off the ghosts of a table; `age` tables came after that one.
    Guarded { age: u8 },
}

/// The ghosts of a table: `None` stands for every block. Generations are left to the machines, so that
/// it does not matter how many tables there were.
pub(super) type Ghosts = Vec<(Option<Write>, Association)>;

/// The tables there were.
#[derive(Debug, Default)]
pub(super) struct Tables {
    paths: Vec<Arc<PathTable>>,
    ghosts: Vec<Ghosts>,
}

impl Tables {
    pub(super) fn paths(&self, at: u16) -> Arc<PathTable> {
        Arc::clone(&self.paths[usize::from(at)])
    }

    pub(super) fn ghosts(&self, at: u16) -> &Ghosts {
        &self.ghosts[usize::from(at)]
    }

    pub(super) fn note_paths(&mut self, table: &PathTable) -> u16 {
        // No lane asks for it.
        let table = PathTable {
            generation: 0,
            ..table.clone()
        };
        let known = self.paths.iter().position(|known| **known == table);
        known.unwrap_or_else(|| {
            self.paths.push(Arc::new(table));
            self.paths.len() - 1
        }) as u16
    }

    pub(super) fn note_ghosts(&mut self, table: Ghosts) -> u16 {
        let known = self.ghosts.iter().position(|known| *known == table);
        known.unwrap_or_else(|| {
            self.ghosts.push(table);
            self.ghosts.len() - 1
        }) as u16
    }
}

/// The ghosts of a table whose owners are named as [`owner`] does.
pub(super) fn ghosts_of(table: &GhostTable) -> Ghosts {
    let name = |ghost: &Ghost| {
        let write = ghost.owner.map(|owner| owner.birth as Write);
        (write, ghost.association.0 as Association)
    };
    let mut ghosts: Vec<_> = table.ghosts().map(name).collect();
    ghosts.sort_unstable();
    ghosts
}

/// A table as a lane gets it; `own` says what that lane calls a write of its own.
pub(super) fn table_of(
    generation: u64,
    ghosts: &Ghosts,
    own: impl Fn(Write) -> Option<Owner>,
) -> GhostTable {
    let ghosts = ghosts.iter().map(|(write, association)| match write {
        None => Ghost::of_everything(AssociationId(u64::from(*association))),
        Some(write) => {
            let owner = own(*write).unwrap_or_else(|| owner(*write));
            ghost(*write, *association, owner)
        }
    });
    GhostTable::new(generation, Resend::OnceGuarded, ghosts)
}

pub(super) fn ghost(write: Write, association: Association, owner: Owner) -> Ghost {
    let extent = &WRITES[usize::from(write)];
    Ghost {
        owner: Some(owner),
        association: AssociationId(u64::from(association)),
        lba: extent.lba,
        blocks: extent.blocks.into(),
    }
}

/// How the control side and the other lanes know the command of a write.
pub(super) fn owner(write: Write) -> Owner {
    Owner {
        lane: LaneId(WRITES[usize::from(write)].lane as u16),
        birth: u64::from(write),
    }
}
