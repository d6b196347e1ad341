//! The deterministic simulator: the host, the queue threads and the target that ship, in a world of
//! our own.
//!
//! One seed decides everything: the shape of the world, its faults, every delay ([`plan`],
//! [`chance`]). Time is virtual, everything happens on one thread, and the same seed on the same
//! commit is the same run, line by line of its trace. What is the product's own: everything that
//! decides (`umpath_host`, `umpath_core`, `umpath_session`), the round of a queue thread
//! (`umpath_engine`), and the pure half of `umpath_target` (array, controllers, gates). What is
//! played: the fabric ([`fabric`]), the medium and the engine before it ([`medium`], [`array`]), what
//! carries the host's orders out ([`host`]), the driver and the disk ([`blockdev`], [`disk`]), the
//! application and operators ([`workload`], [`operator`]).
//!
//! The judges are [`checker`], from what the application sees, and oracles that no real system has
//! ([`oracle`]). Their numbers, and what is taken for granted, are in `docs/simulator.md`.

mod arenas;
mod array;
pub mod batch;
mod blockdev;
mod chance;
mod checker;
mod clock;
mod course;
mod disk;
mod fabric;
mod faults;
mod happening;
mod host;
mod medium;
pub mod mutant;
mod namespaces;
mod operator;
mod oracle;
mod plan;
mod process;
mod qp;
mod resets;
mod schedule;
mod seam;
pub mod shrink;
mod store;
mod workload;
mod world;
