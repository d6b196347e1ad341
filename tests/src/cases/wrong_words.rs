//! Invalid or odd flags and files: each is refused with an error that names the invalid word before
//! anything is done, and neither program hangs or crashes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::bad_input::{CONFIG, NQN, expect_health, memory, serve};
use super::rig::{Daemon, PATIENCE, say};
use crate::bed::{Network, Process, binary};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "bad-input-flags",
        topology: Topology::Separate(1),
        limit_seconds: 120,
        run: flags,
    },
    Case {
        name: "bad-input-files",
        topology: Topology::Loopback(0),
        limit_seconds: 120,
        run: files,
    },
];

/// Arguments of `umpath` (with a good address as `-a 10.9.1.1` and a good NQN as `-n GOOD`), and
/// what the error must name.
const LINES: &[(&str, &str)] = &[
    ("frobnicate", "frobnicate"),
    ("connect -t rdma -a 10.9.1.1", "--nqn"),
    ("connect -t rdma -n GOOD", "--traddr"),
    ("connect -n GOOD", "--traddr"),
    ("connect -t tcp -a 10.9.1.1 -n GOOD", "tcp"),
    ("connect -t rdma -a 10.9.1.1 -s 0 -n GOOD", "port 0"),
    ("connect -t rdma -a 10.9.1.1 -s 70000 -n GOOD", "70000"),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -i 0", "0 I/O queues"),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -i 65", "65 I/O queues"),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -i many", "many"),
    (
        "connect -t rdma -a 10.9.1.1 -n GOOD -Q 1",
        "queue size of 1",
    ),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -Q 99999", "99999"),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -k 0", "keep-alive"),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -k=-5", "-5"),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -k soon", "soon"),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -l=-7", "-7"),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -I me", "--hostid"),
    (
        "connect -t rdma -a 10.9.1.1 -n GOOD -w 300.1.1.1",
        "300.1.1.1",
    ),
    ("connect -t rdma -a 10.9.1.1 -n GOOD -w ::1", "families"),
    (
        "connect -t rdma -a 10.9.1.1 -n GOOD -w 10.9.1.77",
        "10.9.1.77",
    ),
    (
        "connect -t rdma -a 10.9.1.1 -n GOOD -f nowhere0",
        "nowhere0",
    ),
    (
        "connect -t rdma -a 10.9.1.1 -n GOOD --alias ../etc",
        "../etc",
    ),
    ("discover -t rdma", "--traddr"),
    ("discover -t rdma -a 10.9.1.1 -s 4420 -w me", "me"),
    ("connect-all", "discovery.conf"),
    ("disconnect", "--nqn"),
    ("disconnect --path 99", "99"),
    ("disconnect -d ublkb7", "ublkb7"),
    ("queueing maybe", "maybe"),
    ("queueing on vol9", "vol9"),
    ("queueing on", "no volume"),
    ("set kato_ms=900", "path_selector"),
    ("set failback=manual", "no volume"),
    ("-f vol9", "vol9"),
    ("show everything", "everything"),
    ("list -o xml", "xml"),
];

fn flags(network: &Network) -> Result<()> {
    let _target = serve(network, 1, "allow_any_host = true", &memory("16MiB"))?;
    let mut daemon = Daemon::start(network, CONFIG)?;
    let mut wrong = Vec::new();
    for (line, says) in LINES {
        let words: Vec<&str> = line
            .split(' ')
            .map(|word| if word == "GOOD" { NQN } else { word })
            .collect();
        let said = daemon.try_ask(&words)?;
        eprintln!("--- umpath {line}\n{}", said.error.trim_end());
        if said.success || !said.error.contains(says) || said.error.contains("panicked") {
            wrong.push(format!("{line}: {said:?}"));
        }
    }
    let long = format!("nqn.2026-11.io.umpath:{}", "x".repeat(300));
    let said = daemon.try_ask(&["connect", "-t", "rdma", "-a", "10.9.1.1", "-n", &long])?;
    ensure!(!said.success && said.error.contains("NQN"), "{said:?}");
    ensure!(wrong.is_empty(), "{wrong:#?}");
    daemon.expect_nothing("wrong flags")?;
    expect_health(network, &mut daemon, NQN)?;
    drop(daemon);
    let mut list = Command::new(binary("umpath")?);
    let said = say(list.args(["list", "--socket", "/tmp/umpath-none.sock"]))?;
    ensure!(
        !said.success && said.error.contains("not running") && said.error.contains("fix:"),
        "without a daemon: {said:?}"
    );
    Ok(())
}

