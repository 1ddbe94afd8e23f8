//! How much of what strangers do is logged: a log that anybody can fill soon holds nothing of those who matter.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::rate::RateLimit;

/// Lines about one source at once.
const BURST: u32 = 20;

/// How soon another one may follow.
const REFILL: Duration = Duration::from_secs(10);

/// What may be said about those who have proved nothing.
#[derive(Debug)]
pub(crate) struct Remarks(Mutex<Said>);

#[derive(Debug)]
struct Said {
    rate: RateLimit,
    kept_back: u64,
}

impl Remarks {
    /// Nothing was said yet.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Said {
            rate: RateLimit::new(BURST, REFILL),
            kept_back: 0,
        }))
    }

    /// Whether a line about somebody at `address` may be logged now: with it belongs how many about strangers were kept
    /// back since the last one.
    pub(crate) fn about(&self, address: IpAddr) -> Option<u64> {
        self.about_at(Instant::now(), address)
    }

    fn about_at(&self, now: Instant, address: IpAddr) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.rate.take(now, address) {
            return Some(std::mem::take(&mut said.kept_back));
        }
        said.kept_back += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn some_lines_are_said_and_the_others_counted() {
        let (remarks, now) = (Remarks::new(), Instant::now());
        let [noisy, other] = [1, 2].map(|number| Ipv4Addr::from_bits(number).into());
        let said: Vec<_> = (0..500)
            .filter_map(|_| remarks.about_at(now, noisy))
            .collect();
        assert_eq!(said, [0; BURST as usize]);
        assert_eq!(remarks.about_at(now, other), Some(480));
        assert_eq!(remarks.about_at(now, other), Some(0));
        assert_eq!(remarks.about_at(now + REFILL / 2, noisy), None);
        assert_eq!(remarks.about_at(now + REFILL, noisy), Some(1));
    }
}
