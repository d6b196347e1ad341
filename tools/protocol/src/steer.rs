//! Manual changes to paths and groups.

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
    /// Undo that, and clear the evidence against the path.
    ReinstatePath {
        /// The path, by number or address.
        path: String,
        /// For this volume only; absent: for all that it serves.
        volume: Option<String>,
    },
    /// Set or clear the preference for a path.
    Prefer {
        /// The path, by number or address.
        path: String,
        /// For this volume only; absent: for all that it serves.
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
