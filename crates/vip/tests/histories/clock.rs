//! Clocks that run apart.

use std::time::Duration;

use masthead_machine::{BootTime, Random};

/// How far a clock may be off, in parts per million.
const DRIFT: u64 = 500;

const MILLION: u128 = 1_000_000;

/// A node's `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Of its own seconds, how many millionths pass in a second of the world.
    rate: u64,
    ahead: Duration,
}

impl Clock {
    pub(crate) fn draw(random: &mut Random) -> Self {
        Self {
            rate: 1_000_000 - DRIFT + random.below(2 * DRIFT + 1),
            ahead: random.up_to(Duration::from_secs(1000)),
        }
    }

    /// What it shows at an instant of the world.
    pub(crate) fn shows(self, world: BootTime) -> BootTime {
        let own = world.since_boot().as_nanos() * u128::from(self.rate) / MILLION;
        BootTime::from_boot(nanoseconds(own) + self.ahead)
    }

    /// The first instant of the world at which it shows so much, or more.
    pub(crate) fn when(self, shown: BootTime) -> BootTime {
        let own = shown.since_boot().saturating_sub(self.ahead).as_nanos();
        BootTime::from_boot(nanoseconds((own * MILLION).div_ceil(u128::from(self.rate))))
    }
}

fn nanoseconds(number: u128) -> Duration {
    Duration::from_nanos(number.try_into().expect("a history is short"))
}
