//! The registry of VM cases. A new case is a function in a module here and a line in [`all`].

mod bad_input;
mod cables;
mod ccr;
mod disk;
mod faults;
mod hostile;
mod ignore;
mod in_use;
mod late_cache;
mod limits;
mod naming;
mod nvmet_ana;
mod nvmet_namespace;
mod policies;
mod rediscovery;
mod restart;
pub(crate) mod rig;
mod takeover;
mod target_interop;
mod testbed;
mod trouble;
mod unfit;
mod volume;
mod wrong_words;

use crate::suite::Case;

/// Every case, in the order they run.
pub fn all() -> Vec<Case> {
    [
        testbed::CASES,
        target_interop::CASES,
        volume::CASES,
        ccr::CASES,
        limits::CASES,
        nvmet_ana::CASES,
        nvmet_namespace::CASES,
        ignore::CASES,
        in_use::CASES,
        faults::CASES,
        bad_input::CASES,
        restart::CASES,
        trouble::CASES,
        takeover::CASES,
        naming::CASES,
        late_cache::CASES,
        rediscovery::CASES,
        cables::CASES,
        hostile::CASES,
        unfit::CASES,
        wrong_words::CASES,
        policies::CASES,
    ]
    .concat()
}
