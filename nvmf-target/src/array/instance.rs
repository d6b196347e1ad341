//! Controller instance random numbers.
//!
//! A host must know a controller's number to have it reset, so nobody may derive one controller's
//! number from another's.

use uuid::Uuid;

/// Halves exchanged by a function nobody can tell from a random one need four rounds to become a
/// permutation nobody can tell from a random one (Luby and Rackoff).
const ROUNDS: u8 = 4;

/// A source of numbers of which none ever comes twice: a counter sent through a permutation that
/// depends on a secret.
#[derive(Debug)]
pub(super) struct InstanceNumbers {
    secret: Uuid,
    count: u64,
}

impl InstanceNumbers {
    pub(super) fn new(secret: u64) -> Self {
        Self {
            secret: Uuid::from_u64_pair(secret, 0),
            count: 0,
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        let (mut left, mut right) = ((self.count >> 32) as u32, self.count as u32);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mix(round, right));
        }
        u64::from(left) << 32 | u64::from(right)
    }

    /// SHA-1 of the secret and the arguments, as far as a name's UUID keeps it.
    fn mix(&self, round: u8, half: u32) -> u32 {
        let [a, b, c, d] = half.to_be_bytes();
        let name = Uuid::new_v5(&self.secret, &[round, a, b, c, d]);
        (name.as_u128() >> 96) as u32
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

    /// It used to be `SplitMix64`: a public bijection of a counter with a public step.
    #[test]
    fn a_number_does_not_tell_the_next() {
        let unmix = |mut z: u64| {
            z = (z ^ (z >> 31) ^ (z >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
            z = (z ^ (z >> 27) ^ (z >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
            z ^ (z >> 30) ^ (z >> 60)
        };
        let of = |secret| {
            let mut numbers = InstanceNumbers::new(secret);
            std::array::from_fn::<u64, 100, _>(|_| numbers.next())
        };
        let (one, other) = (of(1), of(2));
        let steps = one
            .windows(2)
            .map(|pair| unmix(pair[1]).wrapping_sub(unmix(pair[0])));
        assert_eq!(steps.collect::<BTreeSet<u64>>().len(), 99, "no step shows");
        assert!(
            one.iter().all(|number| !other.contains(number)),
            "another secret, other numbers"
        );
    }
}
