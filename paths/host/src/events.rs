//! The event log: a bounded ring of events, and the timelines of the last failovers.
//!
//! Decided here: which marks a failover has and when it counts as over. Not decided here: whether
//! something happened; the caller that observed it reports it with the time of observation.

use std::collections::VecDeque;
use std::time::Duration;

use umpath_protocol::{Event, EventKind, EventListing, Timeline, TimelineMark};

const EVENTS_MAX: usize = 1024;
const FAILOVERS_MAX: usize = 64;

/// Holds the newest `EVENTS_MAX` events and the newest `FAILOVERS_MAX` failover timelines.
#[derive(Debug)]
pub struct EventLog {
    started: Duration,
    /// Wall clock at time zero, milliseconds since 1970.
    origin_unix_ms: u64,
    seq: u64,
    events: VecDeque<Event>,
    failovers: VecDeque<Failover>,
    failover_last: u64,
}

/// A failover whose timeline is still being written.
#[derive(Debug)]
struct Failover {
    timeline: Timeline,
    started: Duration,
}

/// The volume and path an event concerns, where there are any.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    pub(crate) volume: Option<String>,
    /// Host-wide path number.
    pub(crate) path: Option<u32>,
}

impl Subject {
    pub(crate) fn path(path: u32) -> Self {
        Self {
            volume: None,
            path: Some(path),
        }
    }

    pub(crate) fn volume(name: &str) -> Self {
        Self {
            volume: Some(name.to_owned()),
            path: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FailoverId(u64);

impl EventLog {
    /// An empty log. `unix_ms` is the wall clock at `now`; it only appears in output.
    pub(crate) fn new(now: Duration, unix_ms: u64) -> Self {
        Self {
            started: now,
            origin_unix_ms: unix_ms.saturating_sub(millis(now)),
            seq: 0,
            events: VecDeque::new(),
            failovers: VecDeque::new(),
            failover_last: 0,
        }
    }

    /// Records that the wall clock reads `unix_ms` at `now`; an operator may have set it.
    pub(crate) fn set_wall_clock(&mut self, now: Duration, unix_ms: u64) {
        self.origin_unix_ms = unix_ms.saturating_sub(millis(now));
    }

    fn wall(&self, at: Duration) -> u64 {
        self.origin_unix_ms + millis(at)
    }

    fn failover_mut(&mut self, id: FailoverId) -> Option<&mut Failover> {
        self.failovers
            .iter_mut()
            .find(|failover| failover.timeline.id == id.0)
    }

    /// Records an event observed at `at`.
    pub(crate) fn record(
        &mut self,
        at: Duration,
        kind: EventKind,
        subject: Subject,
        detail: String,
    ) {
        log_line(kind, &subject, &detail);
        self.seq += 1;
        let event = Event {
            seq: self.seq,
            at_unix_ms: self.wall(at),
            at_ms: millis(at.saturating_sub(self.started)),
            kind,
            volume: subject.volume,
            path: subject.path,
            detail,
        };
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Opens a failover of a path with its first mark.
    pub(crate) fn failover(
        &mut self,
        at: Duration,
        kind: EventKind,
        path: u32,
        address: &str,
        cause: &str,
    ) -> FailoverId {
        self.record(at, kind, Subject::path(path), cause.to_owned());
        self.failover_last += 1;
        let id = self.failover_last;
        let started_unix_ms = self.wall(at);
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
        if self.failovers.len() == FAILOVERS_MAX {
            self.failovers.pop_front();
        }
        self.failovers.push_back(Failover {
            timeline,
            started: at,
        });
        FailoverId(id)
    }

    /// Adds a mark to a failover and records it as an event as well. A subject without a path is
    /// about the path that failed over.
    pub(crate) fn mark(
        &mut self,
        id: FailoverId,
        at: Duration,
        kind: EventKind,
        mut subject: Subject,
        detail: &str,
    ) {
        let at_unix_ms = self.wall(at);
        // The ring may have dropped it.
        if let Some(failover) = self.failover_mut(id) {
            let lost = failover.timeline.path;
            let path = *subject.path.get_or_insert(lost);
            let elsewhere = (path != lost).then(|| format!("path {path}"));
            let about = subject.volume.iter().cloned().chain(elsewhere);
            let about = about.collect::<Vec<_>>().join(" ");
            let mark = TimelineMark {
                kind,
                at_unix_ms,
                after_ms: millis(at.saturating_sub(failover.started)),
                detail: match (about.is_empty(), detail.is_empty()) {
                    (false, true) => about,
                    (false, false) => format!("{about}: {detail}"),
                    (true, _) => detail.to_owned(),
                },
            };
            let marks = &mut failover.timeline.marks;
            let place = marks.partition_point(|earlier| earlier.after_ms <= mark.after_ms);
            marks.insert(place, mark);
        }
        self.record(at, kind, subject, detail.to_owned());
    }

    /// Adds a volume to those the failover concerns.
    pub(crate) fn concerns(&mut self, id: FailoverId, volume: &str) {
        if let Some(failover) = self.failover_mut(id) {
            let volumes = &mut failover.timeline.volumes;
            if volumes.iter().all(|known| known != volume) {
                volumes.push(volume.to_owned());
            }
        }
    }

    /// Reports the time one request was held up; the failover keeps the longest.
    pub(crate) fn stalled(&mut self, id: FailoverId, stall: Duration) {
        if let Some(failover) = self.failover_mut(id) {
            let longest = &mut failover.timeline.longest_stall_ms;
            *longest = (*longest).max(Some(millis(stall)));
        }
    }

    /// All events and failovers still in the rings.
    pub fn listing(&self) -> EventListing {
        EventListing {
            failovers: self.failovers.iter().map(|f| f.timeline.clone()).collect(),
            events: self.events.iter().cloned().collect(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_forgets_the_oldest_and_numbers_go_on() {
        let mut log = EventLog::new(Duration::ZERO, 0);
        for _ in 0..EVENTS_MAX + 3 {
            log.record(
                Duration::ZERO,
                EventKind::PathReady,
                Subject::path(1),
                String::new(),
            );
        }
        let events = log.listing().events;
        assert_eq!(events.len(), EVENTS_MAX);
        assert_eq!(events[0].seq, 4);
    }

    #[test]
    fn marks_stand_in_the_order_they_happened() {
        let mut log = EventLog::new(Duration::ZERO, 7_000);
        let ms = Duration::from_millis;
        let start = ms(50);
        let id = log.failover(start, EventKind::Suspected, 1, "rdma,a:1", "link down");
        log.concerns(id, "vol1");
        log.concerns(id, "vol1");
        log.mark(
            id,
            start + ms(300),
            EventKind::OrderFenced,
            Subject::default(),
            "",
        );
        log.mark(
            id,
            start + ms(100),
            EventKind::Convicted,
            Subject::default(),
            "",
        );
        log.stalled(id, ms(120));
        log.stalled(id, ms(80));
        let timeline = log.listing().failovers.remove(0);
        let after: Vec<_> = timeline.marks.iter().map(|mark| mark.after_ms).collect();
        assert_eq!(after, [0, 100, 300]);
        assert_eq!(timeline.marks[1].at_unix_ms, 7_150);
        assert_eq!(timeline.volumes, ["vol1"]);
        assert_eq!(timeline.longest_stall_ms, Some(120));
    }
}
