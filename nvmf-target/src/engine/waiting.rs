//! Commands that wait because a fault was asked for, by the time they go on.

use std::collections::BTreeMap;
use std::time::Duration;

/// Commands that wait. How they go on, the [state](super::request::State) of each says.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The number keeps those of one moment apart, in their order.
    queue: BTreeMap<(Duration, u64), u32>,
    last: u64,
}

impl Waiting {
    pub(super) fn push(&mut self, due: Duration, index: u32) {
        self.last += 1;
        self.queue.insert((due, self.last), index);
    }

    /// When the next one goes on.
    pub(super) fn next(&self) -> Option<Duration> {
        self.queue.keys().next().map(|(due, _)| *due)
    }

    /// Takes one out before its time.
    pub(super) fn take(&mut self, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let mut waiting = self.queue.iter();
        let (key, _) = waiting.find(|(_, index)| wanted(**index))?;
        let key = *key;
        self.queue.remove(&key)
    }

    pub(super) fn pop(&mut self, now: Duration) -> Option<u32> {
        let next = self.queue.first_entry()?;
        (next.key().0 <= now).then(|| next.remove())
    }

    /// Takes out everything: the program ends.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u32> {
        std::mem::take(&mut self.queue).into_values()
    }
}
