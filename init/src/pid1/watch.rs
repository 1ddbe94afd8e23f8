//! When to start the supervisor, when to kill a silent one, and when not to wait for its death any longer: a
//! state machine without effects.

use std::time::Duration;

use masthead_machine::{BootTime, Scale};

/// A supervisor that does not beat for so long is killed.
pub const SILENCE: Duration = Duration::from_secs(5);
/// A new supervisor may take so long to its first beat.
pub const GRACE: Duration = Duration::from_secs(20);
/// A killed one that is not gone by then is left to itself: one of its threads waits in the kernel for a
/// disk, which no signal ends. It never runs again, so that another one may start beside what is left of it.
pub const TO_DIE: Duration = Duration::from_secs(1);
/// The wait before the second start in a row; it doubles with each further one.
pub const SHORTEST_DELAY: Duration = Duration::from_millis(100);
/// The longest wait before a start: a supervisor is always tried again.
pub const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Without a word from any supervisor for so long the node is no master any more, whatever still runs on it: it reboots.
pub const FORSAKEN: Duration = Duration::from_secs(5 * 60);
/// Who looks more seldom than this stood still meanwhile.
const STOOD_STILL: Duration = Duration::from_secs(60);
/// One that lived so long is replaced at once, as if none had failed before.
pub const STEADY: Duration = Duration::from_secs(30);

/// Watches one supervisor after another.
#[derive(Debug)]
pub struct Watch {
    scale: Scale,
    state: State,
    failures: u32,
    /// When a supervisor said something last, or the first one was due.
    heard: BootTime,
    looked: BootTime,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// None runs; the next is due then.
    Waiting { start_at: BootTime },
    /// One runs.
    Running {
        since: BootTime,
        period: Duration,
        deadline: BootTime,
    },
    /// One was killed, and its death is still to come.
    Killed { since: BootTime, deadline: BootTime },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Start a supervisor, then say [`Watch::started`] or [`Watch::ended`].
    Start,
    /// Kill the one that runs, for its silence.
    Kill,
    /// Wait no longer for the death of the one that was killed, and say [`Watch::ended`].
    Abandon,
    /// Reboot: starting supervisors does not help.
    GiveUp,
}

impl Watch {
    /// The first supervisor is due at once.
    pub fn new(now: BootTime, scale: Scale) -> Self {
        Self {
            scale,
            state: State::Waiting { start_at: now },
            failures: 0,
            heard: now,
            looked: now,
        }
    }

    /// A supervisor was started.
    pub fn started(&mut self, now: BootTime) {
        let period = self.scale * GRACE;
        self.state = State::Running {
            since: now,
            period,
            deadline: now + period,
        };
    }

    /// It beat.
    pub fn beat(&mut self, now: BootTime) {
        self.heard = now;
        if let State::Running {
            period, deadline, ..
        } = &mut self.state
        {
            *period = self.scale * SILENCE;
            *deadline = now + *period;
        }
    }

