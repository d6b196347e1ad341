//! Volumes in use and idle volumes: what may be removed and when, and what continues by itself.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use super::rig::{Daemon, PATIENCE, Target, ublk_nodes};
use crate::bed::{Fio, Network, attempt, load, run, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "volume-removal",
        topology: Topology::Separate(1),
        limit_seconds: 150,
        run: removal,
    },
    Case {
        name: "volume-idle-target-killed",
        topology: Topology::Separate(1),
        limit_seconds: 120,
        run: idle_target_killed,
    },
];

const NQN: &str = "nqn.2026-11.io.umpath:used";
/// Where [`Mounted`] mounts.
pub(super) const MOUNT: &str = "/mnt/umpath";

fn serve(network: &Network) -> Result<Target> {
    let subsystem = format!(
        "[[subsystem]]\nnqn = \"{NQN}\"\nallow_any_host = true\nports = [1]\n\
         [[subsystem.namespace]]\nnsid = 1\nuuid = \"7b6a2d0e-5c0f-4b0e-9d1a-1f3a5c7e9b11\"\n\
         backend = {{ type = \"memory\", size = \"64MiB\" }}\n"
    );
    Target::start(network, 1, &subsystem)
}

/// Removal is refused while the volume is mounted, open or stacked upon, and then changes nothing;
/// brief opens like udev's do not count; `--force` removes it, and its users get errors rather than
/// hang.
fn removal(network: &Network) -> Result<()> {
    let _target = serve(network)?;
    let mut daemon = Daemon::start(network, "")?;
    daemon.connect(network, 1, NQN, &[])?;
    let device = daemon.device()?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&device))?;

    let mounted = Mounted::on(&device)?;
    for target in [["-n", NQN], ["-d", "ublkb0"], ["--path", "1"]] {
        refused(&daemon, &target, &format!("mounted on {MOUNT}"))?;
    }
    Fio::on(&Path::new(MOUNT).join("file"))
        .write_and_verify("4k", "1m", 4)
        .run()?;
    drop(mounted);

    let open = File::open(&device)?;
    refused(&daemon, &["-n", NQN], "is open in vm-suite")?;
    drop(open);

    // udev opens a device after every write to it; that must not make the removal fail.
    let visits = Visits::start(&device);
    daemon.ask(&["disconnect", "-n", NQN])?;
    let count = visits.end()?;
    ensure!(count > 0, "the device was never opened");
    daemon.expect_nothing("disconnect while udev has it open")?;

    daemon.connect(network, 1, NQN, &[])?;
    let device = daemon.device()?;
    let mounted = Mounted::on(&device)?;
    let file = Path::new(MOUNT).join("load");
    let job = Fio::on(&file)
        .write_and_verify("4k", "4m", 4)
        .with(["--time_based", "--runtime=60"]);
    let users = std::thread::spawn(move || job.run());
    within(PATIENCE, "users busy", || file.exists())?;
    // Forced removal does not wait for them either.
    daemon.ask(&["disconnect", "-n", NQN, "--force"])?;
    daemon.expect_nothing("disconnect by force")?;
    let ended = users.join().map_err(|_| anyhow!("fio's thread died"))?;
    ensure!(ended.is_err(), "I/O on a removed device succeeded");
    drop(mounted);
    // The number of the removed device is free again.
    within(PATIENCE, "ublkb0 once more", || {
        daemon.connect(network, 1, NQN, &[]).is_ok()
            && daemon.device().is_ok_and(|again| {
                let same = again == device;
                drop(daemon.ask(&["disconnect", "-n", NQN]));
                same
            })
    })?;
    daemon.expect_nothing("disconnect")
}

fn refused(daemon: &Daemon, target: &[&str], why: &str) -> Result<()> {
    let said = daemon.try_ask(&[&["disconnect"], target].concat())?;
    eprintln!(
        "--- disconnect {}\n{}",
        target.join(" "),
        said.error.trim_end()
    );
    for part in ["in use, nothing was removed", why, "fix:", "--force"] {
        ensure!(
            !said.success && said.error.contains(part),
            "disconnect {target:?}: no `{part}` in {said:?}"
        );
    }
    let paths = daemon.paths()?;
    let live = paths
        .iter()
        .filter(|path| path.get("state").and_then(Value::as_str) == Some("live"));
    ensure!(
        daemon.volumes()?.len() == 1 && live.count() == 1,
        "half removed: {paths:?}"
    );
    Ok(())
}

/// The only target dies while there is no I/O: the daemon notices and reconnects by itself, and the
/// volume works; requests made meanwhile have waited.
fn idle_target_killed(network: &Network) -> Result<()> {
    let mut target = serve(network)?;
    let mut daemon = Daemon::start(network, "")?;
    daemon.connect(network, 1, NQN, &[])?;
    let device = daemon.device()?;
    let state = |wanted: &'static str| {
        within(PATIENCE, &format!("the path {wanted}"), || {
            daemon.paths().is_ok_and(|paths| {
                paths
                    .iter()
                    .all(|path| path.get("state").and_then(Value::as_str) == Some(wanted))
            })
        })
        .with_context(|| daemon.ask(&["show", "paths"]).unwrap_or_default())
    };
    state("live")?;
    target.kill()?;
    state("connecting")?;
    // Submitted while there is no path: it waits for one.
    let waiting = {
        let device = device.clone();
        std::thread::spawn(move || Fio::on(&device).write_and_verify("4k", "1m", 4).run())
    };
    std::thread::sleep(Duration::from_secs(2));
    ensure!(!waiting.is_finished(), "I/O ended without a path");
    drop(target);
    let _target = serve(network)?;
    state("live")?;
    waiting.join().map_err(|_| anyhow!("fio's thread died"))??;
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")?;
    ensure!(ublk_nodes().is_empty(), "{:?}", ublk_nodes());
    Ok(())
}

/// A mounted file system.
pub(super) struct Mounted;

impl Mounted {
    /// Mounts an ext4 file system.
    pub(super) fn on(device: &Path) -> Result<Self> {
        load(&["ext4"])?;
        std::fs::create_dir_all(MOUNT)?;
        run(Command::new("mount").arg(device).arg(MOUNT))?;
        Ok(Self)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(attempt(Command::new("umount").arg(MOUNT)));
    }
}

/// Opens and closes the device repeatedly, as udev's `blkid` does.
struct Visits {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u32>,
}

impl Visits {
    fn start(device: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, device) = (Arc::clone(&stop), device.to_path_buf());
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !seen.load(Ordering::Relaxed) {
                if let Ok(file) = File::open(&device) {
                    count += 1;
                    // As long as a superblock probe takes.
                    std::thread::sleep(Duration::from_millis(50));
                    drop(file);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            count
        });
        Self { stop, thread }
    }

    fn end(self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the opener's thread died"))
    }
}
