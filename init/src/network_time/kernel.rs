//! The machine's clock.

#![expect(unsafe_code, reason = "adjtimex(2) has no safe form")]

use std::io;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// What may be done to a clock: for tests, which leave the real one alone.
pub(super) trait Clock {
    /// Makes it faster or slower, until it has moved by so many seconds.
    fn slew(&mut self, seconds: f64) -> io::Result<()>;
    /// Sets it, by so many seconds.
    fn set(&mut self, seconds: f64) -> io::Result<()>;
}

/// This machine's.
#[derive(Debug)]
pub(super) struct Machine;

impl Clock for Machine {
    fn slew(&mut self, seconds: f64) -> io::Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "a slew is below a second")]
        let microseconds = (seconds * 1e6) as libc::c_long;
        adjust(|request| {
            request.modes = libc::ADJ_OFFSET_SINGLESHOT;
            request.offset = microseconds;
        })?;
        is_right()
    }

    fn set(&mut self, seconds: f64) -> io::Result<()> {
        let now = clock_gettime(ClockId::Realtime);
        #[expect(
            clippy::cast_precision_loss,
            reason = "to the microsecond for some centuries"
        )]
        let wanted = now.tv_sec as f64 + now.tv_nsec as f64 / 1e9 + seconds;
        if wanted < 0.0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "in range for some centuries"
        )]
        let wanted = Timespec {
            tv_sec: wanted.floor() as i64,
            tv_nsec: (wanted.fract() * 1e9) as _,
        };
        clock_settime(ClockId::Realtime, wanted)?;
        is_right()
    }
}

/// Tells the kernel that the clock is right, so that it keeps the hardware's clock right too (every eleven minutes), until it has not heard so for
/// hours.
fn is_right() -> io::Result<()> {
    adjust(|request| {
        request.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
        request.status = 0;
        request.maxerror = 0;
        request.esterror = 0;
    })
}

fn adjust(fill: impl FnOnce(&mut libc::timex)) -> io::Result<()> {
    // SAFETY: `timex` is plain numbers, of which zeros are a value.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    fill(&mut request);
    // SAFETY: the kernel reads and writes one `timex`, which this is.
    if unsafe { libc::adjtimex(&raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
