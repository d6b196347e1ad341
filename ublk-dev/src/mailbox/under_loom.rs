//! The mailbox in every order that its senders and its thread can take.
//!
//! Two rules keep a message from being left unread while the thread sleeps: a sender puts the message
//! first and rings afterwards; the thread takes the rings first and reads until nothing is left
//! afterwards. The mailbox is the shipped one; channel, counter and eventfd are played by loom and
//! here. The eventfd is watched by a ring as `QueueRing::watch` does it.

use std::io;
use std::os::fd::BorrowedFd;

use loom::sync::{Condvar, Mutex};
use loom::thread;
use umpath_core::{AssociationId, LaneCommand};

use super::{LaneHandle, Mailbox, pair};

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
    fn sleep(&self) -> bool {
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

    fn sender_done(&self) {
        self.state.lock().unwrap().senders -= 1;
        self.woken.notify_all();
    }

    /// The kernel ends a watch with any completion it likes.
    fn end_watch(&self) {
        self.state.lock().unwrap().armed = false;
    }
}

/// One who sends; who reads, by what was woken, and returns how many messages there were.
type Send = fn(&LaneHandle<()>, LaneCommand<()>);
type Read = fn(&Mailbox<()>) -> u64;

/// Runs until everything was read, or the thread would sleep for ever. Each of two senders has one
/// message. `watch_ends`: every watch ends with its first completion.
fn explore(watch_ends: bool, send: Send, read: Read) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let (handle, mailbox) = pair().unwrap();
        let wake = &mailbox.shared.wake;
        wake.state.lock().unwrap().senders = 2;
        for message in 1..=2 {
            let handle = handle.clone();
            thread::spawn(move || {
                send(&handle, LaneCommand::Fenced(AssociationId(message)));
                handle.shared.wake.sender_done();
            });
        }
        let mut missing = 2;
        while missing > 0 {
            assert!(wake.sleep(), "asleep with a message unread");
            if watch_ends {
                wake.end_watch();
            }
            missing -= read(&mailbox);
        }
    });
}

fn shipped(handle: &LaneHandle<()>, message: LaneCommand<()>) {
    handle.send(message).unwrap();
}

/// As a front end and the engine do it together.
fn read_all(mailbox: &Mailbox<()>) -> u64 {
    mailbox.quiet();
    rest(mailbox)
}

fn rest(mailbox: &Mailbox<()>) -> u64 {
    std::iter::from_fn(|| mailbox.next()).map(|_| 1).sum()
}

#[test]
fn no_message_is_left_unread_while_the_thread_sleeps() {
    explore(false, shipped, read_all);
}

#[test]
fn a_watch_that_ends_is_set_again_in_time() {
    explore(true, shipped, read_all);
}

/// The mistakes that these would find.
mod planted {
    use super::*;

    /// Reads first and takes the rings afterwards: one that came in between is forgotten with its
    /// message. A watch in place has left a completion all the same, so it takes one that ends.
    #[test]
    #[should_panic(expected = "asleep with a message unread")]
    fn rings_taken_after_the_messages() {
        explore(true, shipped, |mailbox| {
            let read = rest(mailbox);
            mailbox.quiet();
            read
        });
    }

    /// Rings first: the thread finds nothing and sleeps again.
    #[test]
    #[should_panic(expected = "asleep with a message unread")]
    fn a_ring_before_its_message() {
        let ring_first: Send = |handle, message| {
            handle.shared.wake.ring();
            handle.sender.send(message).unwrap();
        };
        explore(false, ring_first, read_all);
    }

    /// Reads one message for each ring, although rings add up.
    #[test]
    #[should_panic(expected = "asleep with a message unread")]
    fn one_message_for_each_wake_up() {
        explore(true, shipped, |mailbox| {
            mailbox.quiet();
            u64::from(mailbox.next().is_some())
        });
    }
}
