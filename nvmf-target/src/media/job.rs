//! One command on its way through a backing store.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use io_uring::{opcode, squeue, types};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, pread, pwrite};
use umpath_nvme::command::io::DsmRange;
use umpath_nvme::{FromBytes, Status};

use super::{File, Media, Store};

/// What a job does to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Fills the buffer from the store.
    Read,
    /// Writes the buffer to the store.
    Write,
    /// Makes every completed write durable.
    Flush,
    /// Makes a range read as zeroes.
    Zero {
        /// Space may be given back.
        deallocate: bool,
    },
    /// Gives back the space of the ranges listed in the buffer.
    Deallocate,
}

/// One command's progress. Byte positions are in range of the store.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    operation: Operation,
    offset: u64,
    remaining: u64,
    /// Bytes of the buffer already transferred.
    moved: usize,
    /// Each piece written must be durable before it counts as written.
    durable: bool,
    /// A durable-write barrier is still to be issued.
    sync_pending: bool,
    /// Ranges of a deallocation not begun.
    ranges_left: u16,
    /// What the entry last handed out does.
    issued: Issued,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issued {
    Nothing,
    Transfer,
    ZeroRange,
    WriteZeroes,
    Punch,
    Sync,
}

/// What to do next for a job.
#[derive(Debug)]
pub enum Step {
    /// The command is over.
    Done(Status),
    /// Submit this entry and feed its result back.
    Submit(squeue::Entry),
}

/// Zeroes to write where a store cannot zero a range by itself; aligned for direct I/O.
#[repr(C, align(4096))]
struct Zeroes([u8; ZEROES_BYTES]);
const ZEROES_BYTES: usize = 64 << 10;
static ZEROES: Zeroes = Zeroes([0; ZEROES_BYTES]);

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
const ZERO: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

impl Job {
    fn new(operation: Operation, offset: u64, bytes: u64) -> Self {
        Self {
            operation,
            offset,
            remaining: bytes,
            moved: 0,
            durable: false,
            sync_pending: false,
            ranges_left: 0,
            issued: Issued::Nothing,
        }
    }

    /// Reads `bytes` at `offset`.
    pub fn read(offset: u64, bytes: u32) -> Self {
        Self::new(Operation::Read, offset, u64::from(bytes))
    }

    /// Writes `bytes` at `offset`, durably when `fua`.
    pub fn write(offset: u64, bytes: u32, fua: bool) -> Self {
        Self {
            durable: fua,
            ..Self::new(Operation::Write, offset, u64::from(bytes))
        }
    }

    /// Flushes the volatile cache.
    pub fn flush() -> Self {
        Self {
            sync_pending: true,
            ..Self::new(Operation::Flush, 0, 0)
        }
    }

    /// Zeroes `bytes` at `offset`, durably when `fua`.
    pub fn zero(offset: u64, bytes: u64, deallocate: bool, fua: bool) -> Self {
        let sync_pending = fua;
        Self {
            sync_pending,
            ..Self::new(Operation::Zero { deallocate }, offset, bytes)
        }
    }

    /// Deallocates the `ranges` ranges the buffer lists.
    pub fn deallocate(ranges: u16) -> Self {
        Self {
            ranges_left: ranges,
            ..Self::new(Operation::Deallocate, 0, 0)
        }
    }

    /// What the job does.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    fn advance(&mut self, bytes: u64) {
        let bytes = bytes.min(self.remaining);
        self.offset += bytes;
        self.remaining -= bytes;
        self.moved += bytes as usize;
    }

    /// Takes the next range of a deallocation from the buffer; false when none is left.
    fn next_range(&mut self, block_bytes: u64, buffer: &[u8]) -> bool {
        while self.remaining == 0 && self.ranges_left > 0 {
            let at = self.moved;
            self.moved += DsmRange::SIZE;
            self.ranges_left -= 1;
            let Some(range) = buffer
                .get(at..self.moved)
                .and_then(|b| DsmRange::read_from_bytes(b).ok())
            else {
                self.ranges_left = 0;
                return false;
            };
            self.offset = range.slba.get().saturating_mul(block_bytes);
            self.remaining = u64::from(range.blocks.get()) * block_bytes;
        }
        self.remaining > 0
    }
}

impl Media {
    /// The first, or after [`Media::completed`] the next, step of a job.
    ///
    /// `buffer` is the command's data: the same memory at every step, untouched by the caller while
    /// an entry that names it is submitted.
    pub fn step(&self, job: &mut Job, buffer: &mut [u8]) -> Step {
        match &self.store {
            Store::Null => {
                if job.operation == Operation::Read {
                    buffer.fill(0);
                }
                Step::Done(Status::SUCCESS)
            }
            Store::Memory(fd) => {
                let block_bytes = u64::from(self.geometry.block_bytes);
                Step::Done(match in_memory(fd, job, block_bytes, buffer) {
                    Ok(()) => Status::SUCCESS,
                    Err(errno) => status_of(job.operation, errno),
                })
            }
            Store::File(file) => self.step_file(file, job, buffer),
        }
    }

