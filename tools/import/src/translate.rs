//! Translates settings of multipathd into keys of `umpath.toml`.
//!
//! Decided here: what each setting in force for a class of volumes becomes. Literal: its effect on
//! NVMe devices under multipathd. Intended: what it asks for. `resolve` decides which sections
//! apply, `lint` what is reported.

use crate::Mode;
use crate::features;
use crate::resolve::View;
use crate::toml::Value;

/// One key of `umpath.toml` and the settings it comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: &'static str,
    pub(crate) value: Value,
    /// Keywords it depends on, the decisive one first.
    pub(crate) from: &'static [&'static str],
}

/// Keys that only `[defaults]` can contain.
pub(crate) const DEFAULTS_ONLY: &[&str] = &[
    "max_io_kib",
    "ctrl_loss_tmo_ms",
    "flap_threshold",
    "flap_hold_ms",
    "flap_hold_max_ms",
    "flap_forget_ms",
];

/// The kernel's path selectors, all of which umpath has.
pub(crate) const SELECTORS: &[&str] = &[
    "round-robin",
    "queue-length",
    "service-time",
    "historical-service-time",
    "io-affinity",
];

/// All entries for this view.
pub(crate) fn entries(view: &View<'_>, mode: Mode) -> Vec<Entry> {
    let mut entries = Vec::new();
    entries.extend(grouping(view, mode));
    entries.extend(selector(view));
    prio(view, mode, &mut entries);
    entries.extend(failback(view));
    entries.push(no_path_retry(view));
    if mode == Mode::Intended {
        round_robin(view, &mut entries);
        timers(view, &mut entries);
    }
    entries.extend(flush(view));
    entries.extend(marginal(view));
    damping(view, &mut entries);
    entries.extend(max_io(view));
    entries
}

fn entry(key: &'static str, value: impl Into<Value>, from: &'static [&'static str]) -> Entry {
    Entry {
        key,
        value: value.into(),
        from,
    }
}

fn grouping(view: &View<'_>, mode: Mode) -> Option<Entry> {
    let word = match (view.text("path_grouping_policy")?, mode) {
        // Not all paths have prio alua: multipathd falls back.
        ("group_by_tpg", Mode::Literal) => "failover",
        ("group_by_tpg", Mode::Intended) => "group_by_ana_group",
        // NVMe paths have no target node name, so all have the same.
        ("group_by_node_name", Mode::Literal) => "multibus",
        ("group_by_node_name", Mode::Intended) => "group_by_serial",
        (word, _) => word,
    };
    Some(entry(
        "path_grouping_policy",
        word,
        &["path_grouping_policy"],
    ))
}

fn selector(view: &View<'_>) -> Option<Entry> {
    let text = view.text("path_selector").unwrap_or("service-time 0");
    let name = selector_name(text)?;
    Some(entry(
        "path_selector",
        format!("{name} 0"),
        &["path_selector"],
    ))
}

/// The selector, if the kernel has it.
pub(crate) fn selector_name(text: &str) -> Option<&'static str> {
    let name = text.split_whitespace().next()?;
    SELECTORS.iter().find(|known| **known == name).copied()
}

fn prio(view: &View<'_>, mode: Mode, entries: &mut Vec<Entry>) {
    let configured = view.text("prio").unwrap_or("const");
    let detects = view.text("detect_prio") != Some("no");
    let word = match (configured, mode) {
        ("ana", _) | ("alua", Mode::Intended) => "ana",
        ("weightedpath", Mode::Intended) => "weighted",
        ("weightedpath", Mode::Literal) if !detects => "weighted",
        _ if detects => "auto",
        _ => "const",
    };
    entries.push(entry("prio", word, &["prio", "detect_prio"]));
    let exclusive = view.text("prio_args").is_some_and(|args| {
        args.split_whitespace()
            .any(|arg| arg == "exclusive_pref_bit")
    });
    if mode == Mode::Intended && word == "ana" && exclusive {
        entries.push(entry("exclusive_pref_bit", true, &["prio_args", "prio"]));
    }
}

fn failback(view: &View<'_>) -> Option<Entry> {
    let (_, setting) = view.get("failback")?;
    let value = match setting.value.number() {
        Some(seconds) => Value::from(seconds),
        None => Value::from(setting.value.text.as_str()),
    };
    Some(entry("failback", value, &["failback"]))
}

fn no_path_retry(view: &View<'_>) -> Entry {
    let queues = view
        .text("features")
        .is_some_and(features::queue_if_no_path);
    let value = match (view.text("no_path_retry"), view.count("no_path_retry")) {
        (_, Some(checks)) => {
            let seconds = checks.saturating_mul(view.interval().0).min(SECONDS_MAX);
            format!("{seconds}s")
        }
        (Some(word), None) => word.to_owned(),
        (None, None) if queues => "queue".to_owned(),
        (None, None) => "fail".to_owned(),
    };
    entry("no_path_retry", value, &["no_path_retry", "features"])
}

