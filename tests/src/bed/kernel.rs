//! The running kernel: its version and its modules.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::run::run;

/// What `uname -r` says.
pub fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Soft-RoCE devices live in network namespaces from Linux 7 on; before, only in the initial one.
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

/// Makes sure that configfs is where everybody expects it.
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
