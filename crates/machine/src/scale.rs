//! One factor for all deadlines.

use std::fmt;
use std::ops::Mul;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// `timing.scale`: how many times slower than a real machine this one is.
///
/// An emulated machine needs 10 to 20 times longer for everything, so that its deadlines have to
/// be that much longer too. Only the lab sets it; it is 1 on every real machine. Always between
/// 0.01 and 1000.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Scale(f64);

/// A scale that is no number, or outside of 0.01 to 1000.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("timing scale `{given}` is not a number from 0.01 to 1000; write 1 for a real machine")]
pub struct InvalidScale {
    given: String,
}

impl Scale {
    /// The scale of a real machine: 1.
    pub const REAL: Self = Self(1.0);

    /// Takes a factor from 0.01 to 1000.
    pub fn new(factor: f64) -> Result<Self, InvalidScale> {
        if (0.01..=1000.0).contains(&factor) {
            Ok(Self(factor))
        } else {
            Err(InvalidScale {
                given: factor.to_string(),
            })
        }
    }

    /// The plain factor.
    pub const fn factor(self) -> f64 {
        self.0
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self::REAL
    }
}

impl Mul<Duration> for Scale {
    type Output = Duration;

    /// Saturates at the longest duration.
    fn mul(self, duration: Duration) -> Duration {
        Duration::try_from_secs_f64(duration.as_secs_f64() * self.0).unwrap_or(Duration::MAX)
    }
}

impl FromStr for Scale {
    type Err = InvalidScale;

    fn from_str(text: &str) -> Result<Self, InvalidScale> {
        let invalid = || InvalidScale {
            given: text.to_owned(),
        };
        let factor = text.trim().parse().map_err(|_| invalid())?;
        Self::new(factor).map_err(|_| invalid())
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplies_durations() {
        let scale = Scale::new(2.5).unwrap();
        assert_eq!(scale * Duration::from_secs(4), Duration::from_secs(10));
        assert_eq!(scale * Duration::MAX, Duration::MAX);
        assert_eq!(
            Scale::default() * Duration::from_millis(7),
            Duration::from_millis(7)
        );
        assert!((scale.factor() - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn reads_what_it_writes() {
        let scale: Scale = " 12.5\n".parse().unwrap();
        assert_eq!(scale.to_string(), "12.5");
        assert_eq!(scale.to_string().parse(), Ok(scale));
    }

    #[test]
    fn refuses_what_would_break_deadlines() {
        for bad in ["", "0", "-1", "NaN", "inf", "1001", "0.009", "2x"] {
            let error = bad.parse::<Scale>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
        assert!("0.01".parse::<Scale>().is_ok());
        assert!("1000".parse::<Scale>().is_ok());
    }
}
