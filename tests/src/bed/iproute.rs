//! A running `ip` or `tc` in batch mode, for changes without start-up delay.
//!
//! Starting a program takes tens of milliseconds under emulation and up to a second on a busy
//! machine, which would blur the time of a fault; one line to a running program takes one or two.

use std::io::Write as _;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use super::place::Place;

/// A program of iproute2 in batch mode.
#[derive(Debug)]
pub struct Iproute {
    child: Child,
}

impl Iproute {
    /// Starts `program`, `ip` or `tc`, in a place.
    pub fn on(place: &Place, program: &str) -> Result<Self> {
        let child = place
            .command(program)
            .args(["-force", "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Ok(Self {
            child: child.with_context(|| format!("cannot start `{program} -batch -`"))?,
        })
    }

    /// Executes one line, such as `link set host1 down`.
    pub fn line(&mut self, words: &str) -> Result<()> {
        let input = self
            .child
            .stdin
            .as_mut()
            .context("the batch process has no input")?;
        let line = format!("{words}\n");
        input
            .write_all(line.as_bytes())
            .with_context(|| format!("`{words}`: the program has ended"))
    }
}

impl Drop for Iproute {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
