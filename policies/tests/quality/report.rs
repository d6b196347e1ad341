//! Figures of a run, the table, and what is promised of it.

use std::fmt::Write as _;

use umpath_policies::SelectorKind;

use super::scene::{Flaw, SELECTORS, Scene};

/// What one selector made of a scene.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    /// Requests a second.
    pub(crate) iops: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
}

impl Cell {
    pub(crate) fn of(mut latencies_ns: Vec<u64>, elapsed_ns: u64) -> Self {
        latencies_ns.sort_unstable();
        let count = latencies_ns.len();
        let quantile =
            |per_mille: usize| latencies_ns[(count * per_mille / 1000).min(count - 1)] / 1000;
        Self {
            iops: count as u64 * 1_000_000_000 / elapsed_ns,
            p50_us: quantile(500),
            p99_us: quantile(990),
            p999_us: quantile(999),
        }
    }
}

/// One line for each scene and selector.
pub(crate) fn table(results: &[(Scene, Vec<Cell>)]) -> String {
    let mut out = String::from(
        "\n| paths | load | selector | kIOPS | p50 us | p99 us | p99.9 us |\n|---|---|---|--:|--:|--:|--:|\n",
    );
    for (scene, cells) in results {
        for (kind, cell) in SELECTORS.iter().zip(cells) {
            let _ = writeln!(
                out,
                "| {}, {} | {} | {} | {}.{} | {} | {} | {} |",
                scene.paths,
                scene.flaw.word(),
                scene.load.word(),
                kind.word(),
                cell.iops / 1000,
                cell.iops % 1000 / 100,
                cell.p50_us,
                cell.p99_us,
                cell.p999_us,
            );
        }
    }
    out.push('\n');
    out
}

/// `latency` is within 2 % of the best on every row where paths differ, and of queue-length where
/// they do not.
pub(crate) fn judge(results: &[(Scene, Vec<Cell>)]) {
    let mut behind = Vec::new();
    for (scene, cells) in results {
        let of = |wanted: SelectorKind| {
            let at = SELECTORS.iter().position(|kind| *kind == wanted);
            cells[at.expect("a selector of the comparison")].iops
        };
        let latency = of(SelectorKind::Latency);
        let aim = match scene.flaw {
            Flaw::None => of(SelectorKind::QueueLength),
            _ => cells.iter().map(|cell| cell.iops).max().unwrap_or(0),
        };
        if latency * 100 < aim * 98 {
            behind.push(format!("{scene:?}: {latency} of {aim}"));
        }
    }
    assert!(behind.is_empty(), "latency is behind: {behind:#?}");
}
