//! `cargo xtask vm-suite`: builds the programs, boots a VM, runs the cases in it.
//!
//! A VM can be lost midway: an emulated guest's kernel may crash or hang. Then the case that ran is
//! retried once in a new VM, and the others continue there. A case that loses two VMs has failed.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::binaries;
use crate::host;
use crate::vm::{First, Machine, STATUS_VM_FAILED};

/// Number of VMs that may be lost before the suite gives up.
const LOSSES_MAX: usize = 3;

#[derive(Args)]
pub(crate) struct SuiteArgs {
    /// Run cases whose names contain one of these; default: all
    filters: Vec<String>,
    /// Kernel series, such as 6.12 or 7.2; default: the newest in Debian's backports
    #[arg(long, value_name = "SERIES")]
    kernel: Option<String>,
    /// Share the cases with other VMs: each is run by the one that makes its file in this directory
    #[arg(long, value_name = "DIR")]
    claims: Option<PathBuf>,
    /// Run the last case first
    #[arg(long)]
    from_end: bool,
    /// Cargo profile of the programs under test
    #[arg(long, default_value = "release")]
    profile: String,
    /// Give up after this many seconds
    #[arg(long, default_value_t = PATIENCE_S, value_name = "SECONDS")]
    timeout: u64,
}

/// Forty cases took forty minutes on two cores that did much else.
const PATIENCE_S: u64 = 3600;

pub(crate) fn run(args: &SuiteArgs) -> Result<u8> {
    let tally = run_cases(args)?;
    if !tally.lost_in.is_empty() {
        println!("{} passed, {} failed", tally.passed, tally.failed);
    }
    Ok(tally.status)
}

/// Results of the cases, over all VMs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Exit status of the last VM; 0 means that every case passed.
    pub(crate) status: u8,
    /// Cases with a known outcome, skipped ones included.
    done: Vec<String>,
    running: Option<String>,
    /// The running case of each VM that was lost.
    lost_in: Vec<String>,
}

impl Tally {
    /// Handles a line of the suite's output.
    fn see(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (Some(word), Some(case)) = (words.next(), words.next()) else {
            return;
        };
        match word {
            "begins" => return self.running = Some(case.to_owned()),
            "ok" if self.running.as_deref() == Some(case) => self.passed += 1,
            "FAILED" if self.running.as_deref() == Some(case) => self.failed += 1,
            "skipped" => {}
            _ => return,
        }
        self.running = None;
        self.done.push(case.to_owned());
    }

    /// A VM ended; `true` if the rest has to run in another one.
    fn ended(&mut self, status: u8) -> bool {
        self.status = status;
        let lost = self.running.take().filter(|_| status == STATUS_VM_FAILED);
        let Some(case) = lost else {
            self.status = self.status.max(u8::from(self.failed > 0));
            return false;
        };
        if self.lost_in.contains(&case) {
            eprintln!("xtask: {case} lost a second VM and has failed");
            self.failed += 1;
            self.done.push(case.clone());
        } else {
            eprintln!(
                "xtask: the VM was lost while {case} ran; retrying it and the rest in another VM"
            );
        }
        self.lost_in.push(case);
        self.lost_in.len() < LOSSES_MAX
    }
}

/// Builds the programs and runs the cases.
pub(crate) fn run_cases(args: &SuiteArgs) -> Result<Tally> {
    let repository = host::repository()?;
    // Beside other steps the VM is what takes longest, so its programs come first.
    let first = First::take();
    let programs = binaries::build(&repository, &args.profile)?;
    drop(first);
    let mut machine = Machine::prepare(&repository, args.kernel.as_deref())?;
    machine.timeout = Duration::from_secs(args.timeout);
    eprintln!("xtask: {}", machine.describe());
    let mut tally = Tally::default();
    loop {
        let mut command = vec![programs.join("vm-suite").into_os_string()];
        command.extend(args.filters.iter().map(OsString::from));
        if let Some(claims) = &args.claims {
            command.extend([OsString::from("--claims"), claims.into()]);
        }
        if args.from_end {
            command.push(OsString::from("--from-end"));
        }
        for case in &tally.done {
            command.extend([OsString::from("--without"), OsString::from(case)]);
        }
        let status = machine.run_observed(&command, |line| tally.see(line))?;
        if !tally.ended(status) {
            return Ok(tally);
        }
        if let (Some(claims), Some(case)) = (&args.claims, tally.lost_in.last())
            && !tally.done.contains(case)
        {
            fs::remove_file(claims.join(case)).context("cannot give a lost case back")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.see(line);
        }
        tally
    }

    #[test]
    fn a_lost_vm_costs_the_case_that_ran_another_try() {
        let mut tally = after(&["begins a", "ok      a 1.0 s", "begins b", "ok, said nobody"]);
        assert!(tally.ended(STATUS_VM_FAILED));
        assert_eq!(
            (tally.passed, tally.done.as_slice()),
            (1, &["a".to_owned()][..])
        );
        tally.see("begins b");
        tally.see("ok b 2.0 s");
        tally.see("skipped c (too old)");
        assert!(!tally.ended(0));
        assert_eq!((tally.passed, tally.failed, tally.status), (2, 0, 0));
    }

    #[test]
    fn a_case_that_loses_two_has_failed_and_the_rest_goes_on() {
        let mut tally = after(&["begins a"]);
        assert!(tally.ended(STATUS_VM_FAILED));
        tally.see("begins a");
        assert!(tally.ended(STATUS_VM_FAILED));
        assert_eq!(
            (tally.failed, tally.done.as_slice()),
            (1, &["a".to_owned()][..])
        );
        tally.see("begins b");
        tally.see("ok b 1.0 s");
        assert!(!tally.ended(0));
        assert_eq!((tally.passed, tally.failed, tally.status), (1, 1, 1));
    }

    #[test]
    fn an_end_between_cases_or_by_time_is_final() {
        let mut tally = after(&["begins a", "ok a 1 s"]);
        assert!(!tally.ended(STATUS_VM_FAILED));
        assert_eq!(tally.status, STATUS_VM_FAILED);
        let mut tally = after(&["begins a"]);
        assert!(!tally.ended(124));
        assert_eq!(tally.status, 124);
    }
}
