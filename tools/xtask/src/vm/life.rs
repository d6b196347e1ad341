//! Detecting from outside whether a guest is still alive.
//!
//! An emulated guest may hang: QEMU runs, the console is silent, and the time limit is far away.
//! Decided here: the signs of life and how long a guest may go without one. Before the command
//! begins the console must grow; afterwards the guest touches a file
//! ([`super::guest::BEAT_SECONDS`]).

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A healthy boot prints something every few seconds, on a busy machine every ten.
const BOOT_SILENCE: Duration = Duration::from_secs(60);
/// A busy guest on a busy machine misses many beats.
const BEAT_SILENCE: Duration = Duration::from_secs(120);
/// Time limit for an answer of QEMU's monitor.
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// Longest path of a local socket (`sockaddr_un`), including its terminating zero.
const SOCKET_PATH_MAX: usize = 108;

/// Checks for signs of life.
pub(super) struct Life {
    console: PathBuf,
    beat: PathBuf,
    seen: (u64, Option<SystemTime>),
    at: Instant,
}

impl Life {
    pub(super) fn new(console: PathBuf, beat: PathBuf) -> Self {
        Self {
            console,
            beat,
            seen: (0, None),
            at: Instant::now(),
        }
    }

    /// How long there was no sign of life, if that is too long. `begun`: the command is running.
    pub(super) fn missed(&mut self, begun: bool, now: Instant) -> Option<Duration> {
        let said = fs::metadata(&self.console).map_or(0, |console| console.len());
        let beat = fs::metadata(&self.beat).and_then(|beat| beat.modified());
        let seen = (said, beat.ok());
        if seen != self.seen {
            self.seen = seen;
            self.at = now;
        }
        let limit = if begun { BEAT_SILENCE } else { BOOT_SILENCE };
        let silence = now.saturating_duration_since(self.at);
        (silence >= limit).then_some(silence)
    }
}

/// QEMU's arguments for a monitor at `socket`; `None` if the path is too long.
pub(super) fn monitor(socket: &Path) -> Option<String> {
    (socket.as_os_str().len() < SOCKET_PATH_MAX)
        .then(|| format!("-monitor unix:{},server=on,wait=off", socket.display()))
}

/// Records the state of each CPU of a hung guest (mode, instruction pointer, halted or not) beside
/// the console; returns a summary.
pub(super) fn post_mortem(socket: &Path, report: &Path) -> String {
    let Ok(text) = ask(socket) else {
        return "QEMU itself does not answer".to_owned();
    };
    drop(fs::write(report, &text));
    let mut words = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("CPU#") || line.starts_with("RIP=") || line.starts_with("EIP=") {
            let _ = write!(words, "{line} ");
        }
    }
    words.trim_end().to_owned()
}

fn ask(socket: &Path) -> std::io::Result<String> {
    let mut monitor = UnixStream::connect(socket)?;
    monitor.set_read_timeout(Some(ANSWER_TIME))?;
    monitor.write_all(b"info status\ninfo registers -a\ninfo irq\n")?;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    // It never closes the connection: read until the time is over.
    while let Ok(count @ 1..) = monitor.read(&mut buffer) {
        text.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_last_sign() {
        let dir = std::env::temp_dir().join(format!("umpath-life-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let (console, beat) = (dir.join("console.log"), dir.join("beat"));
        let mut life = Life::new(console.clone(), beat.clone());
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        fs::write(&console, "booting").expect("written");
        assert_eq!(life.missed(false, after(50)), None);
        assert_eq!(life.missed(false, after(109)), None);
        assert_eq!(
            life.missed(false, after(110)),
            Some(Duration::from_secs(60))
        );
        fs::write(&beat, "").expect("written");
        assert_eq!(life.missed(true, after(111)), None);
        assert_eq!(life.missed(true, after(230)), None);
        assert!(life.missed(true, after(231)).is_some());
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn a_monitor_needs_a_short_path() {
        assert!(monitor(Path::new("/run/monitor")).is_some());
        assert_eq!(monitor(Path::new(&"/long".repeat(30))), None);
    }
}
