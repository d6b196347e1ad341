//! The serving end of the run-time socket: one thread, one caller at a time.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tracing::{debug, error, info};

use super::{Operator, Reply, Verb};

/// A caller that says nothing for this long is dropped: others wait.
const CALLER_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest verb.
const VERB_BYTES_MAX: u64 = 1 << 20;

/// Why the socket cannot be served.
#[derive(Debug, Error)]
pub enum ServerError {
    /// Another target has it.
    #[error("{0}: another umpath-target is serving this socket; end it, or use --socket")]
    Taken(PathBuf),
    /// A system call failed.
    #[error("{path}: cannot {what}: {source}")]
    System {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound socket; removed again when dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
}

impl Server {
    /// Binds the socket, readable and writable by the owner only. One that a dead process left
    /// behind is replaced.
    pub fn bind(path: &Path) -> Result<Self, ServerError> {
        let failed = |what| {
            move |source| ServerError::System {
                path: path.to_owned(),
                what,
                source,
            }
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed("create its directory"))?;
        }
        match UnixStream::connect(path) {
            Ok(_) => return Err(ServerError::Taken(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed("remove the one left behind"))?;
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed("bind"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(failed("set permissions"))?;
        Ok(Self {
            path: path.to_owned(),
            listener,
        })
    }

    /// Serves on a thread of its own for as long as the process lives.
    pub fn spawn(&self, operator: Arc<Operator>) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                for stream in listener.incoming() {
                    match stream {
                        Ok(stream) => {
                            if let Err(error) = serve(stream, &operator) {
                                debug!(%error, "a caller went away");
                            }
                        }
                        Err(error) => {
                            error!(%error, "the control socket failed");
                            return;
                        }
                    }
                }
            })?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn serve(mut stream: UnixStream, operator: &Operator) -> io::Result<()> {
    stream.set_read_timeout(Some(CALLER_TIMEOUT))?;
    stream.set_write_timeout(Some(CALLER_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new((&stream).take(VERB_BYTES_MAX)).read_line(&mut line)?;
    let reply = match serde_json::from_str::<Verb>(&line) {
        Ok(verb) => {
            info!(verb = line.trim(), "asked");
            operator.carry_out(verb)
        }
        Err(error) => Reply::Failed(format!(
            "not understood: {error}; are the client and the running target the same version?"
        )),
    };
    let mut answer = serde_json::to_vec(&reply)?;
    answer.push(b'\n');
    stream.write_all(&answer)
}
