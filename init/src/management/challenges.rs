//! Nonces that were given out and not used yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use masthead_pki::NONCE_LENGTH;
use masthead_seed::OperatorKey;

/// At most so many nonces are remembered; the oldest goes first.
const CAPACITY: usize = 64;

/// Nonces given out, each for one key and one try.
#[derive(Debug)]
pub(super) struct Challenges {
    lifetime: Duration,
    /// Oldest first.
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    nonce: [u8; NONCE_LENGTH],
    operator: OperatorKey,
    expires: Instant,
}

impl Challenges {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            open: VecDeque::with_capacity(CAPACITY),
        }
    }

    /// How long a nonce is good.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Remembers that `nonce` was given to whoever wants to log in as `operator`.
    pub(super) fn give(&mut self, now: Instant, operator: OperatorKey, nonce: [u8; NONCE_LENGTH]) {
        self.open.retain(|open| now < open.expires);
        if self.open.len() == CAPACITY {
            self.open.pop_front();
        }
        self.open.push_back(Open {
            nonce,
            operator,
            expires: now + self.lifetime,
        });
    }

    /// Whether `nonce` is open for `operator`. It is used up by that, whatever comes of the proof.
    pub(super) fn take(
        &mut self,
        now: Instant,
        operator: OperatorKey,
        nonce: &[u8; NONCE_LENGTH],
    ) -> bool {
        let Some(place) = self.open.iter().position(|open| open.nonce == *nonce) else {
            return false;
        };
        self.open
            .remove(place)
            .is_some_and(|open| now < open.expires && open.operator == operator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: OperatorKey = OperatorKey([1; 32]);
    const BOB: OperatorKey = OperatorKey([2; 32]);

    fn nonce(number: u8) -> [u8; NONCE_LENGTH] {
        [number; NONCE_LENGTH]
    }

    #[test]
    fn a_nonce_is_good_once() {
        let (mut challenges, now) = (Challenges::new(Duration::from_secs(60)), Instant::now());
        challenges.give(now, ALICE, nonce(1));
        assert!(!challenges.take(now, ALICE, &nonce(2)));
        assert!(challenges.take(now, ALICE, &nonce(1)));
        assert!(!challenges.take(now, ALICE, &nonce(1)));
    }

    #[test]
    fn a_nonce_is_for_one_key_and_gone_after_a_wrong_try() {
        let (mut challenges, now) = (Challenges::new(Duration::from_secs(60)), Instant::now());
        challenges.give(now, ALICE, nonce(1));
        assert!(!challenges.take(now, BOB, &nonce(1)));
        assert!(!challenges.take(now, ALICE, &nonce(1)));
    }

    #[test]
    fn a_nonce_expires() {
        let (mut challenges, now) = (Challenges::new(Duration::from_secs(60)), Instant::now());
        challenges.give(now, ALICE, nonce(1));
        challenges.give(now, ALICE, nonce(2));
        assert!(challenges.take(now + Duration::from_millis(59_999), ALICE, &nonce(1)));
        assert!(!challenges.take(now + Duration::from_secs(60), ALICE, &nonce(2)));
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut challenges, now) = (Challenges::new(Duration::from_secs(60)), Instant::now());
        for number in 0..=64 {
            challenges.give(now, ALICE, nonce(number));
        }
        assert_eq!(challenges.open.len(), CAPACITY);
        assert!(!challenges.take(now, ALICE, &nonce(0)));
        assert!(challenges.take(now, ALICE, &nonce(1)));
        assert!(challenges.take(now, ALICE, &nonce(64)));
    }
}
