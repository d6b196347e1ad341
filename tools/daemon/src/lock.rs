//! One daemon on a machine.
//!
//! An advisory lock on a file in the run directory, and one in the state directory: a daemon started
//! with a run directory of its own must not write another one's state either. Locks go with the
//! process however that ends, so a stale file locks nobody out.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

/// Held as long as the daemon runs.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Takes the locks of both directories or says who has one.
    pub(crate) fn take_both(run_dir: &Path, state_dir: &Path) -> anyhow::Result<[Self; 2]> {
        // Two names, because the directories may be one.
        Ok([
            Self::take(&run_dir.join("umpathd.lock"))?,
            Self::take(&state_dir.join("state.lock"))?,
        ])
    }

    fn take(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            bail!(
                "another umpathd runs (process {}, {} is locked): stop it first, `systemctl stop \
                 umpathd`",
                holder.trim(),
                path.display()
            );
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_daemon_is_told_who_runs() {
        let folder = std::env::temp_dir().join(format!("umpathd-lock-{}", std::process::id()));
        let (run, state) = (folder.join("run"), folder.join("state"));
        for folder in [&run, &state] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let first = Lock::take_both(&run, &state).unwrap();
        // The same directories, or a run directory of its own on the same state.
        for second in [&run, &folder] {
            let error = Lock::take_both(second, &state).unwrap_err().to_string();
            assert!(error.contains(&std::process::id().to_string()), "{error}");
        }
        drop(first);
        Lock::take_both(&state, &state).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