    fn step_file(&self, file: &File, job: &mut Job, buffer: &mut [u8]) -> Step {
        let block_bytes = u64::from(self.geometry.block_bytes);
        let more_ranges =
            job.operation == Operation::Deallocate && job.next_range(block_bytes, buffer);
        let (issued, entry) = match job.operation {
            Operation::Read | Operation::Write if job.remaining > 0 => {
                let Some(rest) = buffer.get_mut(job.moved..) else {
                    return Step::Done(Status::INTERNAL_ERROR);
                };
                let length = job.remaining.min(rest.len() as u64) as u32;
                (Issued::Transfer, transfer(file, job, rest, length))
            }
            Operation::Zero { deallocate } if job.remaining > 0 => {
                zero(file, job, deallocate && file.punch_hole.load(Relaxed))
            }
            Operation::Deallocate if more_ranges => {
                if !file.punch_hole.load(Relaxed) {
                    return Step::Done(Status::SUCCESS);
                }
                (Issued::Punch, fallocate_entry(file, job, PUNCH))
            }
            _ if job.sync_pending => {
                let sync = opcode::Fsync::new(file.raw()).flags(types::FsyncFlags::DATASYNC);
                (Issued::Sync, sync.build())
            }
            _ => return Step::Done(Status::SUCCESS),
        };
        job.issued = issued;
        Step::Submit(entry)
    }

    /// Feeds back the result of the entry last handed out; then ask for the next step, unless a
    /// status comes back: the command is over.
    pub fn completed(&self, job: &mut Job, result: i32) -> Option<Status> {
        let Store::File(file) = &self.store else {
            return Some(Status::INTERNAL_ERROR);
        };
        if let Ok(bytes) = u64::try_from(result) {
            match job.issued {
                // Nothing came from inside the range: the file was cut short under us.
                Issued::Transfer | Issued::WriteZeroes if bytes == 0 => {
                    return Some(status_of(job.operation, Errno::IO));
                }
                Issued::Transfer | Issued::WriteZeroes => job.advance(bytes),
                // `moved` counts the range list here.
                Issued::Punch if job.operation == Operation::Deallocate => job.remaining = 0,
                Issued::ZeroRange | Issued::Punch => job.advance(job.remaining),
                Issued::Sync => job.sync_pending = false,
                Issued::Nothing => return Some(Status::INTERNAL_ERROR),
            }
            return None;
        }
        let errno = Errno::from_raw_os_error(-result);
        match (job.issued, errno) {
            (_, Errno::INTR | Errno::AGAIN) => None,
            (Issued::ZeroRange, Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                file.zero_range.store(false, Relaxed);
                None
            }
            (Issued::Punch, Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                file.punch_hole.store(false, Relaxed);
                None
            }
            _ => Some(status_of(job.operation, errno)),
        }
    }
}

fn transfer(file: &File, job: &Job, buffer: &mut [u8], length: u32) -> squeue::Entry {
    if job.operation == Operation::Read {
        opcode::Read::new(file.raw(), buffer.as_mut_ptr(), length)
            .offset(job.offset)
            .build()
    } else {
        let flags = if job.durable { libc::RWF_DSYNC } else { 0 };
        opcode::Write::new(file.raw(), buffer.as_ptr(), length)
            .offset(job.offset)
            .rw_flags(flags)
            .build()
    }
}

fn zero(file: &File, job: &Job, deallocate: bool) -> (Issued, squeue::Entry) {
    if deallocate {
        (Issued::Punch, fallocate_entry(file, job, PUNCH))
    } else if file.zero_range.load(Relaxed) {
        (Issued::ZeroRange, fallocate_entry(file, job, ZERO))
    } else {
        let length = job.remaining.min(ZEROES_BYTES as u64) as u32;
        let write = opcode::Write::new(file.raw(), ZEROES.0.as_ptr(), length).offset(job.offset);
        (Issued::WriteZeroes, write.build())
    }
}

fn fallocate_entry(file: &File, job: &Job, mode: FallocateFlags) -> squeue::Entry {
    opcode::Fallocate::new(file.raw(), job.remaining)
        .offset(job.offset)
        .mode(mode.bits() as i32)
        .build()
}

fn in_memory(
    fd: impl AsFd,
    job: &mut Job,
    block_bytes: u64,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    match job.operation {
        Operation::Read | Operation::Write => {
            while job.remaining > 0 {
                let rest = buffer.get_mut(job.moved..).ok_or(Errno::INVAL)?;
                let length = rest.len().min(job.remaining as usize);
                let rest = rest.get_mut(..length).ok_or(Errno::INVAL)?;
                let moved = if job.operation == Operation::Read {
                    pread(&fd, rest, job.offset)?
                } else {
                    pwrite(&fd, rest, job.offset)?
                };
                if moved == 0 {
                    return Err(Errno::IO);
                }
                job.advance(moved as u64);
            }
            Ok(())
        }
        Operation::Zero { .. } => fallocate(&fd, PUNCH, job.offset, job.remaining),
        Operation::Deallocate => {
            while job.next_range(block_bytes, buffer) {
                fallocate(&fd, PUNCH, job.offset, job.remaining)?;
                job.remaining = 0;
            }
            Ok(())
        }
        Operation::Flush => Ok(()),
    }
}

fn status_of(operation: Operation, errno: Errno) -> Status {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Status::CAPACITY_EXCEEDED.with_dnr(),
        Errno::IO | Errno::NODATA => match operation {
            Operation::Read => Status::UNRECOVERED_READ_ERROR,
            _ => Status::WRITE_FAULT,
        },
        _ => Status::INTERNAL_ERROR,
    }
}
