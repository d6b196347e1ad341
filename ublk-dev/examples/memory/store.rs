//! A namespace in memory, and queue pairs to it that need no fabric.
//!
//! Commands are executed when they are pushed; their answers come when the doorbell is rung, as
//! those of a real queue pair would. A silent queue pair takes commands and answers nothing.

// UNSAFETY: copies between two mappings that the kernel also writes to.
#![expect(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use umpath_nvme::command::io::{DatasetManagement, DsmRange, ReadWrite, WriteZeroes};
use umpath_nvme::{Cqe, FromBytes, Sqe, Status, opcode::nvm};
use umpath_transport::{Arena, Data, Drain, Loss, Pollable, PushError, Silence, Transport};

/// Bytes of a logical block.
pub(crate) const BLOCK: u32 = 4096;
/// Bytes of one slot of the arena that holds the blocks.
const PIECE: u32 = 1 << 20;

/// What the namespace was asked to do.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) fua: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) discards: AtomicU64,
    pub(crate) discarded_blocks: AtomicU64,
    pub(crate) zeroes: AtomicU64,
    pub(crate) zeroed_blocks: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// The blocks.
pub(crate) struct Store {
    memory: Arc<Arena>,
    blocks: u64,
    /// Answers without moving data: the cost of everything else.
    null: bool,
    pub(crate) seen: Seen,
}

impl Store {
    pub(crate) fn new(mebibytes: u32, null: bool) -> Arc<Self> {
        let memory = Arena::new(if null { 1 } else { mebibytes }, PIECE).expect("memory");
        let blocks = u64::from(mebibytes) * u64::from(PIECE / BLOCK);
        Arc::new(Self {
            memory,
            blocks,
            null,
            seen: Seen::default(),
        })
    }

    /// Puts an image's bytes at the beginning.
    pub(crate) fn load(&self, image: &[u8]) {
        for (piece, bytes) in (0..).zip(image.chunks(PIECE as usize)) {
            self.memory
                .write_at(piece, 0, bytes)
                .expect("an image no larger than the store");
        }
    }

    fn execute(&self, sqe: &Sqe, data: Data<'_>) -> Status {
        match self.try_execute(sqe, data) {
            Ok(()) => Status::SUCCESS,
            Err(status) => {
                self.seen.refused.fetch_add(1, Relaxed);
                status
            }
        }
    }

