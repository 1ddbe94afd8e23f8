//! How long an owner holds: a few times what etcd takes to commit a renewal, as it is measured.

use std::collections::VecDeque;
use std::time::Duration;

use masthead_machine::Scale;

use crate::Terms;

/// Between these a hold is chosen, on a real machine. Each is long enough for a renewal that takes a sixth of it, so that
/// two in a row may be lost.
const HOLDS: [Duration; 9] = [
    Duration::from_millis(200),
    Duration::from_millis(250),
    Duration::from_millis(350),
    Duration::from_millis(500),
    Duration::from_millis(700),
    Duration::from_secs(1),
    Duration::from_millis(1400),
    Duration::from_secs(2),
    Duration::from_secs(3),
];

/// What a renewal may take of the hold.
const PART: u32 = 6;

/// The least gap, on a real machine: it covers clocks that run apart, a gate that is set late, and scheduling.
const LEAST_GAP: Duration = Duration::from_millis(150);

impl Terms {
    /// With the gap that belongs to a hold.
    pub fn of(hold: Duration, scale: Scale) -> Self {
        Self {
            hold,
            gap: (hold / 5).max(scale * LEAST_GAP),
        }
    }

    /// The longest that anybody ever chooses: what is waited for when nobody knows what the last owner chose.
    pub fn longest(scale: Scale) -> Self {
        Self::of(scale * HOLDS[HOLDS.len() - 1], scale)
    }

    /// How long others wait after they have seen a renewal.
    pub fn wait(self) -> Duration {
        self.hold + self.gap
    }

    /// How often a renewal is sent.
    pub fn pace(self) -> Duration {
        self.hold / 3
    }
}

/// What etcd took for the last renewals.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    scale: Scale,
    window: usize,
    taken: VecDeque<Duration>,
    level: usize,
}

impl Measured {
    /// Nothing yet: a hold in the middle, which the first renewals correct.
    pub(crate) fn new(scale: Scale, window: usize) -> Self {
        Self {
            scale,
            window,
            taken: VecDeque::with_capacity(window),
            level: HOLDS.len().div_ceil(2),
        }
    }

    /// A renewal was committed, as far as this node knows, after so long.
    pub(crate) fn took(&mut self, time: Duration) {
        if self.taken.len() >= self.window {
            self.taken.pop_front();
        }
        self.taken.push_back(time);
        let longest = self.taken.iter().max().copied().unwrap_or_default();
        let needed = self.level_for(longest * PART);
        let enough_seen = self.taken.len() >= self.window;
        if needed > self.level || enough_seen {
            self.level = needed;
        }
    }

    /// Somebody else, who has measured more, holds for so long.
    pub(crate) fn adopt(&mut self, terms: Terms) {
        self.level = self.level_for(terms.hold);
        self.taken.clear();
    }

    /// What the next renewal is to be sent with.
    pub(crate) fn terms(&self) -> Terms {
        Terms::of(self.scale * HOLDS[self.level], self.scale)
    }

    fn level_for(&self, hold: Duration) -> usize {
        let mut levels = HOLDS.iter();
        let enough = levels.position(|level| self.scale * *level >= hold);
        enough.unwrap_or(HOLDS.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn a_slow_commit_lengthens_the_hold_at_once_and_many_fast_ones_shorten_it() {
        let mut measured = Measured::new(Scale::REAL, 256);
        assert_eq!(measured.terms().hold, millis(1000));
        let mut after = |count: usize, taken| {
            for _ in 0..count {
                measured.took(taken);
            }
            measured.terms().hold
        };
        assert_eq!(after(255, millis(5)), millis(1000));
        assert_eq!(after(1, millis(5)), millis(200));
        assert_eq!(after(256, millis(5)), millis(200));
        assert_eq!(after(1, millis(34)), millis(250), "six times 33 ms are 200");
        assert_eq!(after(1, millis(120)), millis(1000));
        assert_eq!(after(1, millis(9000)), millis(3000));
        assert_eq!(after(255, millis(5)), millis(3000), "one of 256 was slow");
        assert_eq!(after(1, millis(5)), millis(200));
    }

    #[test]
    fn the_gap_is_a_fifth_of_a_long_hold_and_never_short() {
        let scale = Scale::new(2.0).unwrap();
        assert_eq!(Terms::of(millis(250), Scale::REAL).gap, millis(150));
        assert_eq!(Terms::of(millis(500), scale).gap, millis(300));
        assert_eq!(Terms::longest(scale).hold, millis(6000));
        assert_eq!(Terms::longest(scale).gap, millis(1200));
        assert_eq!(Terms::longest(Scale::REAL).wait(), millis(3600));
        assert_eq!(Measured::new(scale, 256).terms().hold, millis(2000));
    }
}
