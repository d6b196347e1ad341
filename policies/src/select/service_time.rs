//! `service-time`: the path that will be done first, by bytes in flight and configured throughput.
//!
//! dm-multipath's comparison, case by case: equal throughput: fewer bytes in flight; equal bytes, or
//! a throughput of 0: higher throughput; else less (in flight + this request) / throughput. Ties
//! rotate.

use super::{Ask, Candidates, SelectorConfig, Strategy, from};

/// Least bytes ahead for what the path can move.
#[derive(Debug, Clone)]
pub struct ServiceTime {
    /// Position to check first.
    next: usize,
}

#[derive(Clone, Copy)]
struct Load {
    bytes: u64,
    throughput: u64,
}

impl Load {
    /// Strictly better: a tie stays with the path checked first.
    #[inline]
    fn beats(self, other: Self, incoming: u64) -> bool {
        if self.throughput == other.throughput {
            return self.bytes < other.bytes;
        }
        if self.bytes == other.bytes || self.throughput == 0 || other.throughput == 0 {
            return self.throughput > other.throughput;
        }
        // In flight is below 2^40 and throughput at most 100: no overflow.
        let mine = (self.bytes + incoming) * other.throughput;
        let theirs = (other.bytes + incoming) * self.throughput;
        mine < theirs || (mine == theirs && self.throughput > other.throughput)
    }
}

impl Strategy for ServiceTime {
    fn start(_: &SelectorConfig) -> Self {
        Self { next: 0 }
    }

    #[inline]
    fn select(&mut self, candidates: &impl Candidates, ask: &Ask) -> usize {
        let mut best: Option<(usize, Load)> = None;
        from(self.next, candidates.count()).for_each(|at| {
            let load = Load {
                bytes: candidates.in_flight_bytes(at).min(1 << 40),
                throughput: candidates.throughput(at).min(100).into(),
            };
            if best.is_none_or(|(_, known)| load.beats(known, ask.bytes.into())) {
                best = Some((at, load));
            }
        });
        let best = best.map_or(0, |(at, _)| at);
        self.next = best + 1;
        best
    }
}
