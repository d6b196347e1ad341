//! Debian's multipath-tools, unpacked beside the cache and not installed: the importer is compared
//! with it. Installed, it would put its udev rules and its daemon on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::host;

/// Packages unpacked together: the program, and libraries that a bare machine may lack.
const PACKAGES: &[&str] = &["multipath-tools"];

/// The folder they are unpacked in, fetched when it is not there.
pub(crate) fn fetch(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("multipath-tools");
    if folder.join("done").exists() {
        return Ok(folder);
    }
    let _ = fs::remove_dir_all(&folder);
    let archives = folder.join("archives");
    fs::create_dir_all(&archives).with_context(|| format!("cannot make {}", archives.display()))?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["download", "-q", "-oAPT::Sandbox::User=root"]);
        host::capture(apt.args(PACKAGES).current_dir(&archives))
    };
    if download().is_err() {
        // A fresh machine has no package lists yet.
        host::as_root("apt-get", ["update", "-q"])?;
        download().context("cannot fetch Debian's multipath-tools")?;
    }
    for entry in fs::read_dir(&archives)? {
        let mut unpack = Command::new("dpkg");
        host::capture(unpack.arg("-x").arg(entry?.path()).arg(&folder))?;
    }
    fs::write(folder.join("done"), "")?;
    Ok(folder)
}
