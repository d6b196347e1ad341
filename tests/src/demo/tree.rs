//! Files whose contents come from a seed, and their SHA-256 sums.
//!
//! coreutils computes the checksums, not this code, and the second time after an unmount and mount:
//! from the volume, not from the page cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bed::output;

const FILES: u64 = 48;
const FILE_BYTES_MAX: u64 = 200 << 10;

/// Writes the files of `seed` below `root`; returns their number and total bytes.
pub(super) fn write(root: &Path, seed: u64) -> Result<(u64, u64)> {
    let mut random = Random(seed);
    let mut bytes = 0;
    for number in 0..FILES {
        let dir = root.join(format!("{:02x}/{:x}", random.next() % 8, random.next() % 4));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let file = dir.join(format!("file-{number}"));
        let length = random.next() % FILE_BYTES_MAX;
        let contents: Vec<u8> = (0..length.div_ceil(8))
            .flat_map(|_| random.next().to_le_bytes())
            .take(length as usize)
            .collect();
        fs::write(&file, contents).with_context(|| format!("cannot write {}", file.display()))?;
        bytes += length;
    }
    Ok((FILES, bytes))
}

/// A line with checksum and name for each file below `root`, sorted by name.
pub(super) fn sums(root: &Path) -> Result<String> {
    let script = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
    output(Command::new("sh").args(["-ec", script]).current_dir(root))
}

/// Lines that differ between two lists of checksums.
pub(super) fn differences(before: &str, after: &str) -> Vec<String> {
    let lacking = |from: &str, other: &str| -> Vec<String> {
        let other: Vec<_> = other.lines().collect();
        from.lines()
            .filter(|line| !other.contains(line))
            .map(str::to_owned)
            .collect()
    };
    let mut lines = lacking(before, after);
    lines.extend(lacking(after, before));
    lines
}

/// SplitMix64: a seed always gives the same files.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_one_tree() {
        let root = std::env::temp_dir().join(format!("umpath-tree-{}", std::process::id()));
        let sums_of = |name: &str, seed: u64| {
            let dir = root.join(name);
            write(&dir, seed).expect("files");
            sums(&dir).expect("sums")
        };
        let (one, same, other) = (sums_of("a", 1), sums_of("b", 1), sums_of("c", 2));
        fs::remove_dir_all(&root).expect("removal");
        assert_eq!(one.lines().count() as u64, FILES);
        assert!(differences(&one, &same).is_empty());
        assert!(!differences(&one, &other).is_empty());
    }
}
