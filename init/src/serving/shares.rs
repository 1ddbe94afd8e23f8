//! Places that nobody takes away from whoever has one, of which each holder may have a part only.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A number of places for holders that are told apart by a key.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    in_all: usize,
    of_one: usize,
    /// How many each holder has; never zero.
    taken: Mutex<HashMap<K, usize>>,
}

/// A place. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Share<'s, K: Copy + Eq + Hash> {
    shares: &'s Shares<K>,
    holder: K,
}

impl<K: Copy + Eq + Hash> Shares<K> {
    /// So many in all, of which one holder has so many at most.
    pub(crate) fn new(in_all: usize, of_one: usize) -> Self {
        Self {
            in_all,
            of_one,
            taken: Mutex::default(),
        }
    }

    /// A place for `holder`, if one is free and the holder has not had its part.
    pub(crate) fn take(&self, holder: K) -> Option<Share<'_, K>> {
        let mut taken = self.lock();
        let in_all: usize = taken.values().sum();
        let of_one = taken.get(&holder).copied().unwrap_or_default();
        (in_all < self.in_all && of_one < self.of_one).then(|| {
            taken.insert(holder, of_one + 1);
            Share {
                shares: self,
                holder,
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Drop for Share<'_, K> {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        if let Some(of_one) = taken.get_mut(&self.holder) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_leaves_room_for_others() {
        let shares = Shares::new(3, 2);
        let [first, second] = [shares.take('a'), shares.take('a')];
        assert!(first.is_some() && second.is_some());
        assert!(shares.take('a').is_none(), "it has its part");
        let other = shares.take('b');
        assert!(other.is_some());
        assert!(shares.take('c').is_none(), "all are taken");
        drop(first);
        assert!(shares.take('a').is_some());
    }

    #[test]
    fn who_has_no_place_is_forgotten() {
        let shares = Shares::new(2, 2);
        for holder in 0..100 {
            drop(shares.take(holder));
        }
        assert!(shares.lock().is_empty());
    }
}
