//! Whether KVM really runs a stock kernel here.
//!
//! An existing `/dev/kvm` proves nothing: in some clouds' VMs it opens and then cannot run a
//! kernel. So this boots the kernel itself: without a root file system it must reach the
//! corresponding panic within seconds. The result is cached for this boot of the machine and this
//! kernel.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::kernel::Kernel;
use crate::host::QEMU;

const PROBE_TIME: Duration = Duration::from_secs(15);
const REACHED_THE_END: &str = "Unable to mount root fs";

/// Whether the VM can use KVM.
pub(crate) fn kvm_works(cache: &Path, kernel: &Kernel) -> bool {
    let open = fs::File::options().read(true).write(true).open("/dev/kvm");
    if open.is_err() {
        return false;
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let question = format!("{} {}", boot.trim(), kernel.release);
    let memory = cache.join("kvm-probe");
    let known = fs::read_to_string(&memory).unwrap_or_default();
    if let Some(answer) = known.lines().find_map(|line| line.strip_prefix(&question)) {
        return answer.trim() == "works";
    }
    let works = probe(&kernel.image);
    let answer = if works { "works" } else { "fails" };
    let of_this_boot = known.lines().filter(|line| line.starts_with(boot.trim()));
    let lines: Vec<_> = of_this_boot
        .map(str::to_owned)
        .chain([format!("{question} {answer}")])
        .collect();
    drop(fs::write(&memory, lines.join("\n")));
    if !works {
        eprintln!("xtask: /dev/kvm exists but cannot run this kernel; using QEMU's emulation");
    }
    works
}

fn probe(image: &Path) -> bool {
    let child = Command::new(QEMU)
        .args([
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-m",
            "512M",
            "-nodefaults",
            "-no-reboot",
        ])
        .args([
            "-display",
            "none",
            "-serial",
            "stdio",
            "-append",
            "console=ttyS0 panic=-1",
        ])
        .arg("-kernel")
        .arg(image)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let Some(mut output) = child.stdout.take() else {
        return false;
    };
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(output.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).contains(REACHED_THE_END)
    });
    let deadline = Instant::now() + PROBE_TIME;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(child.kill());
    drop(child.wait());
    reader.join().unwrap_or(false)
}
