//! The active end: what it does to the passive one, and what must come of it.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use umpath_nvme::{Sqe, U32};
use umpath_rdma::{
    AsyncEvents, CmEvent, ConnectError, ConnectParams, Connecting, Domain, HostQueue, Progress,
    QueueError,
};
use umpath_transport::{Arena, Data, Drain, PushError};

use crate::{OPCODE_PARK, OPCODE_READ, OPCODE_WRITE, REFUSED_QID, Result};

const DEPTH: u16 = 64;
const SLOT_BYTES: u32 = 256 << 10;

/// Connects, waiting.
pub(crate) fn connect(
    params: ConnectParams,
    domain: Option<Arc<Domain>>,
) -> std::result::Result<HostQueue, ConnectError> {
    let mut connecting = Connecting::start(params, domain)?;
    loop {
        let left = connecting
            .deadline()
            .saturating_duration_since(Instant::now());
        if left.is_zero() {
            connecting = connecting.time_out()?;
            continue;
        }
        wait(&[connecting.fd()], left);
        if let Progress::Connected(queue) = connecting.handle_readable()? {
            return Ok(queue);
        }
    }
}

pub(crate) fn wait(fds: &[std::os::fd::BorrowedFd<'_>], limit: Duration) {
    let mut fds: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: limit.subsec_nanos().into(),
    };
    // A signal or a full table only wakes us early.
    let _ = poll(&mut fds, Some(&limit));
}

fn io_params(address: SocketAddr) -> ConnectParams {
    ConnectParams::io(address, 1, 1, DEPTH, 4096)
}

fn sqe(opcode: u8, cid: u16, block: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode, 1).with_cid(cid);
    sqe.cdw10 = U32::new(block);
    sqe
}

/// Bytes nobody else would write there: every word says block, round and place.
fn pattern(block: u32, round: u32, len: u32) -> Vec<u8> {
    (0..len / 8)
        .flat_map(|word| {
            (u64::from(block) << 48 | u64::from(round) << 40 | u64::from(word) | 1 << 39)
                .to_le_bytes()
        })
        .collect()
}

/// Sleeps until a completion or the limit, without missing one.
fn collect(queue: &mut HostQueue, answers: &mut Vec<u16>, limit: Duration) -> Result<()> {
    let mut f = |cqe: umpath_nvme::Cqe| answers.push(cqe.cid.get());
    if queue.poll(&mut f)? > 0 {
        return Ok(());
    }
    queue.arm()?;
    if queue.poll(&mut f)? > 0 {
        return Ok(());
    }
    wait(&[queue.completion_fd()], limit);
    queue.take_completion_events()?;
    queue.poll(&mut f)?;
    Ok(())
}

/// Everything that leaves the passive end alive.
pub(crate) fn check(address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    let admin = connect(ConnectParams::admin(address), None)?;
    println!(
        "admin queue on {} port {} after {:?}",
        admin.device(),
        admin.port(),
        start.elapsed()
    );
    let domain = Arc::clone(admin.domain());
    let arena = Arena::new(DEPTH.into(), SLOT_BYTES)?;

    let mut queue = connect(io_params(address), Some(Arc::clone(&domain)))?;
    let unregistered = Data::Write {
        arena: &arena,
        slot: 0,
        offset: 0,
        len: 512,
    };
    expect(queue.push(sqe(OPCODE_WRITE, 0, 0), unregistered) == Err(PushError::NotRegistered))?;
    domain.register(&arena)?;
    println!(
        "registered {} bytes in {} regions",
        domain.registered_bytes(),
        domain.regions()
    );
    let outside = Data::Write {
        arena: &arena,
        slot: 0,
        offset: SLOT_BYTES - 511,
        len: 512,
    };
    expect(queue.push(sqe(OPCODE_WRITE, 0, 0), outside) == Err(PushError::OutOfRange))?;

    for len in [512, 4096, 8192, 65536, 131_072, SLOT_BYTES] {
        verify(&mut queue, &arena, len)?;
    }
    refusals(address, &domain)?;
    drain_under_load(queue, &arena)?;
    drain_idle(connect(io_params(address), Some(Arc::clone(&domain)))?)?;
    drop(connect(io_params(address), Some(domain))?);
    println!("dropped a live queue without draining");
    big_arena(&admin)?;
    drop(admin);
    println!("PASS check");
    Ok(())
}

