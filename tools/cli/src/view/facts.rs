//! Values that several views derive from a snapshot, computed in one place so that views agree.

use umpath_protocol::{NoPath, PathState, Volume};

/// Whether `wanted` is this volume's name, identity or device.
pub(super) fn is(volume: &Volume, wanted: &str) -> bool {
    volume.name == wanted || volume.device == wanted || volume.id == wanted
}

/// Device-mapper's `features` string.
pub(super) fn features(volume: &Volume) -> &'static str {
    if volume.queueing {
        "1 queue_if_no_path"
    } else {
        "0"
    }
}

/// The `hwhandler` string: ANA counts as handled if the controllers report it.
pub(super) fn hardware_handler(volume: &Volume) -> &'static str {
    if volume.ana { "1 ana" } else { "0" }
}

/// The `wp` string.
pub(super) fn write_protection(volume: &Volume) -> &'static str {
    if volume.read_only { "ro" } else { "rw" }
}

/// The `queueing` column of multipathd: `on`, `off`, or the remaining time.
pub(super) fn queueing(volume: &Volume) -> String {
    match volume.no_path {
        _ if !volume.queueing => "off".to_owned(),
        NoPath::QueueForMs(ms) => format!("{} sec", ms.div_ceil(1000)),
        NoPath::Queue | NoPath::Fail => "on".to_owned(),
    }
}

/// Number of paths that can carry I/O now, and of all paths.
pub(super) fn path_counts(volume: &Volume) -> (usize, usize) {
    let paths = || volume.groups.iter().flat_map(|group| &group.paths);
    (
        paths()
            .filter(|path| path.state == PathState::Ready)
            .count(),
        paths().count(),
    )
}
