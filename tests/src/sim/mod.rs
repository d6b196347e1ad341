//! The deterministic simulator: the real core, sessions and target logic in a world of our own.
//!
//! One seed decides everything: the shape of the world, its faults, every delay ([`plan`],
//! [`chance`]). Time is virtual, everything happens on one thread, and the same seed on the same
//! commit is the same run, line by line of its trace. What is the product's own: `umpath_core`
//! (lanes, device, health, fences, ladder), `umpath_session` (bring-up, keep-alive, ANA) and the pure half
//! of `umpath_target` (array, controllers, gates). What is played: the fabric ([`fabric`]), the
//! medium and the engine before it ([`medium`], [`array`]), the host's threads around the core ([`host`]), and
//! the application ([`workload`]).
//!
//! The judges are [`checker`], from what the application sees, and oracles that no real system
//! has: nothing of a fenced association touches the medium, no buffer is touched by what no longer
//! owns it, no request returns twice or never, no controller is reset that nobody gave up. Their
//! numbers, and what is taken for granted, are in `docs/simulator.md`.

mod array;
pub mod batch;
mod chance;
mod checker;
mod clock;
mod fabric;
mod faults;
mod host;
mod medium;
pub mod mutant;
mod oracle;
mod plan;
mod process;
mod resets;
mod schedule;
pub mod shrink;
mod workload;
mod world;
