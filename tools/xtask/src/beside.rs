//! The VM suite beside the steps that need no VM.
//!
//! Its VM runs before everything else on the machine ([`crate::vm`]) and still waits most of the time:
//! for keep-alive timers, for fences, for a cable to come back. What it leaves of the CPUs is enough for
//! the other steps. A process of its own runs it, so that only that one is raised above the others; what
//! it says goes to a file, and is printed when it is over.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::host;

/// The suite under way. Dropped, it ends.
pub(crate) struct VmSuite {
    child: Child,
    log: PathBuf,
}

impl VmSuite {
    pub(crate) fn begin(repository: &Path) -> Result<Self> {
        let log = host::cache(repository)?.join("vm-suite.log");
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = std::env::current_exe().context("where is this program?")?;
        let child = Command::new(program)
            .arg("vm-suite")
            .current_dir(repository)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("cannot start the VM suite")?;
        println!("the VM suite runs beside the next steps: {}", log.display());
        Ok(Self { child, log })
    }

    /// Waits for its end; what it said, and whether it succeeded.
    pub(crate) fn end(mut self) -> Result<(String, bool)> {
        let success = self.child.wait()?.success();
        let bytes = fs::read(&self.log)?;
        Ok((String::from_utf8_lossy(&bytes).into_owned(), success))
    }
}

impl Drop for VmSuite {
    fn drop(&mut self) {
        // Errors: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
