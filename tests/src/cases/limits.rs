//! A namespace's limits as a block device, and whether the kernel's requests reach the namespace as
//! sent: block size, large requests, flush, FUA, discard, zeroes, every queue.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::rig::{Daemon, Target};
use crate::bed::{AnaState, Fio, Network, NullDisk, Nvmet, NvmetTrace, Received, output, run};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "volume-limits-nvmet",
        topology: Topology::KernelArray(1),
        limit_seconds: 150,
        run: nvmet,
    },
    Case {
        name: "volume-limits-target",
        topology: Topology::Separate(1),
        limit_seconds: 150,
        run: target,
    },
];

const NQN: &str = "nqn.2026-11.io.umpath:limits";
const DISK: &str = "umpath0";
/// Temporary file for comparisons.
const NOISE: &str = "/tmp/umpath-limits.noise";
const MIB: u64 = 1 << 20;
/// Both targets accept 1 MiB per command.
const MDTS: u64 = MIB;
/// Two queues, and requests four times as large as a command may be.
const CONFIG: &str = "[defaults]\nio_queues = 2\nqueue_depth = 16\nmax_io_kib = 4096\n";

/// A disk with a volatile cache and without FUA: each durable write costs a flush, which the kernel
/// counts.
fn disk(block: &str) -> Result<NullDisk> {
    let settings = [("blocksize", block), ("cache_size", "8"), ("fua", "0")];
    NullDisk::make_with(DISK, 64, &settings)
}

/// Linux nvmet traces every command that reached it.
fn nvmet(network: &Network) -> Result<()> {
    for block in ["512", "4096"] {
        let disk = disk(block)?;
        let _target = Nvmet::start(network, NQN, disk.device(), &[AnaState::Optimized])?;
        let mut daemon = Daemon::start(network, CONFIG)?;
        daemon.connect(network, 1, NQN, &["-k", "2"])?;
        let device = daemon.device()?;
        appears(&device, block)?;
        let trace = NvmetTrace::start()?;
        large_requests(&device, &trace)?;
        durability(&device, &trace)?;
        deallocation(&device, &trace)?;
        every_queue(&device, block, &trace)?;
        daemon.ask(&["disconnect", "-n", NQN])?;
        daemon.expect_nothing("disconnect")?;
    }
    Ok(())
}

/// Limits of the block device, as the kernel tells them.
fn appears(device: &Path, block: &str) -> Result<()> {
    let bytes: u64 = queue(device, "max_hw_sectors_kb")?.parse::<u64>()? << 10;
    ensure!(bytes >= MIB, "requests of {bytes} bytes at most");
    for (name, wanted) in [
        ("logical_block_size", block),
        ("write_cache", "write back"),
        ("fua", "1"),
    ] {
        let is = queue(device, name)?;
        ensure!(is == wanted, "{name} is {is}, not {wanted}");
    }
    for name in ["discard_max_bytes", "write_zeroes_max_bytes"] {
        ensure!(queue(device, name)? != "0", "{name} is 0");
    }
    let size = output(Command::new("blockdev").arg("--getsize64").arg(device))?;
    ensure!(size.trim() == (64 * MIB).to_string(), "size {size}");
    let queues = fs::read_dir(sysfs(device).join("mq"))?.count();
    ensure!(queues == 2, "{queues} hardware queues");
    Ok(())
}

/// A request four times as large as a command may be arrives in pieces, and reads back correctly.
fn large_requests(device: &Path, trace: &NvmetTrace) -> Result<()> {
    let most = queue(device, "max_hw_sectors_kb")?;
    fs::write(sysfs(device).join("queue/max_sectors_kb"), most)?;
    let requests = |field| statistic(device, field);
    let (writes, reads) = (requests(Statistic::Writes)?, requests(Statistic::Reads)?);
    trace.take()?;
    Fio::on(device)
        .write_and_verify("4m", "16m", 2)
        .run()
        .context("requests of 4 MiB")?;
    let seen = trace.take()?;
    let block: u64 = queue(device, "logical_block_size")?.parse()?;
    for (name, asked) in [
        ("nvme_cmd_write", requests(Statistic::Writes)? - writes),
        ("nvme_cmd_read", requests(Statistic::Reads)? - reads),
    ] {
        let pieces: Vec<u64> = named(&seen, name).map(|c| c.blocks() * block).collect();
        ensure!(pieces.iter().sum::<u64>() >= 16 * MIB, "{name}: {pieces:?}");
        let largest = pieces.iter().max().copied().unwrap_or_default();
        ensure!(largest == MDTS, "the largest {name} has {largest} bytes");
        ensure!(
            (pieces.len() as u64) > asked,
            "{asked} requests became {} commands: nothing was split",
            pieces.len()
        );
    }
    Ok(())
}

