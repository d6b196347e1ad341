//! The runs: what may happen in each, small enough to see all of it.
//!
//! The last ones take minutes: `cargo test --release -p umpath-core exhaustive -- --ignored`.

use super::{Bounds, Setup, explore};

const BOUNDS: Bounds = Setup::QUIET.bounds;

fn holds(name: &str, setup: Setup) {
    let Some((words, steps)) = explore(name, setup) else {
        return;
    };
    let steps: Vec<String> = steps.iter().map(|step| format!("  {step:?}\n")).collect();
    panic!("{name}: {words}, after\n{}", steps.concat());
}

#[test]
fn three_writes_a_lost_association_and_a_crash() {
    let bounds = Bounds {
        convictions: 1,
        crashes: 1,
        ..BOUNDS
    };
    let setup = Setup {
        bounds,
        ..Setup::QUIET
    };
    holds("three writes, a lost association, a crash", setup);
}

#[test]
fn two_writes_a_lost_association_a_crash_and_a_reset_in_trouble() {
    let bounds = Bounds {
        convictions: 1,
        crashes: 1,
        troubles: 1,
        ..BOUNDS
    };
    let setup = Setup {
        writes: 0b011,
        bounds,
        ..Setup::QUIET
    };
    holds(
        "two writes, a lost association, a crash, a reset in trouble",
        setup,
    );
}

#[test]
fn three_writes_and_a_path_that_comes_back() {
    let bounds = Bounds {
        convictions: 1,
        reconnects: 1,
        ..BOUNDS
    };
    let setup = Setup {
        bounds,
        ..Setup::QUIET
    };
    holds("three writes, a lost association, a reconnect", setup);
}

#[test]
fn one_write_and_both_associations_lost() {
    let bounds = Bounds {
        convictions: 2,
        reconnects: 1,
        ..BOUNDS
    };
    let setup = Setup {
        writes: 0b001,
        bounds,
        ..Setup::QUIET
    };
    holds("one write, two lost associations, a reconnect", setup);
}

#[test]
fn one_write_and_an_association_lost_after_the_crash() {
    let bounds = Bounds {
        convictions: 1,
        convictions_later: 1,
        crashes: 1,
        ..BOUNDS
    };
    let setup = Setup {
        writes: 0b001,
        bounds,
        ..Setup::QUIET
    };
    holds("one write, a lost association after a crash", setup);
}

#[test]
fn three_writes_a_lost_association_and_every_message_by_itself() {
    let bounds = Bounds {
        convictions: 1,
        ..BOUNDS
    };
    let setup = Setup {
        bounds,
        one_by_one: true,
        ..Setup::QUIET
    };
    holds(
        "three writes, a lost association, message by message",
        setup,
    );
}

#[test]
#[ignore = "minutes"]
fn three_writes_a_lost_association_a_crash_and_a_reset_in_trouble() {
    let bounds = Bounds {
        convictions: 1,
        crashes: 1,
        troubles: 1,
        ..BOUNDS
    };
    let setup = Setup {
        bounds,
        ..Setup::QUIET
    };
    holds(
        "three writes, a lost association, a crash, a reset in trouble",
        setup,
    );
}

#[test]
#[ignore = "minutes"]
fn two_writes_and_an_association_lost_after_the_crash() {
    let bounds = Bounds {
        convictions: 1,
        convictions_later: 1,
        crashes: 1,
        ..BOUNDS
    };
    let setup = Setup {
        writes: 0b011,
        bounds,
        ..Setup::QUIET
    };
    holds("two writes, a lost association after a crash", setup);
}

#[test]
#[ignore = "minutes"]
fn one_write_and_both_associations_lost_twice() {
    let bounds = Bounds {
        convictions: 2,
        reconnects: 2,
        ..BOUNDS
    };
    let setup = Setup {
        writes: 0b001,
        bounds,
        ..Setup::QUIET
    };
    holds("one write, two lost associations, two reconnects", setup);
}
