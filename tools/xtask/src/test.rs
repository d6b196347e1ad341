//! `cargo xtask test`: all checks, summed up in one line.
//!
//! Decided here: the order (cheap first, the VM suite beside what needs no VM), what counts as one
//! test (each of formatting, lints and house rules; each test of `cargo test`; each case of the VM
//! suite), and the last line, `N passed, N failed`. A step that dies before it can count is one failure.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::beside::VmSuite;
use crate::binaries::{self, cargo};
use crate::host;
use crate::multipath_tools;
use crate::{sim, tidy};

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Skip what needs a VM
    #[arg(long)]
    fast: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    const PASS: Self = Self {
        passed: 1,
        failed: 0,
    };
    const FAIL: Self = Self {
        passed: 0,
        failed: 1,
    };

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs all steps, even after a failure; returns the exit status.
pub(crate) fn run(args: &TestArgs) -> Result<u8> {
    let repository = host::repository()?;
    host::install(&[host::BUILD_NEEDS])?;
    ensure_components(&repository);
    let mut total = Count::default();
    let mut failed_steps = Vec::new();
    let mut began = Instant::now();
    let mut step = |name: &'static str, outcome: Result<Count>| {
        let count = outcome.unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            Count::FAIL
        });
        println!(
            "== {name} ({} s): {} passed, {} failed",
            began.elapsed().as_secs(),
            count.passed,
            count.failed
        );
        began = Instant::now();
        if count.failed > 0 {
            failed_steps.push(name);
        }
        total.add(count);
    };
    step(
        "formatting",
        check(cargo(&repository).args(["fmt", "--all", "--check"])),
    );
    step(
        "house rules",
        tidy::run().map(|status| {
            if status == 0 {
                Count::PASS
            } else {
                Count::FAIL
            }
        }),
    );
    // Fetched but not installed: the reference for the importer. Before the VM suite, which fetches
    // packages too.
    let fetched = host::cache(&repository).and_then(|cache| multipath_tools::fetch(&cache));
    let multipath_tools = fetched.as_ref().ok().cloned();
    step("multipath-tools", fetched.map(|_| Count::PASS));
    let vm_suite = (!args.fast).then(|| VmSuite::begin(&repository));
    let lints = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    step("lints", check(cargo(&repository).args(lints)));
    step("tests", tests(&repository, multipath_tools.as_deref()));
    step("loom", loom(&repository));
    if !args.fast {
        step("simulation", simulation(&["--seeds", "10000"]));
        step("planted mistakes", planted_mistakes(&repository));
    }
    if let Some(suite) = vm_suite {
        step(
            "VM suite",
            suite.and_then(|suite| end_of_suite(suite, &repository)),
        );
    }
    if !failed_steps.is_empty() {
        println!("failed: {}", failed_steps.join(", "));
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(u8::from(total.failed > 0))
}

/// Minimal toolchains lack rustfmt and clippy; rustup adds them.
fn ensure_components(repository: &Path) {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let there = host::capture(cargo(repository).args([subcommand, "--version"])).is_ok();
        if !there && let Some(rustup) = host::find_program("rustup") {
            eprintln!("xtask: adding {component} to the toolchain");
            if let Err(error) =
                host::capture(Command::new(rustup).args(["component", "add", component]))
            {
                eprintln!("xtask: {error:#}");
            }
        }
    }
}

fn check(command: &mut Command) -> Result<Count> {
    command.stdin(Stdio::null());
    let status = command.status().context("cannot start it")?;
    Ok(if status.success() {
        Count::PASS
    } else {
        Count::FAIL
    })
}

/// `cargo test` over the workspace; continues after a failure, so that every test is counted.
fn tests(repository: &Path, multipath_tools: Option<&Path>) -> Result<Count> {
    let mut command = cargo(repository);
    if let Some(folder) = multipath_tools {
        command.env("UMPATH_MULTIPATH_TOOLS", folder);
    }
    command.args([
        "test",
        "--locked",
        "--workspace",
        "--no-fail-fast",
        "--color=never",
    ]);
    let (count, success) = counted(&mut command, cargo_test_line)?;
    Ok(or_one_failure(count, success))
}

/// Crates with tests under loom.
const LOOM: [&str; 3] = ["umpath-core", "umpath-ublk", "umpath-target"];

