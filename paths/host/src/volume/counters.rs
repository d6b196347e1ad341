//! Counters of a volume, as last reported by its queue threads.

use std::time::Duration;

use umpath_core::{LaneCommand, ThreadStats};
use umpath_protocol::{HeldStats, VolumeStats};

use super::Volume;
use crate::effects::Effects;

/// The last report of each queue thread, by number.
#[derive(Debug, Default)]
pub(super) struct Counters(Vec<Option<ThreadStats>>);

impl Counters {
    pub(super) fn set_lanes(&mut self, lanes: u16) {
        self.0 = vec![None; lanes.into()];
    }

    pub(super) fn note(&mut self, queue: u16, stats: &ThreadStats) {
        let last = self.0.get_mut(usize::from(queue));
        *last.expect("a queue thread of this volume") = Some(*stats);
    }
}

impl Volume {
    /// Requests counters from all queue threads. They are complete when [`Self::silent`] is 0 for
    /// the returned ticket.
    pub(crate) fn ask_counters(&mut self, fx: &mut Effects) -> u64 {
        let ticket = self.measures.ask();
        self.send_all(fx, || LaneCommand::Snapshot);
        ticket
    }

    /// Number of queue threads that have not answered.
    pub(crate) fn silent(&self, ticket: u64) -> u16 {
        self.measures.silent(ticket)
    }

    /// Sums over all queue threads.
    pub(crate) fn counters(&self, ticket: u64) -> VolumeStats {
        let mut sum = VolumeStats {
            volume: self.name().to_owned(),
            device: self.device_name(),
            queues: self.counters.0.len() as u16,
            silent: self.silent(ticket),
            ..VolumeStats::default()
        };
        for ThreadStats { queue, lane } in self.counters.0.iter().flatten() {
            sum.reads += queue.reads;
            sum.writes += queue.writes;
            sum.flushes += queue.flushes;
            sum.clears += queue.clears;
            sum.read_bytes += queue.read_bytes;
            sum.written_bytes += queue.written_bytes;
            sum.errors += queue.errors;
            sum.in_flight += queue.in_flight;
            sum.oldest_ms = sum.oldest_ms.max(ms(queue.oldest_waiting));
            sum.longest_ms = sum.longest_ms.max(ms(lane.longest));
            sum.sent += lane.sent;
            sum.resent += lane.resent;
            sum.lost += lane.lost;
            sum.stale += lane.stale;
            let HeldStats {
                now,
                by_ghost,
                by_overlap,
                by_sharing,
                by_unknown,
                longest_ms,
            } = &mut sum.held;
            *now += u64::from(lane.held.now);
            *by_ghost += lane.held.by_ghost;
            *by_overlap += lane.held.by_overlap;
            *by_sharing += lane.held.by_sharing;
            *by_unknown += lane.held.by_unknown;
            *longest_ms = longest_ms.max(ms(lane.held.longest));
        }
        sum
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
