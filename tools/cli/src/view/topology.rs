//! The output of `multipath -ll`.

use std::fmt::Write as _;

use umpath_protocol::{AnaView, Path, Volume};

use super::facts;
use crate::text::binary_size;

/// All volumes, one tree each.
pub(super) fn text(volumes: &[&Volume]) -> String {
    let mut out = String::new();
    for volume in volumes {
        draw(&mut out, volume);
    }
    out
}

fn draw(out: &mut String, volume: &Volume) {
    let Volume {
        name,
        id,
        device,
        model,
        size_bytes,
        ..
    } = volume;
    let _ = writeln!(out, "{name} ({id}) {device} NVME,{model}");
    let _ = writeln!(
        out,
        "size={} features='{}' hwhandler='{}' wp={}",
        binary_size(*size_bytes),
        facts::features(volume),
        facts::hardware_handler(volume),
        facts::write_protection(volume),
    );
    let last = volume.groups.len().saturating_sub(1);
    for (index, group) in volume.groups.iter().enumerate() {
        let (branch, stem) = if index == last {
            ("`-", "  ")
        } else {
            ("|-", "| ")
        };
        let _ = writeln!(
            out,
            "{branch}+- policy='{}' prio={} status={}",
            volume.selector,
            group.priority,
            group.state.word(),
        );
        let last_path = group.paths.len().saturating_sub(1);
        for (index, path) in group.paths.iter().enumerate() {
            let leaf = if index == last_path { "`-" } else { "|-" };
            let _ = writeln!(out, "{stem}{leaf} {}", path_line(path));
        }
    }
}

/// `1:1:1 rdma,192.168.10.14:4420 optimized active ready running`
fn path_line(path: &Path) -> String {
    let (dm, checker, device) = path.state.words();
    let ana = match path.ana {
        AnaView::None => String::new(),
        state => format!("{} ", state.word()),
    };
    let Path {
        id,
        cntlid,
        nsid,
        transport,
        address,
        ..
    } = path;
    format!("{id}:{cntlid}:{nsid} {transport},{address} {ana}{dm} {checker} {device}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn the_documented_picture() {
        let volume = sample::volume();
        let expected = "\
vol1 (eui.0025385b71b00a01) ublkb0 NVME,umpath-array
size=200G features='1 queue_if_no_path' hwhandler='1 ana' wp=rw
|-+- policy='queue-length 0' prio=50 status=active
| `- 1:1:1 rdma,192.168.10.14:4420 optimized active ready running
`-+- policy='queue-length 0' prio=10 status=enabled
  `- 2:2:1 rdma,192.168.10.15:4420 non-optimized active ready running
";
        assert_eq!(text(&[&volume]), expected);
    }

    #[test]
    fn two_paths_in_one_group_without_ana() {
        let mut volume = sample::volume();
        let mut second = volume.groups.pop().unwrap().paths.pop().unwrap();
        second.ana = AnaView::None;
        second.state = umpath_protocol::PathState::Connecting;
        volume.groups[0].paths.push(second);
        volume.queueing = false;
        let drawn = text(&[&volume]);
        assert!(drawn.contains("features='0'"));
        assert!(drawn.contains("\n  |- 1:1:1 rdma"));
        assert!(drawn.ends_with("\n  `- 2:2:1 rdma,192.168.10.15:4420 failed faulty connecting\n"));
    }
}
