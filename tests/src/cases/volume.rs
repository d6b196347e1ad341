//! File systems on volumes with two paths keep their data.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::disk::Disk;
use super::rig::{Daemon, PATIENCE, ublk_nodes};
use crate::bed::{Fio, Network, Side, attempt, load, output, run, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "volume-file-systems",
        topology: Topology::Separate(2),
        limit_seconds: 240,
        run: file_systems,
    },
    Case {
        name: "volume-lost-connection-request",
        topology: Topology::Separate(1),
        limit_seconds: 120,
        run: lost_connection_request,
    },
];

const NQN: &str = "nqn.2026-11.io.umpath:volume";
const MOUNT: &str = "/mnt/umpath";
const DISK: &str = "/tmp/umpath-volume.disk";

/// A mounted file system.
struct Mounted;

impl Mounted {
    fn mount(device: &Path) -> Result<Self> {
        fs::create_dir_all(MOUNT)?;
        run(Command::new("mount").arg(device).arg(MOUNT))?;
        Ok(Self)
    }

    fn unmount(self) -> Result<()> {
        std::mem::forget(self);
        run(Command::new("umount").arg(MOUNT))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(attempt(Command::new("umount").arg(MOUNT)));
    }
}

/// mkfs, mount, verified I/O, unmount, fsck, mount again, compare: ext4, xfs and btrfs on one
/// volume with two paths.
fn file_systems(network: &Network) -> Result<()> {
    let disk = Disk::new(NQN, DISK, "512MiB");
    let _first = disk.serve(network, 1, "optimized")?;
    let _second = disk.serve(network, 2, "non-optimized")?;
    let daemon = Daemon::start(network, "")?;
    daemon.connect(network, 1, NQN, &[])?;
    daemon.connect(network, 2, NQN, &[])?;
    let device = daemon.device()?;
    eprint!("{}", daemon.ask(&["-ll"])?);
    let tools: [(&str, &[&str], &[&str]); 3] = [
        ("ext4", &["mkfs.ext4", "-q", "-F"], &["e2fsck", "-f", "-n"]),
        ("xfs", &["mkfs.xfs", "-q", "-f"], &["xfs_repair", "-n"]),
        ("btrfs", &["mkfs.btrfs", "-q", "-f"], &["btrfs", "check"]),
    ];
    for (name, make, check) in tools {
        load(&[name])?;
        file_system(&device, make, check).with_context(|| format!("{name} on the volume"))?;
        eprintln!("{name}: made, verified, checked");
    }
    // The kernel logs what a file system or the block layer could not do.
    let complaints = kernel_complaints("ublkb0")?;
    ensure!(
        complaints.is_empty(),
        "the kernel complained: {complaints:#?}"
    );
    daemon.ask(&["disconnect", "-n", NQN])?;
    ensure!(ublk_nodes().is_empty(), "left: {:?}", ublk_nodes());
    Ok(())
}

/// The kernel resends a lost connection request after 4.3 s; we give up after 3 s.
fn lost_connection_request(network: &Network) -> Result<()> {
    load(&["sch_netem"])?;
    let disk = Disk::new(NQN, DISK, "64MiB");
    let _target = disk.serve(network, 1, "optimized")?;
    let daemon = Daemon::start(network, "")?;
    let (host, cable) = (network.host(), network.cable(1));
    // With a permanent neighbour entry there is no ARP: the first packet lost is the request.
    let address = cable.address(Side::Array).to_string();
    run(host.command("ping").args(["-q", "-c1", "-W5", &address]))?;
    let device = cable.netdev(Side::Host);
    let loss = ["root", "netem", "loss", "100%"];
    run(host
        .command("tc")
        .args(["qdisc", "add", "dev", &device])
        .args(loss))?;
    let heal = || {
        within(PATIENCE, "a packet lost", || {
            let shown = output(
                host.command("tc")
                    .args(["-s", "qdisc", "show", "dev", &device]),
            );
            shown.is_ok_and(|text| text.contains("dropped ") && !text.contains("dropped 0,"))
        })?;
        run(host
            .command("tc")
            .args(["qdisc", "del", "dev", &device, "root"]))
    };
    std::thread::scope(|scope| {
        let healed = scope.spawn(heal);
        let connected = daemon.connect(network, 1, NQN, &[]);
        let healed = healed.join();
        connected?;
        healed.unwrap_or_else(|_| bail!("the repair thread panicked"))
    })?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    Ok(())
}

fn file_system(device: &Path, make: &[&str], check: &[&str]) -> Result<()> {
    tool(make, device)?;
    let mounted = Mounted::mount(device)?;
    let file = Path::new(MOUNT).join("fio");
    Fio::on(&file)
        .write_and_verify("4k", "8m", 16)
        .with(["--fsync=64"])
        .run()?;
    let large = Path::new(MOUNT).join("large");
    Fio::on(&large)
        .write_and_verify("1m", "48m", 4)
        .with(["--rw=write", "--end_fsync=1"])
        .run()?;
    let before = checksums("fio large")?;
    mounted.unmount()?;
    tool(check, device)?;
    let mounted = Mounted::mount(device)?;
    ensure!(
        checksums("fio large")? == before,
        "a file changed over unmount and mount"
    );
    fs::remove_file(&large)?;
    let kept = checksums("fio")?;
    run(Command::new("fstrim").arg(MOUNT))?;
    mounted.unmount()?;
    tool(check, device)?;
    // These tools do not read file data: a discard of the wrong blocks shows only here.
    let mounted = Mounted::mount(device)?;
    ensure!(checksums("fio")? == kept, "fstrim changed a file");
    mounted.unmount()
}

fn tool(words: &[&str], device: &Path) -> Result<()> {
    let (program, args) = words.split_first().context("no program")?;
    run(Command::new(program).args(args).arg(device))
}

fn checksums(files: &str) -> Result<String> {
    output(Command::new("sh").args(["-c", &format!("cd {MOUNT} && sha256sum {files}")]))
}

fn kernel_complaints(device: &str) -> Result<Vec<String>> {
    let log = output(&mut Command::new("dmesg"))?;
    let bad = ["error", "corrupt", "fail"];
    Ok(log
        .lines()
        .filter(|line| line.contains(device))
        .filter(|line| bad.iter().any(|word| line.to_lowercase().contains(word)))
        .map(str::to_owned)
        .collect())
}
