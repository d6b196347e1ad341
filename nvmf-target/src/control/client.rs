//! The calling end of the run-time socket.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{Reply, Verb};

/// The longest wait for an answer; opening a device may take a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there was no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// Nobody serves the socket.
    #[error(
        "{path}: no umpath-target is running there ({source}); start one with `umpath-target serve \
         --config array.toml`, or name its socket with --socket"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the running target did not answer: {0}")]
    Broken(#[from] io::Error),
    /// The answer makes no sense.
    #[error("the running target's answer was not understood ({0}); is it the same version?")]
    Nonsense(#[from] serde_json::Error),
}

/// Asks the target that serves `path`.
pub fn call(path: &Path, verb: &Verb) -> Result<Reply, CallError> {
    let mut stream = UnixStream::connect(path).map_err(|source| CallError::NotRunning {
        path: path.to_owned(),
        source,
    })?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = serde_json::to_vec(verb)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