/// A file in the daemon's directory, its content, and what the error must name.
const FILES: &[(&str, &[u8], &[&str])] = &[
    ("umpath.toml", b"[defaults\n", &["umpath.toml:1:"]),
    (
        "umpath.toml",
        b"[defaults]\nkato_ms = \"soon\"\n",
        &["umpath.toml:2:", "kato_ms"],
    ),
    (
        "umpath.toml",
        b"[defaults]\nqueue_depth = 1\n",
        &["umpath.toml", "queue_depth", "2..=1024"],
    ),
    (
        "umpath.toml",
        b"[defaults]\nqueue_depth = -4\n",
        &["umpath.toml:2:", "queue_depth"],
    ),
    (
        "umpath.toml",
        b"[defaults]\npath_selector = \"fastest\"\n",
        &["umpath.toml:2:", "fastest"],
    ),
    (
        "umpath.toml",
        b"[defaults]\nno_path_retry = \"sometimes\"\n",
        &["umpath.toml:2:", "sometimes"],
    ),
    (
        "umpath.toml",
        b"[[connect]]\nnqns = [\"nqn.2026-11.io.umpath:x\"]\n",
        &["umpath.toml", "controllers"],
    ),
    (
        "umpath.toml",
        b"[[connect]]\ncontrollers = [\"10.9.1.1:x\"]\n",
        &["umpath.toml", "port"],
    ),
    (
        "umpath.toml",
        b"[[volume]]\nid = \"uuid.1\"\n[[volume]]\nid = \"uuid.1\"\n",
        &["umpath.toml", "share"],
    ),
    (
        "umpath.toml",
        b"[control]\ngroup = \"no-such-group\"\n",
        &["no-such-group"],
    ),
    ("umpath.toml", b"# \xff\xfe\n", &["umpath.toml", "UTF-8"]),
    (
        "conf.d/10-site.toml",
        b"[default]\nkato_ms = 800\n",
        &["10-site.toml", "default"],
    ),
    (
        "umpath.toml",
        b"[[volume]]\nid = \"uuid.1\"\nalias = \"../etc\"\n",
        &["umpath.toml", "alias", "../etc"],
    ),
    ("nvme/hostid", b"me\n", &["hostid", "UUID"]),
    ("nvme/hostnqn", b"this host\n", &["hostnqn", "NQN"]),
    (
        "nvme/hostid",
        b"00000000-0000-0000-0000-000000000000\n",
        &["hostid", "UUID"],
    ),
];

fn files(_: &Network) -> Result<()> {
    let mut wrong = Vec::new();
    for (number, (file, text, says)) in FILES.iter().enumerate() {
        let folder = Folder::make()?;
        fs::write(folder.0.join(file), text)?;
        wrong.extend(refused(&folder, number, says)?);
    }
    let folder = Folder::make()?;
    fs::create_dir(folder.0.join("umpath.toml"))?;
    wrong.extend(refused(&folder, 100, &["umpath.toml", "cannot read"])?);
    let folder = Folder::make()?;
    fs::write(folder.0.join("state"), "a file, not a directory")?;
    wrong.extend(refused(&folder, 101, &["state"])?);
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// Checks that the daemon exits with failure, names the mistake and leaves no socket; describes
/// what is not so.
fn refused(folder: &Folder, number: usize, says: &[&str]) -> Result<Option<String>> {
    let mut command = Command::new(binary("umpathd")?);
    for (flag, name) in [
        ("--config", "umpath.toml"),
        ("--state-dir", "state"),
        ("--run-dir", "run"),
        ("--nvme-dir", "nvme"),
    ] {
        command.arg(flag).arg(folder.0.join(name));
    }
    let mut process = Process::spawn(&format!("umpathd-{number}"), command)?;
    let ended = process.wait(PATIENCE);
    let printed = process.printed();
    eprintln!("--- {number}\n{}", printed.trim_end());
    let Ok(status) = ended else {
        return Ok(Some(format!("{number}: it runs: {printed}")));
    };
    let complete = says.iter().all(|part| printed.contains(part));
    let left = folder.0.join("run/umpathd.sock").exists();
    let fine = !status.success() && complete && !left && !printed.contains("panicked");
    Ok((!fine).then(|| format!("{number} {says:?}: {status}, socket left: {left}: {printed}")))
}

/// A daemon's directory, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let folder = Path::new("/tmp/umpath-words").to_path_buf();
        drop(fs::remove_dir_all(&folder));
        for part in ["conf.d", "nvme"] {
            fs::create_dir_all(folder.join(part)).context("cannot create a directory")?;
        }
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
