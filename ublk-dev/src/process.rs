//! Making a process fit to serve a disk that the machine, and it, may depend on.
//!
//! Decided here: what a server does to itself so that it cannot wait for its own device. All three
//! measures are for the process, not the volume, and are taken once, early: [`unshare_mounts`]
//! before any thread is started, the others before the first device.

// UNSAFETY: unshare(2), whose effect on open descriptors the type system cannot see.
#![expect(unsafe_code)]

use std::fs;
use std::io;

use rustix::mm::MlockAllFlags;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::mounts::parse_mount;
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
        .filter(|mount| stack::device_on_ublk(mount.device, mount.source))
    {
        // Detached without waiting: the mount the user sees is in another table and stays.
        rustix::mount::unmount(&mount.point, UnmountFlags::DETACH)?;
    }
    Ok(())
}
