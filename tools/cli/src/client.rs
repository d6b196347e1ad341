//! One request over the control socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use umpath_protocol::{Failure, Reply, ReplyLine, Request, RequestLine, VERSION};

/// Longest reply line accepted, in bytes: room for far more than 4,096 volumes.
const REPLY_BYTES_MAX: u64 = 64 << 20;

/// Sends a request to the daemon and waits for its answer.
pub(crate) fn ask(socket: &Path, request: Request) -> Result<Reply, Failure> {
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    let lost = |error: std::io::Error| {
        Failure::new(
            "lost the connection to umpathd",
            error.to_string(),
            "journalctl -u umpathd shows why; `umpath show status` shows whether it is running",
        )
    };
    let mut line = serde_json::to_vec(&RequestLine {
        version: VERSION,
        request,
    })
    .map_err(|error| Failure::new("cannot encode the request", error.to_string(), ""))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(lost)?;
    let mut answer = String::new();
    BufReader::new(stream.take(REPLY_BYTES_MAX))
        .read_line(&mut answer)
        .map_err(lost)?;
    if answer.is_empty() {
        return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let reply: ReplyLine = serde_json::from_str(&answer).map_err(|error| {
        Failure::new(
            "cannot understand umpathd's answer",
            error.to_string(),
            "umpath and umpathd must be of the same version: restart umpathd after an upgrade",
        )
    })?;
    Ok(reply.reply)
}

fn unreachable(socket: &Path, error: &std::io::Error) -> Failure {
    let what = format!("cannot reach umpathd at {}", socket.display());
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            Failure::new(what, "it is not running", "systemctl start umpathd")
        }
        std::io::ErrorKind::PermissionDenied => Failure::new(
            what,
            "permission denied",
            "run as root, or join the control group",
        ),
        _ => Failure::new(what, error.to_string(), ""),
    }
}
