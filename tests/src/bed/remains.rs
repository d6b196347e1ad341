//! Finding and forcibly removing what a case left behind.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::nvmet;
use super::run::attempt;

/// Everything that should be gone between two cases, one line each; empty on a clean machine.
pub fn remains() -> Vec<String> {
    let mut found = Vec::new();
    let mut list = |what: &str, dir: &str, prefix: &str| {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                found.push(format!("{what} {name}"));
            }
        }
    };
    list("network namespace", "/run/netns", "");
    list("RDMA device", "/sys/class/infiniband", "rx");
    list("ublk device", "/dev", "ublkb");
    list("ublk control node", "/dev", "ublkc");
    list("NVMe controller", "/sys/class/nvme", "");
    list("nvmet subsystem", "/sys/kernel/config/nvmet/subsystems", "");
    list("nvmet port", "/sys/kernel/config/nvmet/ports", "");
    list("null_blk disk", "/sys/kernel/config/nullb", "umpath");
    found.extend(processes().map(|(pid, name)| format!("process {name} {}", pid.as_raw_nonzero())));
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let ours = mounts.lines().filter(|line| line.starts_with("/dev/ublkb"));
    found.extend(ours.map(|line| format!("mount {line}")));
    found
}

/// Removes what a case left behind, as far as possible. Only inside the VM: elsewhere it might
/// remove what is not ours.
pub fn sweep() {
    if std::env::var_os("UMPATH_IN_VM").is_none() {
        return;
    }
    for (pid, _) in processes() {
        let _ = kill_process(pid, Signal::KILL);
    }
    for words in [
        ["umount", "-l", "/mnt/umpath"].as_slice(),
        &["nvme", "disconnect-all"],
    ] {
        if let Some((program, args)) = words.split_first() {
            drop(attempt(Command::new(program).args(args)));
        }
    }
    nvmet::sweep();
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        drop(attempt(
            Command::new("ip")
                .args(["netns", "delete"])
                .arg(entry.file_name()),
        ));
    }
    for entry in fs::read_dir("/sys/class/infiniband")
        .into_iter()
        .flatten()
        .flatten()
    {
        drop(attempt(
            Command::new("rdma")
                .args(["link", "delete"])
                .arg(entry.file_name()),
        ));
    }
    for entry in fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("array") || name.starts_with("host") {
            drop(attempt(Command::new("ip").args(["link", "delete", &name])));
        }
    }
    for entry in fs::read_dir("/sys/kernel/config/nullb")
        .into_iter()
        .flatten()
        .flatten()
    {
        let dir = entry.path();
        if dir.join("power").exists() {
            drop(fs::write(dir.join("power"), "0"));
            drop(fs::remove_dir(dir));
        }
    }
}

/// Running programs of the kinds that cases start.
fn processes() -> impl Iterator<Item = (Pid, String)> {
    const OURS: [&str; 5] = ["umpathd", "umpath-target", "hostile-target", "fio", "rping"];
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let name = fs::read_to_string(entry.path().join("comm"))
                .ok()?
                .trim()
                .to_owned();
            OURS.contains(&name.as_str()).then_some((pid, name))
        })
}
