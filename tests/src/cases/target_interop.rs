//! Our target with the kernel's own host: nvme-cli's view, data verified by fio, no kernel errors,
//! and recovery when ANA states change, a target dies or the cable goes silent.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::rig::PATIENCE;
use crate::bed::{
    ConnectOptions, Fio, KernelHost, Load, Network, Pull, Side, TargetProcess, attempt, output,
    pause, run, within,
};
use crate::drill::verifier::Verifier;
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "target-nvme-cli",
        topology: Topology::Loopback(1),
        limit_seconds: 240,
        run: nvme_cli,
    },
    Case {
        name: "target-two-processes",
        topology: Topology::Loopback(2),
        limit_seconds: 240,
        run: two_processes,
    },
    Case {
        name: "target-killed-and-back",
        topology: Topology::Loopback(2),
        limit_seconds: 240,
        run: killed_and_back,
    },
    Case {
        name: "target-keep-alive",
        topology: Topology::KernelHost(1),
        limit_seconds: 180,
        run: keep_alive,
    },
    Case {
        name: "target-stopped-executes-no-ghosts",
        topology: Topology::Loopback(2),
        limit_seconds: 240,
        run: stopped_executes_no_ghosts,
    },
    Case {
        name: "target-refuses-in-words",
        topology: Topology::Loopback(1),
        limit_seconds: 180,
        run: refuses_in_words,
    },
];

const NQN: &str = "nqn.2026-11.io.umpath:interop";
const SERVICE: u16 = 4420;
/// A block that no load writes.
const BLOCK: u64 = 20_000;

/// A running `umpath-target` with one port.
#[derive(Debug)]
struct Target {
    process: TargetProcess,
    number: u8,
    directory: PathBuf,
}

impl Target {
    /// Port `number` on that cable, with the file `disk` of `directory` as namespace 1.
    fn start(network: &Network, number: u8, state: &str) -> Result<Self> {
        let directory = PathBuf::from("/tmp/umpath-interop");
        fs::create_dir_all(&directory)?;
        let config = format!(
            r#"[process]
cntlid = {{ first = {first}, last = {last} }}
[[port]]
id = {number}
traddr = "{address}"
[[subsystem]]
nqn = "{NQN}"
allow_any_host = true
ports = [{number}]
[[subsystem.namespace]]
nsid = 1
backend = {{ type = "file", path = "{disk}", size = "128MiB" }}
[[subsystem.ana]]
port = {number}
state = "{state}"
"#,
            first = u16::from(number) * 1000,
            last = u16::from(number) * 1000 + 999,
            address = network.cable(number).address(Side::Array),
            disk = directory.join("disk").display(),
        );
        let name = format!("target-{number}");
        let process = TargetProcess::start(network.array(), &directory, &name, &config)?;
        Ok(Self {
            process,
            number,
            directory,
        })
    }

    fn restart(&mut self, network: &Network) -> Result<()> {
        self.process.start_again(network.array())
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        self.process.command(words)
    }

    fn verb(&self, words: &[&str]) -> Result<String> {
        self.process.verb(words)
    }

    fn set_ana(&self, state: &str) -> Result<()> {
        let port = self.number.to_string();
        let words = [
            "nvmf", "ana", "set", "--nqn", NQN, "--port", &port, "--state", state,
        ];
        self.verb(&words).map(drop)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // The last one to end removes the files.
        drop(fs::remove_file(self.directory.join("disk")));
    }
}

/// Kernel messages from here on.
struct KernelLog(String);

impl KernelLog {
    fn mark(case: &str) -> Result<Self> {
        let mark = format!("umpath case {case} {}", std::process::id());
        fs::write("/dev/kmsg", &mark)?;
        Ok(Self(mark))
    }

    /// NVMe messages that report a problem.
    fn complaints(&self) -> Result<Vec<String>> {
        let log = output(&mut Command::new("dmesg"))?;
        let ours = log.rsplit(&self.0).next().unwrap_or_default();
        let bad = ["error", "timeout", "failed", "invalid", "mismatch", "warn"];
        Ok(ours
            .lines()
            .filter(|line| line.contains("nvme"))
            .filter(|line| bad.iter().any(|word| line.to_lowercase().contains(word)))
            .map(str::to_owned)
            .collect())
    }

