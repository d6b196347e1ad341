//! The daemon as a process, on a machine that may have neither ublk nor RDMA: it starts, answers, refuses
//! a second one, fails with cause and remedy, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use umpath_protocol::{
    ConnectOptions, Portal, Reply, ReplyLine, Request, RequestLine, Snapshot, Steer, VERSION,
};

struct Daemon {
    child: Child,
    root: PathBuf,
}

impl Daemon {
    fn command(root: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_umpathd"));
        for (flag, name) in [
            ("--config", "umpath.toml"),
            ("--state-dir", "state"),
            ("--run-dir", "run"),
            ("--nvme-dir", "nvme"),
        ] {
            command.arg(flag).arg(root.join(name));
        }
        command.stderr(Stdio::piped());
        command
    }

    fn start(name: &str, config: &str) -> Self {
        let root = std::env::temp_dir().join(format!("umpathd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("umpath.toml"), config).unwrap();
        let child = Self::command(&root).stderr(Stdio::null()).spawn().unwrap();
        let daemon = Self { child, root };
        let start = Instant::now();
        while UnixStream::connect(daemon.socket()).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "umpathd does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.root.join("run/umpathd.sock")
    }

    fn ask(&self, request: Request) -> Reply {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let line = RequestLine {
            version: VERSION,
            request,
        };
        writeln!(stream, "{}", serde_json::to_string(&line).unwrap()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str::<ReplyLine>(&answer).unwrap().reply
    }

    fn snapshot(&self) -> Snapshot {
        match self.ask(Request::Snapshot) {
            Reply::Snapshot(snapshot) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert!(!self.socket().exists());
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}

fn portal(traddr: &str) -> Portal {
    Portal {
        transport: "rdma".into(),
        traddr: traddr.into(),
        trsvcid: None,
        host_traddr: None,
        host_iface: None,
    }
}

#[test]
fn starts_answers_and_stops() {
    let daemon = Daemon::start("answers", "[defaults]\nkato_ms = 900\n");
    let snapshot = daemon.snapshot();
    assert!(snapshot.volumes.is_empty());
    assert_eq!(snapshot.daemon.pid, daemon.child.id());
    assert!(
        snapshot
            .daemon
            .hostnqn
            .starts_with("nqn.2014-08.org.nvmexpress:uuid:")
    );
    let Reply::Config(config) = daemon.ask(Request::Config) else {
        panic!("no config")
    };
    assert!(config.contains("kato_ms = 900"));
    let Reply::Events(events) = daemon.ask(Request::Events) else {
        panic!("no events")
    };
    assert_eq!(events.events[0].kind.word(), "started");
    daemon.stop();
}

#[test]
fn a_second_daemon_is_refused() {
    let daemon = Daemon::start("second", "");
    let second = Daemon::command(&daemon.root).output().unwrap();
    assert!(!second.status.success());
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(words.contains("another umpathd runs"), "{words}");
    assert!(words.contains(&daemon.child.id().to_string()), "{words}");
    assert!(daemon.snapshot().volumes.is_empty());
    daemon.stop();
}

#[test]
fn a_mistake_in_the_configuration_is_named() {
    let root = std::env::temp_dir().join(format!("umpathd-mistake-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("umpath.toml"), "[defaults]\nkato = 5\n").unwrap();
    let outcome = Daemon::command(&root).output().unwrap();
    assert!(!outcome.status.success());
    let words = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(
        words.contains("umpath.toml") && words.contains("kato"),
        "{words}"
    );
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn check_names_every_mistake_or_says_ok() {
    let root = std::env::temp_dir().join(format!("umpathd-check-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    let file = root.join("umpath.toml");
    let check = || {
        let outcome = Daemon::command(&root).arg("--check").output().unwrap();
        let words = String::from_utf8(outcome.stdout).unwrap();
        (outcome.status.code(), words)
    };
    assert_eq!(check().0, Some(1), "a file that is not there");
    std::fs::write(&file, "[defaults]\nkato_ms = 900\n").unwrap();
    assert_eq!(check(), (Some(0), "ok\n".to_owned()));
    std::fs::write(&file, "[defaults]\nretry_count = 9\nkato = 1\n").unwrap();
    let (status, words) = check();
    assert_eq!(status, Some(1));
    let at = |line| format!("{}:{line}: ", file.display());
    let lines: Vec<&str> = words.lines().collect();
    assert_eq!(lines.len(), 2, "{words}");
    assert!(lines[0].starts_with(&at(2)) && lines[0].contains("retry_count"));
    assert!(lines[1].starts_with(&at(3)) && lines[1].contains("kato"));
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn what_cannot_be_connected_leaves_nothing_behind() {
    let daemon = Daemon::start("nothing", "[defaults]\nconnect_timeout_ms = 500\n");
    let connect = |traddr: &str, nqn: &str, options| {
        let request = Request::Connect {
            portal: portal(traddr),
            nqn: nqn.into(),
            options,
        };
        match daemon.ask(request) {
            Reply::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    };
    // A documentation address: nothing answers there, with RDMA or without.
    let unreachable = connect(
        "192.0.2.1",
        "nqn.2026-11.example:a",
        ConnectOptions::default(),
    );
    assert!(unreachable.what.contains("192.0.2.1"), "{unreachable}");
    assert!(
        !unreachable.why.is_empty() && !unreachable.fix.is_empty(),
        "{unreachable}"
    );
    let name = connect(
        "no such host",
        "nqn.2026-11.example:a",
        ConnectOptions::default(),
    );
    assert!(
        name.why.contains("neither an address nor a known name"),
        "{name}"
    );
    let long = connect("192.0.2.1", &"x".repeat(300), ConnectOptions::default());
    assert!(long.why.contains("NQN"), "{long}");
    let short = ConnectOptions {
        kato_ms: Some(1),
        ..ConnectOptions::default()
    };
    let kato = connect("192.0.2.1", "nqn.2026-11.example:a", short);
    assert!(kato.why.contains("keep-alive"), "{kato}");
    let snapshot = daemon.snapshot();
    assert!(snapshot.associations.is_empty(), "{snapshot:?}");
    assert!(snapshot.volumes.is_empty());
    daemon.stop();
}

#[test]
fn without_a_volume_nothing_is_changed_and_that_is_said() {
    let daemon = Daemon::start("set", "");
    let refused = |request| match daemon.ask(request) {
        Reply::Failed(failure) => failure,
        other => panic!("{other:?}"),
    };
    let set = |key: &str, value: &str| {
        let policies = [(key.to_owned(), value.to_owned())].into();
        let volume = None;
        refused(Request::Steer(Steer::Set { volume, policies }))
    };
    let unknown = set("kato_ms", "3");
    assert!(unknown.why.contains("kato_ms is no policy"), "{unknown}");
    assert!(unknown.why.contains("path_selector"), "{unknown}");
    let bad = set("failback", "never");
    assert!(bad.why.contains("never"), "{bad}");
    assert!(set("failback", "10").why.contains("no volume"));
    let volume = None;
    let queueing = refused(Request::Queueing { volume, on: true });
    assert!(queueing.why.contains("no volume"), "{queueing}");
    daemon.stop();
}

#[test]
fn an_ignored_subsystem_is_not_connected_and_the_entry_is_named() {
    let config = "[defaults]\nconnect_timeout_ms = 500\n[[ignore]]\nnqn = \"example:\"\n\
                  [[ignore]]\nnqn = \"example:b$\"\nexcept = true\n";
    let daemon = Daemon::start("ignored", config);
    let connect = |nqn: &str| {
        let request = Request::Connect {
            portal: portal("192.0.2.1"),
            nqn: nqn.into(),
            options: ConnectOptions::default(),
        };
        match daemon.ask(request) {
            Reply::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    };
    let ignored = connect("nqn.2026-11.example:a");
    assert_eq!(ignored.what, "nqn.2026-11.example:a is ignored");
    let entry = "[[ignore]] nqn = \"example:\"";
    assert!(ignored.why.contains(entry), "{ignored}");
    let excepted = connect("nqn.2026-11.example:b");
    assert!(!excepted.what.contains("ignored"), "{excepted}");
    assert!(daemon.snapshot().associations.is_empty());
    daemon.stop();
}

#[test]
fn without_a_portal_discovery_conf_is_asked_for() {
    let daemon = Daemon::start("portal", "");
    let Reply::Failed(failure) = daemon.ask(Request::Discover {
        portal: None,
        hostnqn: None,
    }) else {
        panic!("discovered nothing");
    };
    assert!(failure.why.contains("discovery.conf"), "{failure}");
    assert!(failure.fix.contains("--transport rdma"), "{failure}");
    daemon.stop();
}
