//! The clocks at the edge of the pure machines.

use std::time::{Duration, SystemTime};

use masthead_machine::BootTime;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// The present on `CLOCK_BOOTTIME`.
pub fn boot_time() -> BootTime {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or_default();
    BootTime::from_boot(Duration::new(seconds, nanoseconds))
}

/// The wall-clock time of an instant, as the wall clock is set now.
pub fn wall_time(at: BootTime) -> SystemTime {
    let now = boot_time();
    SystemTime::now() - now.since(at) + at.since(now)
}

/// When a process was started, from its start time in clock ticks since boot (field 22 of
/// proc_pid_stat(5)).
pub(super) fn from_ticks(ticks: u64) -> BootTime {
    let per_second = clock_ticks_per_second().max(1);
    let part = Duration::from_secs(ticks % per_second) / u32::try_from(per_second).unwrap_or(100);
    BootTime::from_boot(Duration::from_secs(ticks / per_second) + part)
}

/// A number that differs between nodes and supervisors; jitter needs no more.
pub(super) fn jitter_seed() -> u64 {
    let now = boot_time().since_boot();
    now.as_secs().rotate_left(32) ^ u64::from(now.subsec_nanos()) ^ u64::from(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_parts_of_seconds() {
        let per_second = clock_ticks_per_second();
        let at = from_ticks(7 * per_second + per_second / 2);
        assert_eq!(at.since_boot(), Duration::from_millis(7500));
    }

    #[test]
    fn the_present_is_the_present() {
        let now = boot_time();
        let wall = SystemTime::now();
        let error = wall_time(now)
            .duration_since(wall)
            .unwrap_or_else(|error| error.duration());
        assert!(error < Duration::from_secs(5), "{error:?}");
        let later = wall_time(now + Duration::from_secs(100));
        assert!(later > wall + Duration::from_secs(90));
        assert!(now.since_boot() > Duration::ZERO);
    }
}
