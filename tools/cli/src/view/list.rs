//! Tables: volumes, subsystems, paths, maps, the daemon.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use umpath_protocol::{Association, PathState, Snapshot, VERSION, Volume};

use super::facts;
use super::json::pretty;
use crate::text::{binary_size, block_format, decimal_size};

/// Columns as wide as their widest cell under a two-line heading, like nvme-cli's.
fn table(heading: &[&str], rule: bool, rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(String::len);
        cells
            .chain(heading.get(column).map(|word| word.len()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(text, "{cell:<width$} ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut heading.iter().copied());
    if rule {
        let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        line(&mut dashes.iter().map(String::as_str));
    }
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

/// The table `nvme list` prints.
pub(super) fn text(volumes: &[Volume]) -> String {
    let rows: Vec<Vec<String>> = volumes
        .iter()
        .map(|volume| {
            vec![
                format!("/dev/{}", volume.device),
                volume.serial.clone(),
                volume.model.clone(),
                format!("{:#x}", volume.nsid),
                format!(
                    "{} / {}",
                    decimal_size(volume.used_bytes),
                    decimal_size(volume.size_bytes)
                ),
                block_format(volume.block_bytes),
                volume.firmware.clone(),
            ]
        })
        .collect();
    table(
        &[
            "Node",
            "SN",
            "Model",
            "Namespace",
            "Usage",
            "Format",
            "FW Rev",
        ],
        true,
        &rows,
    )
}

/// The JSON of `nvme list -o json`, plus keys of our own.
pub(super) fn json(volumes: &[Volume]) -> String {
    let devices: Vec<Value> = volumes
        .iter()
        .map(|volume| {
            let (ready, paths) = facts::path_counts(volume);
            json!({
                "NameSpace": volume.nsid,
                "DevicePath": format!("/dev/{}", volume.device),
                "Firmware": volume.firmware,
                "ModelNumber": volume.model,
                "SerialNumber": volume.serial,
                "UsedBytes": volume.used_bytes,
                "MaximumLBA": volume.size_bytes / u64::from(volume.block_bytes.max(1)),
                "PhysicalSize": volume.size_bytes,
                "SectorSize": volume.block_bytes,
                "Name": volume.name,
                "Identity": volume.id,
                "SubsystemNQN": volume.nqn,
                "Paths": paths,
                "PathsReady": ready,
            })
        })
        .collect();
    pretty(&json!({ "version": VERSION, "Devices": devices }))
}

fn by_subsystem(snapshot: &Snapshot) -> BTreeMap<&str, Vec<&Association>> {
    let mut subsystems: BTreeMap<&str, Vec<&Association>> = BTreeMap::new();
    for association in &snapshot.associations {
        subsystems
            .entry(&association.nqn)
            .or_default()
            .push(association);
    }
    subsystems
}

fn address(association: &Association) -> String {
    let mut text = format!("traddr={}", association.address);
    if let Some((traddr, trsvcid)) = association.address.rsplit_once(':') {
        text = format!("traddr={traddr},trsvcid={trsvcid}");
    }
    if !association.host_address.is_empty() {
        let _ = write!(text, ",src_addr={}", association.host_address);
    }
    text
}

/// The output of `nvme list-subsys`.
pub(super) fn subsystems_text(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for (index, (nqn, paths)) in by_subsystem(snapshot).into_iter().enumerate() {
        let _ = writeln!(out, "umpath-subsys{index} - NQN={nqn}");
        let _ = writeln!(out, "\\");
        for path in paths {
            let _ = writeln!(
                out,
                " +- path{} {} {} {}",
                path.path,
                path.transport,
                address(path),
                path.state
            );
        }
    }
    out
}

/// The JSON `nvme list-subsys -o json` prints.
pub(super) fn subsystems_json(snapshot: &Snapshot) -> String {
    let subsystems: Vec<Value> = by_subsystem(snapshot)
        .into_iter()
        .enumerate()
        .map(|(index, (nqn, paths))| {
            let paths: Vec<Value> = paths
                .into_iter()
                .map(|path| {
                    json!({
                        "Name": format!("path{}", path.path),
                        "Transport": path.transport,
                        "Address": address(path),
                        "State": path.state,
                    })
                })
                .collect();
            json!({ "Name": format!("umpath-subsys{index}"), "NQN": nqn, "Paths": paths })
        })
        .collect();
    pretty(&json!({
        "version": VERSION, "HostNQN": snapshot.daemon.hostnqn, "Subsystems": subsystems,
    }))
}

/// One row per association, whether or not it serves a volume.
pub(super) fn paths_text(snapshot: &Snapshot) -> String {
    let rows: Vec<Vec<String>> = snapshot
        .associations
        .iter()
        .map(|path| {
            vec![
                path.path.to_string(),
                format!("{},{}", path.transport, path.address),
                path.nqn.clone(),
                path.cntlid.to_string(),
                path.state.clone(),
                if path.volumes.is_empty() {
                    "-".to_owned()
                } else {
                    path.volumes.join(",")
                },
                if path.rdma_device.is_empty() {
                    "-".to_owned()
                } else {
                    path.rdma_device.clone()
                },
                path.last_error
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ]
        })
        .collect();
    table(
        &[
            "path", "address", "nqn", "cntlid", "state", "volumes", "device", "error",
        ],
        false,
        &rows,
    )
}

/// Associations, each with its state in every volume.
pub(super) fn paths(snapshot: &Snapshot) -> Vec<Value> {
    snapshot
        .associations
        .iter()
        .map(|association| {
            let mut value = serde_json::to_value(association).unwrap_or(Value::Null);
            let members: Vec<Value> = snapshot
                .volumes
                .iter()
                .flat_map(|volume| volume.groups.iter().map(move |group| (volume, group)))
                .flat_map(|(volume, group)| {
                    group.paths.iter().map(move |path| (volume, group, path))
                })
                .filter(|(_, _, path)| path.id == association.path)
                .map(|(volume, group, path)| {
                    let (dm, checker, device) = path.state.words();
                    json!({
                        "volume": volume.name, "device": volume.device, "nsid": path.nsid,
                        "ana_state": path.ana.word(), "ana_group": path.ana_group,
                        "dm_st": dm, "chk_st": checker, "dev_st": device,
                        "pri": path.priority, "group_st": group.state.word(),
                        "in_flight": path.in_flight,
                    })
                })
                .collect();
            value["members"] = json!(members);
            value
        })
        .collect()
}

/// One row per volume.
pub(super) fn maps_text(volumes: &[Volume]) -> String {
    let rows: Vec<Vec<String>> = volumes
        .iter()
        .map(|volume| {
            let (ready, paths) = facts::path_counts(volume);
            vec![
                volume.name.clone(),
                volume.device.clone(),
                volume.id.clone(),
                binary_size(volume.size_bytes),
                format!("{ready}/{paths}"),
                facts::queueing(volume),
                volume.failback.clone(),
                volume.path_faults.to_string(),
                volume.group_switches.to_string(),
            ]
        })
        .collect();
    let heading = [
        "name",
        "sysfs",
        "uuid",
        "size",
        "paths",
        "queueing",
        "failback",
        "path_faults",
        "switch_grp",
    ];
    table(&heading, false, &rows)
}

/// The state of the daemon in a few numbers.
pub(super) fn status(snapshot: &Snapshot) -> Value {
    let ready = |volume: &&Volume| facts::path_counts(volume).0 > 0;
    let up = snapshot
        .associations
        .iter()
        .filter(|path| path.state == "live")
        .count();
    let suspect = snapshot
        .volumes
        .iter()
        .flat_map(|volume| volume.groups.iter().flat_map(|group| &group.paths))
        .filter(|path| path.state == PathState::Suspect)
        .count();
    json!({
        "daemon": snapshot.daemon,
        "volumes": snapshot.volumes.len(),
        "volumes_with_a_path": snapshot.volumes.iter().filter(ready).count(),
        "associations": snapshot.associations.len(),
        "associations_live": up,
        "paths_suspect": suspect,
    })
}

/// The same as text.
pub(super) fn status_text(snapshot: &Snapshot) -> String {
    let daemon = &snapshot.daemon;
    let status = status(snapshot);
    let devices = if daemon.rdma_devices.is_empty() {
        "none".to_owned()
    } else {
        daemon.rdma_devices.join(" ")
    };
    let detection = daemon
        .detection
        .iter()
        .fold(String::new(), |text, line| text + "  " + line + "\n");
    let orphan = |device: &String| {
        format!(
            "/dev/{device} waits for a server that died, and nobody knows its volume: umpath \
             disconnect -d {device} --force removes it\n"
        )
    };
    let orphans: String = daemon.orphans.iter().map(orphan).collect();
    format!(
        "umpathd {} pid {} up {} s\nhost NQN {}\nhost ID {}\nRDMA devices {devices}\n\
         volumes {} ({} with a path)\nassociations {} ({} live)\n{orphans}\
         how a lost controller is noticed\n{detection}",
        daemon.version,
        daemon.pid,
        daemon.uptime_ms / 1000,
        daemon.hostnqn,
        daemon.hostid,
        status["volumes"],
        status["volumes_with_a_path"],
        status["associations"],
        status["associations_live"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn the_list_is_nvmes() {
        let text = text(&[sample::volume()]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("Node "));
        assert!(lines[0].ends_with("FW Rev"));
        assert!(lines[1].starts_with("-----------"));
        assert!(lines[2].starts_with("/dev/ublkb0 UMP0001 umpath-array 0x1"));
        assert!(lines[2].contains("214.75 GB / 214.75 GB"));
        assert!(lines[2].contains("  4 KiB +  0 B"));
    }

    #[test]
    fn an_empty_list_has_only_its_heading() {
        assert_eq!(text(&[]).lines().count(), 2);
        let value: Value = serde_json::from_str(&json(&[])).unwrap();
        assert_eq!(value["Devices"], json!([]));
    }

    #[test]
    fn list_json_has_nvmes_keys() {
        let value: Value = serde_json::from_str(&json(&[sample::volume()])).unwrap();
        assert_eq!(value["Devices"][0]["DevicePath"], "/dev/ublkb0");
        assert_eq!(value["Devices"][0]["MaximumLBA"], (200_u64 << 30) / 4096);
    }

    #[test]
    fn maps_rows() {
        let text = maps_text(&[sample::volume()]);
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with("vol1 ublkb0 eui.0025385b71b00a01 200G 2/2")
        );
    }
}
