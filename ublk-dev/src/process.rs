//! Making a process fit to serve a disk that the machine, and it, may depend on.
//!
//! Decided here: what a server does to itself so that it cannot wait for its own device. All three
//! measures are for the process, not the volume, and are taken once, early: [`unshare_mounts`]
//! before any thread is started, the others before the first device.

// UNSAFETY: unshare(2), whose effect on open descriptors the type system cannot see.
#![expect(unsafe_code)]

use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::mm::MlockAllFlags;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::stack;

/// Tells the kernel that this process writes out dirty memory for others: its own allocations then
/// never wait for dirty pages of a block device, which may be ours. Threads started later inherit
/// it. Needs `CAP_SYS_RESOURCE`.
pub fn become_io_flusher() -> io::Result<()> {
    Ok(rustix::process::configure_io_flusher_behavior(true)?)
}

/// Keeps every page this process touches in memory, so that serving a request never waits for a
/// page to be read back from a disk of ours. Pages never touched take no memory.
pub fn lock_memory() -> io::Result<()> {
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Ok(rustix::mm::mlockall(flags)?)
}

/// Gives this process a mount table of its own, without file systems that lie on ublk devices.
///
/// A process that ends drops its mount table; were a file system on our device in it, the last
/// reference could be ours, and unmounting it would wait for the device that just lost its server.
/// The caller must be single-threaded: other threads keep the old table.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: a new mount table changes how paths resolve in this thread and in those it starts;
    // it touches neither memory nor open descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    // Private, not slave: a slave would go on receiving mounts made on our devices.
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    // Later mounts may lie inside earlier ones.
    for mount in table
        .lines()
        .rev()
        .filter_map(parse_mount)
        .filter(Mount::is_on_ublk)
    {
        // Detached without waiting: the mount the user sees is in another table and stays.
        rustix::mount::unmount(&mount.point, UnmountFlags::DETACH)?;
    }
    Ok(())
}

pub(crate) struct Mount<'a> {
    device: &'a str,
    kind: &'a str,
    pub(crate) source: &'a str,
    /// Options of the file system, separated by commas.
    options: &'a str,
    pub(crate) point: PathBuf,
}

impl Mount<'_> {
    fn is_on_ublk(&self) -> bool {
        stack::device_on_ublk(self.device, self.source)
    }

    /// Where an overlay keeps what is written to it.
    pub(crate) fn upper_directory(&self) -> Option<PathBuf> {
        let mut options = self.options.split(',');
        let upper = options.find_map(|option| option.strip_prefix("upperdir="))?;
        (self.kind == "overlay").then(|| PathBuf::from(unescape(upper)))
    }
}

/// Reads one line of mountinfo: `id parent major:minor root point options [tags] - type source ..`.
pub(crate) fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ');
    let device = fields.nth(2)?;
    let point = fields.nth(1)?;
    let mut right = right.split(' ');
    let (kind, source) = (right.next()?, right.next()?);
    Some(Mount {
        device,
        kind,
        source,
        options: right.next().unwrap_or_default(),
        point: PathBuf::from(unescape(point)),
    })
}

/// Undoes the kernel's octal escapes (blank, tab, newline, backslash).
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = code {
            bytes.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mountinfo_lines_parse() {
        let line = "36 35 511:3 / /mnt/my\\040disk rw,noatime master:1 - ext4 /dev/ublkb0 rw";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.device, "511:3");
        assert_eq!(mount.point, Path::new("/mnt/my disk"));
        assert_eq!(mount.source, "/dev/ublkb0");
        assert!(mount.is_on_ublk());
        let none = parse_mount("22 28 0:21 / /sys rw shared:7 - sysfs sysfs rw").unwrap();
        assert!(!none.is_on_ublk());
        assert!(parse_mount("22 28").is_none());
    }
}
