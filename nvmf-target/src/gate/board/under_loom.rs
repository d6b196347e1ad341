//! Resets against commands on their way to the media, in every order.
//!
//! The cells are in memory, each process is a thread. What is promised: once a reset was answered as
//! done, nothing of the incarnation enters the media any more.

use loom::sync::Arc as Shared;
use loom::thread;

use super::super::Fenced;
use super::*;
use crate::sync::AtomicU32;

const NOW: std::time::Duration = std::time::Duration::ZERO;
const HOST: &str = "nqn.2026-11.test:host";

fn instance(cirn: u64) -> Instance {
    Instance {
        cntlid: 7,
        ciu: cirn as u8,
        cirn,
    }
}

/// Every process lives.
#[derive(Debug)]
struct NobodyDies;

impl Witness for NobodyDies {
    fn is_over(&self, _: usize, _: usize) -> bool {
        false
    }
}

/// Two processes' boards, and a controller of the first, with its cell as the second knows it.
struct Rig {
    owner: Board,
    peer: Board,
    gate: Gate,
    cell: CellIndex,
    /// A reset of the controller was answered as done.
    answered: AtomicU32,
}

impl Rig {
    fn new() -> Shared<Self> {
        let memory = Arc::new(Memory::default());
        let board = |row| Board::common(Arc::clone(&memory), row, Arc::new(NobodyDies));
        let (owner, peer) = (board(0), board(1));
        let gate = owner.take(instance(1), HOST).expect("a cell");
        let cell = peer.find(instance(1), HOST).expect("known");
        Shared::new(Self {
            owner,
            peer,
            gate,
            cell,
            answered: AtomicU32::new(0),
        })
    }

    /// A command is admitted and on the media for a while.
    fn command(&self, enter: fn(&Gate) -> Result<(), Fenced>) {
        if enter(&self.gate).is_ok() {
            let answered = self.answered.load(SeqCst);
            assert_eq!(answered, 0, "on the media after the reset was done");
            self.gate.leave();
        }
    }

    /// Another process' controller is asked to reset it, and answers at once if it can.
    fn reset(&self) {
        self.peer.condemn(self.cell, instance(1));
        if self.peer.fate(self.cell, instance(1)) == Fate::Off {
            self.answered.store(1, SeqCst);
        }
    }
}

fn enter(gate: &Gate) -> Result<(), Fenced> {
    gate.enter(gate.epoch(), NOW)
}

fn explore(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn run(rig: &Shared<Rig>, step: impl FnOnce(&Rig) + 'static) -> thread::JoinHandle<()> {
    let rig = Shared::clone(rig);
    thread::spawn(move || step(&rig))
}

#[test]
fn nothing_enters_the_media_after_a_reset_was_done() {
    explore(|| {
        let rig = Rig::new();
        let command = run(&rig, |rig| rig.command(enter));
        rig.reset();
        command.join().expect("it ends");
        assert!(rig.gate.is_condemned());
        assert_eq!(rig.peer.fate(rig.cell, instance(1)), Fate::Off);
    });
}

#[test]
fn nor_does_one_of_two_reactors() {
    explore(|| {
        let rig = Rig::new();
        let commands = [
            run(&rig, |rig| rig.command(enter)),
            run(&rig, |rig| rig.command(enter)),
        ];
        rig.reset();
        for command in commands {
            command.join().expect("it ends");
        }
        assert_eq!(rig.gate.in_flight(), 0);
    });
}

#[test]
fn a_successor_in_the_same_cell_is_neither_hit_nor_counted_for() {
    explore(|| {
        let rig = Rig::new();
        let old = rig.gate.epoch();
        let command = run(&rig, move |rig| {
            rig.command(|gate| gate.enter(gate.epoch(), NOW));
            let _ = rig.gate.enter(old, NOW).inspect(|()| rig.gate.leave());
        });
        let reset = run(&rig, Rig::reset);
        // Its owner ends the controller and makes another one, if the cell is free by then.
        rig.gate.condemn();
        let successor = rig.owner.take(instance(2), HOST);
        command.join().expect("it ends");
        reset.join().expect("it ends");
        if let Some(successor) = successor {
            assert_eq!(successor.permits(successor.epoch(), NOW), Ok(()));
            assert_eq!(successor.in_flight(), 0);
            assert_eq!(rig.gate.enter(old, NOW), Err(Fenced::Closed));
        }
    });
}

/// The mistakes that these would find.
mod planted {
    use super::*;

    /// Asks the epoch before it counts, and not again.
    #[test]
    #[should_panic(expected = "on the media after the reset was done")]
    fn a_command_that_is_counted_too_late() {
        explore(|| {
            let rig = Rig::new();
            let command = run(&rig, |rig| {
                rig.command(|gate| {
                    gate.permits(gate.epoch(), NOW)?;
                    let cell = gate.own_cell().expect("its own");
                    cell.in_flight.fetch_add(1, SeqCst);
                    Ok(())
                });
            });
            rig.reset();
            command.join().expect("it ends");
        });
    }

    /// Reads the count before it closes the gate.
    #[test]
    #[should_panic(expected = "on the media after the reset was done")]
    fn a_count_that_is_read_too_early() {
        explore(|| {
            let rig = Rig::new();
            let command = run(&rig, |rig| rig.command(enter));
            let fate = rig.peer.fate(rig.cell, instance(1));
            rig.peer.condemn(rig.cell, instance(1));
            if fate == Fate::Off {
                rig.answered.store(1, SeqCst);
            }
            command.join().expect("it ends");
        });
    }

    /// The same protocol with acquire and release: each may miss what the other has just written.
    #[test]
    #[should_panic(expected = "both went ahead")]
    fn accesses_that_are_only_acquire_and_release() {
        use loom::sync::atomic::AtomicU64 as Weak;
        use std::sync::atomic::Ordering::{AcqRel, Acquire};

        explore(|| {
            let cell = Shared::new((Weak::new(1), Weak::new(0)));
            let command = {
                let cell = Shared::clone(&cell);
                thread::spawn(move || {
                    cell.1.fetch_add(1, AcqRel);
                    cell.0.load(Acquire) == 1
                })
            };
            cell.0.swap(CONDEMNED, AcqRel);
            let off = cell.1.load(Acquire) == 0;
            let entered = command.join().expect("it ends");
            assert!(!(off && entered), "both went ahead");
        });
    }
}
