//! What an operator may do to paths and groups by hand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One action. A volume is named by name, identity or device, a path by number, address
/// (`192.168.10.14`) or address and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    /// Send nothing new on a path.
    FailPath {
        /// The path, by number or address.
        path: String,
        /// For this volume only; absent: for all that it serves.
        volume: Option<String>,
    },
    /// Undo that, and forget what is held against the path.
    ReinstatePath {
        /// The path, by number or address.
        path: String,
        /// For this volume only; absent: for all that it serves.
        volume: Option<String>,
    },
    /// Prefer a path, or do not.
    Prefer {
        /// The path, by number or address.
        path: String,
        /// For this volume only; absent: for all that it serves.
        volume: Option<String>,
        /// Prefer it.
        on: bool,
    },
    /// Make a priority group carry the I/O.
    SwitchGroup {
        /// The volume.
        volume: String,
        /// Number of the group as `-ll` shows them, from 1.
        group: u32,
    },
    /// Change policies until the daemon ends, by their keys in `umpath.toml`.
    Set {
        /// The volume; absent: all.
        volume: Option<String>,
        /// Keys and values.
        policies: BTreeMap<String, String>,
    },
}
