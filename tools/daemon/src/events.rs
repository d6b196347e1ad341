//! The event log: a bounded ring of events, and the timelines of the last failovers.
//!
//! Decided here: which marks a failover has and when it counts as over. Not decided here: whether
//! anything happened at all; the tasks that saw it say so, with the time at which they saw it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use umpath_protocol::{Event, EventKind, EventListing, Timeline, TimelineMark};

use crate::clock;

const EVENTS_MAX: usize = 1024;
const FAILOVERS_MAX: usize = 64;

/// The log. Cloning it gives another handle to the same log.
#[derive(Debug, Clone)]
pub(crate) struct EventLog(Arc<Mutex<Ring>>);

#[derive(Debug)]
struct Ring {
    started: Duration,
    seq: u64,
    events: VecDeque<Event>,
    failovers: VecDeque<Failover>,
    failover_last: u64,
}

/// A timeline being written.
#[derive(Debug)]
struct Failover {
    timeline: Timeline,
    started: Duration,
}

/// What an event is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    /// A volume, by name.
    pub(crate) volume: Option<String>,
    /// A path, by number.
    pub(crate) path: Option<u32>,
}

impl Subject {
    /// A path.
    pub(crate) fn path(path: u32) -> Self {
        Self {
            volume: None,
            path: Some(path),
        }
    }

    /// A volume.
    pub(crate) fn volume(name: &str) -> Self {
        Self {
            volume: Some(name.to_owned()),
            path: None,
        }
    }
}

/// Number of a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FailoverId(u64);

impl EventLog {
    /// An empty log.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Ring {
            started: clock::now(),
            seq: 0,
            events: VecDeque::new(),
            failovers: VecDeque::new(),
            failover_last: 0,
        })))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an event seen now.
    pub(crate) fn record(&self, kind: EventKind, subject: Subject, detail: impl Into<String>) {
        self.record_at(clock::now(), kind, subject, detail.into());
    }

    /// Writes an event seen at `at`.
    pub(crate) fn record_at(
        &self,
        at: Duration,
        kind: EventKind,
        subject: Subject,
        detail: String,
    ) {
        log_line(kind, &subject, &detail);
        let mut ring = self.ring();
        ring.seq += 1;
        let event = Event {
            seq: ring.seq,
            at_unix_ms: wall(at),
            at_ms: millis(at.saturating_sub(ring.started)),
            kind,
            volume: subject.volume,
            path: subject.path,
            detail,
        };
        if ring.events.len() == EVENTS_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(event);
    }

    /// Begins a failover of a path with its first mark.
    pub(crate) fn failover(
        &self,
        at: Duration,
        kind: EventKind,
        path: u32,
        address: &str,
        cause: &str,
    ) -> FailoverId {
        self.record_at(at, kind, Subject::path(path), cause.to_owned());
        let mut ring = self.ring();
        ring.failover_last += 1;
        let id = ring.failover_last;
        let started_unix_ms = wall(at);
        let timeline = Timeline {
            id,
            path,
            address: address.to_owned(),
            volumes: Vec::new(),
            cause: cause.to_owned(),
            started_unix_ms,
            marks: vec![TimelineMark {
                kind,
                at_unix_ms: started_unix_ms,
                after_ms: 0,
                detail: String::new(),
            }],
            longest_stall_ms: None,
        };
        if ring.failovers.len() == FAILOVERS_MAX {
            ring.failovers.pop_front();
        }
        ring.failovers.push_back(Failover {
            timeline,
            started: at,
        });
        FailoverId(id)
    }

    /// Adds a mark to a failover, and the same as an event.
    pub(crate) fn mark(
        &self,
        id: FailoverId,
        at: Duration,
        kind: EventKind,
        volume: Option<&str>,
        detail: &str,
    ) {
        let mut path = None;
        {
            let mut ring = self.ring();
            if let Some(failover) = ring.failovers.iter_mut().find(|f| f.timeline.id == id.0) {
                path = Some(failover.timeline.path);
                let mark = TimelineMark {
                    kind,
                    at_unix_ms: wall(at),
                    after_ms: millis(at.saturating_sub(failover.started)),
                    detail: match volume {
                        Some(name) if detail.is_empty() => name.to_owned(),
                        Some(name) => format!("{name}: {detail}"),
                        None => detail.to_owned(),
                    },
                };
                let marks = &mut failover.timeline.marks;
                let place = marks.partition_point(|earlier| earlier.after_ms <= mark.after_ms);
                marks.insert(place, mark);
            }
        }
        let subject = Subject {
            volume: volume.map(str::to_owned),
            path,
        };
        self.record_at(at, kind, subject, detail.to_owned());
    }

    /// Names a volume the failover concerns.
    pub(crate) fn concerns(&self, id: FailoverId, volume: &str) {
        if let Some(failover) = self
            .ring()
            .failovers
            .iter_mut()
            .find(|f| f.timeline.id == id.0)
            && !failover
                .timeline
                .volumes
                .iter()
                .any(|known| known == volume)
        {
            failover.timeline.volumes.push(volume.to_owned());
        }
    }

    /// A request was held up for so long during the failover.
    pub(crate) fn stalled(&self, id: FailoverId, stall: Duration) {
        if let Some(failover) = self
            .ring()
            .failovers
            .iter_mut()
            .find(|f| f.timeline.id == id.0)
        {
            let longest = &mut failover.timeline.longest_stall_ms;
            *longest = (*longest).max(Some(millis(stall)));
        }
    }

    /// Everything that is still in the ring.
    pub(crate) fn listing(&self) -> EventListing {
        let ring = self.ring();
        EventListing {
            failovers: ring.failovers.iter().map(|f| f.timeline.clone()).collect(),
            events: ring.events.iter().cloned().collect(),
        }
    }
}

