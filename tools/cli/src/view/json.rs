//! JSON answers: every object has `version`, and keys are stable.

use serde::Serialize;
use serde_json::{Value, json};
use umpath_protocol::{Failure, Reply, VERSION};

/// Indented JSON with a final newline.
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// `{"version": …, "<key>": value}`.
pub(crate) fn versioned(key: &str, value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    pretty(&json!({ "version": VERSION, key: value }))
}

/// A failure of the whole request.
pub(crate) fn failed(failure: &Failure) -> String {
    versioned("error", failure)
}

/// An answer without a view of its own, under the name of its variant.
pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Events(events) => pretty(&json!({
            "version": VERSION, "failovers": events.failovers, "events": events.events,
        })),
        Reply::Connected {
            paths,
            failures,
            ignored,
        } => pretty(&json!({
            "version": VERSION, "connected": paths, "failed": failures, "ignored": ignored,
        })),
        Reply::Disconnected { paths, deleted } => {
            pretty(&json!({ "version": VERSION, "disconnected": paths, "deleted": deleted }))
        }
        Reply::Stats(stats) => versioned("volumes", &stats.volumes),
        Reply::Config(toml) => versioned("config", toml),
        Reply::Done(text) => versioned("done", text),
        Reply::Discovery(logs) => versioned("discovery", logs),
        Reply::Snapshot(snapshot) => versioned("snapshot", snapshot),
        Reply::Failed(failure) => failed(failure),
    }
}
