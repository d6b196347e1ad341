//! Users of a block device: mounts, swap, stacked devices, processes that have it open.
//!
//! A device in use is not removed unless forced. These count as users: a holder in sysfs, a mount
//! in any mount namespace, swap, an exclusive claim of any other kind, and any process that has the
//! device or one of its partitions open and keeps it open. A process that opens it only briefly, as
//! udev does after every write, does not count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for a short-term opener to close the device.
const BRIEF_OPEN_MAX: Duration = Duration::from_secs(2);
/// Interval between checks whether it has.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// Describes everything that uses `device` (without `/dev/`); empty if nothing does. Blocks until
/// the kernel answers and short-term openers have gone, so call it only where blocking is allowed.
pub(crate) fn users_of(device: &str) -> Vec<String> {
    let until = Instant::now() + BRIEF_OPEN_MAX;
    loop {
        let users = lasting_users(device);
        if !users.is_empty() {
            return users;
        }
        let mut visitors = Vec::new();
        openers(&nodes_of(device), &mut visitors);
        if visitors.is_empty() || Instant::now() >= until {
            return visitors;
        }
        std::thread::sleep(CHECK_EVERY);
    }
}

/// One check of all users.
fn lasting_users(device: &str) -> Vec<String> {
    let mut users = Vec::new();
    let nodes = nodes_of(device);
    for (node, number) in &nodes {
        holders(node, &mut users);
        if let Some(number) = number {
            mounts(node, number, &mut users);
        }
        swaps(node, &mut users);
    }
    if users.is_empty() && claimed(device) {
        foreign_mounts(&nodes, &mut users);
        // If a process has it open, the process is reported instead.
        let mut open = Vec::new();
        openers(&nodes, &mut open);
        if users.is_empty() && open.is_empty() {
            users.push(format!("/dev/{device} is claimed exclusively"));
        }
    }
    users
}

/// Mounts in other mount namespaces: a container, or a service started while the device was
/// mounted, keeps its own mount after the main one is gone.
fn foreign_mounts(nodes: &[(String, Option<String>)], users: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (pid, process) in processes() {
        let Ok(namespace) = std::fs::read_link(process.join("ns/mnt")) else {
            continue;
        };
        if !seen.insert(namespace) {
            continue;
        }
        let text = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        for (node, number) in nodes {
            let Some(number) = number else { continue };
            for mount in mount_points(&text, node, number) {
                let name = comm(&process);
                users.push(format!("{mount} in the mount namespace of {name} ({pid})"));
            }
        }
    }
}

/// Processes and their directories in `/proc`.
fn processes() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_string_lossy().parse().ok()?;
        Some((pid, entry.path()))
    })
}

fn comm(process: &Path) -> String {
    let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// The device and its partitions, each with its `major:minor`.
fn nodes_of(device: &str) -> Vec<(String, Option<String>)> {
    let folder = Path::new("/sys/block").join(device);
    let number = |path: &Path| {
        std::fs::read_to_string(path.join("dev"))
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let mut nodes = vec![(device.to_owned(), number(&folder))];
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(device) && entry.path().join("partition").exists() {
            nodes.push((name, number(&entry.path())));
        }
    }
    nodes
}

fn holders(node: &str, users: &mut Vec<String>) {
    let folder = Path::new("/sys/class/block").join(node).join("holders");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        users.push(format!(
            "{} is built on /dev/{node}",
            entry.file_name().to_string_lossy()
        ));
    }
}

fn mounts(node: &str, number: &str, users: &mut Vec<String>) {
    let text = std::fs::read_to_string("/proc/1/mountinfo").unwrap_or_default();
    users.extend(mount_points(&text, node, number));
}

/// Mounts in `mountinfo` whose device is `number` or whose source is the node itself (btrfs mounts
/// have a device number of their own).
fn mount_points(mountinfo: &str, node: &str, number: &str) -> Vec<String> {
    let source = format!("/dev/{node}");
    mountinfo
        .lines()
        .filter(|line| {
            let (left, right) = line.split_once(" - ").unwrap_or((line, ""));
            left.split(' ').nth(2) == Some(number) || right.split(' ').nth(1) == Some(&source)
        })
        .filter_map(|line| line.split(' ').nth(4))
        .map(|place| format!("/dev/{node} is mounted on {place}"))
        .collect()
}

fn swaps(node: &str, users: &mut Vec<String>) {
    let text = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let path = format!("/dev/{node}");
    if text
        .lines()
        .skip(1)
        .any(|line| line.split_whitespace().next() == Some(&path))
    {
        users.push(format!("{path} is swap space"));
    }
}

fn openers(nodes: &[(String, Option<String>)], users: &mut Vec<String>) {
    for (pid, process) in processes() {
        let files = std::fs::read_dir(process.join("fd"));
        for file in files.into_iter().flatten().flatten() {
            let Ok(target) = std::fs::read_link(file.path()) else {
                continue;
            };
            let node = nodes
                .iter()
                .find(|(node, _)| target == Path::new("/dev").join(node));
            if let Some((node, _)) = node {
                users.push(format!("/dev/{node} is open in {} ({pid})", comm(&process)));
                break;
            }
        }
    }
}

/// Whether someone holds the device exclusively: an exclusive open then fails with EBUSY.
fn claimed(device: &str) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
    open(Path::new("/dev").join(device), flags, Mode::empty()).err()
        == Some(rustix::io::Errno::BUSY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_number_and_by_source() {
        let text = "\
25 1 8:2 / / rw - ext4 /dev/sda2 rw
90 25 259:3 / /mnt rw,relatime shared:1 - ext4 /dev/ublkb0 rw
91 25 0:44 /@ /data rw - btrfs /dev/ublkb1 rw
";
        assert_eq!(
            mount_points(text, "ublkb0", "259:3"),
            ["/dev/ublkb0 is mounted on /mnt"]
        );
        assert_eq!(
            mount_points(text, "ublkb1", "259:4"),
            ["/dev/ublkb1 is mounted on /data"]
        );
        assert!(mount_points(text, "ublkb2", "259:5").is_empty());
    }

    #[test]
    fn a_device_that_does_not_exist_has_no_users() {
        assert!(users_of("ublkb-none").is_empty());
    }
}
