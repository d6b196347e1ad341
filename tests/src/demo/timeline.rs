//! One failover as milliseconds after its cause, from umpathd's event log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The part of `umpath show events -o json` used here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Events {
    failovers: Vec<Failover>,
    events: Vec<Event>,
}

#[derive(Clone, Debug, Deserialize)]
struct Failover {
    path: u32,
    address: String,
    cause: String,
    started_unix_ms: u64,
    marks: Vec<Step>,
    longest_stall_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Step {
    kind: String,
    at_unix_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Event {
    at_unix_ms: u64,
    kind: String,
    path: Option<u32>,
    #[serde(default)]
    detail: String,
}

/// The steps of a failover, in expected order.
const STEPS: [(&str, &str); 6] = [
    ("suspected", "suspected"),
    ("convicted", "convicted"),
    ("buffer_fenced", "buffer fenced"),
    ("order_fenced", "order fenced"),
    ("first_io", "first I/O on the standby"),
    ("failed_back", "failed back"),
];

/// Steps of every failover. A closed connection convicts without a suspicion.
pub(super) const REQUIRED: [&str; 5] = [
    "convicted",
    "buffer_fenced",
    "order_fenced",
    "first_io",
    "failed_back",
];

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Mark {
    /// Name of the event kind.
    pub(super) kind: String,
    /// Milliseconds after the cause.
    pub(super) after_ms: i64,
    /// Details for display; may be empty.
    pub(super) detail: String,
}

/// Selects the events of a path since the fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause {
    /// The path that was hit.
    pub(super) path: u32,
    /// Time of the fault, milliseconds since 1970.
    pub(super) at_unix_ms: u64,
}

impl Events {
    /// Time of the path's first event of this kind since the cause; `None`: not yet.
    pub(super) fn first(&self, cause: Cause, kind: &str) -> Option<u64> {
        self.find(cause, kind).map(|event| event.at_unix_ms)
    }

    fn find(&self, cause: Cause, kind: &str) -> Option<&Event> {
        // First I/O names the path it went to.
        let elsewhere = kind == "first_io";
        self.events.iter().find(|event| {
            event.kind == kind
                && event.at_unix_ms >= cause.at_unix_ms
                && event
                    .path
                    .is_none_or(|path| (path == cause.path) != elsewhere)
        })
    }

    /// Longest stall in the failover as umpathd measured it; available some time after the order
    /// fence.
    pub(super) fn longest_stall_ms(&self, cause: Cause) -> Option<u64> {
        self.failover(cause)?.longest_stall_ms
    }

    /// The evidence as umpathd logged it.
    pub(super) fn evidence(&self, cause: Cause) -> Option<&str> {
        Some(self.failover(cause)?.cause.as_str())
    }

    /// The suspicion may precede the cause; the conviction does not.
    fn failover(&self, cause: Cause) -> Option<&Failover> {
        self.failovers.iter().find(|failover| {
            let convicted =
                |step: &Step| step.kind == "convicted" && step.at_unix_ms >= cause.at_unix_ms;
            failover.path == cause.path && failover.marks.iter().any(convicted)
        })
    }

    /// Failovers that none of the causes explains, such as that of a healthy path that was starved
    /// of CPU time.
    pub(super) fn unexplained(&self, causes: &[Cause]) -> Vec<String> {
        let explained = |failover: &Failover| {
            causes.iter().any(|cause| {
                self.failover(*cause)
                    .is_some_and(|known| std::ptr::eq(known, failover))
            })
        };
        self.failovers
            .iter()
            .filter(|failover| !explained(failover))
            .map(|failover| {
                format!(
                    "path {} ({}) at {}: {}",
                    failover.path, failover.address, failover.started_unix_ms, failover.cause
                )
            })
            .collect()
    }

    /// The steps found, in order of time.
    pub(super) fn marks(&self, cause: Cause) -> Vec<Mark> {
        let mut marks: Vec<Mark> = STEPS
            .iter()
            .filter_map(|(kind, _)| {
                let event = self.find(cause, kind)?;
                Some(Mark {
                    kind: (*kind).to_owned(),
                    after_ms: event.at_unix_ms as i64 - cause.at_unix_ms as i64,
                    detail: event.detail.clone(),
                })
            })
            .collect();
        marks.sort_by_key(|mark| mark.after_ms);
        marks
    }
}

/// One failover, for display and for the report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Timeline {
    /// The fault: `pulled`, `killed`, `cut off`.
    pub(super) what: String,
    /// Time of the fault, milliseconds since 1970.
    pub(super) at_unix_ms: u64,
    /// The evidence as umpathd logged it.
    pub(super) evidence: String,
    /// umpathd's steps, and the demo's own actions.
    pub(super) marks: Vec<Mark>,
    /// Longest stall as umpathd measured it.
    pub(super) longest_stall_ms: Option<u64>,
    /// Longest stall of the steady writers, file system included.
    pub(super) write_longest_ms: Option<u64>,
    /// Longest stall of fio, from submission to completion, in the rounds it overlaps.
    pub(super) fio_longest_ms: Option<u64>,
    /// Steady writes in flight at the fault.
    pub(super) writes_in_flight: usize,
}

