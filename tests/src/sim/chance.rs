//! Where every choice of a run comes from.
//!
//! The same seed must mean the same run for as long as anybody quotes it, whatever becomes of a
//! library's algorithms, so the generator is written down here: SplitMix64 (Steele, Lea, Flood
//! 2014). Parts of the world draw from streams of their own, so that leaving out a fault moves as
//! little as possible of the rest.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The stream `name` of a seed.
    pub(crate) fn new(seed: u64, name: u64) -> Self {
        let mut chance = Self(seed ^ name.wrapping_mul(0xd6e8_feb8_6659_fd93));
        chance.draw();
        chance
    }

    /// 64 uniformly distributed bits.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(end)) >> 64) as u64
    }

    /// A number in `first..=last`.
    pub(crate) fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True `percent` times in a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Usually near `least`, sometimes up to `most`: the shape of delays.
    pub(crate) fn tail(&mut self, least: u64, most: u64) -> u64 {
        let span = most.saturating_sub(least) as f64;
        let x = self.below(1 << 20) as f64 / f64::from(1 << 20);
        least + (span * x * x * x) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_never_changes() {
        let mut chance = Chance::new(1, 2);
        let drawn: Vec<u64> = (0..3).map(|_| chance.draw() % 1000).collect();
        assert_eq!(drawn, [911, 792, 121]);
    }

    #[test]
    fn ranges_are_kept() {
        let mut chance = Chance::new(7, 0);
        for _ in 0..1000 {
            assert!((3..=5).contains(&chance.within(3, 5)));
            assert!((10..=90).contains(&chance.tail(10, 90)));
        }
    }
}
