//! The verifier: a separate program that performs one request at a time and reports its outcome.
//!
//! It is a process, not a thread, so that a request that hangs blocks nothing else. It reads
//! commands and answers each with one line when the request is over: `write 7` -> `wrote 7 in 12
//! ms`, `read` -> `read 7 in 1 ms`, and `failed ...` for a request that the device failed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::block::Device;
use crate::bed::binary;

/// Handles standard input until it ends.
pub fn serve(device: &Path, block: u64) -> Result<()> {
    let device = Device::open(device)?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let start = Instant::now();
        let result = match line.split_once(' ') {
            Some(("write", value)) => {
                let value = value.parse::<u64>().with_context(|| line.clone())?;
                device
                    .write(block, value)
                    .map(|()| format!("wrote {value}"))
            }
            None if line == "read" => device.read(block).map(|value| format!("read {value}")),
            _ => bail!("unknown command {line:?}; use `write VALUE` or `read`"),
        };
        let ms = start.elapsed().as_millis();
        match result {
            Ok(words) => println!("{words} in {ms} ms"),
            Err(error) => println!("failed {line}: {error}"),
        }
    }
    Ok(())
}

/// A running verifier.
#[derive(Debug)]
pub(crate) struct Verifier {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Verifier {
    /// Starts it on one block of a device.
    pub(crate) fn start(device: &Path, block: u64) -> Result<Self> {
        let mut child = Command::new(binary("block-verifier")?)
            .arg(device)
            .arg(block.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start block-verifier")?;
        let input = child.stdin.take().context("block-verifier has no input")?;
        let output = child
            .stdout
            .take()
            .context("block-verifier has no output")?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            input,
            answers,
        })
    }

    /// Submits a write without waiting for it.
    pub(crate) fn begin_write(&mut self, value: u64) -> Result<()> {
        writeln!(self.input, "write {value}").context("block-verifier ended")
    }

    /// Waits for the submitted write; returns its duration, milliseconds.
    pub(crate) fn wrote(&self, value: u64, limit: Duration) -> Result<u64> {
        let answer = self.answer(limit)?;
        let ms = answer
            .strip_prefix(&format!("wrote {value} in "))
            .and_then(|rest| rest.strip_suffix(" ms"))
            .and_then(|digits| digits.parse().ok());
        ms.with_context(|| format!("writing {value}: {answer}"))
    }

    /// Writes and waits; returns the duration, milliseconds.
    pub(crate) fn write(&mut self, value: u64, limit: Duration) -> Result<u64> {
        self.begin_write(value)?;
        self.wrote(value, limit)
    }

    /// Reads the block's value.
    pub(crate) fn read(&mut self, limit: Duration) -> Result<u64> {
        writeln!(self.input, "read").context("block-verifier ended")?;
        let answer = self.answer(limit)?;
        let value = answer
            .strip_prefix("read ")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|digits| digits.parse().ok());
        value.with_context(|| format!("reading: {answer}"))
    }

    fn answer(&self, limit: Duration) -> Result<String> {
        let answer = self.answers.recv_timeout(limit);
        answer.with_context(|| format!("block-verifier is silent for {} s", limit.as_secs()))
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        // If it hangs in a request, it ends when the request does.
        let _ = self.child.kill();
        if let Err(error) = crate::bed::within(Duration::from_secs(10), "block-verifier", || {
            matches!(self.child.try_wait(), Ok(Some(_)))
        }) {
            eprintln!("drill: {error:#}");
        }
    }
}
