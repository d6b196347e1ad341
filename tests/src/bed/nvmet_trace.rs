//! The NVMe commands the kernel's target received, from its own tracepoint.
//!
//! An independent record of the data path: which queue, which command, how long, with which flags.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::run::run;

const TRACEFS: &str = "/sys/kernel/tracing";
const SWITCH: &str = "events/nvmet/nvmet_req_init/enable";
/// Force Unit Access in the control field of a write.
const FUA: u64 = 1 << 14;

/// A command as the target received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Controller identifier.
    pub cntlid: u64,
    /// Queue identifier; 0 is the admin queue.
    pub qid: u64,
    /// Name of the command, such as `nvme_cmd_write`.
    pub name: String,
    /// Its fields, such as `slba=0, len=7, ctrl=0x0`.
    pub fields: String,
}

impl Received {
    /// A field of the command.
    pub fn field(&self, key: &str) -> Option<u64> {
        value(&self.fields, key)
    }

    /// Number of blocks read or written.
    pub fn blocks(&self) -> u64 {
        self.field("len").map_or(0, |zero_based| zero_based + 1)
    }

    /// Whether the data must be durable before completion (FUA).
    pub fn is_fua(&self) -> bool {
        self.field("ctrl").is_some_and(|control| control & FUA != 0)
    }

    /// Parses a line such as
    /// `... nvmet_req_init: nvmet1: disk=/dev/x, qid=1, cmdid=3, nsid=1, flags=0x40, meta=0, cmd=(NAME, FIELDS)`.
    fn parse(line: &str) -> Option<Self> {
        let (_, text) = line.split_once("nvmet_req_init: nvmet")?;
        let (cntlid, rest) = text.split_once(':')?;
        let (head, command) = rest.split_once("cmd=(")?;
        let (name, fields) = command.trim_end().strip_suffix(')')?.split_once(", ")?;
        Some(Self {
            cntlid: cntlid.trim().parse().ok()?,
            qid: value(head, "qid")?,
            name: name.to_owned(),
            fields: fields.to_owned(),
        })
    }
}

/// The number after `key=` in comma-separated fields.
fn value(fields: &str, key: &str) -> Option<u64> {
    let mut pairs = fields
        .split(',')
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, text) = pairs.find(|(name, _)| *name == key)?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The enabled tracepoint; disabled when dropped. Needs a running [`super::Nvmet`].
#[derive(Debug)]
pub struct NvmetTrace(());

impl NvmetTrace {
    /// Enables it.
    pub fn start() -> Result<Self> {
        if !file(SWITCH).exists() {
            run(Command::new("mount").args(["-t", "tracefs", "none", TRACEFS]))?;
        }
        let trace = Self(());
        put("trace", "")?;
        put(SWITCH, "1")?;
        Ok(trace)
    }

    /// All commands received since the last call.
    pub fn take(&self) -> Result<Vec<Received>> {
        put(SWITCH, "0")?;
        let text = fs::read_to_string(file("trace")).context("cannot read the kernel's trace")?;
        put("trace", "")?;
        put(SWITCH, "1")?;
        Ok(text.lines().filter_map(Received::parse).collect())
    }
}

impl Drop for NvmetTrace {
    fn drop(&mut self) {
        drop(put(SWITCH, "0"));
        drop(put("trace", ""));
    }
}

fn file(name: &str) -> std::path::PathBuf {
    Path::new(TRACEFS).join(name)
}

fn put(name: &str, text: &str) -> Result<()> {
    fs::write(file(name), text).with_context(|| format!("{TRACEFS}/{name} refuses `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_tracepoint_are_read() {
        let line = "  kworker/0:1H-59  [000] .....  95.1: nvmet_req_init: nvmet2: \
                    disk=/dev/umpath0, qid=1, cmdid=11, nsid=1, flags=0x40, meta=0x0, \
                    cmd=(nvme_cmd_write, slba=256, len=7, ctrl=0x4000, dsmgmt=0, reftag=0)";
        let received = Received::parse(line).expect("a command");
        assert_eq!((received.cntlid, received.qid), (2, 1));
        assert_eq!(received.name, "nvme_cmd_write");
        assert_eq!(received.field("slba"), Some(256));
        assert_eq!(received.blocks(), 8);
        assert!(received.is_fua());
        assert_eq!(Received::parse("# tracer: nop"), None);
    }
}
