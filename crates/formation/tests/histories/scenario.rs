//! What kind of world a history happens in.

use std::time::Duration;

use masthead_machine::{BootTime, Random};

/// Until then things go wrong; afterwards all must come to rest.
pub(crate) const CALM_FROM: BootTime = BootTime::from_boot(Duration::from_secs(8));
/// Long enough after it for every reboot, silence and pause.
pub(crate) const END: BootTime = BootTime::from_boot(Duration::from_secs(24));

/// What goes wrong on top of the network and the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Cuts,
    /// Disks are wiped or replaced, and cannot be read for a while.
    Wipes,
    /// Some masters begin with another seed. Disks are wiped, too.
    Seeds,
    /// One master has a disk of a former cluster, or a cluster of one gets a longer list.
    Former,
    /// Operators found without those who are missing. Disks are wiped, too.
    Overrides,
}

/// What goes wrong how often, each in a thousand occasions.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    pub(crate) masters: usize,
    pub(crate) lost: u16,
    pub(crate) doubled: u16,
    pub(crate) late: u16,
    pub(crate) partitions: u16,
    pub(crate) cuts: u16,
    /// A cut right after an action.
    pub(crate) cuts_between: u16,
    pub(crate) all_cut: u16,
    pub(crate) slow_writes: u16,
    pub(crate) failed_writes: u16,
    pub(crate) wipes: u16,
    pub(crate) unreadable: u16,
    pub(crate) volumes_lost: u16,
    pub(crate) plan_failures: u16,
    pub(crate) operator_acts: u16,
    pub(crate) powered_on_late: u16,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Cuts,
        Self::Wipes,
        Self::Seeds,
        Self::Former,
        Self::Overrides,
    ];
}

impl Scenario {
    /// A world in which only a script does harm.
    pub(crate) fn quiet(masters: usize) -> Self {
        Self {
            kind: Kind::Cuts,
            masters,
            lost: 0,
            doubled: 0,
            late: 0,
            partitions: 0,
            cuts: 0,
            cuts_between: 0,
            all_cut: 0,
            slow_writes: 0,
            failed_writes: 0,
            wipes: 0,
            unreadable: 0,
            volumes_lost: 0,
            plan_failures: 0,
            operator_acts: 0,
            powered_on_late: 0,
        }
    }

    /// The world of a seed.
    pub(crate) fn draw(kind: Kind, seed: u64) -> Self {
        let random = &mut Random::new(seed ^ 0x5eed_0fa3_071d);
        let masters = match random.below(20) {
            0..2 => 1,
            2..4 => 2,
            4..13 => 3,
            13..15 => 4,
            15..18 => 5,
            18 => 6,
            _ => 7,
        };
        let mut often = |limit: u64| -> u16 {
            // Half of the worlds lack each kind of mishap, so that the others are seen alone as well.
            let share = random.below(2) * random.below(limit);
            u16::try_from(share).expect("a share of a thousand")
        };
        let disks = kind != Kind::Cuts;
        let mut if_disks = |limit| if disks { often(limit) } else { 0 };
        let (wipes, unreadable, volumes_lost) = (if_disks(400), if_disks(150), if_disks(100));
        Self {
            kind,
            masters: if kind == Kind::Overrides {
                masters.max(3)
            } else {
                masters
            },
            lost: often(200),
            doubled: often(200),
            late: often(150),
            partitions: often(400),
            cuts: often(150),
            cuts_between: often(30),
            all_cut: often(60),
            slow_writes: often(150),
            failed_writes: often(100),
            wipes,
            unreadable,
            volumes_lost,
            plan_failures: often(200),
            operator_acts: if kind == Kind::Overrides { 300 } else { 0 },
            powered_on_late: often(500),
        }
    }
}
