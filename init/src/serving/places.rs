//! Places for connections that have proved nothing yet: when they are all taken, the oldest makes room.
//!
//! A connection that says nothing costs its owner nothing. So nobody waits for a place, and nobody can keep one that
//! another needs: whoever comes last gets in, and has until as many others have come as there are places.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Bits of an IPv6 address that name a network; whoever has one has all addresses in it.
const NETWORK_BITS: u32 = 64;

/// A number of places, of which each source may have a part.
#[derive(Debug)]
pub(crate) struct Places(Arc<Mutex<Table>>);

/// A place. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    table: Arc<Mutex<Table>>,
    number: u64,
    /// Ends when somebody else has been given the place.
    taken_away: oneshot::Receiver<Infallible>,
}

#[derive(Debug)]
struct Table {
    in_all: usize,
    of_one_source: usize,
    next: u64,
    /// Oldest first.
    taken: VecDeque<Taken>,
}

#[derive(Debug)]
struct Taken {
    number: u64,
    source: IpAddr,
    /// Held only to be dropped.
    _keep: oneshot::Sender<Infallible>,
}

impl Places {
    /// So many in all (one or more), of which one source has so many at most.
    pub(crate) fn new(in_all: usize, of_one_source: usize) -> Self {
        Self(Arc::new(Mutex::new(Table {
            in_all,
            of_one_source,
            next: 0,
            taken: VecDeque::with_capacity(in_all),
        })))
    }

    /// Takes a place for somebody at `address`, from the oldest of the same source if that has its part, or from the
    /// oldest of all.
    pub(crate) fn take(&self, address: IpAddr) -> Place {
        let (keep, taken_away) = oneshot::channel();
        let number = lock(&self.0).take(source(address), keep);
        Place {
            table: Arc::clone(&self.0),
            number,
            taken_away,
        }
    }
}

impl Place {
    /// Does `work` for as long as the place is not given to somebody else: nothing when it was.
    pub(crate) async fn hold<T>(mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = &mut self.taken_away => None,
            done = work => Some(done),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.table)
            .taken
            .retain(|taken| taken.number != self.number);
    }
}

impl Table {
    fn take(&mut self, source: IpAddr, keep: oneshot::Sender<Infallible>) -> u64 {
        let of_source = |taken: &Taken| taken.source == source;
        if self.taken.iter().filter(|taken| of_source(taken)).count() >= self.of_one_source {
            let oldest = self.taken.iter().position(of_source);
            oldest.and_then(|oldest| self.taken.remove(oldest));
        } else if self.taken.len() >= self.in_all {
            self.taken.pop_front();
        }
        let number = self.next;
        self.next += 1;
        self.taken.push_back(Taken {
            number,
            source,
            _keep: keep,
        });
        number
    }
}

fn lock(table: &Mutex<Table>) -> std::sync::MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who an address belongs to, as far as that can be told: an IPv4 address, or an IPv6 network.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << (128 - NETWORK_BITS));
            Ipv6Addr::from_bits(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn kept(places: &mut [Place]) -> Vec<bool> {
        let kept = |place: &mut Place| {
            place.taken_away.try_recv() == Err(oneshot::error::TryRecvError::Empty)
        };
        places.iter_mut().map(kept).collect()
    }

    #[test]
    fn the_oldest_of_all_makes_room() {
        let places = Places::new(3, 2);
        let mut taken: Vec<_> = (0..4).map(|number| places.take(address(number))).collect();
        assert_eq!(kept(&mut taken), [false, true, true, true]);
    }

    #[test]
    fn a_source_that_has_its_part_makes_room_for_itself() {
        let places = Places::new(4, 2);
        let mut taken: Vec<_> = [7, 1, 1, 1]
            .map(|number| places.take(address(number)))
            .into();
        assert_eq!(kept(&mut taken), [true, false, true, true]);
    }

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let places = Places::new(2, 2);
        let stays = places.take(address(1));
        drop(places.take(address(2)));
        let comes = places.take(address(3));
        assert_eq!(kept(&mut [stays, comes]), [true, true]);
    }

    #[tokio::test]
    async fn work_ends_when_the_place_is_taken_away() {
        let places = Places::new(1, 1);
        assert_eq!(places.take(address(1)).hold(async { 5 }).await, Some(5));
        let place = places.take(address(1));
        let _other = places.take(address(2));
        assert_eq!(place.hold(std::future::pending::<()>()).await, None);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let source_of = |text: &str| source(text.parse().expect("an address"));
        assert_eq!(source_of("fd00:0:0:1::1"), source_of("fd00:0:0:1:2::9"));
        assert_ne!(source_of("fd00:0:0:1::1"), source_of("fd00:0:0:2::1"));
        assert_eq!(source_of("::ffff:10.0.0.1"), source_of("10.0.0.1"));
        assert_ne!(source_of("10.0.0.1"), source_of("10.0.0.2"));
    }
}
