//! Our ublk front end with a null backend: the example `memory --null` of umpath-ublk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use umpath_tests::bed::{load, within, within_value};

use crate::contender::QUEUES;

const START_TIME: Duration = Duration::from_secs(30);
const END_TIME: Duration = Duration::from_secs(15);
const LOG: &str = "/tmp/umpath-logs/ublk-null.log";

/// A running null volume; removed when dropped.
#[derive(Debug)]
pub(crate) struct NullVolume {
    child: Child,
    device: PathBuf,
}

impl NullVolume {
    pub(crate) fn start() -> Result<Self> {
        load(&["ublk_drv"])?;
        let own = std::env::current_exe().context("cannot find the running program")?;
        let program = own.with_file_name("examples").join("memory");
        if !program.is_file() {
            bail!(
                "{} is missing; run `cargo build -p umpath-ublk --example memory`",
                program.display()
            );
        }
        fs::create_dir_all("/tmp/umpath-logs")?;
        let log = fs::File::create(LOG)?;
        let mut child = Command::new(&program)
            .args(["--null", "--mib", "1024", "--queues", QUEUES])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let found = within_value(START_TIME, "the null volume", || {
            if !matches!(child.try_wait(), Ok(None)) {
                return Some(None);
            }
            let text = fs::read_to_string(LOG).ok()?;
            let (device, _) = text.split_once(" ready")?;
            Some(Some(PathBuf::from(device.lines().last()?)))
        });
        match found {
            Ok(Some(device)) => Ok(Self { child, device }),
            other => {
                drop(child.kill());
                drop(child.wait());
                let said = fs::read_to_string(LOG).unwrap_or_default();
                let why = other
                    .err()
                    .map_or_else(|| "it ended".to_owned(), |e| e.to_string());
                bail!("{why}\n{}", said.trim_end())
            }
        }
    }

    pub(crate) fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for NullVolume {
    fn drop(&mut self) {
        // End of input makes it remove the device and exit.
        drop(self.child.stdin.take());
        let ended = within(END_TIME, "end of the null volume", || {
            !matches!(self.child.try_wait(), Ok(None))
        });
        if let Err(error) = ended {
            eprintln!("bench-compare: {error:#}");
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
