//! Disks to export or to store data on: null_blk in memory, files on loop devices, and slow disks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::kernel::{load, mount_configfs};
use super::run::{attempt, output};

const NULLB: &str = "/sys/kernel/config/nullb";

/// A null_blk device that keeps its data in memory.
#[derive(Debug)]
pub struct NullDisk {
    config: PathBuf,
    device: PathBuf,
}

impl NullDisk {
    /// Creates `/dev/<name>` with this size and 4 KiB blocks.
    pub fn make(name: &str, size_mib: u32) -> Result<Self> {
        Self::make_with(name, size_mib, &[])
    }

    /// The same with null_blk settings that override the usual ones, such as `("blocksize",
    /// "512")`.
    pub fn make_with(name: &str, size_mib: u32, settings: &[(&str, &str)]) -> Result<Self> {
        mount_configfs()?;
        load(&["null_blk nr_devices=0"])?;
        let config = Path::new(NULLB).join(name);
        fs::create_dir(&config).with_context(|| format!("cannot create null_blk disk {name}"))?;
        let disk = Self {
            config,
            device: Path::new("/dev").join(name),
        };
        let size = size_mib.to_string();
        let usual = [
            ("memory_backed", "1"),
            ("size", &size),
            ("blocksize", "4096"),
            ("irqmode", "0"),
            ("discard", "1"),
        ];
        let all = usual.iter().chain(settings).chain(&[("power", "1")]);
        for (key, value) in all {
            fs::write(disk.config.join(key), value)
                .with_context(|| format!("null_blk disk {name} refuses {key}"))?;
        }
        Ok(disk)
    }

    /// Path of its device node.
    pub fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for NullDisk {
    fn drop(&mut self) {
        drop(fs::write(self.config.join("power"), "0"));
        if let Err(error) = fs::remove_dir(&self.config) {
            eprintln!("bed: cannot remove {}: {error}", self.config.display());
        }
    }
}

/// A file of zeroes behind a loop device.
#[derive(Debug)]
pub struct LoopDisk {
    file: PathBuf,
    device: PathBuf,
}

impl LoopDisk {
    /// Creates the sparse file and attaches it.
    pub fn make(file: &Path, size_mib: u32) -> Result<Self> {
        load(&["loop"])?;
        let sparse =
            File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        sparse.set_len(u64::from(size_mib) << 20)?;
        let device = output(Command::new("losetup").args(["--find", "--show"]).arg(file))?;
        Ok(Self {
            file: file.to_path_buf(),
            device: device.trim().into(),
        })
    }

    /// Path of its device node.
    pub fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        drop(attempt(
            Command::new("losetup").arg("--detach").arg(&self.device),
        ));
        drop(fs::remove_file(&self.file));
    }
}

/// A disk with delayed writes (dm-delay over another one).
#[derive(Debug)]
pub struct SlowDisk {
    name: &'static str,
}

impl SlowDisk {
    /// Creates `/dev/mapper/<name>` over `below`: every write reaches it `late_ms` later.
    pub fn make(name: &'static str, below: &Path, late_ms: u32) -> Result<Self> {
        load(&["dm-delay"])?;
        let sectors = output(Command::new("blockdev").arg("--getsz").arg(below))?;
        let (sectors, below) = (sectors.trim(), below.display());
        let table = format!("0 {sectors} delay {below} 0 0 {below} 0 {late_ms}");
        output(Command::new("dmsetup").args(["create", name, "--table", &table]))?;
        Ok(Self { name })
    }

    /// Path of its device node.
    pub fn device(&self) -> PathBuf {
        Path::new("/dev/mapper").join(self.name)
    }

    /// Delayed writes; the block layer counts them only once they have reached the disk.
    pub fn writes_in_flight(&self) -> Option<u64> {
        let status = output(Command::new("dmsetup").args(["status", self.name])).ok()?;
        // "0 524288 delay <reads> <writes> <flushes>"
        let counts = status.split_once(" delay ")?.1;
        counts.split_whitespace().nth(1)?.parse().ok()
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let mut remove = Command::new("dmsetup");
        if let Err(error) = output(remove.args(["remove", "--retry", self.name])) {
            eprintln!("bed: {error:#}");
        }
    }
}