/// Flush and FUA arrive as such, and only where requested.
fn durability(device: &Path, trace: &NvmetTrace) -> Result<()> {
    let flushes = |seen: &[Received]| named(seen, "nvme_cmd_flush").count();
    let fua = |seen: &[Received]| seen.iter().filter(|command| command.is_fua()).count();
    write(device, &[])?;
    let seen = trace.take()?;
    ensure!(
        (flushes(&seen), fua(&seen)) == (0, 0) && named(&seen, "nvme_cmd_write").count() == 1,
        "a plain write: {seen:?}"
    );
    let before = statistic(Path::new(DISK), Statistic::Flushes)?;
    fs::File::options().write(true).open(device)?.sync_all()?;
    let seen = trace.take()?;
    ensure!(flushes(&seen) == 1, "a flush: {seen:?}");
    ensure!(
        statistic(Path::new(DISK), Statistic::Flushes)? > before,
        "no flush reached the disk"
    );
    write(device, &["oflag=dsync"])?;
    let seen = trace.take()?;
    ensure!(fua(&seen) == 1, "a write that must be durable: {seen:?}");
    Ok(())
}

/// Discard and Write Zeroes arrive as such. Only the latter guarantees zeroes.
fn deallocation(device: &Path, trace: &NvmetTrace) -> Result<()> {
    let filled = fill(device)?;
    let mut holes = Vec::new();
    for (mib, flags, name) in [
        (1, ["--step", "1MiB"], "nvme_cmd_dsm"),
        (4, ["--zeroout", "--verbose"], "nvme_cmd_write_zeroes"),
    ] {
        let at = &format!("{mib}MiB");
        trace.take()?;
        let mut command = Command::new("blkdiscard");
        command
            .args(flags)
            .args(["--offset", at, "--length", "1MiB"]);
        run(command.arg(device))?;
        let seen = trace.take()?;
        ensure!(named(&seen, name).count() >= 1, "{flags:?}: {seen:?}");
        if name == "nvme_cmd_write_zeroes" {
            expect_zeroes(device, at)?;
        }
        holes.push(mib);
        expect_rest(device, &filled, &holes)?;
    }
    Ok(())
}

/// Each CPU's requests use a queue pair of their own.
fn every_queue(device: &Path, block: &str, trace: &NvmetTrace) -> Result<()> {
    trace.take()?;
    Fio::on(device)
        .write_and_verify(block, "256k", 4)
        .with([
            "--numjobs=2",
            "--cpus_allowed=0,1",
            "--cpus_allowed_policy=split",
        ])
        .with(["--offset_increment=1m"])
        .run()?;
    let seen = trace.take()?;
    let queues: BTreeSet<u64> = named(&seen, "nvme_cmd_write").map(|c| c.qid).collect();
    ensure!(queues.len() == 2, "writes came on queues {queues:?}");
    Ok(())
}

/// The same with our own target, whose disk counts what reached it.
fn target(network: &Network) -> Result<()> {
    for block in ["512", "4096"] {
        let disk = disk(block)?;
        let kept = format!(
            "backend = {{ type = \"block\", path = \"{}\" }}",
            disk.device().display()
        );
        let target = serve(network, block, &kept)?;
        let mut daemon = Daemon::start(network, CONFIG)?;
        daemon.connect(network, 1, NQN, &[])?;
        let device = daemon.device()?;
        appears(&device, block)?;
        Fio::on(&device).write_and_verify("4m", "16m", 2).run()?;
        Fio::on(&device).write_and_verify(block, "128k", 8).run()?;
        let flushes = || statistic(Path::new(DISK), Statistic::Flushes);
        let mut before = flushes()?;
        write(&device, &[])?;
        ensure!(flushes()? == before, "a plain write was flushed");
        fs::File::options().write(true).open(&device)?.sync_all()?;
        ensure!(flushes()? > before, "no flush reached the disk");
        before = flushes()?;
        write(&device, &["oflag=dsync"])?;
        ensure!(
            flushes()? > before,
            "a write that must be durable was not made so"
        );
        for flag in ["--zeroout", "--verbose"] {
            let filled = fill(&device)?;
            let mut command = Command::new("blkdiscard");
            command.args([flag, "--offset", "1MiB", "--length", "1MiB"]);
            run(command.arg(&device))?;
            if flag == "--zeroout" {
                expect_zeroes(&device, "1MiB")?;
            }
            expect_rest(&device, &filled, &[1])?;
            Fio::on(&device).write_and_verify("64k", "4m", 4).run()?;
        }
        daemon.ask(&["disconnect", "-n", NQN])?;
        daemon.expect_nothing("disconnect")?;
        drop(target);
        // Memory has no cache that could lose anything, but another controller may have one.
        let memory = "backend = { type = \"memory\", size = \"64MiB\" }";
        let _target = serve(network, block, memory)?;
        daemon.connect(network, 1, NQN, &[])?;
        appears(&daemon.device()?, block)?;
        daemon.ask(&["disconnect", "-n", NQN])?;
        daemon.expect_nothing("disconnect")?;
    }
    Ok(())
}

