//! What of a device decides about its future, for the exhaustive check (`crate::exhaustive`).
//!
//! Left out is what only counts, or only shapes events. A field that is added to the device does not
//! compile here until somebody has decided whether it belongs.

use std::fmt::Write as _;

use super::{Dying, Guards};
use crate::device::Device;

impl Device {
    pub(crate) fn projection(&self) -> String {
        let Self {
            config: _,
            paths,
            dying,
            guards,
            silent: _,
            active,
            outliers: _,
            windows: _,
            table,
            // The check's clock stands still.
            settled_at: _,
            hopeless_since,
            expired,
            no_hope,
            had_path,
            had_usable,
            starving: _,
            gone,
            outputs,
        } = self;
        assert!(outputs.is_empty(), "all is taken");
        let mut text = String::new();
        let mut put = |part: &dyn core::fmt::Debug| {
            let _ = write!(text, "{part:?};");
        };
        put(paths);
        put(active);
        put(&(&table.paths, &table.groups, table.active, table.on_no_path));
        put(&(hopeless_since, expired, no_hope, had_path, had_usable));
        put(gone);
        put_ghosts(dying, guards, &mut put);
        text
    }
}

/// Generations count only as far as one is older than another.
fn put_ghosts(dying: &[Dying], guards: &Guards, put: &mut dyn FnMut(&dyn core::fmt::Debug)) {
    let Guards {
        table,
        confirmed,
        overflowed,
    } = guards;
    let newest = table.generation();
    for dying in dying {
        put(&Dying {
            complete_in: dying.complete_in.map(|generation| newest - generation),
            ..dying.clone()
        });
    }
    // Confirmations are of use only where there is something to be locked.
    let waiting = dying
        .iter()
        .filter(|dying| dying.path.is_some() && !dying.locked && !dying.ghosts.is_empty());
    let asked: Vec<u64> = waiting
        .map(|dying| dying.complete_in.unwrap_or(newest))
        .collect();
    for confirmed in confirmed {
        let enough = |generation: &u64| confirmed >= generation;
        put(&asked.iter().map(enough).collect::<Vec<_>>());
    }
    put(&(
        table.resend(),
        table.ghosts().collect::<Vec<_>>(),
        overflowed,
    ));
}
