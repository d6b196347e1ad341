//! Counters of volumes.

use std::fmt::Write as _;

use umpath_protocol::{StatsListing, VolumeStats};

pub(super) fn text(listing: &StatsListing) -> String {
    let mut out = String::new();
    for volume in &listing.volumes {
        one(&mut out, volume);
    }
    if out.is_empty() {
        out.push_str("no volumes\n");
    }
    out
}

fn one(out: &mut String, stats: &VolumeStats) {
    let VolumeStats {
        volume,
        device,
        queues,
        held,
        ..
    } = stats;
    let _ = writeln!(out, "{volume} {device}, {queues} queues");
    if stats.silent > 0 {
        let _ = writeln!(
            out,
            "  {} of them did not answer; their counters are old",
            stats.silent
        );
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let _ = writeln!(
        out,
        "  requests  {} reads ({:.1} MiB), {} writes ({:.1} MiB), {} flushes, {} discards and zeroes; \
         {} failed",
        stats.reads,
        mib(stats.read_bytes),
        stats.writes,
        mib(stats.written_bytes),
        stats.flushes,
        stats.clears,
        stats.errors
    );
    let _ = writeln!(
        out,
        "  waiting   {} in flight, the oldest for {:.1} ms; the longest ever took {:.1} ms",
        stats.in_flight, stats.oldest_ms, stats.longest_ms
    );
    let _ = writeln!(
        out,
        "  commands  {} sent, {} resent, {} writes lost with a controller, {} stale completions",
        stats.sent, stats.resent, stats.lost, stats.stale
    );
    let _ = writeln!(
        out,
        "  held      {} now; so far {} over a lost write, {} lost writes over each other, {} because \
         others write too, {} for what an earlier umpathd left; {:.1} ms at most",
        held.now, held.by_ghost, held.by_overlap, held.by_sharing, held.by_unknown, held.longest_ms
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use umpath_protocol::HeldStats;

    #[test]
    fn held_writes_are_told_with_their_reasons() {
        let stats = VolumeStats {
            volume: "vol1".into(),
            device: "ublkb0".into(),
            queues: 2,
            writes: 7,
            written_bytes: 3 << 20,
            lost: 4,
            held: HeldStats {
                now: 1,
                by_ghost: 5,
                longest_ms: 2859.25,
                ..HeldStats::default()
            },
            ..VolumeStats::default()
        };
        let text = text(&StatsListing {
            volumes: vec![stats],
        });
        assert!(
            text.starts_with("vol1 ublkb0, 2 queues\n  requests  0 reads"),
            "{text}"
        );
        assert!(text.contains("7 writes (3.0 MiB)"), "{text}");
        assert!(
            text.contains("held      1 now; so far 5 over a lost write"),
            "{text}"
        );
        assert!(text.contains("2859.2 ms at most"), "{text}");
        assert!(!text.contains("did not answer"), "{text}");
        assert_eq!(super::text(&StatsListing::default()), "no volumes\n");
    }
}
