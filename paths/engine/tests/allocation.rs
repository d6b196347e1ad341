//! A request costs no allocation, from the front end through the lane to the queue pair and back.

// UNSAFETY: counts what the system's allocator is asked for.
#![expect(unsafe_code)]

#[path = "round/rig.rs"]
#[expect(dead_code, reason = "the other tests need more of it")]
mod rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use umpath_core::Op;
use umpath_nvme::Status;

use rig::{Rig, ms};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Two requests at a time, answered in the next round.
fn requests(rig: &mut Rig, rounds: u64) {
    for n in 0..rounds {
        rig.submit(0, Op::Write, 2);
        rig.submit(1, Op::Read, 4);
        rig.round(ms(n));
        rig.pair(0).answer_all(Status::SUCCESS);
        rig.round(ms(n));
        assert_eq!(rig.thread.frontend().answers.len(), 2);
        rig.thread.frontend().answers.clear();
    }
}

#[test]
fn a_request_allocates_nothing() {
    let mut rig = Rig::new();
    // The rig's own lists grow once.
    requests(&mut rig, 100);
    let before = ALLOCATIONS.get();
    requests(&mut rig, 10_000);
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