impl Timeline {
    /// Adds one of the demo's own actions.
    pub(super) fn add(&mut self, kind: &str, at_unix_ms: u64) {
        self.marks.push(Mark {
            kind: kind.to_owned(),
            after_ms: at_unix_ms as i64 - self.at_unix_ms as i64,
            detail: String::new(),
        });
        self.marks.sort_by_key(|mark| mark.after_ms);
    }

    /// The longest stall by any measure.
    pub(super) fn stall_ms(&self) -> Option<u64> {
        self.longest_stall_ms
            .max(self.write_longest_ms)
            .max(self.fio_longest_ms)
    }

    /// Required steps that are missing.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let there = |kind: &str| self.marks.iter().any(|mark| mark.kind == kind);
        REQUIRED.into_iter().filter(|kind| !there(kind)).collect()
    }

    /// A table for display.
    pub(super) fn text(&self) -> String {
        use std::fmt::Write as _;
        let words: BTreeMap<_, _> = STEPS.into_iter().collect();
        let mut text = format!("timeline, ms after the primary was {}\n", self.what);
        for mark in &self.marks {
            let kind = mark.kind.as_str();
            let word = words.get(kind).copied().unwrap_or(kind);
            let line = format!("{:>8}  {word:<26}{}", mark.after_ms, mark.detail);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let number = |ms: Option<u64>| ms.map_or_else(|| "?".to_owned(), |ms| ms.to_string());
        let _ = writeln!(
            text,
            "{:>8}  longest stall (umpathd)\n{:>8}  longest stall (writers, {} writes in \
             flight)\n{:>8}  longest stall (fio, submission to completion)",
            number(self.longest_stall_ms),
            number(self.write_longest_ms),
            self.writes_in_flight,
            number(self.fio_longest_ms)
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Events {
        let text = r#"{"version":1,
            "failovers":[{"id":1,"path":1,"address":"a","volumes":[],"cause":"link down",
                "started_unix_ms":990,"marks":[{"kind":"suspected","at_unix_ms":990},
                {"kind":"convicted","at_unix_ms":1111}],"longest_stall_ms":700}],
            "events":[
                {"seq":1,"at_unix_ms":900,"at_ms":0,"kind":"convicted","volume":null,"path":1,
                 "detail":"before"},
                {"seq":2,"at_unix_ms":1010,"at_ms":0,"kind":"suspected","volume":null,"path":1,
                 "detail":"link down"},
                {"seq":3,"at_unix_ms":1110,"at_ms":0,"kind":"convicted","volume":null,"path":2,
                 "detail":"another"},
                {"seq":4,"at_unix_ms":1111,"at_ms":0,"kind":"convicted","volume":null,"path":1,
                 "detail":"link down"},
                {"seq":5,"at_unix_ms":1200,"at_ms":0,"kind":"first_io","volume":"v","path":2,
                 "detail":"longest wait so far 165 ms"}]}"#;
        serde_json::from_str(text).expect("events")
    }

    #[test]
    fn only_this_path_and_only_since_the_cause() {
        let cause = Cause {
            path: 1,
            at_unix_ms: 1000,
        };
        let after: Vec<_> = events()
            .marks(cause)
            .iter()
            .map(|mark| (mark.kind.clone(), mark.after_ms))
            .collect();
        assert_eq!(
            after,
            [
                ("suspected".to_owned(), 10),
                ("convicted".to_owned(), 111),
                ("first_io".to_owned(), 200)
            ]
        );
        assert_eq!(events().longest_stall_ms(cause), Some(700));
        assert_eq!(events().evidence(cause), Some("link down"));
        assert!(events().unexplained(&[cause]).is_empty());
        assert_eq!(events().unexplained(&[]).len(), 1);
    }

    #[test]
    fn what_is_missing_is_named() {
        let timeline = Timeline {
            what: "pulled".to_owned(),
            at_unix_ms: 1000,
            evidence: String::new(),
            marks: Vec::new(),
            longest_stall_ms: None,
            write_longest_ms: Some(4),
            fio_longest_ms: Some(5),
            writes_in_flight: 1,
        };
        assert_eq!(timeline.missing(), REQUIRED);
        assert_eq!(timeline.stall_ms(), Some(5));
    }
}
