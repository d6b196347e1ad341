//! `io-affinity` (alias `numa`): a path that leaves the machine on this lane's NUMA node.
//!
//! Near paths share by queue length, and so do all paths where none is near: a lane without a path
//! of its own node must not send everything down the first one.

use super::{Ask, Candidates, SelectorConfig, Strategy, from};

/// Nearest first, then fewest in flight.
#[derive(Debug, Clone)]
pub struct IoAffinity {
    /// Position to check first.
    next: usize,
}

impl Strategy for IoAffinity {
    fn start(_: &SelectorConfig) -> Self {
        Self { next: 0 }
    }

    #[inline]
    fn select(&mut self, candidates: &impl Candidates, _: &Ask) -> usize {
        let mut best = 0;
        let mut least = (true, u32::MAX);
        from(self.next, candidates.count()).for_each(|at| {
            let load = (!candidates.is_near(at), candidates.in_flight(at));
            if load < least {
                least = load;
                best = at;
            }
        });
        self.next = best + 1;
        best
    }
}