fn log_line(kind: EventKind, subject: &Subject, detail: &str) {
    let mut words = kind.word().to_owned();
    if let Some(volume) = &subject.volume {
        words = format!("{words} {volume}");
    }
    if let Some(path) = subject.path {
        words = format!("{words} path {path}");
    }
    if !detail.is_empty() {
        words = format!("{words}: {detail}");
    }
    match kind {
        EventKind::Suspected
        | EventKind::Convicted
        | EventKind::NoPath
        | EventKind::QueuedFailed
        | EventKind::ConnectFailed
        | EventKind::PathErrors
        | EventKind::Refused => tracing::warn!("{words}"),
        _ => tracing::info!("{words}"),
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// The wall clock at a monotonic time of the recent past.
fn wall(at: Duration) -> u64 {
    clock::unix_ms().saturating_sub(millis(clock::now().saturating_sub(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_forgets_the_oldest_and_numbers_go_on() {
        let log = EventLog::new();
        for _ in 0..EVENTS_MAX + 3 {
            log.record(EventKind::PathReady, Subject::path(1), "");
        }
        let events = log.listing().events;
        assert_eq!(events.len(), EVENTS_MAX);
        assert_eq!(events[0].seq, 4);
    }

    #[test]
    fn marks_stand_in_the_order_they_happened() {
        let log = EventLog::new();
        let start = clock::now();
        let ms = Duration::from_millis;
        let id = log.failover(start, EventKind::Suspected, 1, "rdma,a:1", "link down");
        log.concerns(id, "vol1");
        log.concerns(id, "vol1");
        log.mark(id, start + ms(300), EventKind::OrderFenced, None, "");
        log.mark(id, start + ms(100), EventKind::Convicted, None, "");
        log.stalled(id, ms(120));
        log.stalled(id, ms(80));
        let timeline = log.listing().failovers.remove(0);
        let after: Vec<_> = timeline.marks.iter().map(|mark| mark.after_ms).collect();
        assert_eq!(after, [0, 100, 300]);
        assert_eq!(timeline.volumes, ["vol1"]);
        assert_eq!(timeline.longest_stall_ms, Some(120));
    }
}
