//! The hardware watchdog: it resets the machine when PID 1 has not fed it for a while (Documentation/watchdog/watchdog-api.rst).
//!
//! Nothing closes it in order: also a shutdown that hangs ends in a reset.

#![expect(unsafe_code, reason = "a watchdog's time is set by ioctl(2)")]

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use masthead_machine::{BootTime, Scale};

/// The first one that there is.
pub(super) const DEVICE: &str = "/dev/watchdog0";

/// After so long without food it resets a real machine. Devices that cannot count so far take what they can.
const TIMEOUT: Duration = Duration::from_secs(60);

/// It is fed so often within that.
const FEEDS: u32 = 4;

mod request {
    // `WDIOC_SETTIMEOUT` of <linux/watchdog.h>: takes seconds, and gives back those that the device has taken.
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
}

/// A watchdog that runs.
#[derive(Debug)]
pub(super) struct Watchdog {
    device: File,
    period: Duration,
    due: BootTime,
}

impl Watchdog {
    /// Starts it. Says also after how long it bites.
    pub(super) fn start(path: &Path, scale: Scale, now: BootTime) -> io::Result<(Self, Duration)> {
        let device = OpenOptions::new().write(true).open(path)?;
        let wanted = (scale * TIMEOUT).as_secs();
        let timeout = Duration::from_secs(set_timeout(&device, wanted)?);
        let watchdog = Self {
            device,
            period: timeout / FEEDS,
            due: now,
        };
        Ok((watchdog, timeout))
    }

    /// Feeds it, if that is due.
    pub(super) fn feed(&mut self, now: BootTime) {
        if now < self.due {
            return;
        }
        self.due = now + self.period;
        // One that does not take it resets the machine, which is what it is for.
        let _ = self.device.write(&[0]);
    }

    /// When it is due.
    pub(super) fn wake_at(&self) -> BootTime {
        self.due
    }
}

/// Seconds; a device that refuses so many is asked for half, until it takes them.
fn set_timeout(device: &File, mut wanted: u64) -> io::Result<u64> {
    loop {
        let mut seconds = libc::c_int::try_from(wanted).unwrap_or(libc::c_int::MAX);
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int, which this is.
        match unsafe { request::set_timeout(device.as_raw_fd(), &raw mut seconds) } {
            Ok(_) => return Ok(u64::try_from(seconds).unwrap_or(1).max(1)),
            Err(nix::errno::Errno::EINVAL) if wanted > 1 => wanted /= 2,
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_fed_four_times_in_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog");
        let file = File::create(&path).unwrap();
        let at = |seconds| BootTime::from_boot(Duration::from_secs(seconds));
        let mut watchdog = Watchdog {
            device: file,
            period: Duration::from_secs(15),
            due: at(0),
        };
        let fed = || fs::metadata(&path).unwrap().len();
        for (now, expected) in [(0, 1), (1, 1), (14, 1), (15, 2), (29, 2), (100, 3)] {
            watchdog.feed(at(now));
            assert_eq!(fed(), expected, "after {now} s");
        }
        assert_eq!(watchdog.wake_at(), at(115));
    }

    #[test]
    fn what_is_no_watchdog_is_not_started() {
        let now = BootTime::from_boot(Duration::ZERO);
        let null = Watchdog::start(Path::new("/dev/null"), Scale::REAL, now);
        assert_eq!(null.unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        let none = Watchdog::start(Path::new("/dev/none"), Scale::REAL, now);
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
