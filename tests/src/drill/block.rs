//! One block of a device, written and read past the page cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

/// Bytes of a block.
pub(super) const BYTES: u64 = 4096;

/// Memory that any device accepts for direct I/O.
#[repr(C, align(4096))]
struct Aligned([u8; BYTES as usize]);

/// A device opened for direct I/O.
#[derive(Debug)]
pub(super) struct Device(File);

impl Device {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(direct);
        let file = options.open(path);
        Ok(Self(file.with_context(|| {
            format!("cannot open {}", path.display())
        })?))
    }

    /// Fills block `number` with a pattern of `value` and the number.
    pub(super) fn write(&self, number: u64, value: u64) -> io::Result<()> {
        let mut memory = Box::new(Aligned([0; BYTES as usize]));
        fill(&mut memory.0, number, value);
        self.0.write_all_at(&memory.0, number * BYTES)
    }

    /// The value in block `number`; an error if the block is torn or does not hold our pattern.
    pub(super) fn read(&self, number: u64) -> io::Result<u64> {
        let mut memory = Box::new(Aligned([0; BYTES as usize]));
        self.0.read_exact_at(&mut memory.0, number * BYTES)?;
        let word = |at: usize| {
            let bytes = memory.0.get(at..at + 8).and_then(|b| b.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        let value = word(8);
        let mut expected = Box::new(Aligned([0; BYTES as usize]));
        fill(&mut expected.0, number, value);
        if memory.0 == expected.0 {
            Ok(value)
        } else {
            let words = format!("block {number} holds data that was never written there");
            Err(io::Error::new(io::ErrorKind::InvalidData, words))
        }
    }
}

fn fill(memory: &mut [u8], number: u64, value: u64) {
    for (word, chunk) in (0_u64..).zip(memory.chunks_exact_mut(8)) {
        let content = match word {
            0 => number,
            1 => value,
            word => value.wrapping_mul(word).rotate_left(17) ^ number,
        };
        chunk.copy_from_slice(&content.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_or_foreign_block_is_noticed() {
        let mut memory = [0; BYTES as usize];
        fill(&mut memory, 3, 7);
        let mut later = [0; BYTES as usize];
        fill(&mut later, 3, 8);
        let half = BYTES as usize / 2;
        assert_ne!(memory[..half], later[..half]);
        assert_ne!(memory[half..], later[half..]);
        let mut elsewhere = [0; BYTES as usize];
        fill(&mut elsewhere, 4, 7);
        assert_ne!(memory[half..], elsewhere[half..]);
    }
}
