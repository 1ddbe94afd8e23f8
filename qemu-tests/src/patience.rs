//! The measured speed of this machine, and waiting for a condition.
//!
//! No patience in the lab is a fixed number of seconds: each is a nominal time, for a
//! machine like the one on which the figures in `docs/benchmarks.md` were taken, times the
//! measured slowness of this one, times the nodes' `timing.scale`.

use std::{
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Work of one calibration: this many KiB are hashed.
const CALIBRATION_KIB: u32 = 4096;
/// What that takes a machine of speed 1, without a debug build's slowness (`profile.dev`
/// optimises dependencies, so that a test build measures the same).
const NOMINAL: Duration = Duration::from_millis(20);
/// A machine may be busy with other things while it is measured, and for longer: the
/// patience allows for as much again.
const ALLOWANCE: f64 = 2.0;

/// How many times slower than the nominal machine this one is; at least 1. Measured once, in
/// some 60 ms; the best of three, because only the best is not disturbed.
pub fn slowness() -> f64 {
    static SLOWNESS: OnceLock<f64> = OnceLock::new();
    *SLOWNESS.get_or_init(|| {
        let best = (0..3).map(|_| calibrate()).min().unwrap_or(NOMINAL);
        (best.as_secs_f64() / NOMINAL.as_secs_f64()).max(1.0)
    })
}

fn calibrate() -> Duration {
    let block = [0x5a_u8; 1024];
    let started = Instant::now();
    let mut hash = Sha256::new();
    for _ in 0..CALIBRATION_KIB {
        hash.update(block);
    }
    std::hint::black_box(hash.finalize());
    started.elapsed()
}

/// How long to wait for things, on this machine and with nodes of a given scale.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    factor: f64,
}

impl Patience {
    /// For nodes whose deadlines are multiplied by `timing_scale`.
    pub fn new(timing_scale: f64) -> Self {
        Self {
            factor: slowness() * timing_scale.max(1.0) * ALLOWANCE,
        }
    }

    /// How long something may take here that takes `nominal` on the nominal machine.
    pub fn of(self, nominal: Duration) -> Duration {
        nominal.mul_f64(self.factor)
    }

    /// Looks at `condition` until it holds, for as long as something that takes `nominal` on the
    /// nominal machine may take here. `what` is a noun phrase for the error.
    pub fn wait_until<T>(
        self,
        what: &str,
        nominal: Duration,
        condition: impl FnMut() -> Look<T>,
    ) -> Result<T> {
        wait_until(what, self.of(nominal), condition)
    }
}

/// What one look at a condition showed.
pub enum Look<T> {
    /// It holds.
    Done(T),
    /// Not yet: what was seen instead, for the error and for progress messages.
    NotYet(String),
    /// It can never hold any more: waiting on would waste time.
    Never(Error),
}

impl Look<()> {
    /// A condition that holds or does not, with what was seen.
    pub fn at(holds: bool, seen: impl FnOnce() -> String) -> Self {
        if holds {
            Self::Done(())
        } else {
            Self::NotYet(seen())
        }
    }
}

/// Looks at `condition` until it holds, at most `patience` long. The last look is taken after
/// the patience has run out, so that a machine that slept does not fail what has come true. Looking takes at most half
/// of the time: looks may start programs, and what is waited for may need the processors.
pub fn wait_until<T>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Look<T>,
) -> Result<T> {
    const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
    let started = Instant::now();
    loop {
        let looks = Instant::now();
        let last_look = started.elapsed() >= patience;
        match condition() {
            Look::Done(value) => return Ok(value),
            Look::Never(error) => return Err(error),
            Look::NotYet(last) if last_look => {
                return Err(Error::Impatient {
                    what: what.to_owned(),
                    waited_seconds: started.elapsed().as_secs_f64(),
                    last,
                });
            }
            Look::NotYet(_) => thread::sleep(looks.elapsed().max(BETWEEN_LOOKS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowness_is_at_least_one() {
        assert!(slowness() >= 1.0);
    }

    #[test]
    fn waiting_ends_with_what_was_seen_last() {
        let mut looks = 0;
        let error = wait_until("the cows", Duration::ZERO, || {
            looks += 1;
            Look::<()>::NotYet(format!("look {looks}"))
        })
        .expect_err("they never come home");
        assert!(error.to_string().ends_with("last seen: look 1"), "{error}");
    }

    #[test]
    fn waiting_looks_again() {
        let mut looks = 0;
        wait_until("the third look", Duration::from_secs(60), || {
            looks += 1;
            Look::at(looks == 3, || looks.to_string())
        })
        .expect("it comes");
    }
}
