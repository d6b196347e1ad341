//! The VM suite beside the steps that need no VM.
//!
//! Its VM runs before everything else on the machine ([`crate::vm`]) and still waits a third of the time:
//! for keep-alive timers, for fences, for a cable to come back. What it leaves of the CPUs is enough for
//! the other steps; when those are over, a second VM takes cases from the end of the list. A process of
//! its own runs each, so that only those are raised above the others; what they say goes to files, and is
//! printed when it is over.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::host;

/// The suite under way.
pub(crate) struct VmSuite {
    /// Where each case is claimed by one of the VMs.
    claims: PathBuf,
    runs: Vec<Run>,
}

/// What one VM does. Dropped, it ends.
struct Run {
    child: Child,
    log: PathBuf,
}

impl VmSuite {
    pub(crate) fn begin(repository: &Path) -> Result<Self> {
        let claims = host::cache(repository)?.join("vm-suite-claims");
        drop(fs::remove_dir_all(&claims));
        fs::create_dir_all(&claims).with_context(|| format!("cannot make {}", claims.display()))?;
        let first = Run::begin(repository, &claims, "vm-suite.log", &[])?;
        println!(
            "the VM suite runs beside the next steps: {}",
            first.log.display()
        );
        Ok(Self {
            claims,
            runs: vec![first],
        })
    }

    /// The CPUs are free: a second VM helps, if the first still works.
    pub(crate) fn hurry(&mut self, repository: &Path) -> Result<()> {
        let first = &mut self.runs[0];
        if first.child.try_wait()?.is_none() {
            let arguments = ["--from-end"];
            let second = Run::begin(repository, &self.claims, "vm-suite-2.log", &arguments)?;
            println!("a second VM helps: {}", second.log.display());
            self.runs.push(second);
        }
        Ok(())
    }

    /// Waits for its end; what each VM said, and whether it succeeded.
    pub(crate) fn end(self) -> Result<Vec<(String, bool)>> {
        self.runs.into_iter().map(Run::end).collect()
    }
}

impl Run {
    fn begin(repository: &Path, claims: &Path, log: &str, arguments: &[&str]) -> Result<Self> {
        let log = host::cache(repository)?.join(log);
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = std::env::current_exe().context("where is this program?")?;
        let child = Command::new(program)
            .args(["vm-suite", "--claims"])
            .arg(claims)
            .args(arguments)
            .current_dir(repository)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("cannot start the VM suite")?;
        Ok(Self { child, log })
    }

    fn end(mut self) -> Result<(String, bool)> {
        let success = self.child.wait()?.success();
        let bytes = fs::read(&self.log)?;
        Ok((String::from_utf8_lossy(&bytes).into_owned(), success))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Errors: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
