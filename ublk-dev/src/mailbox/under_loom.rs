//! The wake-up protocol between a queue thread and those who send to it, in every order.
//!
//! Two rules keep a message from being left unread while the thread sleeps: a sender puts the message
//! first and rings afterwards; the thread takes the rings first and reads until nothing is left
//! afterwards. [`post`] and [`collect`] are those two rules and nothing else, over any [`Letters`] and
//! any [`Bell`]; here the bell is an eventfd watched by a ring as `QueueRing::watch` does, of which
//! loom tries every order.
//!
//! `LaneHandle::send` is [`post`], and `QueueThread::take_mail` is [`collect`]: a mailbox that
//! implements the two traits (a bounded channel or a queue under a lock for [`Letters`], the eventfd
//! for [`Bell`]) can call them, and then this tests the shipped code.

use std::collections::VecDeque;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// Messages on their way.
trait Letters {
    /// `false`: there is no room.
    fn put(&self, letter: u8) -> bool;
    /// Waits for room.
    fn put_slowly(&self, letter: u8);
    fn take(&self) -> Option<u8>;
}

/// Wakes whoever sleeps on it.
trait Bell {
    fn ring(&self);
    /// Takes the rings up to now.
    fn quiet(&self);
}

/// Sends a message. Waits only while there is no room.
fn post(letters: &impl Letters, bell: &impl Bell, letter: u8) {
    if !letters.put(letter) {
        // Whoever makes room may be asleep.
        bell.ring();
        letters.put_slowly(letter);
    }
    bell.ring();
}

/// Reads everything.
fn collect(letters: &impl Letters, bell: &impl Bell, mut read: impl FnMut(u8)) {
    bell.quiet();
    while let Some(letter) = letters.take() {
        read(letter);
    }
}

/// A bounded channel.
struct Channel {
    letters: Mutex<VecDeque<u8>>,
    room: Condvar,
    capacity: usize,
}

impl Letters for Channel {
    fn put(&self, letter: u8) -> bool {
        let mut letters = self.letters.lock().unwrap();
        let fits = letters.len() < self.capacity;
        if fits {
            letters.push_back(letter);
        }
        fits
    }

    fn put_slowly(&self, letter: u8) {
        let mut letters = self.letters.lock().unwrap();
        while letters.len() >= self.capacity {
            letters = self.room.wait(letters).unwrap();
        }
        letters.push_back(letter);
    }

    fn take(&self) -> Option<u8> {
        let letter = self.letters.lock().unwrap().pop_front();
        if letter.is_some() {
            self.room.notify_all();
        }
        letter
    }
}

/// An eventfd, and a ring that watches it.
#[derive(Default)]
struct Watched {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    /// The eventfd's counter.
    rings: u32,
    /// The watch is in the kernel: a ring leaves a completion.
    armed: bool,
    completions: u32,
    /// Senders that are not done.
    senders: usize,
}

impl Bell for Watched {
    fn ring(&self) {
        let mut state = self.state.lock().unwrap();
        state.rings += 1;
        state.completions += u32::from(state.armed);
        self.woken.notify_all();
    }

    fn quiet(&self) {
        self.state.lock().unwrap().rings = 0;
    }
}

impl Watched {
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

#[derive(Clone, Copy)]
struct Setup {
    capacity: usize,
    /// Messages of each sender.
    messages: &'static [&'static [u8]],
    /// Every watch ends with its first completion.
    watch_ends: bool,
}

/// One who sends; who reads, by what was woken.
type Send = fn(&Channel, &Watched, u8);
type Read = fn(&Channel, &Watched, &mut dyn FnMut(u8));

/// Runs until everything was read, or the thread would sleep for ever.
fn explore(setup: Setup, send: Send, read: Read) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let shared = Arc::new((
            Channel {
                letters: Mutex::new(VecDeque::new()),
                room: Condvar::new(),
                capacity: setup.capacity,
            },
            Watched::default(),
        ));
        shared.1.state.lock().unwrap().senders = setup.messages.len();
        let mut missing = 0;
        for messages in setup.messages {
            missing += messages.len();
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for letter in *messages {
                    send(&shared.0, &shared.1, *letter);
                }
                shared.1.sender_done();
            });
        }
        let (channel, bell) = &*shared;
        while missing > 0 {
            assert!(bell.sleep(), "asleep with a message unread");
            if setup.watch_ends {
                bell.end_watch();
            }
            read(channel, bell, &mut |_| missing -= 1);
        }
    });
}

const TWO_SENDERS: Setup = Setup {
    capacity: 4,
    messages: &[&[1], &[2]],
    watch_ends: false,
};

/// One sender that finds the mailbox full.
const FULL: Setup = Setup {
    capacity: 1,
    messages: &[&[1, 2, 3]],
    watch_ends: false,
};

fn shipped(channel: &Channel, bell: &Watched, letter: u8) {
    post(channel, bell, letter);
}

fn take_mail(channel: &Channel, bell: &Watched, read: &mut dyn FnMut(u8)) {
    collect(channel, bell, read);
}

#[test]
fn no_message_is_left_unread_while_the_thread_sleeps() {
    explore(TWO_SENDERS, shipped, take_mail);
}

#[test]
fn a_watch_that_ends_is_set_again_in_time() {
    let setup = Setup {
        watch_ends: true,
        ..TWO_SENDERS
    };
    explore(setup, shipped, take_mail);
}

#[test]
fn a_full_mailbox_delays_and_loses_nothing() {
    explore(FULL, shipped, take_mail);
}

/// The mistakes that these would find.
mod planted {
    use super::*;

    /// Reads first and takes the rings afterwards: one that came in between is forgotten with its
    /// message. A watch in place has left a completion all the same, so it takes one that ends.
    #[test]
    #[should_panic(expected = "asleep with a message unread")]
    fn rings_taken_after_the_messages() {
        let setup = Setup {
            watch_ends: true,
            ..TWO_SENDERS
        };
        explore(setup, shipped, |channel, bell, read| {
            while let Some(letter) = channel.take() {
                read(letter);
            }
            bell.quiet();
        });
    }

    /// Rings first: the thread finds nothing and sleeps again.
    #[test]
    #[should_panic(expected = "asleep with a message unread")]
    fn a_ring_before_its_message() {
        let ring_first: Send = |channel, bell, letter| {
            bell.ring();
            assert!(channel.put(letter));
        };
        explore(TWO_SENDERS, ring_first, take_mail);
    }

    /// Reads one message for each ring, although rings add up.
    #[test]
    #[should_panic(expected = "asleep with a message unread")]
    fn one_message_for_each_wake_up() {
        let setup = Setup {
            watch_ends: true,
            ..TWO_SENDERS
        };
        explore(setup, shipped, |channel, bell, read| {
            bell.quiet();
            if let Some(letter) = channel.take() {
                read(letter);
            }
        });
    }
}
