//! ext4 on the volume: create, mount, check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bed::{attempt, output, run};

/// Creates a file system without lazy initialization.
pub(super) fn make(device: &Path) -> Result<()> {
    let lazy = "lazy_itable_init=0,lazy_journal_init=0";
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", lazy])
        .arg(device))
}

/// Runs `fsck -fn`; returns its output for a clean file system, an error otherwise.
pub(super) fn check(device: &Path) -> Result<String> {
    output(Command::new("e2fsck").arg("-fn").arg(device))
}

/// A directory below which mounts and unmounts propagate to namespaces created meanwhile.
///
/// `ip netns exec` gives each program its own mount namespace. A target restarted while the volume
/// is mounted would otherwise keep the mount, and with it the volume, alive there.
/// the volume is mounted would keep the mount alive in its table, and with it the volume.
#[derive(Debug)]
pub(super) struct MountPoint(PathBuf);

impl MountPoint {
    pub(super) fn make(at: &Path) -> Result<Self> {
        fs::create_dir_all(at).with_context(|| format!("cannot create {}", at.display()))?;
        run(Command::new("mount").arg("--bind").args([at, at]))?;
        let point = Self(at.to_path_buf());
        run(Command::new("mount").arg("--make-shared").arg(at))?;
        Ok(point)
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        drop(attempt(Command::new("umount").arg(&self.0)));
    }
}

/// A mounted file system; dropping unmounts it.
#[derive(Debug)]
pub(super) struct Mounted {
    at: PathBuf,
    there: bool,
}

impl Mounted {
    pub(super) fn new(device: &Path, at: &Path, options: &str) -> Result<Self> {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", options])
            .args([device, at]))?;
        Ok(Self {
            at: at.to_path_buf(),
            there: true,
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.at
    }

    pub(super) fn unmount(mut self) -> Result<()> {
        self.there = false;
        run(Command::new("umount").arg(&self.at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.there {
            drop(attempt(Command::new("umount").arg("-l").arg(&self.at)));
        }
    }
}
