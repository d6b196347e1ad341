//! `cargo xtask bench`: micro-benchmarks; `bench compare`: the fio matrix side by side, in one VM;
//! `bench selectors`: path selectors on unequal paths.
//! Decided here: what is built and where results go. Package umpath-benches decides what `compare`
//! measures and in which order. One boot is enough: nvme_core is a module, so the comparison with
//! dm-multipath, which needs `multipath=N`, only has to reload it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::binaries;
use crate::host;
use crate::vm::Machine;

/// Version of the JSON of the micro-benchmarks.
const VERSION: u32 = 1;

/// The arguments of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Also write the result to this file, as JSON
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// The fio matrix on umpath, dm-multipath, native multipath and ublk null, with ratios
    Compare {
        /// Run jobs whose names contain one of these; default: all
        jobs: Vec<String>,
        #[command(flatten)]
        vm: VmBenchArgs,
    },
    /// The path selectors on two paths of which one is delayed, jittery or lossy
    Selectors {
        #[command(flatten)]
        vm: VmBenchArgs,
    },
}

#[derive(Args)]
struct VmBenchArgs {
    /// Number of runs of every job on every device
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Duration of each run, seconds
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Kernel series, such as 6.12 or 7.2; default: the newest in Debian's backports
    #[arg(long, value_name = "SERIES")]
    kernel: Option<String>,
    /// Cargo profile of the programs under test
    #[arg(long, default_value = "release")]
    profile: String,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 1800, value_name = "SECONDS")]
    timeout: u64,
}

/// Runs `cargo xtask bench`.
pub(crate) fn run(args: &BenchArgs) -> Result<u8> {
    let json = args.json.as_deref();
    match &args.what {
        Some(What::Compare { jobs, vm }) => in_vm("bench-compare", vm, jobs, json),
        Some(What::Selectors { vm }) => in_vm("bench-selectors", vm, &[], json),
        None => micro(json),
    }
}

fn in_vm(program: &str, args: &VmBenchArgs, jobs: &[String], json: Option<&Path>) -> Result<u8> {
    let repository = host::repository()?;
    let extra = [
        "--package",
        "umpath-benches",
        "--package",
        "umpath-ublk",
        "--example",
        "memory",
    ];
    let programs = binaries::build_with(&repository, &args.profile, &extra)?;
    let mut machine = Machine::prepare(&repository, args.kernel.as_deref())?;
    machine.timeout = Duration::from_secs(args.timeout);
    eprintln!("xtask: {}", machine.describe());
    // The VM can only write to the repository; use its ignored directory.
    let dir = repository.join(".vm");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let result = dir.join(format!("{program}-{}.json", std::process::id()));
    let mut command = vec![programs.join(program).into_os_string()];
    for (flag, number) in [("--rounds", args.rounds), ("--seconds", args.seconds)] {
        command.extend([OsString::from(flag), number.to_string().into()]);
    }
    command.extend([OsString::from("--json"), result.clone().into()]);
    command.extend(jobs.iter().map(OsString::from));
    let status = machine.run(&command);
    let kept = match json {
        Some(file) if result.is_file() => fs::copy(&result, file)
            .map(drop)
            .with_context(|| format!("cannot write {}", file.display())),
        _ => Ok(()),
    };
    drop(fs::remove_file(&result));
    let status = status?;
    kept.map(|()| status)
}

fn micro(json: Option<&Path>) -> Result<u8> {
    let repository = host::repository()?;
    let mut command = binaries::cargo(&repository);
    command.args(["bench", "--locked", "--package", "umpath-benches"]);
    host::succeed(&mut command)?;
    if let Some(file) = json {
        let found = estimates(&binaries::target(&repository)?.join("criterion"))?;
        let text = serde_json::to_string_pretty(&json!({
            "version": VERSION,
            "benchmarks": found,
        }))?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(0)
}

/// The results criterion left: `<group>/<name>/new/{benchmark,estimates}.json`.
fn estimates(dir: &Path) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("no {}", dir.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if !path.is_dir() {
                continue;
            }
            if path.file_name().is_some_and(|name| name == "new") {
                found.extend(estimate(&path)?);
            } else {
                waiting.push(path);
            }
        }
    }
    found.sort_by_key(|one| one["name"].to_string());
    Ok(found)
}

fn estimate(dir: &Path) -> Result<Option<Value>> {
    let read = |name: &str| -> Result<Option<Value>> {
        let file = dir.join(name);
        if !file.is_file() {
            return Ok(None);
        }
        let text = fs::read_to_string(&file)?;
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
    };
    let (Some(benchmark), Some(estimates)) = (read("benchmark.json")?, read("estimates.json")?)
    else {
        return Ok(None);
    };
    let point = |what: &str| estimates[what]["point_estimate"].clone();
    Ok(Some(json!({
        "name": benchmark["full_id"],
        "mean_ns": point("mean"),
        "median_ns": point("median"),
        "std_dev_ns": point("std_dev"),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criterions_results_are_found_at_any_depth() {
        let dir = std::env::temp_dir().join(format!("umpath-estimates-{}", std::process::id()));
        let new = dir.join("lane/read/new");
        fs::create_dir_all(&new).expect("a directory");
        fs::write(new.join("benchmark.json"), r#"{"full_id":"lane/read"}"#).expect("a file");
        let numbers = r#"{"mean":{"point_estimate":2.5},"median":{"point_estimate":2}}"#;
        fs::write(new.join("estimates.json"), numbers).expect("a file");
        let found = estimates(&dir).expect("results");
        drop(fs::remove_dir_all(&dir));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["name"], "lane/read");
        assert_eq!(found[0]["mean_ns"], 2.5);
    }
}
