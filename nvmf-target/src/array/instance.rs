//! Controller instance random numbers.

/// A source of numbers of which none ever comes twice: a counter sent through a bijection
/// (`SplitMix64`), started at a random place.
#[derive(Debug)]
pub(super) struct InstanceNumbers(u64);

impl InstanceNumbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn none_comes_twice() {
        let mut numbers = InstanceNumbers::new(0);
        let seen: BTreeSet<u64> = (0..10_000).map(|_| numbers.next()).collect();
        assert_eq!(seen.len(), 10_000);
    }
}