fn expect(condition: bool) -> Result<()> {
    if condition {
        Ok(())
    } else {
        Err("an expectation failed, see the last line".into())
    }
}

/// Writes and reads back `DEPTH` ranges at once, several rounds, comparing all bytes.
fn verify(queue: &mut HostQueue, arena: &Arc<Arena>, len: u32) -> Result<()> {
    let blocks = len / 512;
    let rounds = if len > 8192 { 1 } else { 4 };
    let (mut busy, mut generation) = (Duration::ZERO, 0_u16);
    for round in 0..rounds {
        for (opcode, write) in [(OPCODE_WRITE, true), (OPCODE_READ, false)] {
            generation += 1;
            for slot in 0..u32::from(DEPTH) {
                let bytes = if write {
                    pattern(slot, round, len)
                } else {
                    vec![0xee; len as usize]
                };
                arena.write_at(slot, 0, &bytes)?;
                let (cid, block) = (generation * DEPTH + slot as u16, slot * blocks);
                let data = if write {
                    Data::Write {
                        arena,
                        slot,
                        offset: 0,
                        len,
                    }
                } else {
                    Data::Read {
                        arena,
                        slot,
                        offset: 0,
                        len,
                    }
                };
                queue.push(sqe(opcode, cid, block), data)?;
            }
            expect(queue.push(sqe(opcode, 0, 0), Data::None) == Err(PushError::Full))?;
            let start = Instant::now();
            queue.ring()?;
            let (mut answers, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(30));
            while answers.len() < DEPTH.into() {
                collect(queue, &mut answers, Duration::from_secs(1))?;
                if Instant::now() > deadline {
                    return Err(format!("{} of {DEPTH} answers after 30 s", answers.len()).into());
                }
            }
            busy += start.elapsed();
            expect(queue.in_flight() == 0)?;
            for slot in 0..u32::from(DEPTH) {
                let mut bytes = vec![0; len as usize];
                arena.read_at(slot, 0, &mut bytes)?;
                if bytes != pattern(slot, round, len) {
                    return Err(format!("slot {slot}: wrong bytes after round {round}").into());
                }
            }
        }
    }
    let count = f64::from(rounds * 2 * u32::from(DEPTH));
    println!(
        "{len:>7} bytes: {:>6.0} commands/s, all bytes right",
        count / busy.as_secs_f64()
    );
    Ok(())
}

/// Connections that must fail, and how.
fn refusals(address: SocketAddr, domain: &Arc<Domain>) -> Result<()> {
    let refused = ConnectParams {
        qid: REFUSED_QID,
        ..io_params(address)
    };
    let error = failure(refused, Some(domain))?;
    expect(matches!(
        error,
        ConnectError::Rejected {
            qid: REFUSED_QID,
            ..
        }
    ))?;
    let deep = ConnectParams {
        depth: 1025,
        ..io_params(address)
    };
    expect(matches!(
        failure(deep, Some(domain))?,
        ConnectError::Rejected { .. }
    ))?;
    let closed = ConnectParams::admin(SocketAddr::new(address.ip(), 1));
    expect(matches!(
        failure(closed, None)?,
        ConnectError::Refused { .. }
    ))?;
    let nowhere = SocketAddr::new([10, 9, 1, 77].into(), 4420);
    let absent = ConnectParams {
        timeout: Duration::from_secs(1),
        ..ConnectParams::admin(nowhere)
    };
    let error = failure(absent, None)?;
    expect(matches!(
        error,
        ConnectError::TimedOut { .. } | ConnectError::Unreachable { .. }
    ))?;
    let unrouted = ConnectParams::admin("198.51.100.1:4420".parse()?);
    expect(matches!(
        failure(unrouted, None)?,
        ConnectError::Unreachable { .. }
    ))?;
    let foreign = ConnectParams {
        host_traddr: Some([192, 0, 2, 9].into()),
        ..io_params(address)
    };
    expect(matches!(
        failure(foreign, None)?,
        ConnectError::NoDevice { .. }
    ))
}

