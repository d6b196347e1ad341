//! Builds the workspace's programs for use inside the VM.
//!
//! They are optimized by default: under emulation an unoptimized data path is slow enough to change
//! the test results.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::host;

/// Packages whose programs the VM runs.
const PACKAGES: [&str; 4] = ["umpath-tests", "umpathd", "umpath", "umpath-target"];

#[derive(Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

/// Builds all programs; returns their directory.
pub(crate) fn build(repository: &Path, profile: &str) -> Result<PathBuf> {
    build_with(repository, profile, &[])
}

/// Builds all programs and the `extra` targets in one go, so that they share their dependencies;
/// returns their directory.
pub(crate) fn build_with(repository: &Path, profile: &str, extra: &[&str]) -> Result<PathBuf> {
    run(repository, profile, &[&["--bins"], extra].concat())
}

/// Builds one of the programs, optimized; returns its directory. What lies below has the features that
/// all programs together ask for, so that neither this nor [`build`] builds anything once more.
pub(crate) fn build_one(repository: &Path, program: &str) -> Result<PathBuf> {
    run(repository, "release", &["--bin", program])
}

fn run(repository: &Path, profile: &str, targets: &[&str]) -> Result<PathBuf> {
    host::install(&[host::BUILD_NEEDS])?;
    let mut command = cargo(repository);
    command.args(["build", "--locked", "--profile", profile]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command.args(targets);
    command.stdout(std::io::stderr());
    host::succeed(&mut command)?;
    Ok(target(repository)?.join(folder(profile)))
}

/// The target subdirectory for this profile.
pub(crate) fn folder(profile: &str) -> &str {
    if profile == "dev" { "debug" } else { profile }
}

pub(crate) fn target(repository: &Path) -> Result<PathBuf> {
    let json =
        host::capture(cargo(repository).args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata =
        serde_json::from_str(&json).context("cargo metadata answered something unexpected")?;
    Ok(metadata.target_directory)
}

/// A cargo command in the repository, without the environment variables of the cargo that runs us.
pub(crate) fn cargo(repository: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(repository);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST")
            || text == "CARGO_BIN_NAME"
        {
            command.env_remove(&name);
        }
    }
    command
}
