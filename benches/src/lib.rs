//! The side-by-side bench: one fio matrix on umpath and its competitors.
//!
//! Decided here: what is measured ([`matrix`]), on which devices ([`contender`]), in which order
//! ([`compare`]) and how it is reported ([`report`]); also the selectors on unequal paths
//! ([`selectors`]). Not decided here: on which kernel; the program runs as root in a VM (`cargo
//! xtask bench compare`) or on a dedicated machine.
//!
//! Absolute numbers of an emulated machine mean nothing elsewhere. Ratios within one run do, and
//! only between devices measured in turns, so every ratio is taken round by round.

pub mod compare;
pub mod contender;
pub mod matrix;
pub mod report;
pub mod selectors;

mod kernel;
mod lineup;
mod map;
mod null;
mod ours;

use anyhow::{Result, bail};

/// Refuses to reconfigure a machine that is not dedicated to the bench.
pub fn own_machine(bench: &str) -> Result<()> {
    let is_set = |name| std::env::var_os(name).is_some();
    if is_set("UMPATH_IN_VM") || is_set("UMPATH_OWN_MACHINE") {
        return Ok(());
    }
    bail!(
        "this reloads NVMe modules and makes network devices: `cargo xtask bench {bench}` boots a VM \
         for it; on a machine of its own set UMPATH_OWN_MACHINE=1"
    )
}
