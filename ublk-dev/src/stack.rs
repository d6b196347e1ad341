//! Whether something lies on a ublk device, however many layers are between: a partition, LVM, MD,
//! dm-crypt, a loop device over a file, an overlay, one of several devices of a btrfs.
//!
//! A server whose own state lies on a device it serves cannot come back: its successor would wait
//! for the device that waits for it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::mounts::{Mount, parse_mount};

/// Layers that are followed at most: a cycle cannot be, but sysfs is not ours.
const LAYERS_MAX: usize = 16;

/// The layers from the file system of `path` down to a ublk device, if it lies on one, as in `dm-0 on
/// md127 on ublkb0`. A path that does not exist lies where its nearest existing parent does.
pub fn on_ublk(path: &Path) -> io::Result<Option<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    beneath_path(&table, path, LAYERS_MAX)
}

fn beneath_path(table: &str, path: &Path, left: usize) -> io::Result<Option<String>> {
    let absolute = std::path::absolute(path)?;
    let existing = absolute.ancestors().find(|parent| parent.exists());
    let existing = existing.unwrap_or(Path::new("/")).canonicalize()?;
    let (major, minor) = device_numbers(fs::metadata(&existing)?.dev());
    let sys = Path::new("/sys");
    let found = |device: &String| layers(sys, device, left);
    if let Some(device) = by_number(sys, &format!("{major}:{minor}")) {
        return Ok(found(&device));
    }
    // File systems without a block device's number: what they were mounted from says where they lie.
    let Some(mount) = mount_of(table, &existing) else {
        return Ok(None);
    };
    if let Some(upper) = mount.upper_directory()
        && let Some(left) = left.checked_sub(1)
    {
        let found = beneath_path(table, &upper, left)?;
        return Ok(found.map(|found| format!("overlay on {found}")));
    }
    let source = name_of(Path::new(mount.source));
    Ok(source.and_then(|device| btrfs_devices(sys, device).iter().find_map(found)))
}

/// Whether the block device of this number (`major:minor`), or else this source of a mount, lies on a
/// ublk device.
pub(crate) fn device_on_ublk(number: &str, source: &str) -> bool {
    let sys = Path::new("/sys");
    // Of a device that is gone while something is mounted, only the name is left.
    let bare = || Some(source.strip_prefix("/dev/")?.to_owned());
    let device = by_number(sys, number).or_else(|| name_of(Path::new(source)));
    device
        .or_else(bare)
        .is_some_and(|device| layers(sys, &device, LAYERS_MAX).is_some())
}

fn device_numbers(dev: u64) -> (u32, u32) {
    (rustix::fs::major(dev), rustix::fs::minor(dev))
}

/// The name of a block device; of a partition its whole device's.
fn by_number(sys: &Path, number: &str) -> Option<String> {
    let node = fs::canonicalize(sys.join("dev/block").join(number)).ok()?;
    let whole = if node.join("partition").exists() {
        node.parent()?.to_owned()
    } else {
        node
    };
    Some(whole.file_name()?.to_str()?.to_owned())
}

/// The device a node in `/dev` stands for.
fn name_of(node: &Path) -> Option<String> {
    if !node.starts_with("/dev") {
        return None;
    }
    let number = fs::metadata(node).ok()?.rdev();
    let (major, minor) = device_numbers(number);
    by_number(Path::new("/sys"), &format!("{major}:{minor}"))
}

/// The mount that holds `path`.
fn mount_of<'a>(table: &'a str, path: &Path) -> Option<Mount<'a>> {
    let mounts = table.lines().filter_map(parse_mount);
    let holding = mounts.filter(|mount| path.starts_with(&mount.point));
    // The longest mount point; of two the later.
    holding.max_by_key(|mount| mount.point.components().count())
}

/// All devices of the btrfs that has this one; or this one alone.
fn btrfs_devices(sys: &Path, device: String) -> Vec<String> {
    let names = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| whole_of(&entry.path(), &entry.file_name().to_string_lossy()))
    };
    let systems = fs::read_dir(sys.join("fs/btrfs")).into_iter().flatten();
    systems
        .flatten()
        .map(|system| names(system.path().join("devices")).collect::<Vec<_>>())
        .find(|devices| devices.contains(&device))
        .unwrap_or_else(|| vec![device])
}

/// The layers from a device down to a ublk device.
fn layers(sys: &Path, device: &str, left: usize) -> Option<String> {
    if device.starts_with("ublkb") {
        return Some(device.to_owned());
    }
    let left = left.checked_sub(1)?;
    let below = beneath(&sys.join("block").join(device));
    let found = below.iter().find_map(|below| layers(sys, below, left))?;
    Some(format!("{device} on {found}"))
}

