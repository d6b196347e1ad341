//! `--here`: the running kernel instead of a VM.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::host;

/// Runs the command on this kernel, if it has what umpath needs.
pub(crate) fn run(words: &[OsString]) -> Result<u8> {
    let mut lacking = Vec::new();
    for (module, path, what) in [
        ("ublk_drv", "/dev/ublk-control", "ublk"),
        ("rdma_cm", "/sys/class/infiniband", "RDMA"),
        (
            "rdma_ucm",
            "/dev/infiniband/rdma_cm",
            "the RDMA connection manager for user space",
        ),
    ] {
        let exists = || std::path::Path::new(path).exists();
        if !exists()
            && let Some(modprobe) = host::find_program("modprobe")
        {
            drop(Command::new(modprobe).args(["-q", module]).status());
        }
        if !exists() {
            lacking.push(format!("{what} (module {module}, {path})"));
        }
    }
    if !lacking.is_empty() {
        bail!(
            "this kernel lacks {}; leave out --here to use a VM",
            lacking.join(" and ")
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("--here runs the command on this machine's kernel and needs root");
    }
    let (program, args) = words.split_first().context("no command given")?;
    let status = Command::new(program).args(args).status();
    let status = status.with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    Ok(status
        .code()
        .map_or(super::STATUS_VM_FAILED, |code| code as u8))
}
