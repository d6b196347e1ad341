//! The kernel's NVMe host, with or without its own multipath, and its devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use umpath_tests::bed::{KernelHost, attempt, run, within, within_value};

use crate::contender::Half;

/// All modules that keep nvme_core loaded, users before what they use.
const USERS: [&str; 9] = [
    "nvme_rdma",
    "nvme_tcp",
    "nvme_loop",
    "nvme_fabrics",
    "nvmet_rdma",
    "nvmet_tcp",
    "nvmet",
    "nvme",
    "nvme_core",
];
const UNLOAD_TIME: Duration = Duration::from_secs(10);
const DEVICE_TIME: Duration = Duration::from_secs(30);

/// Loads nvme_core with native multipath on or off. That is a load-time parameter, so all of NVMe
/// must be unused. A kernel with nvme_core built in needs `nvme_core.multipath=` at boot.
pub(crate) fn load_for(half: Half) -> Result<()> {
    let wanted = match half {
        Half::Native => "Y",
        Half::Separate => "N",
    };
    let merges = || fs::read_to_string("/sys/module/nvme_core/parameters/multipath");
    if merges().is_ok_and(|text| text.trim() == wanted) {
        return Ok(());
    }
    // Queues that were just closed hold their module for a moment. If it stays in use, the
    // parameter below shows it.
    drop(within(UNLOAD_TIME, "NVMe unloaded", || {
        unload();
        !loaded("nvme_core")
    }));
    let parameter = format!("multipath={wanted}");
    run(Command::new("modprobe").args(["nvme_core", &parameter]))?;
    let now = merges().context("nvme_core has no multipath parameter")?;
    if now.trim() != wanted {
        bail!(
            "nvme_core is in use and stays with multipath={}; boot with nvme_core.multipath={wanted}",
            now.trim()
        );
    }
    Ok(())
}

fn unload() {
    for module in USERS.into_iter().filter(|module| loaded(module)) {
        drop(attempt(Command::new("modprobe").args(["--remove", module])));
    }
}

/// Whether it is loaded as a module and can be unloaded.
fn loaded(module: &str) -> bool {
    let dir = Path::new("/sys/module").join(module);
    dir.join("initstate").exists()
}

/// Sets native multipath's policy to queue-depth.
pub(crate) fn choose_queue_depth(nqn: &str) -> Result<()> {
    let entries = fs::read_dir("/sys/class/nvme-subsystem").context("no NVMe subsystem")?;
    for dir in entries.flatten().map(|entry| entry.path()) {
        if fs::read_to_string(dir.join("subsysnqn")).is_ok_and(|text| text.trim() == nqn) {
            fs::write(dir.join("iopolicy"), "queue-depth")
                .context("this kernel has no queue-depth policy (Linux 6.11 or newer has)")?;
            return Ok(());
        }
    }
    bail!("the kernel's host has no subsystem {nqn}")
}

/// The block device of each path, with native multipath off.
pub(crate) fn path_devices(host: &KernelHost, count: u8) -> Result<Vec<PathBuf>> {
    within_value(DEVICE_TIME, "a block device for each path", || {
        let found: Vec<_> = host
            .controllers()
            .iter()
            .filter_map(|dir| block_device(dir))
            .collect();
        let ready = found.len() == usize::from(count) && found.iter().all(|path| path.exists());
        ready.then_some(found)
    })
}

/// `/dev/nvme1n1` for `/sys/class/nvme/nvme1`.
fn block_device(controller: &Path) -> Option<PathBuf> {
    let prefix = format!("{}n", controller.file_name()?.to_string_lossy());
    let entries = fs::read_dir(controller).ok()?.flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let name = names.find(|name| {
        let number = name.strip_prefix(&prefix);
        number.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
    })?;
    Some(Path::new("/dev").join(name))
}
