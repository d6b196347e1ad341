//! What wakes a queue thread, played for loom: an eventfd, and a ring that watches it as
//! `QueueRing::watch` does.

use std::io;
use std::os::fd::BorrowedFd;

use loom::sync::{Condvar, Mutex};

/// An eventfd, and a ring that watches it.
#[derive(Debug)]
pub(crate) struct Wake {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The eventfd's counter.
    rings: u32,
    /// The watch is in the kernel: a ring leaves a completion.
    armed: bool,
    completions: u32,
    /// Senders that are not done.
    senders: usize,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State::default()),
            woken: Condvar::new(),
        })
    }

    /// So many senders are not done.
    pub(crate) fn expect_senders(&self, count: usize) {
        self.state.lock().unwrap().senders = count;
    }

    pub(crate) fn ring(&self) {
        let mut state = self.state.lock().unwrap();
        state.rings += 1;
        state.completions += u32::from(state.armed);
        self.woken.notify_all();
    }

    pub(crate) fn quiet(&self) {
        self.state.lock().unwrap().rings = 0;
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        unreachable!("no ring of the kernel watches it")
    }

    /// Enters the kernel until there is a completion, and takes it. A watch that goes in finds a
    /// counter that is not zero at once; one that is there hears only of later rings. `false`: nobody
    /// is left who could ring.
    pub(crate) fn sleep(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        if !state.armed {
            state.armed = true;
            state.completions += u32::from(state.rings > 0);
        }
        while state.completions == 0 && state.senders > 0 {
            state = self.woken.wait(state).unwrap();
        }
        let woken = state.completions > 0;
        state.completions -= u32::from(woken);
        woken
    }

    pub(crate) fn sender_done(&self) {
        self.state.lock().unwrap().senders -= 1;
        self.woken.notify_all();
    }

    /// The kernel ends a watch with any completion it likes.
    pub(crate) fn end_watch(&self) {
        self.state.lock().unwrap().armed = false;
    }
}
