//! Runs cases one after another and counts.
//!
//! Decided here: every case runs in a process of its own with a time limit, so that one that hangs
//! or aborts takes nothing with it; after each, the machine is searched for what it left behind,
//! which fails the case. One line is printed for each case, its whole log only when it failed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::bed::{self, Network};

/// Which network a case gets, with the number of cables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// See [`Network::separate`].
    Separate(u8),
    /// See [`Network::kernel_array`].
    KernelArray(u8),
    /// See [`Network::kernel_host`].
    KernelHost(u8),
    /// See [`Network::loopback`].
    Loopback(u8),
}

impl Topology {
    fn build(self) -> Result<Network> {
        match self {
            Self::Separate(cables) => Network::separate(cables),
            Self::KernelArray(cables) => Network::kernel_array(cables),
            Self::KernelHost(cables) => Network::kernel_host(cables),
            Self::Loopback(cables) => Network::loopback(cables),
        }
    }

    fn works_here(self) -> bool {
        matches!(self, Self::Loopback(_)) || bed::rxe_has_namespaces()
    }
}

/// One thing that is checked.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called and selected by: words joined with dashes.
    pub name: &'static str,
    /// The network it runs on.
    pub topology: Topology,
    /// How long it may take, in seconds; emulation on a busy machine included.
    pub limit_seconds: u64,
    /// What it does.
    pub run: fn(&Network) -> Result<()>,
}

/// Which of the cases a VM runs, and in which order.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Those whose names contain one of these; all without any.
    pub filters: Vec<String>,
    /// But none of these.
    pub without: Vec<String>,
    /// A directory that several VMs share: each case is run by the VM that makes its file there.
    pub claims: Option<PathBuf>,
    /// The last one first: two VMs that share their cases meet in the middle.
    pub from_end: bool,
}

impl Choice {
    fn of<'a>(&self, cases: &'a [Case]) -> Vec<&'a Case> {
        let chosen = |case: &&Case| {
            let matches = |filter: &String| case.name.contains(filter.as_str());
            (self.filters.is_empty() || self.filters.iter().any(matches))
                && self.without.iter().all(|name| name != case.name)
        };
        let mut chosen: Vec<&Case> = cases.iter().filter(chosen).collect();
        if self.from_end {
            chosen.reverse();
        }
        chosen
    }

    /// This case is ours, and no other VM's.
    fn claim(&self, case: &Case) -> Result<bool> {
        let Some(claims) = &self.claims else {
            return Ok(true);
        };
        match File::create_new(claims.join(case.name)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot claim {}", case.name)),
        }
    }
}

/// Runs one case in this process.
pub fn run_one(case: &Case) -> Result<()> {
    let network = case.topology.build()?;
    (case.run)(&network)
}

/// Runs the cases of this choice; true when all passed, and there were any.
pub fn run(cases: &[Case], choice: &Choice) -> Result<bool> {
    let chosen = choice.of(cases);
    if chosen.is_empty() && choice.without.is_empty() {
        bail!(
            "no case is called like {}; `vm-suite --list` shows them",
            choice.filters.join(" or ")
        );
    }
    println!(
        "vm-suite: {} cases on Linux {}",
        chosen.len(),
        bed::release()
    );
    let logs = logs()?;
    let (mut passed, mut failed, mut skipped) = (0_u32, 0_u32, 0_u32);
    for case in chosen {
        if !case.topology.works_here() {
            println!(
                "skipped {} (soft-RoCE has no namespaces before Linux 7)",
                case.name
            );
            skipped += 1;
            continue;
        }
        if !choice.claim(case)? {
            continue;
        }
        println!("begins  {}", case.name);
        let start = Instant::now();
        let outcome = run_apart(case, &logs);
        let seconds = start.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                println!("ok      {} {seconds:.1} s", case.name);
                passed += 1;
            }
            Err(error) => {
                println!("FAILED  {} {seconds:.1} s\n{error:#}", case.name);
                failed += 1;
            }
        }
    }
    if skipped > 0 {
        println!("{skipped} skipped");
    }
    println!("{passed} passed, {failed} failed");
    Ok(is_success(passed, failed, choice.claims.is_some()))
}

