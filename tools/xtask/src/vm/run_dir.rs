//! Files of one VM run: script, pipes, status, console.
//!
//! Decided here: how an ending becomes a message and an exit status. The newest runs stay in the
//! cache, so that their consoles can be read later.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags};

use super::{STATUS_TIMEOUT, STATUS_VM_FAILED};

const RUNS_KEPT: usize = 12;
const CONSOLE_LINES_SHOWN: usize = 40;

/// How a run ended.
#[derive(Clone, Copy)]
pub(crate) enum Ending {
    /// The command ended with this status.
    Command(u8),
    /// The command exceeded its time limit.
    Timeout,
    /// The command did not start within this time.
    NoBoot(Duration),
    /// The guest gave no sign of life for this long.
    Still(Duration),
    /// QEMU ended before the command did.
    Died,
}

/// The directory with one run's script, pipes, status and console.
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    /// Creates a new one and removes the oldest.
    pub(crate) fn new(cache: &Path) -> Result<Self> {
        let runs = cache.join("runs");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let dir = runs.join(format!("{:013}-{}", now.as_millis(), std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut old: Vec<_> = fs::read_dir(&runs)?.flatten().map(|e| e.path()).collect();
        old.sort();
        for dir in old.iter().rev().skip(RUNS_KEPT) {
            drop(fs::remove_dir_all(dir));
        }
        Ok(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Creates a named pipe. The reader sees end of file when QEMU and the returned writer are
    /// gone.
    pub(crate) fn pipe(&self, name: &str) -> Result<(File, File)> {
        let path = self.file(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into())
            .with_context(|| format!("cannot create a pipe {}", path.display()))?;
        // Without NONBLOCK, opening either end would wait for the other.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        let writer = File::options().write(true).open(&path)?;
        rustix::fs::fcntl_setfl(&reader, OFlags::empty())?;
        Ok((reader, writer))
    }

    /// The command's exit status, once it has ended.
    pub(crate) fn status(&self) -> Option<u8> {
        fs::read_to_string(self.file("status"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Kills a QEMU that is still running, by its pid file.
    pub(crate) fn end_qemu(&self) {
        let pid = fs::read_to_string(self.file("qemu.pid"))
            .ok()
            .and_then(|text| text.trim().parse::<i32>().ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
            return;
        };
        let command =
            fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let run = self.0.as_os_str().as_encoded_bytes();
        if command.windows(run.len()).any(|window| window == run) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Prints how the run ended; returns its exit status.
    pub(crate) fn report(&self, ending: Ending, timeout: Duration) -> u8 {
        let console =
            String::from_utf8_lossy(&fs::read(self.file("console.log")).unwrap_or_default())
                .into_owned();
        let path = self.file("console.log");
        let failure = match ending {
            Ending::Command(status) => {
                if let Some(line) = console.lines().find(|line| is_kernel_trouble(line)) {
                    eprintln!(
                        "xtask: the guest's kernel complained: {line}\nxtask: console: {}",
                        path.display()
                    );
                }
                return status;
            }
            Ending::Timeout => {
                format!(
                    "the command did not end within {} s (see --timeout)",
                    timeout.as_secs()
                )
            }
            Ending::NoBoot(limit) => format!(
                "the VM did not start the command within {} s",
                limit.as_secs()
            ),
            Ending::Still(silence) => format!(
                "the VM gave no sign of life for {} s; what its CPUs were doing: {}",
                silence.as_secs(),
                self.file("registers").display()
            ),
            Ending::Died if console.contains("Kernel panic") => {
                "the guest's kernel panicked".to_owned()
            }
            Ending::Died => "the VM ended before the command did".to_owned(),
        };
        let lines: Vec<_> = console.lines().collect();
        eprintln!("xtask: the end of the console:");
        for line in lines
            .iter()
            .skip(lines.len().saturating_sub(CONSOLE_LINES_SHOWN))
        {
            eprintln!("  | {line}");
        }
        eprintln!("xtask: {failure}\nxtask: full console: {}", path.display());
        if matches!(ending, Ending::Timeout) {
            STATUS_TIMEOUT
        } else {
            STATUS_VM_FAILED
        }
    }
}

fn is_kernel_trouble(line: &str) -> bool {
    [
        "BUG: ",
        "Oops: ",
        "WARNING: CPU",
        "general protection fault",
        "blocked for more than",
    ]
    .iter()
    .any(|words| line.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_trouble_is_seen() {
        assert!(is_kernel_trouble(
            "[    3.1] BUG: kernel NULL pointer dereference"
        ));
        assert!(!is_kernel_trouble("[    3.1] rdma_rxe: loaded"));
    }
}
