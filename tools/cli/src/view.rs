//! Rendering answers. Each view is a module, and a function of the daemon's answer alone.

mod discovery;
mod events;
mod facts;
pub(crate) mod json;
mod list;
mod maps;
mod stats;
mod topology;

#[cfg(test)]
mod sample;

use std::fmt::Write as _;

use umpath_protocol::{Failure, PathOutcome, Reply, Snapshot};

use crate::format::Format;

/// Which rendering of the answer to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    /// The default: what was done, or the answer's only view.
    Outcome,
    /// `nvme list`.
    List,
    /// `nvme list-subsys`.
    Subsystems,
    /// `multipath -ll`, of one volume or of all.
    Topology(Option<String>),
    /// One line per path.
    Paths,
    /// One line per volume; as JSON, like `multipathd show maps json`.
    Maps,
    /// The daemon.
    Status,
}

/// Renders an answer.
pub(crate) fn draw(view: View, reply: &Reply, format: Format) -> Result<String, Failure> {
    match (reply, format) {
        (Reply::Snapshot(snapshot), format) => draw_snapshot(view, snapshot, format),
        (Reply::Discovery(logs), Format::Normal) => Ok(discovery::text(logs)),
        (Reply::Discovery(logs), Format::Json) => Ok(discovery::json(logs)),
        (Reply::Events(events), Format::Normal) => Ok(events::text(events)),
        (Reply::Stats(stats), Format::Normal) => Ok(stats::text(stats)),
        (Reply::Config(toml), Format::Normal) => Ok(toml.clone()),
        (Reply::Done(text), Format::Normal) => Ok(text.clone()),
        (
            Reply::Connected {
                paths,
                failures,
                ignored,
            },
            Format::Normal,
        ) => {
            let mut out = String::new();
            for path in paths {
                connected(&mut out, path);
            }
            left_alone(&mut out, ignored);
            for failure in failures {
                let _ = writeln!(out, "failed: {failure}");
            }
            if paths.is_empty() && failures.is_empty() && ignored.is_empty() {
                out.push_str("nothing to connect\n");
            }
            Ok(out)
        }
        (Reply::Disconnected { paths, deleted }, Format::Normal) => {
            let mut out = String::new();
            for path in paths {
                let _ = writeln!(
                    out,
                    "NQN:{} path {} {} disconnected",
                    path.nqn, path.path, path.address
                );
            }
            for device in deleted {
                let _ = writeln!(out, "deleted {device}");
            }
            Ok(out)
        }
        (Reply::Failed(failure), _) => Err(failure.clone()),
        (reply, Format::Json) => Ok(json::reply(reply)),
    }
}

fn connected(out: &mut String, path: &PathOutcome) {
    let state = if path.already {
        "already connected"
    } else {
        "connected"
    };
    let devices = if path.devices.is_empty() {
        "no namespace".to_owned()
    } else {
        path.devices.join(" ")
    };
    let _ = writeln!(
        out,
        "path {} {} {} {state}: {devices}",
        path.path, path.address, path.nqn
    );
    left_alone(out, &path.ignored);
}

/// What the configuration ignores is not a failure: one line each, without the remedy.
fn left_alone(out: &mut String, ignored: &[Failure]) {
    for Failure { what, why, .. } in ignored {
        let _ = writeln!(out, "{what}: {why}");
    }
}

fn draw_snapshot(view: View, snapshot: &Snapshot, format: Format) -> Result<String, Failure> {
    let normal = format == Format::Normal;
    Ok(match view {
        View::List if normal => list::text(&snapshot.volumes),
        View::List => list::json(&snapshot.volumes),
        View::Subsystems if normal => list::subsystems_text(snapshot),
        View::Subsystems => list::subsystems_json(snapshot),
        View::Topology(wanted) => {
            let volumes: Vec<_> = snapshot
                .volumes
                .iter()
                .filter(|volume| {
                    wanted
                        .as_deref()
                        .is_none_or(|wanted| facts::is(volume, wanted))
                })
                .collect();
            if let (Some(wanted), true) = (wanted, volumes.is_empty()) {
                return Err(Failure::new(
                    format!("no volume {wanted}"),
                    "no volume has this name, identity or device",
                    "umpath list",
                ));
            }
            if normal {
                topology::text(&volumes)
            } else {
                maps::json(&volumes)
            }
        }
        View::Paths if normal => list::paths_text(snapshot),
        View::Paths => json::versioned("paths", &list::paths(snapshot)),
        View::Maps if normal => list::maps_text(&snapshot.volumes),
        View::Maps => maps::json(&snapshot.volumes.iter().collect::<Vec<_>>()),
        View::Status | View::Outcome if normal => list::status_text(snapshot),
        View::Status | View::Outcome => json::versioned("status", &list::status(snapshot)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_told_with_the_entry_and_is_no_failure() {
        let ignored = |what: &str| Failure::new(what, "[[ignore]] nqn = \"b\" names it", "a fix");
        let reply = Reply::Connected {
            paths: vec![PathOutcome {
                path: 1,
                nqn: "a".into(),
                address: "rdma,10.0.0.1:4420".into(),
                volumes: vec!["vol1".into()],
                devices: vec!["ublkb0".into()],
                already: false,
                refused: Vec::new(),
                ignored: vec![ignored("namespace 2 is ignored")],
            }],
            failures: Vec::new(),
            ignored: vec![ignored("b is ignored")],
        };
        let drawn = draw(View::Outcome, &reply, Format::Normal).unwrap();
        let expected = "path 1 rdma,10.0.0.1:4420 a connected: ublkb0\n\
                        namespace 2 is ignored: [[ignore]] nqn = \"b\" names it\n\
                        b is ignored: [[ignore]] nqn = \"b\" names it\n";
        assert_eq!(drawn, expected);
    }
}