fn serve(network: &Network, block: &str, backend: &str) -> Result<Target> {
    let subsystem = format!(
        "[[subsystem]]\nnqn = \"{NQN}\"\nallow_any_host = true\nports = [1]\n\
         [[subsystem.namespace]]\nnsid = 1\nblock_size = {block}\n{backend}\n"
    );
    Target::start(network, 1, &subsystem)
}

/// One direct write of 4 KiB at 8 MiB.
fn write(device: &Path, flags: &[&str]) -> Result<()> {
    let mut command = Command::new("dd");
    command.args(["if=/dev/urandom", "bs=4096", "count=1", "seek=2048"]);
    command.args(["conv=notrunc", "status=none", "oflag=direct"]);
    command.args(flags).arg(format!("of={}", device.display()));
    run(&mut command)
}

/// Fills the first 8 MiB with random data and returns them.
fn fill(device: &Path) -> Result<Vec<u8>> {
    copy("/dev/urandom", NOISE, "iflag=fullblock")?;
    copy(NOISE, &device.display().to_string(), "oflag=direct")?;
    read_away(NOISE)
}

/// Checks that they still hold the fill data, except for the MiBs in `holes`.
fn expect_rest(device: &Path, filled: &[u8], holes: &[usize]) -> Result<()> {
    copy(&device.display().to_string(), NOISE, "iflag=direct")?;
    let now = read_away(NOISE)?;
    ensure!(now.len() == filled.len(), "{} bytes read", now.len());
    let mib = MIB as usize;
    let both = now.chunks(mib).zip(filled.chunks(mib)).enumerate();
    let hit: Vec<usize> = both
        .filter(|(at, (now, filled))| !holes.contains(at) && now != filled)
        .map(|(at, _)| at)
        .collect();
    ensure!(hit.is_empty(), "MiB {hit:?} changed as well");
    Ok(())
}

/// Copies 8 MiB.
fn copy(from: &str, to: &str, flag: &str) -> Result<()> {
    let mut command = Command::new("dd");
    command.args(["bs=1M", "count=8", "conv=notrunc", "status=none", flag]);
    run(command.args([format!("if={from}"), format!("of={to}")]))
}

fn read_away(file: &str) -> Result<Vec<u8>> {
    let bytes = fs::read(file)?;
    fs::remove_file(file)?;
    Ok(bytes)
}

/// Checks that the MiB at `at` is all zeroes.
fn expect_zeroes(device: &Path, at: &str) -> Result<()> {
    let at = at.trim_end_matches("MiB");
    let script = format!(
        "dd if={} bs=1M skip={at} count=1 iflag=direct status=none | tr -d '\\0' | wc -c",
        device.display()
    );
    let left = output(Command::new("sh").args(["-c", &script]))?;
    ensure!(left.trim() == "0", "{} bytes are not zero", left.trim());
    Ok(())
}

fn named<'a>(seen: &'a [Received], name: &'a str) -> impl Iterator<Item = &'a Received> {
    seen.iter().filter(move |command| command.name == name)
}

fn sysfs(device: &Path) -> std::path::PathBuf {
    Path::new("/sys/block").join(device.file_name().unwrap_or_default())
}

fn queue(device: &Path, name: &str) -> Result<String> {
    let path = sysfs(device).join("queue").join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// Fields of a block device's statistics.
#[derive(Clone, Copy)]
enum Statistic {
    Reads = 0,
    Writes = 4,
    Flushes = 15,
}

fn statistic(device: &Path, field: Statistic) -> Result<u64> {
    let text = fs::read_to_string(sysfs(device).join("stat"))?;
    let text = text.split_whitespace().nth(field as usize);
    Ok(text.context("a shorter statistic than expected")?.parse()?)
}
