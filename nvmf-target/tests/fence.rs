//! Fences on real files, between real processes.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use umpath_nvme::command::Instance;
use umpath_target::config::{Backend, ByteSize, Direct};
use umpath_target::fence::{Fence, FenceError};
use umpath_target::gate::board::{Board, Fate, Witness};
use umpath_target::media::Media;

const HOST: &str = "nqn.2026-11.test:host";
const VICTIM: Instance = Instance {
    cntlid: 7,
    ciu: 1,
    cirn: 42,
};

fn store(directory: &Path) -> Arc<Media> {
    named_store(directory, "store")
}

fn named_store(directory: &Path, name: &str) -> Arc<Media> {
    let backend = Backend::File {
        path: directory.join(name),
        size: Some(ByteSize(1 << 20)),
        direct: Direct::Auto,
    };
    Arc::new(Media::open(&backend, 4096).expect("a store"))
}

fn fence(directory: &Path) -> (Arc<Fence>, Board) {
    let stores = vec![(1, store(directory))];
    let fence = Arc::new(Fence::open(&directory.join("fence"), stores).expect("a fence"));
    let board = fence.board();
    (fence, board)
}

#[test]
fn processes_get_rows_of_their_own_and_are_over_when_their_locks_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = store(directory.path());
    // A request in flight holds the description through which it was submitted, as a copy does.
    let in_flight = first
        .file()
        .expect("a file")
        .try_clone_to_owned()
        .expect("a copy");
    let path = directory.path().join("fence");
    let owner = Arc::new(Fence::open(&path, vec![(1, first)]).expect("a fence"));
    let board = owner.board();
    let gate = board.take(VICTIM, HOST).expect("a cell");
    gate.enter(gate.epoch(), Duration::ZERO).expect("open");

    let (peer, peers) = fence(directory.path());
    let cell = peers.find(VICTIM, HOST).expect("seen through the mapping");
    assert!(peers.condemn(cell, VICTIM));
    assert!(gate.is_condemned());
    let stores = peer.stores();
    assert!(!peer.is_over(0, stores), "alive");
    drop((owner, board, gate));
    assert!(!peer.is_over(0, stores), "ended, but its I/O is under way");
    assert_eq!(peers.fate(cell, VICTIM), Fate::OnMedia);
    drop(in_flight);
    assert!(!peer.is_over(0, stores ^ 1), "it had another store");
    // A process being spawned beside us holds copies of all descriptions until its exec.
    becomes(|| peer.is_over(0, stores));
    assert_eq!(peers.fate(cell, VICTIM), Fate::Off);
}

fn becomes(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::yield_now();
    }
}

#[test]
fn something_else_is_not_taken_for_a_fence() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fence");
    std::fs::write(&path, "precious").expect("written");
    let refused = Fence::open(&path, Vec::new()).expect_err("not a fence");
    assert!(matches!(refused, FenceError::Foreign(_)), "{refused}");
    assert_eq!(std::fs::read(&path).expect("still there"), b"precious");
    let length = size_of::<umpath_target::gate::board::Memory>();
    std::fs::write(&path, vec![7; length]).expect("written");
    let refused = Fence::open(&path, Vec::new()).expect_err("not a fence either");
    assert!(matches!(refused, FenceError::Foreign(_)), "{refused}");
}

#[test]
fn a_namespace_can_be_added_removed_and_added_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let fence =
        Arc::new(Fence::open(&directory.path().join("fence"), Vec::new()).expect("a fence"));
    let board = fence.board();
    for _ in 0..2 {
        let media = store(directory.path());
        fence.add_store(&board, 1, &media).expect("added");
    }
}

#[test]
fn a_restarted_process_does_not_vouch_for_io_on_a_store_it_has_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fence");
    let (fence, board) = fence(directory.path());
    let added = named_store(directory.path(), "added");
    let in_flight = added
        .file()
        .expect("a file")
        .try_clone_to_owned()
        .expect("a copy");
    fence.add_store(&board, 2, &added).expect("added");
    let gate = board.take(VICTIM, HOST).expect("a cell");
    gate.enter(gate.epoch(), Duration::ZERO).expect("open");
    drop((fence, board, gate, added));

    // As it was, and with another store in the place of the one that was added.
    let other = named_store(directory.path(), "other");
    for stores in [vec![], vec![(2, other)]] {
        let stores = [vec![(1, store(directory.path()))], stores].concat();
        let successor = Arc::new(Fence::open(&path, stores).expect("a row of its own"));
        let board = successor.board();
        let cell = board.find(VICTIM, HOST).expect("still known");
        board.condemn(cell, VICTIM);
        assert_eq!(board.fate(cell, VICTIM), Fate::OnMedia);
    }
    drop(in_flight);
    let both = [("store", 1), ("added", 2)];
    let both = both.map(|(name, nsid)| (nsid, named_store(directory.path(), name)));
    let peer = Arc::new(Fence::open(&path, both.to_vec()).expect("a row"));
    let board = peer.board();
    let cell = board.find(VICTIM, HOST).expect("still known");
    becomes(|| board.fate(cell, VICTIM) == Fate::Off);
}

#[test]
fn rows_of_processes_that_ended_idle_are_taken_whatever_stores_they_had() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fence");
    for round in 0..6 {
        let stores = vec![(1, named_store(directory.path(), &format!("store{round}")))];
        let fence = Arc::new(Fence::open(&path, stores).expect("a row"));
        let board = fence.board();
        let gate = board.take(VICTIM, HOST).expect("a cell");
        gate.enter(gate.epoch(), Duration::ZERO).expect("open");
        gate.leave();
    }
}

const ROLE: &str = "UMPATH_TEST_FENCE";

/// Not a test by itself: the other process of [`a_killed_process_is_over`], which runs this very
/// program again with [`ROLE`] set.
#[test]
fn the_process_to_be_killed() {
    let Some(directory) = std::env::var_os(ROLE) else {
        return;
    };
    let (_fence, board) = fence(Path::new(&directory));
    let gate = board.take(VICTIM, HOST).expect("a cell");
    gate.enter(gate.epoch(), Duration::ZERO).expect("open");
    let mut out = std::io::stdout();
    writeln!(out, "\nready")
        .and_then(|()| out.flush())
        .expect("a pipe");
    // Until the parent ends, or ends us.
    let _ = std::io::stdin().read(&mut [0]);
}

struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_process_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "the_process_to_be_killed", "--nocapture"])
        .env(ROLE, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut victim = Victim(child.expect("a process"));
    let lines = BufReader::new(victim.0.stdout.take().expect("a pipe")).lines();
    let ready = lines.map_while(Result::ok).any(|line| line == "ready");
    assert!(ready, "the other process did not get ready");

    let (peer, board) = fence(directory.path());
    let cell = board.find(VICTIM, HOST).expect("known");
    assert!(board.condemn(cell, VICTIM));
    assert_eq!(
        board.fate(cell, VICTIM),
        Fate::OnMedia,
        "it lives and counts one"
    );
    drop(victim);
    becomes(|| board.fate(cell, VICTIM) == Fate::Off);
    assert!(peer.is_over(0, peer.stores()));
    // Its row is free for the next process, which remembers what the dead one had.
    let (_next, successor) = fence(directory.path());
    assert_eq!(successor.find(VICTIM, HOST), Some(cell));
    assert_eq!(successor.fate(cell, VICTIM), Fate::Off);
}
