//! The hardware watchdog: it resets the machine when PID 1 has not fed it for a while (Documentation/watchdog/watchdog-api.rst).
//!
//! The initramfs starts it, so that also a boot that hangs is reset, and hands it over to `/init` of the root. Nothing closes it in order: also a
//! shutdown that hangs ends in a reset.

#![expect(unsafe_code, reason = "a watchdog's time is set by ioctl(2)")]

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use masthead_machine::{BootTime, Scale};

use super::log::say;

/// The first one that there is.
pub(super) const DEVICE: &str = "/dev/watchdog0";

/// A boot takes no longer until PID 1 of the root sets a time of its own, which knows how slow the machine is.
const TO_BOOT: Duration = Duration::from_secs(300);

/// After so long without food it resets a real machine. Devices that cannot count so far take what they can.
const TIMEOUT: Duration = Duration::from_secs(60);

/// It is fed so often within that.
const FEEDS: u32 = 4;

mod request {
    // `WDIOC_SETTIMEOUT` of <linux/watchdog.h>: takes seconds, and gives back those that the device has taken.
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
}

/// Starts it for as long as a boot may take. None where there is none yet, as its device may appear with a driver that is in the root.
pub(super) fn start_early() -> Option<File> {
    match open(Path::new(DEVICE), TO_BOOT) {
        Ok((device, _)) => Some(device),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            say!("no watchdog yet: {DEVICE}: {error}");
            None
        }
    }
}

/// Opens one, which starts it, and sets its time. Returns also the time that the device has taken.
fn open(path: &Path, timeout: Duration) -> io::Result<(File, Duration)> {
    let device = OpenOptions::new().write(true).open(path)?;
    let timeout = set_timeout(&device, timeout.as_secs())?;
    Ok((device, timeout))
}

/// A watchdog that runs, and is fed.
#[derive(Debug)]
pub(super) struct Watchdog {
    device: File,
    period: Duration,
    due: BootTime,
}

impl Watchdog {
    /// Takes the one that was handed over, or starts it. Says also after how long it bites.
    pub(super) fn start(
        handed_over: Option<File>,
        path: &Path,
        scale: Scale,
        now: BootTime,
    ) -> io::Result<(Self, Duration)> {
        let wanted = scale * TIMEOUT;
        let (device, timeout) = match handed_over {
            Some(device) => {
                let timeout = set_timeout(&device, wanted.as_secs())?;
                (device, timeout)
            }
            None => open(path, wanted)?,
        };
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

/// `wanted` is in seconds; a device that refuses so many is asked for half, until it takes them.
fn set_timeout(device: &File, mut wanted: u64) -> io::Result<Duration> {
    loop {
        let mut seconds = libc::c_int::try_from(wanted).unwrap_or(libc::c_int::MAX);
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int, which this is.
        match unsafe { request::set_timeout(device.as_raw_fd(), &raw mut seconds) } {
            Ok(_) => {
                let taken = u64::try_from(seconds).unwrap_or(1).max(1);
                return Ok(Duration::from_secs(taken));
            }
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
        let null = Watchdog::start(None, Path::new("/dev/null"), Scale::REAL, now);
        assert_eq!(null.unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        let none = Watchdog::start(None, Path::new("/dev/none"), Scale::REAL, now);
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
