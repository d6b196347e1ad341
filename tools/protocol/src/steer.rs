//! Manual changes to paths and groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One change. A volume is given by name, identity or device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    /// Send nothing new on a path.
    FailPath {
        /// Path number.
        path: u32,
        /// Only for this volume; absent: for all that the path serves.
        volume: Option<String>,
    },
    /// Undo that, and clear the evidence against the path.
    ReinstatePath {
        /// Path number.
        path: u32,
        /// Only for this volume; absent: for all that the path serves.
        volume: Option<String>,
    },
    /// Set or clear the preference for a path.
    Prefer {
        /// Path number.
        path: u32,
        /// Only for this volume; absent: for all that the path serves.
        volume: Option<String>,
        /// Set (`true`) or clear (`false`).
        on: bool,
    },
    /// Move I/O to a priority group.
    SwitchGroup {
        /// Name, identity or device.
        volume: String,
        /// Group number as shown by `-ll`, from 1.
        group: u32,
    },
    /// Change policies until the daemon exits, by their keys in `umpath.toml`.
    Set {
        /// A volume; absent: all.
        volume: Option<String>,
        /// Policy keys and their values.
        policies: BTreeMap<String, String>,
    },
}
