//! The control socket: JSON lines in, JSON lines out.
//!
//! Each connection is its own task and sends one request at a time, so a slow request (a path that
//! does not answer) delays only its own connection. Peer credentials decide what is allowed:
//! listings for everyone the socket admits, changes for root.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use umpath_protocol::{
    Failure, REQUEST_BYTES_MAX, Reply, ReplyLine, Request, RequestLine, VERSION,
};

/// A request on its way to its handler.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) request: Request,
    /// Channel for the reply. Dropping it shows the client that the daemon is stopping.
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// Connections served at once; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 64;
/// Time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Creates the socket, accessible to its owner and, if configured, a group.
pub(crate) fn bind(path: &Path, group: Option<&str>) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let mut mode = 0o600;
    if let Some(group) = group {
        let gid = group_id(group)
            .with_context(|| format!("control.group: there is no group {group:?}"))?;
        std::os::unix::fs::chown(path, None, Some(gid))?;
        mode = 0o660;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let entry = groups
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    entry.split(':').nth(2)?.parse().ok()
}

/// Accepts connections as long as the daemon runs.
pub(crate) async fn serve(listener: UnixListener, calls: mpsc::Sender<Call>) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let calls = calls.clone();
                tokio::spawn(async move {
                    if let Err(error) = connection(stream, calls).await {
                        tracing::debug!("control connection: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("control socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, calls: mpsc::Sender<Call>) -> std::io::Result<()> {
    let root = stream.peer_cred()?.uid() == 0;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(REQUEST_BYTES_MAX as u64);
        let Ok(got) = tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if got? == 0 {
            return Ok(());
        }
        let reply = match parse(&line, root) {
            Ok(request) => ask(request, &calls).await,
            Err(failure) => Reply::Failed(failure),
        };
        let mut answer = serde_json::to_vec(&ReplyLine {
            version: VERSION,
            reply,
        })?;
        answer.push(b'\n');
        write.write_all(&answer).await?;
        if line.last() != Some(&b'\n') {
            // Too long or truncated: what follows is not a request.
            return Ok(());
        }
    }
}

fn parse(line: &[u8], root: bool) -> Result<Request, Failure> {
    let line: RequestLine = serde_json::from_slice(line).map_err(|error| {
        Failure::new(
            "the daemon does not understand the request",
            error.to_string(),
            "umpath and umpathd must be of the same version: restart umpathd after an upgrade",
        )
    })?;
    if line.version != VERSION {
        return Err(Failure::new(
            "the daemon does not understand the request",
            format!(
                "it uses protocol version {}, this umpathd uses {VERSION}",
                line.version
            ),
            "restart umpathd after an upgrade",
        ));
    }
    if line.request.changes() && !root {
        return Err(Failure::new(
            "permission denied",
            "only root may change volumes and paths",
            "run umpath as root",
        ));
    }
    Ok(line.request)
}

async fn ask(request: Request, calls: &mpsc::Sender<Call>) -> Reply {
    let (reply, answer) = oneshot::channel();
    let stopping = || Reply::Failed(Failure::new("umpathd is stopping", "", ""));
    if calls.send(Call { request, reply }).await.is_err() {
        return stopping();
    }
    answer.await.unwrap_or_else(|_| stopping())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(request: &Request) -> Vec<u8> {
        serde_json::to_vec(&RequestLine {
            version: VERSION,
            request: request.clone(),
        })
        .unwrap()
    }

    #[test]
    fn changes_are_for_root() {
        let change = Request::Queueing {
            volume: None,
            on: false,
        };
        assert!(parse(&line(&change), true).is_ok());
        assert_eq!(
            parse(&line(&change), false).unwrap_err().what,
            "permission denied"
        );
        assert!(parse(&line(&Request::Snapshot), false).is_ok());
    }

    #[test]
    fn nonsense_is_answered() {
        assert!(parse(b"{}", true).is_err());
        assert!(parse(b"\xff\xfe", true).is_err());
        let other = br#"{"version":99,"request":"snapshot"}"#;
        assert!(parse(other, true).unwrap_err().why.contains("99"));
    }

    #[tokio::test]
    async fn one_connection_carries_several_requests() {
        let path = std::env::temp_dir().join(format!("umpathd-socket-{}", std::process::id()));
        let listener = bind(&path, None).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let (calls, mut inbox) = mpsc::channel::<Call>(4);
        tokio::spawn(serve(listener, calls));
        tokio::spawn(async move {
            while let Some(call) = inbox.recv().await {
                let _ = call.reply.send(Reply::Done("yes".into()));
            }
        });
        let stream = UnixStream::connect(&path).await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        for _ in 0..2 {
            let mut request = line(&Request::Snapshot);
            request.push(b'\n');
            write.write_all(&request).await.unwrap();
            let answer = lines.next_line().await.unwrap().unwrap();
            let reply: ReplyLine = serde_json::from_str(&answer).unwrap();
            assert_eq!(reply.reply, Reply::Done("yes".into()));
        }
        std::fs::remove_file(&path).unwrap();
    }
}
