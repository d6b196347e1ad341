//! The active end against the kernel's own target: what Linux accepts is what we send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use umpath_nvme::command::admin;
use umpath_nvme::command::fabrics::{self, ConnectResponse};
use umpath_nvme::command::io::{self, BlockCount};
use umpath_nvme::connect::ConnectData;
use umpath_nvme::property;
use umpath_nvme::{Cqe, IntoBytes, Nqn, Sqe};
use umpath_rdma::{ConnectParams, HostQueue};
use umpath_transport::{Arena, Data};

use crate::Result;
use crate::active::{connect, wait};

const DEPTH: u16 = 64;
const BLOCK_BYTES: u32 = 4096;

/// Connects to subsystem `name`, whose namespace 1 is `BLOCK_BYTES` formatted and may be written.
pub(crate) fn check(address: SocketAddr, name: &str) -> Result<()> {
    let arena = Arena::new(DEPTH.into(), 128 << 10)?;
    let mut adminq = connect(ConnectParams::admin(address), None)?;
    adminq.domain().register(&arena)?;
    let cntlid = fabrics_connect(&mut adminq, &arena, 0xffff, name)?;
    call(
        &mut adminq,
        fabrics::property_set(property::offset::CC, 0x0046_0001),
        Data::None,
    )?;
    let csts = call(
        &mut adminq,
        fabrics::property_get(property::offset::CSTS, false),
        Data::None,
    )?;
    let data = Data::Read {
        arena: &arena,
        slot: 0,
        offset: 0,
        len: 4096,
    };
    call(&mut adminq, admin::identify(1, 0), data)?;
    let mut page = vec![0; 4096];
    arena.read_at(0, 0, &mut page)?;
    let ioccsz = u32::from_le_bytes([page[1792], page[1793], page[1794], page[1795]]);
    let in_capsule_bytes = ioccsz * 16 - 64;
    println!(
        "controller {cntlid} csts {} model {:?} in-capsule {in_capsule_bytes}",
        csts.dw0(),
        String::from_utf8_lossy(&page[24..64]).trim_end()
    );
    call(&mut adminq, admin::set_features(7, 0), Data::None)?;

    let params = ConnectParams::io(address, 1, cntlid, DEPTH, in_capsule_bytes);
    let mut queue = connect(params, Some(Arc::clone(adminq.domain())))?;
    fabrics_connect(&mut queue, &arena, cntlid, name)?;
    for blocks in [1, 2, 32] {
        verify(&mut queue, &arena, blocks)?;
    }
    for (write, blocks) in [(false, 1), (true, 1), (false, 32)] {
        rate(&mut queue, &arena, write, blocks)?;
    }
    println!("PASS nvmet");
    Ok(())
}

fn fabrics_connect(queue: &mut HostQueue, arena: &Arena, cntlid: u16, name: &str) -> Result<u16> {
    let nqn = |name: &str| Nqn::new(name).map_err(|e| format!("{name}: {e:?}"));
    let host = nqn("nqn.2014-08.org.nvmexpress:uuid:0b5d4bc2-8f5c-4b8f-9d0e-000000000001")?;
    let data = ConnectData::new([1; 16], cntlid, &nqn(name)?, &host);
    arena.write_at(0, 0, data.as_bytes())?;
    let sqe = fabrics::connect(queue.qid(), queue.depth(), 0, 60_000);
    let range = Data::Write {
        arena,
        slot: 0,
        offset: 0,
        len: 1024,
    };
    match ConnectResponse::parse(&call(queue, sqe, range)?) {
        ConnectResponse::Accepted { cntlid, .. } => Ok(cntlid),
        other => Err(format!("{other:?}").into()),
    }
}

