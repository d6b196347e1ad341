//! Copies the guest's output while it runs.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Standard output that also hands on whole lines.
pub(crate) struct Tee {
    line: Vec<u8>,
    lines: mpsc::Sender<String>,
}

impl Tee {
    pub(crate) fn new(lines: mpsc::Sender<String>) -> Self {
        Self {
            line: Vec::new(),
            lines,
        }
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            if *byte == b'\n' {
                let _ = self
                    .lines
                    .send(String::from_utf8_lossy(&self.line).into_owned());
                self.line.clear();
            } else {
                self.line.push(*byte);
            }
        }
        std::io::stdout().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush()
    }
}

/// Copies until the source ends, in a thread of its own.
pub(crate) fn pump(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(count) if count > 0 => count,
                _ => return,
            };
            // A reader that went away must not stall the guest: go on emptying the pipe.
            let _ = to.write_all(buffer.get(..count).unwrap_or_default());
            let _ = to.flush();
        }
    })
}