fn failure(params: ConnectParams, domain: Option<&Arc<Domain>>) -> Result<ConnectError> {
    let start = Instant::now();
    match connect(params, domain.cloned()) {
        Ok(_) => Err("a connection that had to fail was made".into()),
        Err(error) => {
            println!("after {:?}: {error}", start.elapsed());
            Ok(error)
        }
    }
}

/// Half the queue parked, half reading, when the drain begins.
fn drain_under_load(mut queue: HostQueue, arena: &Arc<Arena>) -> Result<()> {
    for slot in 0..u32::from(DEPTH) {
        let opcode = if slot % 2 == 0 {
            OPCODE_PARK
        } else {
            OPCODE_READ
        };
        let data = Data::Read {
            arena,
            slot,
            offset: 0,
            len: 65536,
        };
        queue.push(sqe(opcode, slot as u16, 0), data)?;
    }
    queue.ring()?;
    let (mut before, start) = (0, Instant::now());
    while before < 5 && start.elapsed() < Duration::from_secs(10) {
        before += queue.poll(|_| {})?;
    }
    let (drain, late, took) = drain(&mut queue);
    println!("drain under load: {drain:?} after {took:?}, {before} answers before, {late} during");
    expect(drain == Drain::Quiet)?;
    expect(queue.push(sqe(OPCODE_READ, 0, 0), Data::None) == Err(PushError::Closed))?;
    let start = Instant::now();
    drop(queue);
    println!("dropped after {:?}", start.elapsed());
    Ok(())
}

fn drain_idle(mut queue: HostQueue) -> Result<()> {
    let (drain, _, took) = drain(&mut queue);
    println!("drain of an idle queue: {drain:?} after {took:?}");
    expect(drain == Drain::Quiet)
}

fn drain(queue: &mut HostQueue) -> (Drain, usize, Duration) {
    let (start, mut late) = (Instant::now(), 0);
    queue.begin_drain(Duration::from_secs(2));
    loop {
        match queue.poll_drained(start.elapsed(), |_| late += 1) {
            Drain::Pending => std::thread::yield_now(),
            over => return (over, late, start.elapsed()),
        }
    }
}

/// An arena of more than one region.
fn big_arena(admin: &HostQueue) -> Result<()> {
    let start = Instant::now();
    let arena = Arena::new(160, 1 << 20)?;
    let regions = admin.domain().regions();
    admin.domain().register(&arena)?;
    println!(
        "160 MiB in {} regions, {:?}",
        admin.domain().regions() - regions,
        start.elapsed()
    );
    expect(admin.domain().regions() - regions == 3)?;
    admin.domain().unregister(&arena);
    expect(admin.domain().regions() == regions)
}

/// The peer dies with commands outstanding.
pub(crate) fn kill_peer(address: SocketAddr, pid: u32) -> Result<()> {
    let mut queue = loaded(address)?;
    Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()?;
    let (start, mut seen) = (Instant::now(), Vec::new());
    watch(&mut queue, start, &mut seen)?;
    println!("after kill -9: {}", seen.join(", "));
    let (drain, _, took) = drain(&mut queue);
    println!("drain after the peer's death: {drain:?} after {took:?}");
    expect(drain == Drain::Quiet)?;
    println!("PASS kill");
    Ok(())
}

