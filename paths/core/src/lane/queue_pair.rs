//! A lane's end of one association: which command sits in which slot of its queue pair.
//!
//! Command identifiers are `generation * depth + slot`, so that `cid % depth` names the slot
//! whatever the depth, and an answer to an earlier command in the same slot is recognised by its
//! generation. One slot stays free: a submission queue of `depth` entries is full with one less.

use core::time::Duration;

use crate::table::{AssociationId, CommandLimits, PathId, PathTable};

const EMPTY: u16 = u16::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueuePairState {
    /// Nobody's.
    Free,
    /// In use.
    Open,
    /// Given up; its commands wait for the buffer fence.
    Draining,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    generation: u16,
    /// Number of the command in flight, or [`EMPTY`].
    command: u16,
}

#[derive(Debug, Clone)]
pub(super) struct QueuePair {
    pub(super) state: QueuePairState,
    pub(super) path: PathId,
    pub(super) association: AssociationId,
    pub(super) nsid: u32,
    pub(super) limits: CommandLimits,
    /// The table's `ana_epoch` under which the controller refused the namespace.
    pub(super) ana_refused: Option<u32>,
    /// The host could not take a command: left alone until then.
    pub(super) blocked_until: Option<Duration>,
    pub(super) path_errors: u32,
    /// When it last answered a command.
    pub(super) answered_at: Duration,
    slots: Vec<Slot>,
    free: Vec<u16>,
}

impl QueuePair {
    pub(super) fn unused() -> Self {
        Self {
            state: QueuePairState::Free,
            path: PathId(0),
            association: AssociationId(u64::MAX),
            nsid: 0,
            limits: CommandLimits::default(),
            ana_refused: None,
            blocked_until: None,
            path_errors: 0,
            answered_at: Duration::ZERO,
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Begins with an empty queue pair of `depth` entries. The one place where a lane allocates.
    pub(super) fn open(&mut self, path: PathId, association: AssociationId, depth: u16) {
        let depth = depth.max(2);
        let mut slots = core::mem::take(&mut self.slots);
        let mut free = core::mem::take(&mut self.free);
        slots.clear();
        slots.resize(
            usize::from(depth),
            Slot {
                generation: 0,
                command: EMPTY,
            },
        );
        free.clear();
        free.extend((0..depth - 1).rev());
        *self = Self {
            state: QueuePairState::Open,
            path,
            association,
            slots,
            free,
            ..Self::unused()
        };
    }

    /// Takes over what a table says of its association.
    pub(super) fn obey(&mut self, table: &PathTable) {
        let mut entries = table.paths.iter();
        let Some(entry) = entries.find(|entry| entry.association == self.association) else {
            return;
        };
        self.nsid = entry.nsid;
        self.limits = entry.limits;
        if self
            .ana_refused
            .is_some_and(|epoch| entry.ana_epoch > epoch)
        {
            self.ana_refused = None;
        }
    }

    pub(super) fn close(&mut self) {
        self.state = QueuePairState::Free;
        self.association = AssociationId(u64::MAX);
    }

    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty() && self.blocked_until.is_none()
    }

    /// Puts a command into a free slot; its identifier.
    pub(super) fn take(&mut self, command: u16) -> Option<u16> {
        let depth = self.slots.len() as u16;
        let at = self.free.pop()?;
        let slot = self.slots.get_mut(usize::from(at))?;
        slot.generation = (slot.generation + 1) % (u16::MAX / depth);
        slot.command = command;
        Some(slot.generation * depth + at)
    }

    /// The command with this identifier; `None` when there is none.
    pub(super) fn command(&self, cid: u16) -> Option<u16> {
        let depth = self.slots.len() as u16;
        let slot = self.slots.get(usize::from(cid.checked_rem(depth)?))?;
        let here = slot.command != EMPTY && slot.generation == cid / depth;
        here.then_some(slot.command)
    }

    /// Takes the command with this identifier out of its slot; `None` when there is none.
    pub(super) fn give_back(&mut self, cid: u16) -> Option<u16> {
        let depth = self.slots.len() as u16;
        let at = cid.checked_rem(depth)?;
        let command = self.command(cid)?;
        self.slots.get_mut(usize::from(at))?.command = EMPTY;
        self.free.push(at);
        Some(command)
    }

    /// The commands in flight.
    pub(super) fn commands(&self) -> impl Iterator<Item = u16> {
        self.slots
            .iter()
            .map(|slot| slot.command)
            .filter(|command| *command != EMPTY)
    }

    /// Takes some command out of its slot.
    pub(super) fn take_any(&mut self) -> Option<u16> {
        let at = self.slots.iter().position(|slot| slot.command != EMPTY)?;
        let slot = self.slots.get_mut(at)?;
        let command = core::mem::replace(&mut slot.command, EMPTY);
        self.free.push(at as u16);
        Some(command)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.len().saturating_sub(1 + self.free.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_name_the_slot_and_go_stale() {
        for depth in [2, 3, 100, 128, 1024] {
            let mut pair = QueuePair::unused();
            pair.open(PathId(1), AssociationId(7), depth);
            let mut cids = Vec::new();
            while let Some(cid) = pair.take(cids.len() as u16) {
                cids.push(cid);
            }
            assert_eq!(cids.len(), usize::from(depth) - 1);
            assert!(!pair.has_room());
            let mut slots: Vec<u16> = cids.iter().map(|cid| cid % depth).collect();
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), cids.len());
            let first = cids.first().copied().unwrap();
            assert_eq!(pair.give_back(first), Some(0));
            assert_eq!(pair.give_back(first), None);
            let again = pair.take(9).unwrap();
            assert_eq!(again % depth, first % depth);
            assert_ne!(again, first);
            assert_eq!(pair.give_back(first), None, "stale");
            assert_eq!(pair.give_back(again), Some(9));
        }
    }

    #[test]
    fn generations_wrap_within_16_bits() {
        for depth in [2, 3, 100, 128, 40_000] {
            let mut pair = QueuePair::unused();
            pair.open(PathId(1), AssociationId(7), depth);
            for _ in 0..70_000_u32 {
                let cid = pair.take(5).unwrap();
                assert_eq!(pair.give_back(cid), Some(5));
            }
        }
    }
}
