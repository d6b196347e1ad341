//! The mailbox in every order that its senders and its thread can take.
//!
//! Two rules keep a message from being left unread while the thread sleeps: a sender puts the message
//! first and rings afterwards; the thread takes the rings first and reads until nothing is left
//! afterwards. The mailbox is the shipped one; channel, counter and eventfd are played by loom and
//! by `explored_wake`.

use loom::thread;
use umpath_core::{AssociationId, LaneCommand};

use super::{LaneHandle, Mailbox, pair};

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
        wake.expect_senders(2);
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
