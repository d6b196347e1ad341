//! virtme-ng in a private Python environment in the cache.
//!
//! Decided here: the version. A private environment works with distributions that protect their
//! Python (PEP 668) and is independent of users' own installations.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::host;

const VERSION: &str = "1.42";

/// The `vng` program, installed on first use; `UMPATH_VNG` overrides it.
pub(crate) fn ensure(cache: &Path) -> Result<PathBuf> {
    if let Some(own) = std::env::var_os("UMPATH_VNG") {
        return Ok(PathBuf::from(own));
    }
    let venv = cache.join(format!("virtme-ng-{VERSION}"));
    let vng = venv.join("bin/vng");
    let done = venv.join("complete");
    if done.is_file() && vng.is_file() {
        return Ok(vng);
    }
    eprintln!("xtask: installing virtme-ng {VERSION} into the cache");
    drop(std::fs::remove_dir_all(&venv));
    host::capture(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .context("cannot create a Python environment; install package python3-venv")?;
    let pip = venv.join("bin/pip");
    host::capture(
        Command::new(pip)
            .args(["install", "-q"])
            .arg(format!("virtme-ng=={VERSION}")),
    )
    .context("pip cannot install virtme-ng; is PyPI reachable?")?;
    std::fs::write(done, "")?;
    Ok(vng)
}