/// One command, waited for.
fn call(queue: &mut HostQueue, sqe: Sqe, data: Data<'_>) -> Result<Cqe> {
    queue.push(sqe.with_cid(0), data)?;
    queue.ring()?;
    let (mut answer, start) = (None, Instant::now());
    while answer.is_none() {
        queue.arm()?;
        if queue.poll(|cqe| answer = Some(cqe))? == 0 {
            wait(&[queue.completion_fd()], Duration::from_secs(1));
            queue.take_completion_events()?;
        }
        if start.elapsed() > Duration::from_secs(10) {
            return Err(format!("no answer to opcode {:#x} in 10 s", sqe.opcode).into());
        }
    }
    let cqe = answer.ok_or("no answer")?;
    if cqe.status().is_success() {
        Ok(cqe)
    } else {
        Err(format!("opcode {:#x}: {}", sqe.opcode, cqe.status()).into())
    }
}

fn transfer(write: bool, lba: u64, blocks: u32) -> Result<Sqe> {
    let count = BlockCount::new(blocks).ok_or("no blocks")?;
    Ok(if write {
        io::write(1, lba, count, false)
    } else {
        io::read(1, lba, count)
    })
}

/// Writes a range from every slot, reads all of them back into other slots, compares.
fn verify(queue: &mut HostQueue, arena: &Arena, blocks: u32) -> Result<()> {
    let len = blocks * BLOCK_BYTES;
    for write in [true, false] {
        for slot in 0..u32::from(DEPTH) {
            let place = if write {
                slot
            } else {
                u32::from(DEPTH) - 1 - slot
            };
            let fill = if write {
                vec![(slot + blocks) as u8; len as usize]
            } else {
                vec![0; len as usize]
            };
            arena.write_at(place, 0, &fill)?;
            let sqe = transfer(write, u64::from(slot * blocks), blocks)?.with_cid(slot as u16);
            let data = if write {
                Data::Write {
                    arena,
                    slot: place,
                    offset: 0,
                    len,
                }
            } else {
                Data::Read {
                    arena,
                    slot: place,
                    offset: 0,
                    len,
                }
            };
            queue.push(sqe, data)?;
        }
        queue.ring()?;
        let mut done = 0;
        while done < DEPTH {
            let mut failed = None;
            queue.poll(|cqe| {
                done += 1;
                if !cqe.status().is_success() {
                    failed = Some(cqe.status());
                }
            })?;
            if let Some(status) = failed {
                return Err(format!("{blocks} blocks: {status}").into());
            }
        }
    }
    for slot in 0..u32::from(DEPTH) {
        let mut bytes = vec![0; len as usize];
        arena.read_at(u32::from(DEPTH) - 1 - slot, 0, &mut bytes)?;
        if bytes.iter().any(|byte| *byte != (slot + blocks) as u8) {
            return Err(format!("{blocks} blocks at slot {slot}: wrong bytes").into());
        }
    }
    println!("{blocks:>3} blocks: all bytes right");
    Ok(())
}

/// Commands a second with 32 outstanding.
fn rate(queue: &mut HostQueue, arena: &Arena, write: bool, blocks: u32) -> Result<()> {
    let (start, len, mut done, mut sleeps) = (Instant::now(), blocks * BLOCK_BYTES, 0_u32, 0);
    let mut free: Vec<u16> = (0..32).collect();
    while start.elapsed() < Duration::from_secs(3) {
        for cid in free.drain(..) {
            let sqe = transfer(write, u64::from(cid) * 32, blocks)?.with_cid(cid);
            let slot = cid.into();
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
            queue.push(sqe, data)?;
        }
        queue.ring()?;
        if queue.poll(|cqe| free.push(cqe.cid.get()))? == 0 {
            queue.arm()?;
            if queue.poll(|cqe| free.push(cqe.cid.get()))? == 0 {
                wait(&[queue.completion_fd()], Duration::from_secs(1));
                sleeps += 1;
                queue.take_completion_events()?;
            }
        }
        done += free.len() as u32;
    }
    let rate = f64::from(done) / start.elapsed().as_secs_f64();
    println!(
        "{} {len:>6} bytes QD32: {rate:.0}/s, {sleeps} sleeps",
        if write { "write" } else { "read " }
    );
    while queue.in_flight() > 0 {
        queue.poll(|_| {})?;
    }
    Ok(())
}