/// What a device is made of: its slaves, or what its file lies on.
fn beneath(node: &Path) -> Vec<String> {
    let slaves = fs::read_dir(node.join("slaves"))
        .into_iter()
        .flatten()
        .flatten();
    let mut below: Vec<String> = slaves
        .map(|entry| whole_of(&entry.path(), &entry.file_name().to_string_lossy()))
        .collect();
    if let Ok(file) = fs::read_to_string(node.join("loop/backing_file")) {
        let file = PathBuf::from(file.trim_end());
        if let Ok(metadata) = fs::metadata(&file) {
            let (major, minor) = device_numbers(metadata.dev());
            below.extend(by_number(Path::new("/sys"), &format!("{major}:{minor}")));
        }
    }
    below
}

/// A slave may be a partition.
fn whole_of(node: &Path, name: &str) -> String {
    let whole = fs::canonicalize(node)
        .ok()
        .filter(|node| node.join("partition").exists());
    let whole = whole
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::file_name);
    whole.map_or_else(
        || name.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// dm-0 (LVM) over md127 over a partition of ublkb3 and sda; dm-1 over sda alone.
    fn machine(name: &str) -> PathBuf {
        let sys = std::env::temp_dir().join(format!("ublk-stack-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&sys));
        for (device, below) in [("dm-0", vec!["md127"]), ("md127", vec!["ublkb3p1", "sda"])] {
            let slaves = sys.join("block").join(device).join("slaves");
            fs::create_dir_all(&slaves).unwrap();
            for name in below {
                let parent = name.strip_suffix("p1").unwrap_or(name);
                let node = if parent == name {
                    sys.join("block").join(name)
                } else {
                    sys.join("block").join(parent).join(name)
                };
                fs::create_dir_all(&node).unwrap();
                if parent != name {
                    fs::write(node.join("partition"), "1").unwrap();
                }
                symlink(node, slaves.join(name)).unwrap();
            }
        }
        let slaves = sys.join("block/dm-1/slaves");
        fs::create_dir_all(&slaves).unwrap();
        symlink(sys.join("block/sda"), slaves.join("sda")).unwrap();
        sys
    }

    #[test]
    fn every_layer_down_to_a_ublk_device_is_named() {
        let sys = machine("layers");
        let found = layers(&sys, "dm-0", LAYERS_MAX);
        assert_eq!(found.as_deref(), Some("dm-0 on md127 on ublkb3"));
        assert_eq!(layers(&sys, "dm-1", LAYERS_MAX), None);
        assert_eq!(
            layers(&sys, "ublkb7", LAYERS_MAX).as_deref(),
            Some("ublkb7")
        );
        assert_eq!(
            layers(&sys, "dm-0", 1),
            None,
            "no cycle is followed for ever"
        );
        fs::remove_dir_all(&sys).unwrap();
    }

    #[test]
    fn the_longest_mount_point_holds_a_path() {
        let table = "25 1 0:22 / / rw - overlay overlay rw\n\
                     90 25 0:50 / /data rw - btrfs /dev/no-such-device rw\n";
        let holds = |path| mount_of(table, Path::new(path)).map(|mount| mount.source);
        assert_eq!(holds("/data/x"), Some("/dev/no-such-device"));
        assert_eq!(holds("/var"), Some("overlay"));
        assert_eq!(on_ublk(Path::new("/no/such/folder")).unwrap(), None);
    }

    #[test]
    fn an_overlay_lies_where_its_upper_directory_lies() {
        let line = "25 1 0:22 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/mnt/a\\040b/up,workdir=/w\n";
        let mount = mount_of(line, Path::new("/x")).unwrap();
        assert_eq!(mount.upper_directory(), Some(PathBuf::from("/mnt/a b/up")));
        let plain = "25 1 8:1 / / rw - ext4 /dev/sda1 rw,upperdir=/mnt\n";
        assert_eq!(
            mount_of(plain, Path::new("/x")).unwrap().upper_directory(),
            None
        );
    }

    #[test]
    fn every_device_of_a_btrfs_is_checked() {
        let sys = machine("btrfs");
        let devices = sys.join("fs/btrfs/0a1b/devices");
        fs::create_dir_all(&devices).unwrap();
        fs::create_dir_all(sys.join("fs/btrfs/features")).unwrap();
        for device in ["sda", "dm-0"] {
            symlink(sys.join("block").join(device), devices.join(device)).unwrap();
        }
        let mut found = btrfs_devices(&sys, "sda".to_owned());
        found.sort();
        assert_eq!(found, ["dm-0", "sda"]);
        assert_eq!(btrfs_devices(&sys, "sdb".to_owned()), ["sdb"]);
        fs::remove_dir_all(&sys).unwrap();
    }

    #[test]
    fn a_mount_of_a_device_that_is_gone_is_known_by_its_name() {
        assert!(device_on_ublk("511:3", "/dev/ublkb0"));
        assert!(!device_on_ublk("0:21", "sysfs"));
    }
}
