//! A clock that is earlier than the image is wrong: a machine without a battery starts in 1970,
//! where every certificate is not valid yet.

use std::fs;
use std::io;
use std::path::Path;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde::Deserialize;

use super::log::say;

/// What of `release.json` matters here.
#[derive(Debug, Deserialize)]
struct Release {
    version: String,
    /// Seconds since 1970.
    build_time: i64,
}

/// Says which release this is, and, where the clock is the node's own, moves it to the image's
/// build time if it is earlier. Network time does the rest.
pub(super) fn check(release: &Path, own_clock: bool) -> io::Result<()> {
    let release: Release = serde_json::from_str(&fs::read_to_string(release)?)?;
    say!("Masthead {}", release.version);
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    if now >= release.build_time || !own_clock {
        return Ok(());
    }
    clock_settime(
        ClockId::Realtime,
        Timespec {
            tv_sec: release.build_time,
            tv_nsec: 0,
        },
    )?;
    say!(
        "the clock stood at {now}; moved to the image's build time, {}",
        release.build_time
    );
    Ok(())
}
