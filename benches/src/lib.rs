//! The side-by-side bench: one fio matrix on umpath and on what it competes with.
//!
//! Decided here: what is measured ([`matrix`]), on which devices ([`contender`]), in which order
//! ([`compare`]) and how it is told ([`report`]). Not decided here: on which kernel; the program
//! runs as root in a VM (`cargo xtask bench compare`) or on a machine of its own.
//!
//! Absolute numbers of an emulated machine mean nothing elsewhere. Ratios within one run do, and
//! only between devices measured in turns, so every ratio is taken round by round.

pub mod compare;
pub mod contender;
pub mod matrix;
pub mod report;

mod kernel;
mod map;
mod null;
mod ours;
