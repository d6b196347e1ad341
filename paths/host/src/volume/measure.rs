//! Assigns each queue thread's "longest stall since the last snapshot" to failovers.
//!
//! A failover's longest stall is the largest answer, over all queue threads, to the snapshots
//! requested after it began, up to and including the one that ends it. Failovers may overlap: the
//! snapshot that begins or ends one also counts for the other. Each snapshot goes to all queue
//! threads and each answers in order, so counting suffices to match answers to requests.

use crate::events::FailoverId;

#[derive(Debug)]
struct Measure {
    failover: FailoverId,
    /// The snapshot that began it; its answer covers the time before.
    after: u64,
    /// The snapshot that ends it.
    until: Option<u64>,
}

/// The measurements in progress on one volume.
#[derive(Debug, Default)]
pub(super) struct Measures {
    /// Snapshots requested.
    asked: u64,
    /// Snapshots answered, by queue thread.
    reports: Vec<u64>,
    open: Vec<Measure>,
}

impl Measures {
    /// The queue threads exist and have not been asked anything.
    pub(super) fn set_lanes(&mut self, lanes: u16) {
        *self = Self {
            reports: vec![0; lanes.into()],
            ..Self::default()
        };
    }

    /// A failover begins with the next snapshot requested.
    pub(super) fn begin(&mut self, failover: FailoverId) {
        self.asked += 1;
        self.open.push(Measure {
            failover,
            after: self.asked,
            until: None,
        });
    }

    /// Requests a snapshot for no particular failover; returns its number.
    pub(super) fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Number of queue threads that have not answered this snapshot.
    pub(super) fn silent(&self, number: u64) -> u16 {
        self.reports
            .iter()
            .filter(|reports| **reports < number)
            .count() as u16
    }

    /// A failover ends with the next snapshot requested.
    pub(super) fn end(&mut self, failover: FailoverId) {
        self.asked += 1;
        let mine = |measure: &&mut Measure| measure.failover == failover;
        if let Some(measure) = self.open.iter_mut().find(mine) {
            measure.until = Some(self.asked);
        }
    }

    /// Drops a failover whose suspicion was withdrawn.
    pub(super) fn forget(&mut self, failover: FailoverId) {
        self.open.retain(|measure| measure.failover != failover);
    }

    /// A queue thread answered a snapshot; returns the failovers the answer counts for.
    pub(super) fn note(&mut self, queue: u16) -> Vec<FailoverId> {
        let reports = self.reports.get_mut(usize::from(queue));
        let reports = reports.expect("a queue thread of this volume");
        *reports += 1;
        let number = *reports;
        let counts = |measure: &&Measure| {
            measure.after < number && measure.until.is_none_or(|until| number <= until)
        };
        let failovers = self.open.iter().filter(counts).map(|m| m.failover);
        let failovers = failovers.collect();
        let all = self.reports.iter().copied().min().unwrap_or(u64::MAX);
        self.open
            .retain(|measure| measure.until.is_none_or(|until| all < until));
        failovers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventLog;
    use umpath_protocol::EventKind;

    fn failovers() -> [FailoverId; 2] {
        let now = std::time::Duration::ZERO;
        let mut log = EventLog::new(now, 0);
        [1, 2].map(|path| log.failover(now, EventKind::Convicted, path, "a", "b"))
    }

    #[test]
    fn what_was_slow_before_does_not_count_and_every_thread_is_heard() {
        let [first, _] = failovers();
        let mut measures = Measures::default();
        measures.set_lanes(2);
        measures.begin(first);
        assert_eq!(measures.note(0), []);
        measures.end(first);
        assert_eq!(measures.note(1), []);
        assert_eq!(measures.note(1), [first]);
        assert_eq!(measures.note(0), [first]);
        measures.begin(first);
        assert_eq!(measures.note(0), [], "the first measure is over");
    }

    /// Regression: a second conviction discarded what the first had measured.
    #[test]
    fn failovers_that_overlap_share_what_lies_between() {
        let [first, second] = failovers();
        let mut measures = Measures::default();
        measures.set_lanes(1);
        measures.begin(first);
        measures.begin(second);
        assert_eq!(measures.note(0), []);
        assert_eq!(measures.note(0), [first], "before the second began");
        measures.end(first);
        assert_eq!(measures.note(0), [first, second]);
        measures.end(second);
        assert_eq!(measures.note(0), [second]);
        assert!(measures.open.is_empty());
    }

    #[test]
    fn a_snapshot_for_nobody_is_a_part_of_the_failovers_under_way() {
        let [first, _] = failovers();
        let mut measures = Measures::default();
        measures.set_lanes(2);
        measures.begin(first);
        let number = measures.ask();
        measures.note(0);
        assert_eq!(measures.silent(number), 2);
        assert_eq!(measures.note(0), [first]);
        measures.note(1);
        assert_eq!(measures.silent(number), 1);
        measures.note(1);
        assert_eq!(measures.silent(number), 0);
    }

    #[test]
    fn a_suspicion_taken_back_is_forgotten() {
        let [first, second] = failovers();
        let mut measures = Measures::default();
        measures.set_lanes(1);
        measures.begin(first);
        measures.begin(second);
        measures.forget(first);
        measures.note(0);
        measures.note(0);
        measures.end(second);
        assert_eq!(measures.note(0), [second]);
    }
}
