//! Commands that wait because a fault was asked for, by the time they go on.

use std::collections::BTreeMap;
use std::time::Duration;

use umpath_nvme::Status;

/// What happens to a command when its wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It is executed.
    Execute,
    /// It goes to its backing store past the gate.
    PassGate,
    /// It is answered.
    Answer { status: Status, result: u64 },
}

/// Commands that wait.
///
/// They are [`Stage::Executing`](super::request::Stage::Executing) meanwhile, so their requests stay although their queue may go.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The number keeps those of one moment apart, in their order.
    queue: BTreeMap<(Duration, u64), (u32, Then)>,
    last: u64,
}

impl Waiting {
    pub(super) fn push(&mut self, due: Duration, index: u32, then: Then) {
        self.last += 1;
        self.queue.insert((due, self.last), (index, then));
    }

    /// When the next one goes on.
    pub(super) fn next(&self) -> Option<Duration> {
        self.queue.keys().next().map(|(due, _)| *due)
    }

    /// Takes out one that nothing has been done about yet.
    pub(super) fn take(&mut self, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let mut waiting = self.queue.iter();
        let (key, _) =
            waiting.find(|(_, (index, then))| *then == Then::Execute && wanted(*index))?;
        let key = *key;
        self.queue.remove(&key).map(|(index, _)| index)
    }

    pub(super) fn pop(&mut self, now: Duration) -> Option<(u32, Then)> {
        let next = self.queue.first_entry()?;
        (next.key().0 <= now).then(|| next.remove())
    }

    /// Takes out everything: the program ends.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u32> {
        std::mem::take(&mut self.queue)
            .into_values()
            .map(|(index, _)| index)
    }
}
