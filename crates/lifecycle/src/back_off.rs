//! How long a service that died has to wait.

use std::time::Duration;

use masthead_machine::Random;

use crate::{BackOff, Exit, Forgiveness};

/// The deaths of one service since it last ran well.
#[derive(Clone, Debug)]
pub(crate) struct Deaths {
    policy: BackOff,
    forgiveness: Option<Forgiveness>,
    count: u32,
    forgiven: u32,
    random: Random,
}

impl Deaths {
    pub(crate) fn new(policy: BackOff, forgiveness: Option<Forgiveness>, random: Random) -> Self {
        Self {
            policy,
            forgiveness,
            count: 0,
            forgiven: 0,
            random,
        }
    }

    /// Counts an exit and says how long to wait before the next start.
    pub(crate) fn exited(&mut self, exit: Exit) -> Duration {
        if let (Some(forgiveness), Exit::Code(code)) = (&self.forgiveness, exit)
            && forgiveness.codes.contains(&code)
            && self.forgiven < forgiveness.at_most
        {
            self.forgiven += 1;
            return Duration::ZERO;
        }
        self.failed()
    }

    /// Counts a failure that cannot be forgiven, and says how long to wait.
    pub(crate) fn failed(&mut self) -> Duration {
        self.count = self.count.saturating_add(1);
        let wait = self.policy.longest_wait(self.count);
        let jitter = wait * u32::from(self.policy.jitter_per_mille.min(500)) / 1000;
        wait.saturating_sub(self.random.up_to(jitter))
    }

    /// The service ran well: all is forgotten.
    pub(crate) fn forget(&mut self) {
        self.count = 0;
        self.forgiven = 0;
    }

    /// Whether there is something to forget.
    pub(crate) fn any(&self) -> bool {
        self.count > 0 || self.forgiven > 0
    }

    /// How many failures in a row make a crash loop; none if it is no crash loop.
    pub(crate) fn crash_loop(&self) -> Option<u32> {
        (self.count >= self.policy.crash_loop_after).then_some(self.count)
    }

    pub(crate) fn reset_after(&self) -> Duration {
        self.policy.reset_after
    }
}

impl BackOff {
    /// The wait after this many deaths in a row (the first is 1), before jitter shortens it.
    pub fn longest_wait(&self, deaths: u32) -> Duration {
        let Some(doublings) = deaths.checked_sub(2) else {
            return Duration::ZERO;
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn policy(jitter_per_mille: u16) -> BackOff {
        BackOff {
            first: Duration::from_secs(1),
            ceiling: Duration::from_secs(10),
            jitter_per_mille,
            reset_after: Duration::from_secs(60),
            crash_loop_after: 3,
        }
    }

    fn waits(deaths: &mut Deaths, count: usize) -> Vec<u64> {
        (0..count).map(|_| deaths.failed().as_secs()).collect()
    }

    #[test]
    fn waits_double_from_nothing_to_the_ceiling() {
        let mut deaths = Deaths::new(policy(0), None, Random::new(1));
        assert_eq!(waits(&mut deaths, 7), [0, 1, 2, 4, 8, 10, 10]);
        deaths.forget();
        assert_eq!(waits(&mut deaths, 3), [0, 1, 2]);
        assert_eq!(policy(0).longest_wait(0), Duration::ZERO);
        assert_eq!(policy(0).longest_wait(u32::MAX), Duration::from_secs(10));
    }

    #[test]
    fn jitter_only_shortens() {
        let mut deaths = Deaths::new(policy(250), None, Random::new(1));
        waits(&mut deaths, 6);
        let drawn: Vec<Duration> = (0..500).map(|_| deaths.failed()).collect();
        assert!(
            drawn
                .iter()
                .all(|wait| (7_500..=10_000).contains(&wait.as_millis()))
        );
        assert!(drawn.iter().any(|wait| wait.as_millis() < 7_700));
        assert!(drawn.iter().any(|wait| wait.as_millis() > 9_800));
    }

    #[test]
    fn jitter_beyond_a_half_is_a_half() {
        let mut deaths = Deaths::new(policy(1000), None, Random::new(1));
        waits(&mut deaths, 6);
        assert!((0..500).all(|_| deaths.failed() >= Duration::from_secs(5)));
    }

    #[test]
    fn forgives_only_what_and_as_often_as_it_may() {
        let forgiveness = Forgiveness {
            codes: vec![1],
            at_most: 2,
        };
        let mut deaths = Deaths::new(policy(0), Some(forgiveness), Random::new(1));
        assert!(!deaths.any());
        for _ in 0..2 {
            assert_eq!(deaths.exited(Exit::Code(1)), Duration::ZERO);
            assert!(deaths.any());
        }
        assert_eq!(
            deaths.exited(Exit::Code(1)),
            Duration::ZERO,
            "the first death is free"
        );
        assert_eq!(deaths.exited(Exit::Signal(1)), Duration::from_secs(1));
        assert_eq!(deaths.crash_loop(), None);
        assert_eq!(deaths.exited(Exit::Code(2)), Duration::from_secs(2));
        assert_eq!(deaths.crash_loop(), Some(3));
        deaths.forget();
        assert!(!deaths.any());
        assert_eq!(deaths.exited(Exit::Code(1)), Duration::ZERO);
        assert_eq!(deaths.crash_loop(), None);
    }
}