    /// It ended, was given up, or could not be started at all. Returns how long the next one has to wait.
    pub fn ended(&mut self, now: BootTime) -> Duration {
        let lived = match self.state {
            State::Waiting { .. } => Duration::ZERO,
            State::Running { since, .. } | State::Killed { since, .. } => now.since(since),
        };
        if lived >= self.scale * STEADY {
            self.failures = 0;
        }
        let delay = match self.failures {
            0 => Duration::ZERO,
            failures => {
                let doubled = SHORTEST_DELAY.saturating_mul(1 << (failures - 1).min(16));
                self.scale * doubled.min(LONGEST_DELAY)
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting {
            start_at: now + delay,
        };
        delay
    }

    /// When [`Watch::due`] has something to say at the earliest.
    pub fn wake_at(&self) -> Option<BootTime> {
        match self.state {
            State::Waiting { start_at } => Some(start_at),
            State::Running { deadline, .. } | State::Killed { deadline, .. } => Some(deadline),
        }
    }

    /// What is to be done now. Call it only after every message that has arrived was read.
    ///
    /// A deadline that is long past says that this process itself stood still (a stopped machine, a
    /// saved one): then nobody's silence counts, and the supervisor gets a new period.
    pub fn due(&mut self, now: BootTime) -> Option<Order> {
        if now.since(self.looked) > self.scale * STOOD_STILL {
            self.heard = now;
        }
        self.looked = now;
        if now.since(self.heard) >= self.scale * FORSAKEN {
            // Once: what follows has deadlines of its own.
            self.heard = now;
            return Some(Order::GiveUp);
        }
        match &mut self.state {
            State::Waiting { start_at } => (now >= *start_at).then_some(Order::Start),
            State::Running {
                since,
                period,
                deadline,
            } => {
                if now < *deadline {
                    return None;
                }
                if now.since(*deadline) > *period / 2 {
                    *deadline = now + *period;
                    return None;
                }
                self.state = State::Killed {
                    since: *since,
                    deadline: now + self.scale * TO_DIE,
                };
                Some(Order::Kill)
            }
            State::Killed { deadline, .. } => (now >= *deadline).then_some(Order::Abandon),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> BootTime {
        BootTime::from_boot(Duration::from_millis(milliseconds))
    }

    fn running(scale: f64) -> Watch {
        let mut watch = Watch::new(at(0), Scale::new(scale).expect("a scale"));
        assert_eq!(watch.due(at(0)), Some(Order::Start));
        watch.started(at(0));
        watch
    }

    #[test]
    fn a_silent_one_is_killed_once_after_five_seconds() {
        let mut watch = running(1.0);
        watch.beat(at(1000));
        assert_eq!(watch.wake_at(), Some(at(6000)));
        assert_eq!(watch.due(at(5999)), None);
        assert_eq!(watch.due(at(6000)), Some(Order::Kill));
        assert_eq!(watch.due(at(6001)), None);
        watch.beat(at(6002));
        assert_eq!(
            watch.wake_at(),
            Some(at(7000)),
            "a last beat from before does not revive it"
        );
    }

    #[test]
    fn one_that_does_not_die_is_given_up_and_replaced() {
        let mut watch = running(10.0);
        watch.beat(at(0));
        assert_eq!(watch.due(at(50_000)), Some(Order::Kill));
        assert_eq!(watch.due(at(59_999)), None);
        assert_eq!(watch.due(at(60_000)), Some(Order::Abandon));
        assert_eq!(watch.ended(at(60_000)), Duration::ZERO);
        assert_eq!(watch.due(at(60_000)), Some(Order::Start));
    }

    #[test]
    fn a_new_one_gets_a_grace_and_deadlines_scale() {
        let mut watch = running(0.1);
        assert_eq!(watch.due(at(1999)), None);
        assert_eq!(watch.due(at(2000)), Some(Order::Kill));

        let mut watch = running(10.0);
        watch.beat(at(0));
        assert_eq!(watch.due(at(49_999)), None);
        assert_eq!(watch.due(at(50_000)), Some(Order::Kill));
    }

    #[test]
    fn supervisors_that_never_say_anything_lead_to_a_reboot_after_five_minutes() {
        let mut watch = Watch::new(at(0), Scale::REAL);
        let mut orders = Vec::new();
        for now in (0..700_000).step_by(100) {
            match watch.due(at(now)) {
                // Each dies at once.
                Some(Order::Start) => {
                    watch.started(at(now));
                    watch.ended(at(now));
                }
                Some(order) => orders.push((now, order)),
                None => {}
            }
        }
        assert_eq!(orders, [(300_000, Order::GiveUp), (600_000, Order::GiveUp)]);
        // One word is enough, and a machine that stood still heard none.
        watch.started(at(700_000));
        watch.beat(at(700_000));
        for now in (700_000..990_000).step_by(4_000) {
            watch.beat(at(now));
            assert_eq!(watch.due(at(now)), None);
        }
        assert_eq!(watch.due(at(9_000_000)), None);
    }

    #[test]
    fn silence_does_not_count_while_pid_1_itself_stood_still() {
        let mut watch = running(1.0);
        watch.beat(at(0));
        assert_eq!(watch.due(at(60_000)), None);
        assert_eq!(watch.due(at(64_999)), None);
        assert_eq!(watch.due(at(65_000)), Some(Order::Kill));
    }

    #[test]
    fn the_wait_doubles_to_a_ceiling_and_a_steady_one_resets_it() {
        let mut watch = running(1.0);
        let mut now = at(0);
        let mut delays = Vec::new();
        for _ in 0..9 {
            let delay = watch.ended(now);
            delays.push(delay.as_millis());
            if delay > Duration::ZERO {
                assert_eq!(watch.due(now), None);
            }
            now += delay;
            assert_eq!(watch.due(now), Some(Order::Start));
            watch.started(now);
        }
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        now += STEADY;
        assert_eq!(watch.ended(now), Duration::ZERO);
        assert_eq!(watch.ended(now), SHORTEST_DELAY);
    }
}
