//! Stories of the virtual address: something happens to its owner, and clients go on.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use masthead_lab::{
    cluster::VipDescription,
    error::chain,
    patience::Look,
    witness::{Reign, Witness},
    writers::{Pace, Writers},
};

use super::{
    fixture::Fixture,
    load::{TIMEOUT, nothing_is_lost},
    masters::{A_MINUTE, THREE, wait_for_leader, wait_for_voters},
};

/// Who writes through the address all the while.
const WRITERS: usize = 8;
/// Between two writes of one of them: they are to notice, and not to fill etcd.
const PAUSE: Duration = Duration::from_millis(50);
/// So many more acknowledged writes show that clients go on.
const ENOUGH: usize = 40;

/// How often a build that is to fail may do well.
const TRIES: u32 = 5;

/// Where etcd's leader is when a story begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leader {
    /// With another master than the address.
    Elsewhere,
    /// With the same.
    WithOwner,
}

/// Whose address it is at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// Another master's.
    Moves,
    /// That of the same, and nobody else's meanwhile.
    Stays,
    /// Anybody's.
    IsTaken,
}

/// Something that happens to a cluster, and is undone again. `owner` owns the address, `leader` leads etcd.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    pub(crate) leader: Leader,
    pub(crate) happens: fn(&Fixture, owner: &str, leader: &str),
    pub(crate) is_undone: fn(&Fixture, owner: &str, leader: &str),
    pub(crate) then: Then,
    /// For how long clients wait at most, on a real machine.
    pub(crate) bound: Duration,
}

/// What was seen of one.
pub(crate) struct Told {
    /// The longest time without an acknowledged write.
    pub(crate) gap: Duration,
    /// Who was heard on the wire.
    pub(crate) reigns: Result<Vec<Reign>, String>,
}

impl Story {
    /// Has it happen, fails unless all is as it should be, and says for how long clients waited.
    pub(crate) fn tell(&self, fixture: &Fixture) -> Duration {
        let before = self.stage(fixture);
        let owner = before.owner.expect("the address has an owner");
        let told = self.happen(fixture, &owner);
        let after = wait_for_owner(fixture);
        let reigns = told
            .reigns
            .unwrap_or_else(|why| panic!("{}: {why}", self.name));
        let moved = after.owner.as_ref() != Some(&owner) || reigns.len() > 1;
        match self.then {
            Then::Moves => assert!(moved, "{}: {owner} has it still: {reigns:#?}", self.name),
            Then::Stays => assert!(
                !moved,
                "{}: {after:?} after {owner}: {reigns:#?}",
                self.name
            ),
            Then::IsTaken => {}
        }
        let bound = fixture.patience().of(self.bound);
        assert!(
            told.gap <= bound,
            "{}: no write for {:?}, where {bound:?} is the bound: {reigns:#?}",
            self.name,
            told.gap
        );
        told.gap
    }

    /// The same in a build that is to fail: has it happen until more than one owner is heard at a time, and says how that was seen.
    pub(crate) fn tell_of_two_owners(&self, fixture: &Fixture) -> String {
        for _ in 0..TRIES {
            let owner = self.stage(fixture).owner.expect("the address has an owner");
            if let Err(seen) = self.happen(fixture, &owner).reigns {
                return seen;
            }
        }
        panic!("{}: one owner at a time, {TRIES} times", self.name);
    }

    /// Puts the address and etcd's leader where they are to be.
    fn stage(&self, fixture: &Fixture) -> VipDescription {
        wait_for_voters(fixture, &THREE, 3);
        let leader = wait_for_leader(fixture);
        let owner = wait_for_owner(fixture).owner;
        let other = || THREE.into_iter().find(|name| **name != leader);
        let to = match self.leader {
            Leader::WithOwner => Some(&*leader).filter(|leader| owner.as_deref() != Some(leader)),
            Leader::Elsewhere if owner.as_ref() == Some(&leader) => other(),
            Leader::Elsewhere => None,
        };
        if let Some(to) = to {
            // An apiserver may have been ready, and not be any more: then it is again in a moment.
            fixture.wait_until("the address to move", A_MINUTE, || {
                match fixture.mastctl(&["vip", "move", to]) {
                    Ok(_) => Look::Done(()),
                    Err(error) => Look::NotYet(chain(&error)),
                }
            });
        }
        wait_for_owner(fixture)
    }

    /// Without a judgement.
    pub(crate) fn happen(&self, fixture: &Fixture, owner: &str) -> Told {
        let leader = wait_for_leader(fixture);
        let witness = fixture.expect(Witness::begin(&fixture.cluster));
        let pace = Pace {
            timeout: TIMEOUT,
            pause: PAUSE,
            retry: Pace::CALM,
        };
        let writers = Writers::through_endpoint(&fixture.cluster, WRITERS, pace);
        let writers = fixture.expect(writers);
        goes_on(fixture, &writers, self.name);
        (self.happens)(fixture, owner, &leader);
        if let Then::Moves = self.then {
            fixture.wait_until("another owner on the wire", A_MINUTE, || {
                let now = witness.owner();
                let moved = now.as_ref().is_some_and(|now| now != owner);
                Look::at(moved, || format!("{now:?}"))
            });
        }
        goes_on(fixture, &writers, self.name);
        (self.is_undone)(fixture, owner, &leader);
        wait_for_voters(fixture, &THREE, 3);
        fixture.expect(fixture.cluster.wait_until_ready());
        goes_on(fixture, &writers, self.name);
        let written = writers.stop();
        let reigns = witness.end(&fixture.cluster);
        nothing_is_lost(fixture, &written);
        Told {
            gap: written.longest_gap(None),
            reigns,
        }
    }
}

/// Waits until clients write.
fn goes_on(fixture: &Fixture, writers: &Writers, story: &str) {
    let before = writers.acknowledged();
    fixture.wait_until(
        &format!("writes through the address ({story})"),
        A_MINUTE,
        || {
            let now = writers.acknowledged();
            Look::at(now >= before + ENOUGH, || format!("{now} after {before}"))
        },
    );
}

/// Waits until somebody owns the address.
pub(crate) fn wait_for_owner(fixture: &Fixture) -> VipDescription {
    fixture.wait_until("an owner of the address", A_MINUTE, || {
        let vip = fixture.cluster.vip();
        match &vip.owner {
            Some(_) => Look::Done(vip),
            None => Look::NotYet("nobody says that it is".to_owned()),
        }
    })
}
