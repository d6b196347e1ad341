//! What `packaging/umpathd.service` and umpathd promise each other.

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const UNIT: &str = include_str!("../../../packaging/umpathd.service");

/// `Type=notify`: what is ordered after umpathd may ask it at once.
#[test]
fn systemd_is_told_when_umpathd_answers_and_when_it_ends() {
    assert!(UNIT.lines().any(|line| line == "Type=notify"));
    let root = std::env::temp_dir().join(format!("umpathd-notify-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    let notified = UnixDatagram::bind(root.join("notify")).unwrap();
    notified
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_umpathd"))
        .env("NOTIFY_SOCKET", root.join("notify"))
        .args([
            "--config",
            "none",
            "--state-dir",
            "state",
            "--run-dir",
            "run",
        ])
        .args(["--nvme-dir", "nvme"])
        .current_dir(&root)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = || {
        let mut state = [0; 64];
        let length = notified.recv(&mut state).unwrap();
        String::from_utf8(state[..length].to_vec()).unwrap()
    };
    assert_eq!(told(), "READY=1");
    UnixStream::connect(root.join("run/umpathd.sock")).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(told(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
    std::fs::remove_dir_all(&root).unwrap();
}

/// With the systemd of this machine, where there is one.
#[test]
fn systemd_understands_the_unit() {
    let root = std::env::temp_dir().join(format!("umpathd-unit-{}", std::process::id()));
    std::fs::create_dir_all(&root).unwrap();
    let unit = root.join("umpathd.service");
    // The program is not installed where this runs.
    let start = format!("ExecStart={}\n", env!("CARGO_BIN_EXE_umpathd"));
    assert!(UNIT.contains("ExecStart=umpathd\n"));
    std::fs::write(&unit, UNIT.replace("ExecStart=umpathd\n", &start)).unwrap();
    let outcome = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output();
    std::fs::remove_dir_all(&root).unwrap();
    match outcome {
        Ok(outcome) => {
            let words = String::from_utf8_lossy(&outcome.stderr).into_owned();
            assert!(outcome.status.success(), "{words}");
            assert!(!words.contains("umpathd.service"), "{words}");
        }
        Err(error) => eprintln!("skipped: no systemd-analyze ({error})"),
    }
}
