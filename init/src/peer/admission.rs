//! How many connections an address may hold. Listed masters have places of their own, which nobody else can take.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::serving::{Place, Places, RateLimit};

/// Connections of a listed master at a time: one for messages, some for questions, and what it left behind when it died,
/// which makes room first.
const LISTED: usize = 8;

/// Connections of everybody else at a time, and those of one source.
const STRANGERS: (usize, usize) = (32, 8);

/// New connections of a listed master at once, and how soon each comes back: a handshake costs a millisecond or two of
/// the processor.
const LISTED_RATE: (u32, Duration) = (40, Duration::from_millis(50));

/// The same for everybody else.
const STRANGERS_RATE: (u32, Duration) = (10, Duration::from_secs(1));

/// Who holds how many connections.
#[derive(Debug)]
pub(super) struct Admission {
    listed: BTreeMap<IpAddr, Places>,
    strangers: Places,
    listed_rate: RateLimit,
    strangers_rate: RateLimit,
}

impl Admission {
    pub(super) fn new(listed: impl IntoIterator<Item = IpAddr>) -> Self {
        let places = |address| (address, Places::new(LISTED, LISTED));
        Self {
            listed: listed.into_iter().map(places).collect(),
            strangers: Places::new(STRANGERS.0, STRANGERS.1),
            listed_rate: RateLimit::new(LISTED_RATE.0, LISTED_RATE.1),
            strangers_rate: RateLimit::new(STRANGERS_RATE.0, STRANGERS_RATE.1),
        }
    }

    /// Takes a place for a connection from that address, unless it comes too often.
    pub(super) fn enter(&mut self, now: Instant, address: IpAddr) -> Option<Place> {
        let (places, rate) = match self.listed.get(&address.to_canonical()) {
            Some(own) => (own, &mut self.listed_rate),
            None => (&self.strangers, &mut self.strangers_rate),
        };
        rate.take(now, address).then(|| places.take(address))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    /// Whether nobody has taken the place away.
    async fn is_kept(place: Place) -> bool {
        place.hold(std::future::ready(())).await.is_some()
    }

    #[tokio::test]
    async fn strangers_take_no_place_of_a_listed_master() {
        let (mut admission, now) = (Admission::new([address(1), address(2)]), Instant::now());
        let [first, second] = [1, 2].map(|listed| admission.enter(now, address(listed)).unwrap());
        let strangers: Vec<_> = (100..200)
            .filter_map(|number| admission.enter(now, address(number)))
            .collect();
        let of_first: Vec<_> = (0..LISTED)
            .filter_map(|_| admission.enter(now, address(1)))
            .collect();
        assert!(
            !is_kept(first).await,
            "the oldest of the same master makes room"
        );
        assert!(is_kept(second).await, "and nobody else's");
        let mut kept = 0;
        for place in strangers {
            kept += usize::from(is_kept(place).await);
        }
        assert_eq!(kept, STRANGERS.0);
        assert_eq!(of_first.len(), LISTED);
    }

    #[test]
    fn who_comes_and_goes_without_end_is_slowed_down() {
        let (mut admission, now) = (Admission::new([address(1)]), Instant::now());
        let mut visits = |number: u32| {
            (0..100)
                .filter(|_| admission.enter(now, address(number)).is_some())
                .count()
        };
        assert_eq!(visits(7), 10);
        assert_eq!(visits(1), 40);
        let later = now + Duration::from_secs(1);
        assert!(admission.enter(later, address(7)).is_some());
        assert!(admission.enter(later, address(7)).is_none());
    }
}
