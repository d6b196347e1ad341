//! The volume in the documentation's examples.

use umpath_protocol::{AnaView, Group, GroupState, NoPath, Path, PathState, Volume};

fn path(id: u32, ana: AnaView, priority: i64) -> Path {
    Path {
        id,
        cntlid: id as u16,
        nsid: 1,
        transport: "rdma".into(),
        address: format!("192.168.10.{}:4420", 13 + id),
        ana,
        ana_group: id,
        state: PathState::Ready,
        priority,
        preferred: false,
        in_flight: 0,
    }
}

/// Two groups with one path each.
pub(super) fn volume() -> Volume {
    Volume {
        name: "vol1".into(),
        id: "eui.0025385b71b00a01".into(),
        device: "ublkb0".into(),
        nqn: "nqn.2026-11.example:vol1".into(),
        serial: "UMP0001".into(),
        model: "umpath-array".into(),
        firmware: "1".into(),
        nsid: 1,
        size_bytes: 200 << 30,
        used_bytes: 200 << 30,
        block_bytes: 4096,
        read_only: false,
        ana: true,
        grouping: "group_by_prio".into(),
        selector: "queue-length 0".into(),
        failback: "immediate".into(),
        no_path: NoPath::Queue,
        queueing: true,
        groups: vec![
            Group {
                priority: 50,
                marginal: false,
                state: GroupState::Active,
                paths: vec![path(1, AnaView::Optimized, 50)],
            },
            Group {
                priority: 10,
                marginal: false,
                state: GroupState::Enabled,
                paths: vec![path(2, AnaView::NonOptimized, 10)],
            },
        ],
        path_faults: 0,
        group_switches: 0,
        in_flight: 0,
    }
}
