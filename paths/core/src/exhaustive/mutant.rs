//! Mistakes planted on purpose: a check that does not see them proves nothing.
//!
//! They are planted where the model plays the host's glue or the target, so the shipped code carries
//! no trace of them. Each has to be found twice: by the order that keeps the data right, and, with
//! that left out, by data that an application can see go wrong.

use super::{Bounds, Setup, explore, say};

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Drained queue pairs count as an order fence.
    FenceSkipped,
    /// The fence by time counts from the conviction, not from the silence of every queue pair.
    FenceEarly,
    /// One lane never hears of convictions; it is taken for drained.
    ConvictionUnheard,
    /// One lane never gets a table of ghosts; it is confirmed all the same.
    GuardUnheard,
    /// Tables lack a ghost.
    GhostMissing,
    /// The first lane that confirms a table speaks for all.
    LockedEarly,
    /// A lane confirms a table while it has overlapping writes in flight.
    GuardedAtOnce,
    /// Ghosts leave the table when their writes were sent again and answered.
    GhostsForgotten,
    /// A restarted host knows nothing of its predecessor's associations.
    InheritanceForgotten,
    /// Records are removed at the conviction, not at the order fence.
    RecordRemovedEarly,
    /// A reset under way is taken for one that is complete.
    PendingIsSuccess,
    /// A reset that failed is taken for one that succeeded.
    FailedIsSuccess,
    /// The controller is reset that has the identifier now, whichever incarnation was named.
    WrongIncarnation,
    /// One lane never hears that ghosts are gone.
    UnlockUnheard,
}

/// Two writes of two lanes, and one lost association.
const LOSS: Setup = Setup {
    writes: 0b011,
    bounds: Bounds {
        convictions: 1,
        ..Setup::QUIET.bounds
    },
    ..Setup::QUIET
};

/// A daemon that dies as well.
const CRASH: Setup = Setup {
    bounds: Bounds {
        crashes: 1,
        ..LOSS.bounds
    },
    ..LOSS
};

fn is_found(mutant: Mutant, setup: Setup) {
    for data_only in [false, true] {
        finds(mutant, Setup { data_only, ..setup });
    }
}

fn finds(mutant: Mutant, setup: Setup) {
    let planted = Setup {
        mutant: Some(mutant),
        ..setup
    };
    let found = explore("not found", planted);
    let (words, steps) = found.expect("a counterexample");
    let by = if setup.data_only { "data" } else { "order" };
    say(&format!(
        "exhaustive: {mutant:?}: by the {by} in {} steps: {words}",
        steps.len()
    ));
}

#[test]
fn a_skipped_fence_is_found() {
    is_found(Mutant::FenceSkipped, LOSS);
}

#[test]
fn a_fence_before_the_silence_is_found() {
    is_found(Mutant::FenceEarly, LOSS);
}

#[test]
fn a_conviction_that_one_lane_does_not_hear_is_found() {
    is_found(Mutant::ConvictionUnheard, LOSS);
}

#[test]
fn a_guard_that_one_lane_does_not_hear_is_found() {
    is_found(Mutant::GuardUnheard, LOSS);
}

#[test]
fn a_table_that_lacks_a_ghost_is_found() {
    is_found(Mutant::GhostMissing, LOSS);
}

#[test]
fn a_lock_before_all_lanes_are_guarded_is_found() {
    is_found(Mutant::LockedEarly, LOSS);
}

#[test]
fn a_confirmation_with_writes_in_flight_is_found() {
    is_found(Mutant::GuardedAtOnce, LOSS);
}

#[test]
fn ghosts_forgotten_before_the_fence_are_found() {
    is_found(Mutant::GhostsForgotten, LOSS);
}

#[test]
fn a_forgotten_inheritance_is_found() {
    is_found(Mutant::InheritanceForgotten, CRASH);
}

#[test]
fn a_record_removed_at_the_conviction_is_found() {
    is_found(Mutant::RecordRemovedEarly, CRASH);
}

#[test]
fn a_pending_reset_taken_for_success_is_found() {
    is_found(Mutant::PendingIsSuccess, LOSS);
}

#[test]
fn a_failed_reset_taken_for_success_is_found() {
    let bounds = Bounds {
        troubles: 1,
        ..LOSS.bounds
    };
    is_found(Mutant::FailedIsSuccess, Setup { bounds, ..LOSS });
}

#[test]
fn a_reset_of_the_wrong_incarnation_is_found() {
    let bounds = Bounds {
        reconnects: 1,
        ..LOSS.bounds
    };
    is_found(Mutant::WrongIncarnation, Setup { bounds, ..LOSS });
}

#[test]
fn a_lane_that_waits_for_ever_is_found() {
    // What waits for ever harms no data.
    finds(Mutant::UnlockUnheard, LOSS);
}
