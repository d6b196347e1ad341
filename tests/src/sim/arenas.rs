//! Memory of queue threads. Mapping it takes longer than many a run, so it is used again.

use std::cell::RefCell;
use std::sync::Arc;

use umpath_transport::Arena;

use super::array::LBA_SHIFT;
use super::plan::REQUEST_BLOCKS;

/// Slots of every arena: tags a queue has at most.
pub(crate) const SLOTS: u32 = 4;

thread_local! {
    /// Every arena of this thread; those that nobody else has are free.
    static ALL: RefCell<Vec<Arc<Arena>>> = const { RefCell::new(Vec::new()) };
}

/// One that no other queue thread has. What is in it is what its last owner left.
pub(crate) fn take() -> Arc<Arena> {
    ALL.with_borrow_mut(|all| {
        let free = all.iter().find(|arena| Arc::strong_count(arena) == 1);
        if let Some(arena) = free {
            return Arc::clone(arena);
        }
        let slot_bytes = (REQUEST_BLOCKS as u32) << LBA_SHIFT;
        let arena = Arena::new(SLOTS, slot_bytes).expect("memory for an arena");
        all.push(Arc::clone(&arena));
        arena
    })
}
