//! What kind of world a history happens in.

use std::time::Duration;

use masthead_machine::{BootTime, Random};

/// Until then things go wrong; afterwards all must come to rest.
pub(crate) const CALM_FROM: BootTime = BootTime::from_boot(Duration::from_secs(12));
/// From then on there is an owner, without a gap.
pub(crate) const REST_FROM: BootTime = BootTime::from_boot(Duration::from_secs(26));
pub(crate) const END: BootTime = BootTime::from_boot(Duration::from_secs(30));

/// What goes wrong how often, each in a thousand occasions.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) hosts: usize,
    /// A process stands still between what it decides and what becomes of it.
    pub(crate) pauses: u16,
    /// A transaction takes long.
    pub(crate) slow_commits: u16,
    /// One is neither carried out nor answered.
    pub(crate) lost_transactions: u16,
    /// One is carried out, and the answer is lost.
    pub(crate) lost_answers: u16,
    /// A member shows changes late.
    pub(crate) late_sights: u16,
    pub(crate) elections: u16,
    pub(crate) power_cuts: u16,
    pub(crate) supervisor_deaths: u16,
    pub(crate) partitions: u16,
    pub(crate) unready: u16,
    pub(crate) releases: u16,
    pub(crate) slow_disks: u16,
    /// etcd has no space for a while.
    pub(crate) no_space: u16,
    /// From then on it has none any more, if that comes.
    pub(crate) full_from: Option<Duration>,
    /// What anything takes at most, when nothing goes wrong.
    pub(crate) latency: Duration,
    /// Renewals after which the hold becomes shorter.
    pub(crate) window: usize,
}

impl Scenario {
    /// A world in which each kind of mishap is usual, rare or absent.
    pub(crate) fn draw(seed: u64) -> Self {
        // Not the numbers that the history is made of.
        let mut random = Random::new(seed ^ 0x7669_7073);
        let mut often = |most: u16| match random.below(3) {
            0 => 0,
            1 => most / 8,
            _ => most,
        };
        Self {
            pauses: often(8),
            slow_commits: often(30),
            lost_transactions: often(50),
            lost_answers: often(50),
            late_sights: often(100),
            elections: often(40),
            power_cuts: often(16),
            supervisor_deaths: often(30),
            partitions: often(16),
            unready: often(40),
            releases: often(50),
            slow_disks: often(60),
            no_space: often(30),
            full_from: (random.below(4) == 0).then(|| random.up_to(CALM_FROM.since_boot())),
            latency: [0, 1, 5].map(Duration::from_millis)
                [usize::try_from(random.below(3)).expect("a small number")],
            window: [3, 8, 128][usize::try_from(random.below(3)).expect("a small number")],
            hosts: 3 + usize::try_from(random.below(3)).expect("a small number"),
        }
    }
}
