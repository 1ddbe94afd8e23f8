//! Random numbers that can be repeated.

use std::time::Duration;

/// A seeded source of random numbers: `SplitMix64` (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014).
///
/// For jitter and for simulations, never for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A source that gives the same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound - 1`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a wide product: unbiased enough for jitter, and without a division.
        let product = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of 128 bits has 64")
    }

    /// True this many times in a thousand.
    pub fn per_mille(&mut self, share: u16) -> bool {
        self.below(1000) < u64::from(share)
    }

    /// A duration from zero to `limit`, both included, in whole nanoseconds.
    pub fn up_to(&mut self, limit: Duration) -> Duration {
        let nanoseconds = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.below(nanoseconds.saturating_add(1)))
    }

    /// A source of its own, for a part whose draws must not shift those of others.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_sequence() {
        // From the reference implementation, seed 1234567.
        let mut random = Random::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn stays_within_its_bounds_and_reaches_them() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..200).map(|_| random.below(3)).collect();
        assert!((0..3).all(|value| drawn.contains(&value)));
        assert!(drawn.iter().all(|&value| value < 3));
        assert_eq!(random.below(0), 0);
        let limit = Duration::from_nanos(2);
        let drawn: Vec<Duration> = (0..200).map(|_| random.up_to(limit)).collect();
        assert!(drawn.contains(&Duration::ZERO) && drawn.contains(&limit));
        assert!(drawn.iter().all(|&duration| duration <= limit));
        assert!(!Random::new(5).per_mille(0));
        assert!(Random::new(5).per_mille(1000));
    }

    #[test]
    fn parts_are_independent() {
        let mut whole = Random::new(9);
        let mut part = whole.split();
        assert_ne!(whole.bits(), part.bits());
    }
}
