//! One failover from umpathd's event log, in milliseconds after the fault.

use serde::Serialize;
use umpath_protocol::{EventKind, EventListing, Timeline};

/// The steps of a failover; `None` if one has not happened.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Steps {
    /// No new I/O goes to the primary.
    pub(super) suspected_ms: Option<i64>,
    /// Its association is given up.
    pub(super) convicted_ms: Option<i64>,
    /// The association can no longer access local memory.
    pub(super) buffer_fenced_ms: Option<i64>,
    /// The association can no longer execute a command.
    pub(super) order_fenced_ms: Option<i64>,
    /// I/O is back on the primary.
    pub(super) failed_back_ms: Option<i64>,
    /// The evidence that convicted it.
    pub(super) evidence: String,
    /// What proved the order fence.
    pub(super) fenced_by: String,
    /// Longest stall as umpathd measured it.
    pub(super) umpathd_stall_ms: Option<u64>,
}

impl Steps {
    /// The steps logged for `path` since `fault_unix_ms`.
    pub(super) fn read(listing: &EventListing, path: u32, fault_unix_ms: u64) -> Self {
        let mut steps = Self::default();
        let after = |unix_ms: u64| unix_ms as i64 - fault_unix_ms as i64;
        if let Some(failover) = failover(listing, path, fault_unix_ms) {
            let mark = |kind| failover.marks.iter().find(|mark| mark.kind == kind);
            let at = |kind| mark(kind).map(|mark| after(mark.at_unix_ms));
            let words = |kind| mark(kind).map_or_else(String::new, |mark| mark.detail.clone());
            steps.suspected_ms = at(EventKind::Suspected);
            steps.convicted_ms = at(EventKind::Convicted);
            steps.buffer_fenced_ms = at(EventKind::BufferFenced);
            steps.order_fenced_ms = at(EventKind::OrderFenced);
            steps.evidence = words(EventKind::Convicted);
            if steps.evidence.is_empty() {
                steps.evidence.clone_from(&failover.cause);
            }
            steps.fenced_by = words(EventKind::OrderFenced);
            steps.umpathd_stall_ms = failover.longest_stall_ms;
        }
        let back = listing.events.iter().find(|event| {
            event.kind == EventKind::FailedBack
                && event.at_unix_ms >= fault_unix_ms
                && event.path.is_none_or(|known| known == path)
        });
        steps.failed_back_ms = back.map(|event| after(event.at_unix_ms));
        steps
    }

    /// Whether every step that does not need the primary has happened.
    pub(super) fn is_over(&self) -> bool {
        self.convicted_ms.is_some()
            && self.buffer_fenced_ms.is_some()
            && self.order_fenced_ms.is_some()
            && self.umpathd_stall_ms.is_some()
    }
}

/// The suspicion may precede the fault; the conviction does not.
fn failover(listing: &EventListing, path: u32, fault_unix_ms: u64) -> Option<&Timeline> {
    listing.failovers.iter().find(|failover| {
        failover.path == path
            && failover
                .marks
                .iter()
                .any(|mark| mark.kind == EventKind::Convicted && mark.at_unix_ms >= fault_unix_ms)
    })
}

/// Failovers of other paths since a moment: a healthy path was given up.
pub(super) fn strays(listing: &EventListing, path: u32, since_unix_ms: u64) -> Vec<String> {
    let convicted = |failover: &&Timeline| {
        failover.path != path
            && failover.started_unix_ms >= since_unix_ms
            && failover
                .marks
                .iter()
                .any(|mark| mark.kind == EventKind::Convicted)
    };
    listing
        .failovers
        .iter()
        .filter(convicted)
        .map(|failover| {
            format!(
                "path {} ({}): {}",
                failover.path, failover.address, failover.cause
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> EventListing {
        let text = r#"{"version":1,
            "failovers":[
              {"id":1,"path":1,"address":"a","volumes":[],"cause":"old","started_unix_ms":500,
               "marks":[{"kind":"convicted","at_unix_ms":500,"after_ms":0,"detail":"old"}],
               "longest_stall_ms":9},
              {"id":2,"path":1,"address":"a","volumes":[],"cause":"c","started_unix_ms":990,
               "marks":[{"kind":"suspected","at_unix_ms":990,"after_ms":0,"detail":""},
                {"kind":"convicted","at_unix_ms":1111,"after_ms":121,"detail":"silent"}],
               "longest_stall_ms":null},
              {"id":3,"path":2,"address":"b","volumes":[],"cause":"c","started_unix_ms":1200,
               "marks":[{"kind":"convicted","at_unix_ms":1200,"after_ms":0,"detail":""}],
               "longest_stall_ms":null}],
            "events":[{"seq":4,"at_unix_ms":1500,"at_ms":0,"kind":"failed_back","volume":null,
               "path":null,"detail":""}]}"#;
        serde_json::from_str(text).expect("a listing")
    }

    #[test]
    fn the_conviction_after_the_blow_counts() {
        let steps = Steps::read(&listing(), 1, 1000);
        assert_eq!(
            (steps.suspected_ms, steps.convicted_ms),
            (Some(-10), Some(111))
        );
        assert_eq!(
            (steps.evidence.as_str(), steps.failed_back_ms),
            ("silent", Some(500))
        );
        assert!(!steps.is_over());
        assert_eq!(Steps::read(&listing(), 1, 400).umpathd_stall_ms, Some(9));
    }

    #[test]
    fn other_paths_that_were_lost_are_told() {
        assert_eq!(strays(&listing(), 1, 1000), ["path 2 (b): c"]);
        assert!(strays(&listing(), 1, 1201).is_empty());
    }
}
