//! Debian's multipath-tools, unpacked into the cache and not installed, as a reference for the
//! importer. Installing it would add its udev rules and its daemon to this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::host;

/// The directory they are unpacked in, fetched if missing.
pub(crate) fn fetch(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("multipath-tools");
    if folder.join("done").exists() {
        return Ok(folder);
    }
    let _ = fs::remove_dir_all(&folder);
    let archives = folder.join("archives");
    let partial = archives.join("partial");
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    // Includes every library that this machine lacks; a bare one lacks several.
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--download-only", "--reinstall", "--yes", "-q"]);
        apt.args(["--no-install-recommends", "-oAPT::Sandbox::User=root"]);
        apt.arg(format!("-oDir::Cache::archives={}", archives.display()));
        host::capture(apt.arg("multipath-tools"))
    };
    if download().is_err() {
        // A fresh machine has no package lists yet.
        host::as_root("apt-get", ["update", "-q"])?;
        download().context("cannot fetch Debian's multipath-tools")?;
    }
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|known| known == "deb") {
            let mut unpack = Command::new("dpkg");
            host::capture(unpack.arg("-x").arg(path).arg(&folder))?;
        }
    }
    fs::write(folder.join("done"), "")?;
    Ok(folder)
}
