//! `queue-length`: the path with the fewest requests in flight; ties rotate.

use super::{Ask, Candidates, SelectorConfig, Strategy, from};

/// Fewest in flight. The search starts behind the path chosen last, so equal paths take turns.
#[derive(Debug, Clone)]
pub struct QueueLength {
    /// Position to check first; may exceed the number of candidates after paths went away.
    next: usize,
}

impl Strategy for QueueLength {
    fn start(_: &SelectorConfig) -> Self {
        Self { next: 0 }
    }

    #[inline]
    fn select(&mut self, candidates: &impl Candidates, _: &Ask) -> usize {
        let mut best = 0;
        let mut fewest = u32::MAX;
        from(self.next, candidates.count()).for_each(|at| {
            let in_flight = candidates.in_flight(at);
            if in_flight < fewest {
                fewest = in_flight;
                best = at;
            }
        });
        self.next = best + 1;
        best
    }
}