/// Upper bound of `no_path_retry`.
const SECONDS_MAX: u64 = u32::MAX as u64;

fn round_robin(view: &View<'_>, entries: &mut Vec<Entry>) {
    if !is_round_robin(view) {
        return;
    }
    const TURN_MAX: u64 = 1_000_000;
    let turn = view
        .count("rr_min_io_rq")
        .or_else(|| view.count("rr_min_io"));
    if let Some(turn) = turn {
        let from = &["rr_min_io_rq", "rr_min_io", "path_selector"];
        entries.push(entry("rr_min_io", turn.min(TURN_MAX), from));
    }
    if let Some(weight) = view.text("rr_weight") {
        entries.push(entry("rr_weight", weight, &["rr_weight", "path_selector"]));
    }
}

/// Whether the selector is round-robin.
pub(crate) fn is_round_robin(view: &View<'_>) -> bool {
    view.text("path_selector").and_then(selector_name) == Some("round-robin")
}

fn timers(view: &View<'_>, entries: &mut Vec<Entry>) {
    if let Some(seconds) = view.count("fast_io_fail_tmo") {
        let ms = seconds.saturating_mul(1000).min(DAY_MS);
        entries.push(entry("fast_io_fail_ms", ms, &["fast_io_fail_tmo"]));
    }
    if let Some(seconds) = view.count("dev_loss_tmo") {
        let ms = seconds.saturating_mul(1000);
        entries.push(entry("ctrl_loss_tmo_ms", ms, &["dev_loss_tmo"]));
    }
}

const DAY_MS: u64 = 86_400_000;

fn flush(view: &View<'_>) -> Option<Entry> {
    let always = view.text("flush_on_last_del")? == "always";
    Some(entry("flush_on_last_del", always, &["flush_on_last_del"]))
}

fn marginal(view: &View<'_>) -> Option<Entry> {
    let on = view.text("marginal_pathgroups")? != "off";
    Some(entry("marginal_pathgroups", on, &["marginal_pathgroups"]))
}

/// Three families of keywords for one purpose. The strongest one that is set counts, as in
/// multipathd: marginal_path, then san_path_err, then delay_checks.
fn damping(view: &View<'_>, entries: &mut Vec<Entry>) {
    let (first, most) = view.interval();
    let double = view.count("marginal_path_double_failed_time");
    let gap = view.count("marginal_path_err_recheck_gap_time");
    let threshold = view.count("san_path_err_threshold");
    let watch = view.count("delay_watch_checks");
    let wait = view.count("delay_wait_checks");
    let (threshold, hold, forget, from): (_, _, _, &'static [&'static str]) =
        if double.is_some() || gap.is_some() {
            (Some(2), gap, double, MARGINAL_KEYS)
        } else if threshold.is_some() {
            let forget = view.count("san_path_err_forget_rate");
            let forget = forget.map(|checks| checks.saturating_mul(first));
            (
                threshold,
                view.count("san_path_err_recovery_time"),
                forget,
                SAN_KEYS,
            )
        } else if watch.is_some() || wait.is_some() {
            let forget = watch.map(|checks| checks.saturating_mul(first));
            (
                Some(1),
                wait.map(|checks| checks.saturating_mul(most)),
                forget,
                DELAY_KEYS,
            )
        } else {
            return;
        };
    let ms = |seconds: u64| seconds.saturating_mul(1000).clamp(1, DAY_MS);
    if let Some(count) = threshold {
        entries.push(entry("flap_threshold", count.min(1000), from));
    }
    if let Some(hold) = hold.map(ms) {
        entries.push(entry("flap_hold_ms", hold, from));
        if hold > HOLD_MAX_MS {
            entries.push(entry("flap_hold_max_ms", hold, from));
        }
    }
    if let Some(forget) = forget.map(ms) {
        entries.push(entry("flap_forget_ms", forget, from));
    }
}

/// The longest hold if none is set.
const HOLD_MAX_MS: u64 = 300_000;

const MARGINAL_KEYS: &[&str] = &[
    "marginal_path_double_failed_time",
    "marginal_path_err_recheck_gap_time",
];
const SAN_KEYS: &[&str] = &[
    "san_path_err_threshold",
    "san_path_err_recovery_time",
    "san_path_err_forget_rate",
];
const DELAY_KEYS: &[&str] = &["delay_watch_checks", "delay_wait_checks"];

fn max_io(view: &View<'_>) -> Option<Entry> {
    let kib = view.count("max_sectors_kb")?;
    Some(entry("max_io_kib", io_bounds(kib), &["max_sectors_kb"]))
}

/// The nearest size that umpath supports.
pub(crate) fn io_bounds(kib: u64) -> u64 {
    kib.clamp(4, 32 * 1024) / 4 * 4
}