/// The tests in which loom plays the atomics.
fn loom(repository: &Path) -> Result<Count> {
    let mut command = cargo(repository);
    command.args([
        "test",
        "--locked",
        "--lib",
        "--no-fail-fast",
        "--color=never",
    ]);
    for package in LOOM {
        command.args(["--package", package, "--features"]);
        command.arg(format!("{package}/loom"));
    }
    // It has none. With it the features of what lies below are those of the whole workspace, and
    // nothing of that is built once more.
    command.args(["--package", "umpath-import"]);
    let (count, success) = counted(command.arg("under_loom"), cargo_test_line)?;
    Ok(or_one_failure(count, success))
}

/// The simulator counts as one test, whatever the number of seeds or mutants.
fn simulation(arguments: &[&str]) -> Result<Count> {
    check(sim::prepare()?.args(arguments))
}

/// Every mistake the simulator can plant, until it is noticed. What became of them is written beside the
/// binaries.
fn planted_mistakes(repository: &Path) -> Result<Count> {
    let list = binaries::target(repository)?.join("planted-mistakes.json");
    let mut command = sim::prepare()?;
    command.args(["--mutant", "all", "--trials", "3", "--most", "4000"]);
    check(command.arg("--json").arg(list))
}

fn end_of_suite(mut suite: VmSuite, repository: &Path) -> Result<Count> {
    suite.hurry(repository)?;
    let (mut total, mut all_well) = (Count::default(), true);
    for (log, success) in suite.end()? {
        print!("{log}");
        // Where a VM was lost, the last line sums up all of them.
        let count = log.lines().filter_map(suite_line).next_back();
        all_well &= success && count.is_some();
        total.add(count.unwrap_or_default());
    }
    Ok(or_one_failure(total, all_well))
}

/// Parses the suite's `12 passed, 3 failed`.
fn suite_line(line: &str) -> Option<Count> {
    let (passed, failed) = line.trim().split_once(" passed, ")?;
    Some(Count {
        passed: passed.parse().ok()?,
        failed: failed.strip_suffix(" failed")?.parse().ok()?,
    })
}

/// A step that failed without a failed test (compile error, VM lost) is a failure too.
fn or_one_failure(mut count: Count, success: bool) -> Count {
    if !success && count.failed == 0 {
        count.failed = 1;
    }
    if success && count == Count::default() {
        println!("no test ran");
        count.failed = 1;
    }
    count
}

/// Runs a command, prints its standard output line by line and sums up what `read` finds in it.
fn counted(command: &mut Command, read: fn(&str) -> Option<Count>) -> Result<(Count, bool)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        each_line(output, |line| {
            println!("{line}");
            if let Some(found) = read(line) {
                count.add(found);
            }
        });
    }
    Ok((count, child.wait()?.success()))
}

fn each_line(source: impl Read, mut see: impl FnMut(&str)) {
    let mut reader = BufReader::new(source);
    let mut bytes = Vec::new();
    while reader
        .read_until(b'\n', &mut bytes)
        .is_ok_and(|count| count > 0)
    {
        see(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
}

/// Parses libtest's `test result: ok. 3 passed; 0 failed; ...`.
fn cargo_test_line(line: &str) -> Option<Count> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    let mut parts = counts.split("; ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some(Count { passed, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            cargo_test_line(line),
            Some(Count {
                passed: 12,
                failed: 3
            })
        );
        assert_eq!(cargo_test_line("test a::b ... ok"), None);
    }

    #[test]
    fn the_sum_of_the_suite_is_read() {
        let found = suite_line("47 passed, 1 failed");
        assert_eq!(
            found,
            Some(Count {
                passed: 47,
                failed: 1
            })
        );
        assert_eq!(suite_line("ok      restart 12.0 s"), None);
    }

    #[test]
    fn a_step_that_dies_counts_as_a_failure() {
        assert_eq!(
            or_one_failure(
                Count {
                    passed: 5,
                    failed: 0
                },
                false
            )
            .failed,
            1
        );
        assert_eq!(
            or_one_failure(
                Count {
                    passed: 5,
                    failed: 2
                },
                false
            )
            .failed,
            2
        );
        assert_eq!(or_one_failure(Count::default(), true).failed, 1);
    }
}