    fn expect_silence(&self) -> Result<()> {
        let complaints = self.complaints()?;
        ensure!(
            complaints.is_empty(),
            "the kernel complained:\n{}",
            complaints.join("\n")
        );
        Ok(())
    }
}

fn portal(network: &Network, cable: u8) -> IpAddr {
    IpAddr::V4(network.cable(cable).address(Side::Array))
}

fn nvme(words: &[&str]) -> Result<Value> {
    let text = output(Command::new("nvme").args(words).args(["-o", "json"]))?;
    serde_json::from_str(&text).with_context(|| format!("nvme {}: {text}", words.join(" ")))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> Result<u64> {
    let number = value.get(key).and_then(Value::as_u64);
    number.with_context(|| format!("no {key} in {value}"))
}

fn nvme_cli(network: &Network) -> Result<()> {
    let log = KernelLog::mark("target-nvme-cli")?;
    let target = Target::start(network, 1, "optimized")?;
    let host = KernelHost::new("rdma", NQN)?;
    let address = portal(network, 1).to_string();
    let at = ["-t", "rdma", "-a", &address, "-s", "4420"];

    let found = nvme(&[["discover"].as_slice(), &at].concat())?;
    let records = found
        .get("records")
        .and_then(Value::as_array)
        .context("no records")?;
    ensure!(records.len() == 1, "{found}");
    for (key, value) in [
        ("subnqn", NQN),
        ("traddr", &address),
        ("trsvcid", "4420"),
        ("trtype", "rdma"),
    ] {
        let is = records
            .iter()
            .all(|record| text(record, key).trim() == value);
        ensure!(is, "{key} is not {value}: {found}");
    }

    // Once in each direction.
    run(Command::new("nvme").args(["connect", "-n", NQN]).args(at))?;
    host.device()?;
    disconnect(&target, &host)?;
    run(Command::new("nvme").arg("connect-all").args(at))?;
    let device = host.device()?;
    let path = device.to_string_lossy().into_owned();
    let controller = host.controllers().first().context("no controller")?.clone();
    let controller = format!(
        "/dev/{}",
        controller.file_name().unwrap_or_default().to_string_lossy()
    );

    let id = nvme(&["id-ctrl", &controller])?;
    ensure!(
        number(&id, "cmic")? == 0xb && number(&id, "kas")? == 1,
        "{id}"
    );
    ensure!(
        number(&id, "mdts")? == 8 && number(&id, "cntlid")? >= 1000,
        "{id}"
    );
    let namespace = nvme(&["id-ns", &path])?;
    ensure!(
        number(&namespace, "nsze")? == (128 << 20) / 4096,
        "{namespace}"
    );
    ensure!(number(&namespace, "nmic")? == 1, "{namespace}");
    let ana = nvme(&["ana-log", &controller])?;
    // nvme-cli's key for the groups depends on its version.
    ensure!(ana.to_string().contains("\"optimized\""), "{ana}");
    number(&nvme(&["smart-log", &controller])?, "avail_spare")?;
    let list = nvme(&["list"])?.to_string();
    for part in [&path, text(&id, "mn").trim(), text(&id, "sn").trim()] {
        ensure!(!part.is_empty() && list.contains(part), "nvme list: {list}");
    }
    ensure!(
        nvme(&["list-subsys"])?.to_string().contains(NQN),
        "nvme list-subsys"
    );
    for log in ["error-log", "fw-log", "supported-log-pages"] {
        run(Command::new("nvme").args([log, &controller]))?;
    }

    Fio::on(&device).write_and_verify("4k", "8m", 16).run()?;
    Fio::on(&device).write_and_verify("1m", "32m", 4).run()?;
    run(Command::new("blkdiscard").args(["-o", "1M", "-l", "4M", &path]))?;
    run(Command::new("blkdiscard").args(["-z", "-o", "8M", "-l", "4M", &path]))?;
    for start in [1, 8] {
        let script =
            format!("dd if={path} bs=1M skip={start} count=4 status=none | tr -d '\\0' | wc -c");
        let left = output(Command::new("sh").args(["-c", &script]))?;
        ensure!(left.trim() == "0", "{} bytes are not zero", left.trim());
    }

    target.verb(&[
        "nvmf",
        "namespace",
        "add",
        "--nqn",
        NQN,
        "--bdev",
        "memory:16MiB",
    ])?;
    let listed = || output(Command::new("nvme").args(["list-ns", &controller]));
    within(PATIENCE, "the host seeing the new namespace", || {
        let seen = listed().is_ok_and(|text| text.contains("0x2"));
        seen && PathBuf::from(path.replace("n1", "n2")).exists()
    })?;
    let_udev_look()?;
    target.verb(&["nvmf", "namespace", "remove", "--nqn", NQN, "--nsid", "2"])?;
    within(PATIENCE, "the host losing it again", || {
        !PathBuf::from(path.replace("n1", "n2")).exists()
    })?;

    disconnect(&target, &host)?;
    ensure!(!PathBuf::from(path).exists(), "the device is still there");
    log.expect_silence()
}

/// Waits for those who read a namespace when it appears: the kernel, for partitions, and udev afterwards. One
/// that goes under their hands is a read error, and rightly so.
fn let_udev_look() -> Result<()> {
    let script = "for d in /dev/nvme*n*; do test -b $d && dd if=$d of=/dev/null bs=4k count=1 status=none; done; \
                  udevadm settle --timeout=60";
    run(Command::new("sh").args(["-c", script]))
}

/// Disconnects the kernel's host; nothing is left on either side.
fn disconnect(target: &Target, host: &KernelHost) -> Result<()> {
    let_udev_look()?;
    run(Command::new("nvme").args(["disconnect", "-n", NQN]))?;
    within(PATIENCE, "both sides forgetting each other", || {
        host.controllers().is_empty()
            && target
                .verb(&["show", "-o", "json"])
                .is_ok_and(|text| text.contains("\"controllers\": []"))
    })
}

/// Two processes on one file: one multipath device, and ANA states that change under load.
fn two_processes(network: &Network) -> Result<()> {
    let log = KernelLog::mark("target-two-processes")?;
    let (first, second) = (
        Target::start(network, 1, "optimized")?,
        Target::start(network, 2, "non-optimized")?,
    );
    let host = KernelHost::new("rdma", NQN)?;
    for cable in [1, 2] {
        host.connect(portal(network, cable), SERVICE, &ConnectOptions::default())?;
    }
    let device = host.device()?;
    let states = |wanted: [&str; 2]| {
        within(PATIENCE, &format!("ANA states {wanted:?}"), || {
            host.ana_states().is_ok_and(|seen| {
                let mut seen: Vec<_> = seen.into_iter().map(|(_, state)| state).collect();
                let mut wanted: Vec<_> = wanted.map(str::to_owned).into();
                seen.sort();
                wanted.sort();
                seen == wanted
            })
        })
    };
    states(["optimized", "non-optimized"])?;
    let load = Load::start(&device);
    load.more(1, PATIENCE)?;
    first.set_ana("inaccessible")?;
    states(["inaccessible", "non-optimized"])?;
    load.more(1, PATIENCE)?;
    second.set_ana("optimized")?;
    states(["inaccessible", "optimized"])?;
    load.more(1, PATIENCE)?;
    first.set_ana("optimized")?;
    second.set_ana("non-optimized")?;
    states(["optimized", "non-optimized"])?;
    load.more(2, PATIENCE)?;
    load.finish()?;
    // The host logs every command it resends on another path as an error. It does not resend a
    // read-ahead (blk_noretry_request). No other message is allowed.
    let complaints = log.complaints()?;
    let others: Vec<_> = complaints
        .iter()
        .filter(|line| !line.contains("sct 0x3") && !is_failed_read_ahead(line))
        .collect();
    ensure!(others.is_empty(), "the kernel complained: {others:#?}");
    Ok(())
}

/// Recognizes `I/O error, dev nvme0c0n1, sector 1024 op 0x0:(READ) flags 0x2880700 ...`.
fn is_failed_read_ahead(line: &str) -> bool {
    // From the kernel's include/linux/blk_types.h.
    const REQ_RAHEAD: u32 = 1 << 19;
    let flags = line
        .split_once("op 0x0:(READ) flags 0x")
        .and_then(|(_, rest)| rest.split(' ').next())
        .and_then(|digits| u32::from_str_radix(digits, 16).ok());
    flags.is_some_and(|flags| flags & REQ_RAHEAD != 0)
}

/// SIGKILL under load: the other path carries on, and the host reconnects by itself.
fn killed_and_back(network: &Network) -> Result<()> {
    let mut first = Target::start(network, 1, "optimized")?;
    let _second = Target::start(network, 2, "non-optimized")?;
    let host = KernelHost::new("rdma", NQN)?;
    let quick = ConnectOptions {
        arguments: vec!["--reconnect-delay=2".to_owned()],
    };
    for cable in [1, 2] {
        host.connect(portal(network, cable), SERVICE, &quick)?;
    }
    let device = host.device()?;
    let load = Load::start(&device);
    load.more(1, PATIENCE)?;
    first.process.kill()?;
    std::thread::sleep(Duration::from_secs(1));
    first.restart(network)?;
    within(PATIENCE, "both controllers live again", || {
        let live = |dir: &PathBuf| {
            fs::read_to_string(dir.join("state")).is_ok_and(|state| state.trim() == "live")
        };
        host.controllers().iter().filter(|dir| live(dir)).count() == 2
    })?;
    load.more(2, PATIENCE)?;
    load.finish().map(drop)
}

/// A silent host is dropped when its keep-alive timer expires, and may reconnect.
fn keep_alive(network: &Network) -> Result<()> {
    let target = Target::start(network, 1, "optimized")?;
    let host = KernelHost::new("rdma", NQN)?;
    let arguments = ["--keep-alive-tmo=2", "--reconnect-delay=2"];
    let options = ConnectOptions {
        arguments: arguments.map(str::to_owned).into(),
    };
    host.connect(portal(network, 1), SERVICE, &options)?;
    host.device()?;
    // Several timeouts long: a live host stays connected.
    std::thread::sleep(Duration::from_secs(6));
    ensure!(
        !target.process.printed().contains("keep-alive"),
        "{}",
        target.process.tail()
    );
    network.cable(1).pull(Pull::Silent)?;
    let pulled = Instant::now();
    within(PATIENCE, "the keep-alive timer expiring", || {
        target
            .process
            .printed()
            .contains("keep-alive timer expired")
    })?;
    // The host sends a Keep Alive every second; the timer is 2 s. The margin is for the emulated
    // machine.
    ensure!(
        pulled.elapsed() < Duration::from_secs(4),
        "it took {:.1} s",
        pulled.elapsed().as_secs_f32()
    );
    network.cable(1).restore()?;
    within(Duration::from_secs(60), "the host coming back", || {
        host.controllers()
            .iter()
            .any(|dir| fs::read_to_string(dir.join("state")).is_ok_and(|s| s.trim() == "live"))
            && target
                .verb(&["show", "-o", "json"])
                .is_ok_and(|text| text.contains("\"kato_ms\": 2000"))
    })?;
    Fio::on(&host.device()?)
        .write_and_verify("4k", "2m", 4)
        .run()?;
    Ok(())
}

/// A target stopped for longer than the keep-alive timeout: commands the device received meanwhile
/// must not be executed when the process resumes, because by then another path has carried them.
fn stopped_executes_no_ghosts(network: &Network) -> Result<()> {
    let first = Target::start(network, 1, "optimized")?;
    let _second = Target::start(network, 2, "non-optimized")?;
    let host = KernelHost::new("rdma", NQN)?;
    let arguments = ["--keep-alive-tmo=2", "--reconnect-delay=2"];
    let options = ConnectOptions {
        arguments: arguments.map(str::to_owned).into(),
    };
    for cable in [1, 2] {
        host.connect(portal(network, cable), SERVICE, &options)?;
    }
    let device = host.device()?;
    let load = Load::start(&device);
    load.more(1, PATIENCE)?;
    // The load's own ghosts write what the resent round wrote already. This write differs.
    let mut verifier = Verifier::start(&device, BLOCK)?;
    verifier.write(1, PATIENCE)?;
    first.process.signal(Signal::STOP)?;
    let stopped = Instant::now();
    verifier.begin_write(2)?;
    verifier.wrote(2, PATIENCE).context("sent again")?;
    verifier.write(3, PATIENCE).context("overwritten")?;
    pause(Duration::from_secs(5).saturating_sub(stopped.elapsed()));
    first.process.signal(Signal::CONT)?;
    load.more(2, PATIENCE)?;
    let read = verifier.read(PATIENCE)?;
    ensure!(
        read == 3,
        "read {read}, but 3 was written last: the ghost was executed"
    );
    drop(verifier);
    load.finish()?;
    // A Keep Alive has waited in the admin queue since before the timeout; it must not count.
    within(PATIENCE, "the target giving the controller up", || {
        let printed = first.process.printed();
        printed.contains("keep-alive timer expired") || printed.contains("were not executed")
    })
    .with_context(|| first.process.tail())
}

/// Mistakes of hosts and administrators get a clear error.
fn refuses_in_words(network: &Network) -> Result<()> {
    let target = Target::start(network, 1, "optimized")?;
    let address = portal(network, 1).to_string();
    let connect = |nqn: &str, service: &str| {
        let mut command = Command::new("nvme");
        command.args(["connect", "-t", "rdma", "-a", &address]);
        command.args(["-s", service, "-n", nqn]);
        attempt(&mut command).is_ok_and(|result| result.status.success())
    };
    let _modules = KernelHost::new("rdma", NQN)?;
    ensure!(
        !connect("nqn.2026-11.io.umpath:none", "4420"),
        "a name that is not served"
    );
    ensure!(!connect(NQN, "4499"), "a port without a listener");
    target.verb(&["nvmf", "host", "remove", "--nqn", NQN, "--any"])?;
    ensure!(!connect(NQN, "4420"), "a host that is not allowed");

    let refused = |words: &[&str], says: &str| -> Result<()> {
        let result = attempt(&mut target.command(words)?)?;
        let error = String::from_utf8_lossy(&result.stderr).into_owned();
        ensure!(
            !result.status.success() && error.contains(says),
            "{words:?}: {error}"
        );
        Ok(())
    };
    let listener = ["nvmf", "listener", "add", "--nqn", NQN, "--traddr"];
    refused(
        &[listener.as_slice(), &["10.99.0.1"]].concat(),
        "no RDMA device has the address",
    )?;
    let ana = ["nvmf", "ana", "set", "--nqn", NQN, "--port"];
    refused(
        &[ana.as_slice(), &["7", "--state", "optimized"]].concat(),
        "there is no port 7",
    )?;
    refused(
        &[ana.as_slice(), &["1", "--state", "best"]].concat(),
        "is not an ANA state",
    )?;
    let namespace = ["nvmf", "namespace", "add", "--nqn", NQN, "--bdev"];
    refused(
        &[namespace.as_slice(), &["/no/such/disk"]].concat(),
        "give a size to create",
    )?;
    refused(
        &[namespace.as_slice(), &["memory:1000"]].concat(),
        "whole number of blocks",
    )?;
    refused(
        &["nvmf", "subsystem", "create", "--nqn", "disk"],
        "is not an NQN",
    )?;
    let config = target.process.config().to_string_lossy();
    refused(&["serve", "--config", &config], "another umpath-target")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_ahead_is_told_from_reads() {
        let line = |flags| {
            format!("I/O error, dev nvme0c0n1, sector 1024 op 0x0:(READ) flags {flags} phys_seg 1")
        };
        assert!(is_failed_read_ahead(&line("0x2880700")));
        assert!(!is_failed_read_ahead(&line("0x2000700")));
    }
}