    fn try_execute(&self, sqe: &Sqe, data: Data<'_>) -> Result<(), Status> {
        let seen = &self.seen;
        match (sqe.opcode, data) {
            (
                nvm::READ,
                Data::Read {
                    arena,
                    slot,
                    offset,
                    len,
                },
            ) => {
                seen.reads.fetch_add(1, Relaxed);
                let range = Range::of(&ReadWrite::parse(sqe), len)?;
                self.each_piece(range, |at, done, part| {
                    copy(arena, (slot, offset + done), at, part, false)
                })
            }
            (
                nvm::WRITE,
                Data::Write {
                    arena,
                    slot,
                    offset,
                    len,
                },
            ) => {
                let command = ReadWrite::parse(sqe);
                seen.writes.fetch_add(1, Relaxed);
                seen.fua.fetch_add(u64::from(command.fua), Relaxed);
                let range = Range::of(&command, len)?;
                self.each_piece(range, |at, done, part| {
                    copy(arena, (slot, offset + done), at, part, true)
                })
            }
            (nvm::FLUSH, Data::None) => {
                seen.flushes.fetch_add(1, Relaxed);
                Ok(())
            }
            (nvm::WRITE_ZEROES, Data::None) => {
                let command = WriteZeroes::parse(sqe);
                let blocks = command.blocks.get();
                seen.zeroes.fetch_add(1, Relaxed);
                seen.zeroed_blocks.fetch_add(u64::from(blocks), Relaxed);
                self.clear(command.slba, blocks)
            }
            (
                nvm::DATASET_MANAGEMENT,
                Data::Write {
                    arena,
                    slot,
                    offset,
                    len,
                },
            ) => {
                if len as usize != DatasetManagement::parse(sqe).data_bytes() || len != 16 {
                    return Err(Status::INVALID_FIELD);
                }
                let mut bytes = [0; DsmRange::SIZE];
                arena
                    .read_at(slot, offset, &mut bytes)
                    .map_err(|_| Status::INVALID_FIELD)?;
                let range = DsmRange::read_from_bytes(&bytes).map_err(|_| Status::INVALID_FIELD)?;
                seen.discards.fetch_add(1, Relaxed);
                seen.discarded_blocks
                    .fetch_add(u64::from(range.blocks.get()), Relaxed);
                self.clear(range.slba.get(), range.blocks.get())
            }
            (nvm::READ | nvm::WRITE | nvm::FLUSH | nvm::WRITE_ZEROES, _) => {
                Err(Status::INVALID_FIELD)
            }
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    fn clear(&self, lba: u64, blocks: u32) -> Result<(), Status> {
        let bytes = u64::from(blocks) * u64::from(BLOCK);
        self.each_piece(Range { lba, bytes }, |(memory, slot, offset), _, part| {
            let medium = memory
                .pointer(slot, offset, part)
                .ok_or(Status::INTERNAL_ERROR)?;
            // SAFETY: the range was checked against the mapping, which outlives this call.
            unsafe { medium.as_ptr().write_bytes(0, part as usize) };
            Ok(())
        })
    }

    /// Calls `f` for each part of the range that lies in one piece of memory.
    fn each_piece(
        &self,
        range: Range,
        mut f: impl FnMut((&Arena, u32, u32), u32, u32) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let blocks = range.bytes / u64::from(BLOCK);
        if range
            .lba
            .checked_add(blocks)
            .is_none_or(|end| end > self.blocks)
        {
            return Err(Status::LBA_OUT_OF_RANGE);
        }
        if self.null {
            return Ok(());
        }
        let (mut at, mut done) = (range.lba * u64::from(BLOCK), 0_u64);
        while done < range.bytes {
            let (slot, offset) = (
                (at / u64::from(PIECE)) as u32,
                (at % u64::from(PIECE)) as u32,
            );
            let part = u64::from(PIECE - offset).min(range.bytes - done);
            f((&self.memory, slot, offset), done as u32, part as u32)?;
            at += part;
            done += part;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Range {
    lba: u64,
    bytes: u64,
}

impl Range {
    /// The command's blocks, if their data is as long as they are.
    fn of(command: &ReadWrite, len: u32) -> Result<Self, Status> {
        let bytes = u64::from(command.blocks.get()) * u64::from(BLOCK);
        if bytes == u64::from(len) {
            Ok(Self {
                lba: command.slba,
                bytes,
            })
        } else {
            Err(Status::DATA_SGL_LENGTH_INVALID)
        }
    }
}

fn copy(
    host: &Arena,
    (slot, offset): (u32, u32),
    (store, piece, at): (&Arena, u32, u32),
    len: u32,
    write: bool,
) -> Result<(), Status> {
    let host = host
        .pointer(slot, offset, len)
        .ok_or(Status::DATA_TRANSFER_ERROR)?;
    let medium = store
        .pointer(piece, at, len)
        .ok_or(Status::INTERNAL_ERROR)?;
    let (from, to) = if write {
        (host, medium)
    } else {
        (medium, host)
    };
    // SAFETY: both ranges were checked against their mappings, which outlive this call and do not
    // overlap. Two commands on the same blocks may race, as they may on a disk.
    unsafe {
        from.as_ptr()
            .copy_to_nonoverlapping(to.as_ptr(), len as usize);
    };
    Ok(())
}

/// What the main thread can do to the queue pairs of one path.
pub(crate) struct Cable {
    silent: AtomicBool,
    cut: AtomicBool,
    fds: Vec<OwnedFd>,
}

impl Cable {
    pub(crate) fn new(queues: u16) -> io::Result<Arc<Self>> {
        let fds = (0..queues).map(|_| event()).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self {
            silent: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            fds,
        }))
    }

    /// Answers nothing from now on.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Relaxed);
    }

    /// Tells every queue pair that the peer closed the connection.
    pub(crate) fn cut(&self) {
        self.silence();
        self.cut.store(true, Relaxed);
        for fd in &self.fds {
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }
}

fn event() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// A queue pair to the store.
pub(crate) struct MemoryQueue {
    store: Arc<Store>,
    cable: Arc<Cable>,
    number: u16,
    depth: u16,
    completion: OwnedFd,
    executed: VecDeque<Cqe>,
    /// How many of `executed` have been rung.
    visible: usize,
    in_flight: usize,
    armed: bool,
    closed: bool,
}

impl MemoryQueue {
    pub(crate) fn new(
        store: &Arc<Store>,
        cable: &Arc<Cable>,
        number: u16,
        depth: u16,
    ) -> io::Result<Self> {
        Ok(Self {
            store: Arc::clone(store),
            cable: Arc::clone(cable),
            number,
            depth,
            completion: event()?,
            executed: VecDeque::with_capacity(usize::from(depth)),
            visible: 0,
            in_flight: 0,
            armed: false,
            closed: false,
        })
    }

    fn fd_of_connection(&self) -> BorrowedFd<'_> {
        self.cable.fds[usize::from(self.number)].as_fd()
    }
}

impl Transport for MemoryQueue {
    type Error = io::Error;

    fn depth(&self) -> u16 {
        self.depth
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn has_arrived(&self, _: u16) -> bool {
        true
    }

    fn push(&mut self, sqe: Sqe, data: Data<'_>) -> Result<(), PushError> {
        if self.closed {
            return Err(PushError::Closed);
        }
        if self.in_flight == usize::from(self.depth) {
            return Err(PushError::Full);
        }
        self.in_flight += 1;
        if !self.cable.silent.load(Relaxed) {
            let status = self.store.execute(&sqe, data);
            self.executed
                .push_back(Cqe::new(sqe.cid.get(), 0, status, 0));
        }
        Ok(())
    }

    fn ring(&mut self) -> io::Result<()> {
        self.visible = self.executed.len();
        if self.armed && self.visible > 0 {
            self.armed = false;
            rustix::io::write(&self.completion, &1_u64.to_ne_bytes())?;
        }
        Ok(())
    }

    fn poll(&mut self, mut report: impl FnMut(Cqe)) -> io::Result<usize> {
        let count = std::mem::take(&mut self.visible);
        for cqe in self.executed.drain(..count) {
            self.in_flight -= 1;
            report(cqe);
        }
        Ok(count)
    }

    fn arm(&mut self) -> io::Result<()> {
        self.armed = true;
        Ok(())
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.armed = false;
        let _ = rustix::io::read(&self.completion, &mut [0; 8]);
        Ok(())
    }

    fn loss(&mut self) -> Option<Loss<io::Error>> {
        let _ = rustix::io::read(self.fd_of_connection(), &mut [0; 8]);
        self.cable.cut.load(Relaxed).then_some(Loss::Disconnected)
    }

    fn begin_drain(&mut self, _deadline: Duration) -> Silence {
        self.closed = true;
        Silence::Proved
    }

    fn poll_drained(&mut self, _now: Duration, mut report: impl FnMut(Cqe)) -> Drain {
        drop(self.poll(&mut report));
        Drain::Quiet
    }
}

impl Pollable for MemoryQueue {
    fn completion_fd(&self) -> BorrowedFd<'_> {
        self.completion.as_fd()
    }

    fn connection_fd(&self) -> BorrowedFd<'_> {
        self.fd_of_connection()
    }
}
