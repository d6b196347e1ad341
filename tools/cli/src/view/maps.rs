//! `multipathd show maps json`, key by key, for monitoring tools written for it.

use serde_json::{Value, json};
use umpath_protocol::{Group, Path, PathState, VERSION, Volume};

use super::facts;
use super::json::pretty;

const UNDEFINED: &str = "[undef]";

pub(super) fn json(volumes: &[&Volume]) -> String {
    pretty(&json!({
        "version": VERSION,
        "major_version": 0,
        "minor_version": 1,
        "maps": volumes.iter().map(|volume| map(volume)).collect::<Vec<_>>(),
    }))
}

fn map(volume: &Volume) -> Value {
    let groups: Vec<Value> = volume
        .groups
        .iter()
        .enumerate()
        .map(|(index, entry)| group(volume, index + 1, entry))
        .collect();
    json!({
        "name": volume.name,
        "uuid": volume.id,
        "sysfs": volume.device,
        "failback": volume.failback,
        "queueing": facts::queueing(volume),
        "paths": facts::path_counts(volume).1,
        "write_prot": facts::write_protection(volume),
        "dm_st": "active",
        "features": facts::features(volume),
        "hwhandler": facts::hardware_handler(volume),
        "action": "",
        "path_faults": volume.path_faults,
        "vend": "NVME",
        "prod": volume.model,
        "rev": volume.firmware,
        "switch_grp": volume.group_switches,
        "map_loads": 1,
        "total_q_time": 0,
        "q_timeouts": 0,
        "size_bytes": volume.size_bytes,
        "block_bytes": volume.block_bytes,
        "nqn": volume.nqn,
        "serial": volume.serial,
        "in_flight": volume.in_flight,
        "path_groups": groups,
    })
}

fn group(volume: &Volume, number: usize, group: &Group) -> Value {
    json!({
        "selector": volume.selector,
        "pri": group.priority,
        "dm_st": group.state.word(),
        "marginal_st": if group.marginal { "marginal" } else { "normal" },
        "group": number,
        "paths": group.paths.iter().map(path).collect::<Vec<_>>(),
    })
}

fn path(path: &Path) -> Value {
    let (dm, checker, device) = path.state.words();
    json!({
        "dev": format!("{},{}", path.transport, path.address),
        "dev_t": format!("{}:{}:{}", path.id, path.cntlid, path.nsid),
        "dm_st": dm,
        "dev_st": device,
        "chk_st": checker,
        "checker": "keep-alive",
        "pri": path.priority,
        "host_wwnn": UNDEFINED,
        "target_wwnn": UNDEFINED,
        "host_wwpn": UNDEFINED,
        "target_wwpn": UNDEFINED,
        "host_adapter": UNDEFINED,
        "lun_hex": format!("{:#018x}", path.nsid),
        "marginal_st": match path.state {
            PathState::Held | PathState::Probation => "marginal",
            _ => "normal",
        },
        "path": path.id,
        "ana_state": path.ana.word(),
        "ana_group": path.ana_group,
        "preferred": path.preferred,
        "in_flight": path.in_flight,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn carries_multipathds_keys() {
        let volume = sample::volume();
        let value: Value = serde_json::from_str(&json(&[&volume])).unwrap();
        assert_eq!(value["major_version"], 0);
        let map = &value["maps"][0];
        assert_eq!(map["sysfs"], "ublkb0");
        assert_eq!(map["paths"], 2);
        assert_eq!(map["queueing"], "on");
        assert_eq!(map["path_groups"][0]["dm_st"], "active");
        assert_eq!(map["path_groups"][1]["group"], 2);
        assert_eq!(map["path_groups"][1]["paths"][0]["chk_st"], "ready");
        assert_eq!(map["path_groups"][0]["paths"][0]["dev_t"], "1:1:1");
    }
}
