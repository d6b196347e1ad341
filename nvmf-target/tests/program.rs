//! The program without RDMA: configuration, socket, verbs, mistakes, endings.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const NQN: &str = "nqn.2026-11.io.umpath:test";

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_umpath-target"))
}

struct Running {
    child: Child,
    socket: PathBuf,
}

impl Running {
    fn start(directory: &Path, config: Option<&str>) -> Self {
        let socket = directory.join("deep/target.sock");
        let mut command = program();
        command.arg("--socket").arg(&socket).arg("serve");
        if let Some(text) = config {
            let file = directory.join("array.toml");
            std::fs::write(&file, text).expect("written");
            command.arg("--config").arg(file);
        }
        let child = command.stderr(Stdio::null()).spawn().expect("started");
        let running = Self { child, socket };
        let start = Instant::now();
        while !running.verb(&["show"]).status.success() {
            assert!(start.elapsed() < Duration::from_secs(30), "not ready");
            std::thread::yield_now();
        }
        running
    }

    fn verb(&self, words: &[&str]) -> Output {
        let mut command = program();
        command
            .arg("--socket")
            .arg(&self.socket)
            .args(words)
            .output()
            .expect("ran")
    }

    fn done(&self, words: &[&str]) -> String {
        let output = self.verb(words);
        assert!(
            output.status.success(),
            "{words:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn refused(&self, words: &[&str]) -> String {
        let output = self.verb(words);
        assert!(
            !output.status.success(),
            "{words:?}: {}",
            text(&output.stdout)
        );
        text(&output.stderr)
    }

    fn show(&self) -> serde_json::Value {
        serde_json::from_str(&self.done(&["show", "-o", "json"])).expect("JSON")
    }

    fn signal(&mut self, signal: Signal) -> bool {
        kill_process(Pid::from_child(&self.child), signal).expect("signalled");
        self.child.wait().expect("ended").success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn verbs_change_what_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = Running::start(directory.path(), None);
    let create = [
        "nvmf",
        "subsystem",
        "create",
        "--nqn",
        NQN,
        "--model-number",
        "Test array",
    ];
    target.done(&create);
    assert!(target.refused(&create).contains("exists already"));
    let disk = directory.path().join("disk").display().to_string();
    let add = ["nvmf", "namespace", "add", "--nqn", NQN, "--bdev"];
    target.done(&[add.as_slice(), &[&disk, "--size", "64MiB"]].concat());
    let small = ["memory:1MiB", "--block-size", "512", "--ana-group", "2"];
    assert!(
        target
            .done(&[add.as_slice(), &small].concat())
            .contains("namespace 2")
    );
    target.done(&[
        "nvmf",
        "host",
        "add",
        "--nqn",
        NQN,
        "--host",
        "nqn.2026-11.test:me",
    ]);
    let shown = target.show();
    let subsystem = &shown["subsystems"][0];
    assert_eq!(subsystem["model"], "Test array");
    assert_eq!(subsystem["allow_any_host"], false);
    assert_eq!(subsystem["namespaces"][0]["blocks"], 16384);
    assert_eq!(subsystem["namespaces"][1]["block_bytes"], 512);
    target.done(&["nvmf", "namespace", "remove", "--nqn", NQN, "--nsid", "2"]);
    target.done(&["nvmf", "subsystem", "delete", "--nqn", NQN]);
    assert_eq!(target.show()["subsystems"], serde_json::json!([]));
    assert!(target.signal(Signal::TERM), "an orderly end");
    assert!(!target.socket.exists());
}

#[test]
fn mistakes_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let target = Running::start(directory.path(), None);
    target.done(&["nvmf", "subsystem", "create", "--nqn", NQN]);
    let refused = |words: &[&str], says: &str| {
        let said = target.refused(words);
        assert!(said.contains(says), "{words:?}: {said}");
    };
    refused(
        &["nvmf", "subsystem", "create", "--nqn", "disk"],
        "nqn.YYYY-MM",
    );
    refused(
        &["nvmf", "subsystem", "delete", "--nqn", "nqn.2026-11.io:x"],
        "there is no subsystem",
    );
    let add = ["nvmf", "namespace", "add", "--nqn", NQN, "--bdev"];
    refused(
        &[add.as_slice(), &["/no/such"]].concat(),
        "give a size to create",
    );
    refused(
        &[add.as_slice(), &["null:1000"]].concat(),
        "whole number of blocks",
    );
    refused(&[add.as_slice(), &["null:1GB"]].concat(), "binary unit");
    let ana = ["nvmf", "ana", "set", "--nqn", NQN];
    refused(
        &[ana.as_slice(), &["--port", "1", "--state", "best"]].concat(),
        "not an ANA state",
    );
    refused(
        &[ana.as_slice(), &["--port", "1", "--state", "optimized"]].concat(),
        "no port 1",
    );
    refused(
        &["nvmf", "transport", "create", "--trtype", "FC"],
        "use rdma",
    );
    let listener = [
        "nvmf",
        "listener",
        "add",
        "--nqn",
        NQN,
        "--traddr",
        "192.0.2.1",
    ];
    // Neither this address nor, on most machines, any RDMA device exists.
    refused(&listener, "192.0.2.1");
    refused(
        &[listener.as_slice(), &["--adrfam", "ipv6"]].concat(),
        "family",
    );
    assert_eq!(
        target.show()["ports"],
        serde_json::json!([]),
        "nothing is left behind"
    );
    let second = target.verb(&["serve"]);
    assert!(text(&second.stderr).contains("another umpath-target"));
}

#[test]
fn a_socket_left_behind_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = Running::start(directory.path(), None);
    assert!(!target.signal(Signal::KILL));
    assert!(target.socket.exists());
    let said = target.refused(&["show"]);
    assert!(said.contains("no umpath-target is running"), "{said}");
    Running::start(directory.path(), None).show();
}

