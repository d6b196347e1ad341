//! Virtual time, and what happens when.
//!
//! Two things due at the same moment happen in the order in which they were scheduled, so a run
//! is a function of its seed.

use std::time::Duration;

use slab::Slab;

/// Nanoseconds.
pub(crate) type Nanos = u64;

pub(crate) const MICRO: Nanos = 1_000;
pub(crate) const MILLI: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// What the clock shows when a run begins.
pub(crate) const EPOCH: Nanos = 1_000 * SECOND;

/// As the code under test counts time.
pub(crate) fn duration(at: Nanos) -> Duration {
    Duration::from_nanos(at)
}

/// As the world counts time.
pub(crate) fn nanos(at: Duration) -> Nanos {
    at.as_nanos() as u64
}

/// What is going to happen.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    /// Latest first. Some dozens of things are due at a time, and most of what is scheduled comes soon:
    /// a list in order is cheaper than a heap.
    due: Vec<Key>,
    items: Slab<T>,
    scheduled: u32,
}

/// When, in which order it was scheduled, and where among the items, from the highest bits down:
/// one number is compared faster than three.
type Key = u128;

fn key(at: Nanos, order: u32, item: u32) -> Key {
    Key::from(at) << 64 | Key::from(order) << 32 | Key::from(item)
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        Self {
            due: Vec::with_capacity(256),
            items: Slab::with_capacity(256),
            scheduled: 0,
        }
    }

    pub(crate) fn push(&mut self, at: Nanos, item: T) {
        self.scheduled += 1;
        self.put_off(at, self.scheduled, item);
    }

    /// What is next: when, in which order it was scheduled, and what.
    pub(crate) fn pop(&mut self) -> Option<(Nanos, u32, T)> {
        let key = self.due.pop()?;
        let (at, order, item) = ((key >> 64) as Nanos, (key >> 32) as u32, key as u32);
        Some((at, order, self.items.remove(item as usize)))
    }

    /// Puts something off. Among what is put off to the same moment it keeps its place.
    pub(crate) fn put_off(&mut self, at: Nanos, order: u32, item: T) {
        let item = self.items.insert(item) as u32;
        let key = key(at, order, item);
        let place = self.due.partition_point(|later| *later > key);
        self.due.insert(place, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_time_and_then_in_the_order_of_scheduling() {
        let mut agenda = Agenda::new();
        for (at, name) in [(5, 'a'), (3, 'b'), (5, 'c'), (4, 'd')] {
            agenda.push(at, name);
        }
        let (at, order, first) = agenda.pop().unwrap();
        assert_eq!((at, first), (3, 'b'));
        // Scheduled before the last of the same moment.
        agenda.put_off(5, order, first);
        let rest = std::iter::from_fn(|| agenda.pop());
        let rest: String = rest.map(|(_, _, name)| name).collect();
        assert_eq!(rest, "dabc");
    }
}
