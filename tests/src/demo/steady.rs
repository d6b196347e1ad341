//! Steady writers: some write is in flight at any time, so every fault hits one.
//!
//! Between fio's rounds, or while it compares, nothing is written: a cable pulled then proves
//! little and stalls nobody. Each steady writer has one 4 KiB write in flight at a time, past the
//! page cache, over a few blocks of its own, and records how long each took. It knows what it wrote
//! last and periodically reads a block back, so it detects a stale block, which fio's checksums
//! alone do not.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::fs::OFlags;

use crate::bed::unix_ms;

const WRITERS: u64 = 4;
const BLOCK: usize = 4096;
/// Blocks per writer.
const BLOCKS: u64 = 16;
/// Writes per block read back.
const WRITES_PER_READ: u64 = 8;

/// When a write was submitted, and how long it took.
#[derive(Clone, Copy, Debug)]
struct Wait {
    from_unix_ms: u64,
    ms: u64,
}

impl Wait {
    fn touches(&self, from_unix_ms: u64, to_unix_ms: u64) -> bool {
        self.from_unix_ms <= to_unix_ms && self.from_unix_ms + self.ms >= from_unix_ms
    }
}

/// The running writers. Dropping them waits for their last writes.
#[derive(Debug)]
pub(super) struct Steady {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<Vec<Wait>>>>,
}

/// The writes they made.
#[derive(Debug)]
pub(super) struct Waits(Vec<Wait>);

impl Steady {
    /// Starts writing to a file in `dir`.
    pub(super) fn start(dir: &Path, seed: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        let path = dir.join("steady");
        for number in 0..WRITERS {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(OFlags::DIRECT.bits().cast_signed())
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            let writer = Writer::new(file, number, seed);
            let stop = Arc::clone(&stop);
            writers.push(std::thread::spawn(move || writer.run(&stop)));
        }
        Ok(Self { stop, writers })
    }

    /// Stops the writers, each after checking all its blocks; returns their writes or the first
    /// error.
    pub(super) fn finish(mut self) -> Result<Waits> {
        self.stop.store(true, Ordering::Relaxed);
        let mut waits = Vec::new();
        for writer in self.writers.drain(..) {
            let own = writer.join();
            waits.extend(own.map_err(|_| anyhow!("a steady writer panicked"))??);
        }
        Ok(Waits(waits))
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Waits {
    /// Number of writes.
    pub(super) fn writes(&self) -> usize {
        self.0.len()
    }

    /// Writes in flight at this moment.
    pub(super) fn in_flight_at(&self, unix_ms: u64) -> usize {
        let touching = self.0.iter().filter(|wait| wait.touches(unix_ms, unix_ms));
        touching.count()
    }

    /// The longest write in flight at any time in this span.
    pub(super) fn longest_ms(&self, from_unix_ms: u64, to_unix_ms: u64) -> Option<u64> {
        let touching = self
            .0
            .iter()
            .filter(|wait| wait.touches(from_unix_ms, to_unix_ms));
        touching.map(|wait| wait.ms).max()
    }
}

/// A block's memory, aligned for direct I/O.
struct Buffer {
    /// Twice the size of a block, so that it contains an aligned one.
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Self {
        let memory = vec![0; 2 * BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        Self { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        let range = self.start..self.start + BLOCK;
        self.memory.get(range).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.start..self.start + BLOCK;
        self.memory.get_mut(range).unwrap_or_default()
    }
}

struct Writer {
    file: File,
    /// Offset of its first block.
    base: u64,
    seed: u64,
    buffer: Buffer,
    /// The content of each block: the number of the last write to it.
    last: Vec<u64>,
    waits: Vec<Wait>,
}

impl Writer {
    fn new(file: File, number: u64, seed: u64) -> Self {
        Self {
            file,
            base: number * BLOCKS * BLOCK as u64,
            seed: seed ^ number << 32,
            buffer: Buffer::new(),
            last: vec![0; BLOCKS as usize],
            waits: Vec::new(),
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Result<Vec<Wait>> {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) || count < BLOCKS {
            count += 1;
            self.write(count)?;
            if count.is_multiple_of(WRITES_PER_READ) && count > BLOCKS {
                // A step coprime to the number of blocks reaches all of them.
                self.compare(count / WRITES_PER_READ * 5 % BLOCKS)?;
            }
        }
        for index in 0..BLOCKS {
            self.compare(index)?;
        }
        Ok(self.waits)
    }

    fn write(&mut self, count: u64) -> Result<()> {
        let (index, stamp) = (count % BLOCKS, count ^ self.seed);
        for word in self.buffer.bytes_mut().chunks_exact_mut(8) {
            word.copy_from_slice(&stamp.to_le_bytes());
        }
        let (from_unix_ms, start) = (unix_ms(), Instant::now());
        self.file
            .write_all_at(self.buffer.bytes(), self.base + index * BLOCK as u64)
            .with_context(|| format!("a steady writer's write {count}"))?;
        self.waits.push(Wait {
            from_unix_ms,
            ms: start.elapsed().as_millis() as u64,
        });
        if let Some(last) = self.last.get_mut(index as usize) {
            *last = count;
        }
        Ok(())
    }

    fn compare(&mut self, index: u64) -> Result<()> {
        let at = self.base + index * BLOCK as u64;
        let last = self.last.get(index as usize).copied().unwrap_or_default();
        self.file
            .read_exact_at(self.buffer.bytes_mut(), at)
            .context("a steady writer's read")?;
        for word in self.buffer.bytes().chunks_exact(8) {
            let found = u64::from_le_bytes(word.try_into()?) ^ self.seed;
            ensure!(
                found == last,
                "block {index} at byte {at} holds write {found}, but write {last} was acknowledged"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_for_every_span_it_touches() {
        let wait = |from_unix_ms, ms| Wait { from_unix_ms, ms };
        let waits = Waits(vec![wait(100, 5), wait(104, 700), wait(900, 3)]);
        assert_eq!(waits.in_flight_at(105), 2);
        assert_eq!(waits.in_flight_at(850), 0);
        assert_eq!(waits.longest_ms(106, 400), Some(700));
        assert_eq!(waits.longest_ms(850, 950), Some(3));
        assert_eq!(waits.longest_ms(1000, 2000), None);
        assert_eq!(waits.writes(), 3);
    }

    #[test]
    fn a_block_that_went_back_is_found() -> Result<()> {
        let path = std::env::temp_dir().join(format!("umpath-steady-{}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        let mut writer = Writer::new(file, 1, 7);
        writer.write(1)?;
        let old = writer.buffer.bytes().to_vec();
        writer.write(1 + BLOCKS)?;
        writer.compare(1)?;
        writer.file.write_all_at(&old, writer.base + BLOCK as u64)?;
        let words = writer.compare(1).expect_err("an older state").to_string();
        std::fs::remove_file(&path)?;
        assert!(words.contains("holds write 1, but write 17"), "{words}");
        Ok(())
    }
}
