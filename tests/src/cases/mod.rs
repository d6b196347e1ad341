//! The registry of VM cases. A new case is a function in a module here and a line in [`all`].

mod bad_input;
mod ccr;
mod restart;
pub(crate) mod rig;
mod target_interop;
mod testbed;
mod volume;

use crate::suite::Case;

/// Every case, in the order they run.
pub fn all() -> Vec<Case> {
    [
        testbed::CASES,
        target_interop::CASES,
        volume::CASES,
        ccr::CASES,
        bad_input::CASES,
        restart::CASES,
    ]
    .concat()
}
