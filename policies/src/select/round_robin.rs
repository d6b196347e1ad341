//! `round-robin`: the next path after `rr_min_io` requests.

use super::{Ask, Candidates, SelectorConfig, Strategy};
use crate::PathId;

/// Takes turns, whatever the load.
#[derive(Debug, Clone)]
pub struct RoundRobin {
    min_io: u32,
    weight_priorities: bool,
    /// Whose turn it is.
    current: Option<PathId>,
    /// Position where `current` was last seen.
    at: usize,
    /// Requests left of its turn.
    left: u32,
}

impl RoundRobin {
    fn turn(&self, candidates: &impl Candidates, at: usize) -> u32 {
        if self.weight_priorities {
            let weight = u32::try_from(candidates.priority(at)).unwrap_or(0).max(1);
            self.min_io.saturating_mul(weight)
        } else {
            self.min_io
        }
    }
}

impl Strategy for RoundRobin {
    fn start(config: &SelectorConfig) -> Self {
        Self {
            min_io: config.rr_min_io.max(1),
            weight_priorities: config.rr_weight_priorities,
            current: None,
            at: 0,
            left: 0,
        }
    }

    #[inline]
    fn select(&mut self, candidates: &impl Candidates, _: &Ask) -> usize {
        let count = candidates.count();
        if count == 0 {
            return 0;
        }
        let stays =
            self.left > 0 && self.at < count && self.current == Some(candidates.path(self.at));
        if !stays {
            // Paths are in order of their numbers, so the successor is found although the group
            // changed under us.
            let next = match self.current {
                None => 0,
                Some(_) if self.at < count && self.current == Some(candidates.path(self.at)) => {
                    (self.at + 1) % count
                }
                Some(last) => (0..count)
                    .filter(|at| candidates.path(*at) > last)
                    .min_by_key(|at| candidates.path(*at))
                    .unwrap_or(0),
            };
            self.at = next;
            self.current = Some(candidates.path(next));
            self.left = self.turn(candidates, next);
        }
        self.left -= 1;
        self.at
    }
}