/// The cable goes silent (`command` does it) with commands outstanding.
pub(crate) fn silence(address: SocketAddr, command: &str) -> Result<()> {
    let mut queue = loaded(address)?;
    Command::new("sh").args(["-c", command]).status()?;
    let (start, mut seen) = (Instant::now(), Vec::new());
    // Something to be unanswered.
    queue.push(sqe(OPCODE_PARK, 1, 0), Data::None)?;
    queue.ring()?;
    watch(&mut queue, start, &mut seen)?;
    println!("after `{command}`: {}", seen.join(", "));
    let (drain, _, took) = drain(&mut queue);
    println!("drain on a silent cable: {drain:?} after {took:?}");
    expect(drain == Drain::Quiet)?;
    let start = Instant::now();
    let (sender, done) = std::sync::mpsc::channel();
    queue.retire(move || {
        let _ = sender.send(());
    });
    println!("retiring after {:?}", start.elapsed());
    done.recv()?;
    println!("retired after {:?}", start.elapsed());
    if command.contains("link set") {
        println!("waiting for the link");
        std::thread::sleep(Duration::from_secs(2));
        Command::new("sh")
            .args(["-c", &command.replace("down", "up")])
            .status()?;
        std::thread::sleep(Duration::from_secs(1));
    }
    println!("PASS silence");
    Ok(())
}

/// An I/O queue with half its slots parked.
fn loaded(address: SocketAddr) -> Result<HostQueue> {
    let mut queue = connect(io_params(address), None)?;
    for cid in (0..DEPTH).step_by(2) {
        queue.push(sqe(OPCODE_PARK, cid, 0), Data::None)?;
    }
    queue.ring()?;
    std::thread::sleep(Duration::from_millis(50));
    queue.poll(|_| {})?;
    Ok(queue)
}

/// Waits up to 10 s for evidence that the peer is gone.
fn watch(queue: &mut HostQueue, start: Instant, seen: &mut Vec<String>) -> Result<()> {
    while start.elapsed() < Duration::from_secs(10) {
        queue.arm()?;
        let polled = queue.poll(|_| {});
        if let Err(QueueError::Transport(error)) = polled {
            seen.push(format!("{error} after {:?}", start.elapsed()));
            return Ok(());
        }
        polled?;
        wait(
            &[queue.completion_fd(), queue.cm_fd()],
            Duration::from_secs(1),
        );
        queue.take_completion_events()?;
        while let Some(event) = queue.cm_event()? {
            seen.push(format!("{event:?} after {:?}", start.elapsed()));
            if event == CmEvent::Disconnected {
                return Ok(());
            }
        }
    }
    Err("nothing noticed within 10 s".into())
}

/// With a small locked-memory limit and no privilege to ignore it.
pub(crate) fn memlock(address: SocketAddr) -> Result<()> {
    let admin = connect(ConnectParams::admin(address), None)?;
    let arena = Arena::new(32, 1 << 20)?;
    let Err(error) = admin.domain().register(&arena) else {
        return Err("32 MiB were registered in spite of the limit".into());
    };
    println!("{error}");
    expect(matches!(
        error,
        umpath_rdma::RegisterError::LockedMemory { .. }
    ))?;
    println!("PASS memlock");
    Ok(())
}

/// Many short connections leave nothing behind.
pub(crate) fn churn(address: SocketAddr) -> Result<()> {
    let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    drop(connect(ConnectParams::admin(address), None)?);
    let (before, start) = (descriptors(), Instant::now());
    for round in 0..100 {
        let mut queue = connect(ConnectParams::admin(address), None)?;
        if round % 2 == 0 {
            drain(&mut queue);
        }
    }
    let left = descriptors() - before;
    println!(
        "100 connections in {:?}, {left} descriptors left",
        start.elapsed()
    );
    expect(left == 0)?;
    println!("PASS churn");
    Ok(())
}

/// Device events while `command` runs.
pub(crate) fn events(device: &str, command: &str) -> Result<()> {
    let mut events = AsyncEvents::open(device)?;
    let mut child = Command::new("sh").args(["-c", command]).spawn()?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        wait(&[events.fd()], Duration::from_millis(200));
        while let Some(event) = events.handle_readable()? {
            println!("{event:?} after {:?}", start.elapsed());
        }
    }
    child.wait()?;
    Ok(())
}
