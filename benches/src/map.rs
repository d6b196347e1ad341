//! A dm-multipath map.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use umpath_tests::bed::{attempt, load, output, run};

/// One group of paths with queue-length; removed when dropped.
#[derive(Debug)]
pub(crate) struct Map {
    name: &'static str,
    device: PathBuf,
}

impl Map {
    /// Creates a map over `paths`.
    pub(crate) fn make(name: &'static str, paths: &[PathBuf]) -> Result<Self> {
        load(&["dm-multipath", "dm-queue-length"])?;
        let first = paths.first().context("a map needs a path")?;
        let sectors = output(Command::new("blockdev").arg("--getsz").arg(first))?;
        let mut table = format!(
            "0 {} multipath 0 0 1 1 queue-length 0 {} 1",
            sectors.trim(),
            paths.len()
        );
        for path in paths {
            let name = path.file_name().context("a path needs a name")?;
            let number = Path::new("/sys/class/block").join(name).join("dev");
            let number = fs::read_to_string(&number)
                .with_context(|| format!("cannot read {}", number.display()))?;
            let _ = write!(table, " {} 1", number.trim());
        }
        run(Command::new("dmsetup").args(["create", name, "--table", &table]))?;
        Ok(Self {
            name,
            device: Path::new("/dev/mapper").join(name),
        })
    }

    pub(crate) fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        drop(attempt(
            Command::new("dmsetup").args(["remove", "--retry", self.name]),
        ));
    }
}
