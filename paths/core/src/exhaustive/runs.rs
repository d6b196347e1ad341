//! The runs: what may happen in each, small enough to see all of it.
//!
//! The last ones take minutes each and are ignored without a release build asked for by
//! `cargo test --release -p umpath-core --lib exhaustive -- --ignored`.

use super::{Bounds, Setup, Writes, explore};

const NOTHING: Bounds = Setup::QUIET.bounds;

fn holds(name: &str, writes: Writes, bounds: Bounds) {
    let setup = Setup {
        writes,
        bounds,
        ..Setup::QUIET
    };
    holds_for(name, setup);
}

fn holds_for(name: &str, setup: Setup) {
    let Some((words, steps)) = explore(name, setup) else {
        return;
    };
    let steps: Vec<String> = steps.iter().map(|step| format!("  {step:?}\n")).collect();
    panic!("{name}: {words}, after\n{}", steps.concat());
}

#[test]
fn three_writes_a_lost_association_and_a_crash() {
    holds(
        "three writes, a lost association, a crash",
        0b111,
        Bounds {
            convictions: 1,
            crashes: 1,
            ..NOTHING
        },
    );
}

#[test]
fn two_writes_a_lost_association_a_crash_and_a_reset_in_trouble() {
    holds(
        "two writes, a lost association, a crash, a reset in trouble",
        0b011,
        Bounds {
            convictions: 1,
            crashes: 1,
            troubles: 1,
            ..NOTHING
        },
    );
}

#[test]
fn three_writes_and_a_path_that_comes_back() {
    holds(
        "three writes, a lost association, a reconnect",
        0b111,
        Bounds {
            convictions: 1,
            reconnects: 1,
            ..NOTHING
        },
    );
}

#[test]
fn one_write_and_both_associations_lost() {
    holds(
        "one write, two lost associations, a reconnect",
        0b001,
        Bounds {
            convictions: 2,
            reconnects: 1,
            ..NOTHING
        },
    );
}

#[test]
fn one_write_and_an_association_lost_after_the_crash() {
    holds(
        "one write, a lost association after a crash",
        0b001,
        Bounds {
            convictions: 1,
            convictions_later: 1,
            crashes: 1,
            ..NOTHING
        },
    );
}

#[test]
fn three_writes_a_lost_association_and_every_message_by_itself() {
    let bounds = Bounds {
        convictions: 1,
        ..NOTHING
    };
    let setup = Setup {
        bounds,
        one_by_one: true,
        ..Setup::QUIET
    };
    holds_for(
        "three writes, a lost association, message by message",
        setup,
    );
}

#[test]
#[ignore = "takes minutes: cargo test --release -p umpath-core --lib exhaustive -- --ignored"]
fn three_writes_a_lost_association_a_crash_and_a_reset_in_trouble() {
    holds(
        "three writes, a lost association, a crash, a reset in trouble",
        0b111,
        Bounds {
            convictions: 1,
            crashes: 1,
            troubles: 1,
            ..NOTHING
        },
    );
}

#[test]
#[ignore = "takes minutes: cargo test --release -p umpath-core --lib exhaustive -- --ignored"]
fn two_writes_and_an_association_lost_after_the_crash() {
    holds(
        "two writes, a lost association after a crash",
        0b011,
        Bounds {
            convictions: 1,
            convictions_later: 1,
            crashes: 1,
            ..NOTHING
        },
    );
}

#[test]
#[ignore = "takes minutes: cargo test --release -p umpath-core --lib exhaustive -- --ignored"]
fn one_write_and_both_associations_lost_twice() {
    holds(
        "one write, two lost associations, two reconnects",
        0b001,
        Bounds {
            convictions: 2,
            reconnects: 2,
            ..NOTHING
        },
    );
}
