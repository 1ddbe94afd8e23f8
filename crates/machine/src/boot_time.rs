//! Instants on the clock that never jumps.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// An instant on `CLOCK_BOOTTIME`: the time since the kernel started, suspension included.
///
/// Unlike wall-clock time it is not set by anybody, so that deadlines hold while the clock of a
/// freshly booted machine jumps by years. In a namespace it is the host's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(Duration);

impl BootTime {
    /// The instant this long after the start of the kernel.
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// The time from the start of the kernel to this instant.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    /// Saturates: a deadline too far away to be written is never reached anyhow.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl AddAssign<Duration> for BootTime {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for BootTime {
    type Output = Self;

    /// Saturates at the start of the kernel.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

/// Seconds since boot as the kernel's own log writes them: `12.345678`.
impl fmt::Display for BootTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}.{:06}",
            self.0.as_secs(),
            self.0.subsec_micros()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn arithmetic_saturates() {
        let mut instant = BootTime::from_boot(SECOND * 5);
        assert_eq!(instant - SECOND * 2, BootTime::from_boot(SECOND * 3));
        assert_eq!(instant - SECOND * 9, BootTime::default());
        assert_eq!((instant + SECOND).since(instant), SECOND);
        assert_eq!(instant.since(instant + SECOND), Duration::ZERO);
        assert_eq!((instant + Duration::MAX).since_boot(), Duration::MAX);
        instant += SECOND;
        assert_eq!(instant.since_boot(), SECOND * 6);
    }

    #[test]
    fn reads_like_the_kernel_log() {
        let instant = BootTime::from_boot(Duration::from_micros(12_000_034));
        assert_eq!(instant.to_string(), "12.000034");
    }
}