/// Nothing failed, and something was tried: where every case was skipped nothing is known. Of cases that
/// are shared another VM may have tried all.
const fn is_success(passed: u32, failed: u32, shared: bool) -> bool {
    failed == 0 && (passed > 0 || shared)
}

fn run_apart(case: &Case, logs: &Path) -> Result<()> {
    let dir = logs.join(case.name);
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join("case.log");
    let log = File::create(&path)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--one", case.name])
        .env("UMPATH_CASE_LOGS", &dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("cannot start the case")?;
    let ending = await_end(&mut child, Duration::from_secs(case.limit_seconds));
    let remains = bed::remains();
    if !remains.is_empty() {
        bed::sweep();
    }
    let words = match ending {
        Some(status) if status.success() && remains.is_empty() => return Ok(()),
        Some(status) if status.success() => "left something behind".to_owned(),
        Some(status) => format!("ended with {status}"),
        None => format!("did not end within {} s", case.limit_seconds),
    };
    let mut report = words;
    for line in remains {
        report.push_str("\n  left behind: ");
        report.push_str(&line);
    }
    report.push_str(&quoted(
        "its log",
        &fs::read_to_string(&path).unwrap_or_default(),
        60,
    ));
    report.push_str(&quoted("the kernel's", &kernel_log(), 15));
    bail!("{report}\n  logs: {}", dir.display())
}

fn await_end(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let ended = bed::within_value(limit, "end of the case", || child.try_wait().ok().flatten());
    let Ok(status) = ended else {
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
        drop(child.wait());
        return None;
    };
    Some(status)
}

fn quoted(title: &str, text: &str, lines_max: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let last = lines
        .get(lines.len().saturating_sub(lines_max)..)
        .unwrap_or_default();
    last.iter().fold(
        format!("\n  {title}, last {} lines:", last.len()),
        |text, line| text + "\n  | " + line,
    )
}

fn kernel_log() -> String {
    bed::output(Command::new("dmesg").arg("--notime")).unwrap_or_default()
}

/// Where logs are kept: in the repository's ignored `.vm` when it is there, otherwise in `/tmp`.
fn logs() -> Result<PathBuf> {
    let repository = std::env::var_os("UMPATH_REPOSITORY").map(PathBuf::from);
    let dir = repository.map_or_else(
        || PathBuf::from("/tmp/umpath-logs"),
        |dir| dir.join(".vm/logs"),
    );
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_that_tried_nothing_has_not_passed() {
        assert!(is_success(1, 0, false));
        assert!(!is_success(1, 1, true));
        assert!(!is_success(0, 0, false));
    }

    #[test]
    fn two_that_share_their_cases_run_each_once() {
        let case = |name| Case {
            name,
            topology: Topology::Loopback(1),
            limit_seconds: 1,
            run: |_| Ok(()),
        };
        let cases = ["a", "b", "c"].map(case);
        let claims = std::env::temp_dir().join(format!("umpath-claims-{}", std::process::id()));
        fs::create_dir_all(&claims).unwrap();
        let first = Choice {
            claims: Some(claims.clone()),
            ..Choice::default()
        };
        let second = Choice {
            from_end: true,
            ..first.clone()
        };
        let names = |choice: &Choice| -> Vec<&str> {
            choice.of(&cases).iter().map(|case| case.name).collect()
        };
        assert_eq!(
            (names(&first), names(&second)),
            (vec!["a", "b", "c"], vec!["c", "b", "a"])
        );
        assert!(first.claim(&cases[1]).unwrap());
        assert!(!second.claim(&cases[1]).unwrap());
        assert!(second.claim(&cases[2]).unwrap());
        fs::remove_dir_all(&claims).unwrap();
    }
}
