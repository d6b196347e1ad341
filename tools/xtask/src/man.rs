//! `cargo xtask man`: the manual pages.
//!
//! Each program generates its own pages (`umpath-man` derives them from its grammar); this builds
//! the programs and runs them. So a page always describes the version of its program.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{binaries, host};

/// Packages with pages; each has one program of the same name.
const PACKAGES: [&str; 3] = ["umpath", "umpathd", "umpath-target"];

/// The flag that makes a program write its pages: `umpath_man::FLAG`.
const FLAG: &str = "--man-pages";

#[derive(Args)]
pub(crate) struct ManArgs {
    /// Output directory [default: man in the target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Cargo profile of the programs
    #[arg(long, default_value = "dev")]
    profile: String,
}

/// Writes all pages; returns the exit status.
pub(crate) fn run(args: &ManArgs) -> Result<u8> {
    let repository = host::repository()?;
    let target = binaries::target(&repository)?;
    let out = match &args.out {
        Some(out) => std::path::absolute(out)?,
        None => target.join("man"),
    };
    let mut build = binaries::cargo(&repository);
    build.args(["build", "--locked", "--bins", "--profile", &args.profile]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    host::succeed(build.stdout(std::io::stderr()))?;
    let programs = target.join(binaries::folder(&args.profile));
    for program in PACKAGES {
        host::succeed(Command::new(programs.join(program)).arg(FLAG).arg(&out))?;
    }
    let pages = std::fs::read_dir(&out)
        .with_context(|| format!("cannot read {}", out.display()))?
        .count();
    println!("{pages} pages in {}", out.display());
    Ok(0)
}