#[test]
fn two_processes_on_one_configuration_are_one_array() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let disk = directories[0].path().join("disk");
    let config = format!(
        "[[subsystem]]\nnqn = \"{NQN}\"\n[[subsystem.namespace]]\nnsid = 1\n\
         backend = {{ type = \"file\", path = \"{}\", size = \"16MiB\" }}\n",
        disk.display()
    );
    let targets = directories
        .each_ref()
        .map(|d| Running::start(d.path(), Some(&config)));
    let shown = targets.each_ref().map(Running::show);
    assert_eq!(shown[0]["subsystems"], shown[1]["subsystems"]);
}

#[test]
fn a_bad_file_is_refused_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("array.toml");
    std::fs::write(&file, "[process]\nreactor = 2\n").unwrap();
    let output = program()
        .args(["serve", "--check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("reactor") && said.contains("array.toml"));
    let missing = program()
        .args(["serve", "--config", "/no/such.toml"])
        .output()
        .unwrap();
    assert!(text(&missing.stderr).contains("cannot read /no/such.toml"));
}

#[test]
fn faults_are_taken_shown_and_cleared() {
    let directory = tempfile::tempdir().expect("a directory");
    let target = Running::start(directory.path(), None);
    assert_eq!(target.done(&["fault", "list"]), "");
    let park = [
        "fault", "park", "3000", "--kind", "write", "--lba", "8", "--count", "1",
    ];
    assert_eq!(target.done(&park), "fault 1 is in force\n");
    target.done(&["fault", "hang", "--kind", "keep-alive"]);
    target.done(&[
        "fault",
        "error",
        "0x300",
        "--queue",
        "2",
        "--probability",
        "0.5",
    ]);
    let shown = "1: writes of I/O queues, blocks 8: execute after 3000 ms, 0 of 1 hits\n\
                 2: keep-alives of admin queues: never execute, never answer, 0 hits\n\
                 3: commands of queue 2: answer with status 0x300, probability 0.5 (seed 1), 0 hits\n";
    assert_eq!(target.done(&["fault", "list"]), shown);
    assert_eq!(target.done(&["fault", "clear", "2"]), "1 faults cleared\n");
    assert!(
        target
            .refused(&["fault", "clear", "2"])
            .contains("there is no fault 2")
    );
    assert!(target.refused(&["fault", "error", "0"]).contains("success"));
    assert!(
        target
            .refused(&["fault", "drop", "--lba", "9-8"])
            .contains("no range")
    );
    assert!(
        target
            .refused(&["fault", "drop", "--queue", "x"])
            .contains("io, admin, all")
    );
    let lie = ["fault", "park", "1", "--queue", "admin", "--beyond-gate"];
    assert!(target.refused(&lie).contains("pass no gate"));
    assert_eq!(target.done(&["fault", "clear"]), "2 faults cleared\n");
}
