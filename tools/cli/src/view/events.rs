//! The event log: failovers as timelines, then single events.

use std::fmt::Write as _;

use umpath_protocol::{Event, EventListing, Timeline};

use crate::text::utc;

/// Timelines come first: they are what people look for after a failover.
pub(super) fn text(listing: &EventListing) -> String {
    let mut out = String::new();
    for failover in &listing.failovers {
        timeline(&mut out, failover);
    }
    for event in &listing.events {
        line(&mut out, event);
    }
    if out.is_empty() {
        out.push_str("no events\n");
    }
    out
}

fn timeline(out: &mut String, failover: &Timeline) {
    let Timeline {
        id,
        path,
        address,
        volumes,
        cause,
        started_unix_ms,
        ..
    } = failover;
    let _ = writeln!(
        out,
        "failover {id}: path {path} {address} ({}) at {}: {cause}",
        volumes.join(" "),
        utc(*started_unix_ms),
    );
    for mark in &failover.marks {
        let _ = writeln!(
            out,
            "  +{:>6} ms  {:<14} {}",
            mark.after_ms,
            mark.kind.word(),
            mark.detail,
        );
    }
    if let Some(stall) = failover.longest_stall_ms {
        let _ = writeln!(out, "  longest stall {stall} ms");
    }
}

fn line(out: &mut String, event: &Event) {
    let mut subject = String::new();
    if let Some(volume) = &event.volume {
        let _ = write!(subject, " {volume}");
    }
    if let Some(path) = event.path {
        let _ = write!(subject, " path {path}");
    }
    let _ = writeln!(
        out,
        "{} {:<17}{subject}{}{}",
        utc(event.at_unix_ms),
        event.kind.word(),
        if event.detail.is_empty() { "" } else { ": " },
        event.detail,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use umpath_protocol::{EventKind, TimelineMark};

    #[test]
    fn a_failover_reads_as_a_timeline() {
        let mark = |kind, after_ms| TimelineMark {
            kind,
            at_unix_ms: after_ms,
            after_ms,
            detail: String::new(),
        };
        let listing = EventListing {
            failovers: vec![Timeline {
                id: 1,
                path: 1,
                address: "rdma,10.9.1.1:4420".into(),
                volumes: vec!["vol1".into()],
                cause: "link down".into(),
                started_unix_ms: 0,
                marks: vec![mark(EventKind::Suspected, 0), mark(EventKind::FirstIo, 104)],
                longest_stall_ms: Some(112),
            }],
            events: Vec::new(),
        };
        let text = text(&listing);
        assert!(text.starts_with("failover 1: path 1 rdma,10.9.1.1:4420 (vol1) at 1970-01-01"));
        assert!(text.contains("\n  +   104 ms  first_io"));
        assert!(text.ends_with("longest stall 112 ms\n"));
        assert_eq!(super::text(&EventListing::default()), "no events\n");
    }
}
