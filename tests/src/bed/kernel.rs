//! The running kernel: its release and its modules.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::run::run;

/// The release, as `uname -r` prints it.
pub fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Since Linux 7 soft-RoCE devices belong to network namespaces; before, only to the initial one.
pub fn rxe_has_namespaces() -> bool {
    let release = release();
    let major = release
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major >= 7)
}

/// Loads modules, each with its parameters, such as `"null_blk nr_devices=0"`.
pub fn load(modules: &[&str]) -> Result<()> {
    for module in modules {
        let words = module.split_whitespace();
        run(Command::new("modprobe").args(words))
            .with_context(|| format!("this kernel ({}) has no module {module}", release()))?;
    }
    Ok(())
}

/// Mounts configfs at its standard path if necessary.
pub(super) fn mount_configfs() -> Result<()> {
    load(&["configfs"])?;
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some("/sys/kernel/config"))
    {
        return Ok(());
    }
    run(Command::new("mount").args(["-t", "configfs", "none", "/sys/kernel/config"]))
}
