//! `cargo xtask tidy`: the house rules that no compiler checks.
//!
//! Decided here: which rules run and how findings are printed, one line each, `file: what to do`.
//! The rules: which crate may depend on which (`layers`); sizes, names and words of files
//! (`files`); source files no crate compiles (`orphans`); modules that need each other (`circles`).

mod circles;
mod files;
mod layers;
mod orphans;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::host;

/// The part of `cargo metadata` used here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or `None`.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    src_path: PathBuf,
}

/// One broken rule.
struct Finding {
    file: PathBuf,
    words: String,
}

/// Runs all rules; returns the exit status.
pub(crate) fn run() -> Result<u8> {
    let repository = host::repository()?;
    let findings = check(&repository)?;
    for finding in &findings {
        let file = finding
            .file
            .strip_prefix(&repository)
            .unwrap_or(&finding.file);
        println!("{}: {}", file.display(), finding.words);
    }
    println!("tidy: {} findings", findings.len());
    Ok(u8::from(!findings.is_empty()))
}

fn check(repository: &Path) -> Result<Vec<Finding>> {
    let metadata = metadata(repository)?;
    let tree = files::tree(repository)?;
    let mut findings = layers::check(&metadata.packages);
    findings.extend(files::check(&tree));
    findings.extend(orphans::check(&metadata.packages, &tree));
    findings.extend(circles::check(&metadata.packages, &tree));
    findings.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(findings)
}

fn metadata(repository: &Path) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let json = host::capture(
        Command::new(cargo)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(repository),
    )?;
    serde_json::from_str(&json).context("cargo metadata answered something unexpected")
}
