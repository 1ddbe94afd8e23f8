//! How often an address may try something that costs the node more than the caller.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::places::source;

/// At most so many addresses are remembered.
const CAPACITY: usize = 1024;

/// A bucket of tries for each address (of IPv6: each network); one that is full is forgotten.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// Tries that an address has at once.
    burst: u32,
    /// How soon one try comes back.
    refill: Duration,
    /// When the bucket of an address is full again.
    full_at: HashMap<IpAddr, Instant>,
}

impl RateLimit {
    /// With so many tries at once, each of which comes back after `refill`.
    pub(crate) fn new(burst: u32, refill: Duration) -> Self {
        Self {
            burst,
            refill,
            full_at: HashMap::new(),
        }
    }

    /// Takes a try, if `address` has one.
    pub(crate) fn take(&mut self, now: Instant, address: IpAddr) -> bool {
        let address = source(address);
        if self.full_at.len() >= CAPACITY && !self.full_at.contains_key(&address) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= CAPACITY {
                return false;
            }
        }
        let full_at = self.full_at.entry(address).or_insert(now);
        let then = (*full_at).max(now) + self.refill;
        if then > now + self.refill * self.burst {
            return false;
        }
        *full_at = then;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn ten_at_once_and_then_one_each_second() {
        let (mut limit, now) = (RateLimit::new(10, Duration::from_secs(1)), Instant::now());
        assert_eq!((0..20).filter(|_| limit.take(now, address(1))).count(), 10);
        assert!(
            limit.take(now, address(2)),
            "another address has tries of its own"
        );
        assert!(!limit.take(now + Duration::from_millis(999), address(1)));
        let later = now + Duration::from_secs(1);
        assert!(limit.take(later, address(1)));
        assert!(!limit.take(later, address(1)));
        let much_later = now + Duration::from_secs(3600);
        assert_eq!(
            (0..20)
                .filter(|_| limit.take(much_later, address(1)))
                .count(),
            10
        );
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let (mut limit, now) = (RateLimit::new(10, Duration::from_secs(1)), Instant::now());
        assert_eq!(
            (0..2000)
                .filter(|number| limit.take(now, address(*number)))
                .count(),
            CAPACITY
        );
        assert!(
            limit.take(now, address(0)),
            "a known address is not shut out by others"
        );
        assert!(limit.take(now + Duration::from_secs(3), address(5000)));
    }
}
