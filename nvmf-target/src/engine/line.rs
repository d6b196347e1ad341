//! Requests that wait for data memory: first come, first served.
//!
//! A new request waits behind those that wait already, even if the free memory would do for it.
//! Otherwise it would take the memory that a larger one waits for, and under a steady load of small
//! requests a large one would wait for ever.

use std::collections::VecDeque;

/// Requests that wait, in order of arrival. One that is gone meanwhile keeps its place.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<u32>);

impl Line {
    /// What `take` gives; where others wait or it gives nothing, `request` waits from now on.
    pub(super) fn take_or_wait<T>(
        &mut self,
        request: u32,
        take: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let taken = if self.0.is_empty() { take() } else { None };
        if taken.is_none() {
            self.0.push_back(request);
        }
        taken
    }

    /// Who is next.
    pub(super) fn first(&self) -> Option<u32> {
        self.0.front().copied()
    }

    /// The first one waits no longer.
    pub(super) fn pass_first(&mut self) {
        self.0.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::{Pool, SLOT_BYTES};
    use super::*;

    #[test]
    fn a_large_request_is_served_however_many_small_ones_come() {
        const HALF: u32 = SLOT_BYTES / 2;
        let (mut pool, mut line) = (Pool::new(2), Line::default());
        let mut taken: VecDeque<_> = (0..4).filter_map(|_| pool.take(HALF)).collect();
        assert_eq!(line.take_or_wait(0, || pool.take(SLOT_BYTES)), None);
        // Whenever a half is free again, another small one is there.
        for newcomer in 1..=4 {
            let done = taken.pop_front().expect("one under way");
            pool.give(done);
            let size = if line.first() == Some(0) {
                SLOT_BYTES
            } else {
                HALF
            };
            if pool.take(size).is_some() {
                line.pass_first();
            }
            assert_eq!(
                line.take_or_wait(newcomer, || pool.take(HALF)),
                None,
                "it waits its turn"
            );
        }
        assert_ne!(line.first(), Some(0), "the large one was served");
    }
}
