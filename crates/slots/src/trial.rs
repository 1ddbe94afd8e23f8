//! Whether an image on trial is good: that is for the cluster to say, and not for a timer.
//!
//! A node on trial is good when it has served for a while without a break. It has failed when it did not come so far, although it could have: time counts
//! against it only while enough of the other masters are well, so that their outage condemns nobody. A node that hears nobody for very long goes back all
//! the same: it may be its own image that is deaf.

use std::time::Duration;

use masthead_machine::{BootTime, Machine, Scale, Wakes, Woken};

/// For how long it has to serve without a break, on a real machine.
pub const HOLD: Duration = Duration::from_secs(60);

/// How long it may take to come to that, on a real machine, while enough of the others are well.
pub const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// And in spite of the others, on a real machine.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Woken,
    /// What this node says of itself now.
    Own(Own),
    /// Whether enough of the other masters are well for this one to serve.
    OthersWell(bool),
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    /// It serves. Another number tells that something was started anew meanwhile.
    Serves {
        /// How often any of its services was started anew.
        restarts: u64,
    },
    /// It does not, and why.
    Waits(String),
}

impl From<Woken> for Event {
    fn from(_: Woken) -> Self {
        Self::Woken
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send [`Event::Woken`] then.
    WakeAt(BootTime),
    /// The image is good.
    Bless,
    /// It is not, and why. The node goes back to the last good one.
    Fail(String),
}

impl Wakes for Action {
    fn wake_at(&self) -> Option<BootTime> {
        match self {
            Self::WakeAt(at) => Some(*at),
            _ => None,
        }
    }
}

/// The machine of one trial.
#[derive(Clone, Debug)]
pub struct Trial {
    scale: Scale,
    began: Option<BootTime>,
    /// Since when the node serves, and how often services had been started anew by then.
    serves: Option<(BootTime, u64)>,
    /// What it waited for last.
    why: String,
    /// Time that counts against it, but for that since `counted_from`.
    spent: Duration,
    counted_from: Option<BootTime>,
    over: bool,
}

impl Trial {
    /// One that begins with its first event. Until somebody says otherwise, the others are well.
    pub fn new(scale: Scale) -> Self {
        Self {
            scale,
            began: None,
            serves: None,
            why: "it has not said anything of itself".to_owned(),
            spent: Duration::ZERO,
            counted_from: None,
            over: false,
        }
    }

    fn handle(&mut self, now: BootTime, event: Event) {
        if self.began.is_none() {
            self.began = Some(now);
            self.counted_from = Some(now);
        }
        match event {
            Event::Woken => {}
            Event::Own(Own::Serves { restarts }) => {
                let since = self.serves.filter(|(_, before)| *before == restarts);
                self.serves = since.or(Some((now, restarts)));
            }
            Event::Own(Own::Waits(why)) => {
                self.serves = None;
                self.why = why;
            }
            Event::OthersWell(true) => self.counted_from = self.counted_from.or(Some(now)),
            Event::OthersWell(false) => {
                let counted = self.counted_from.take();
                self.spent += counted.map_or(Duration::ZERO, |from| now.since(from));
            }
        }
    }

    /// When it is over, as things stand, and how.
    fn end(&self) -> Option<(BootTime, Action)> {
        if let Some((since, _)) = self.serves {
            return Some((since + self.scale * HOLD, Action::Bless));
        }
        let failed = |how: &str| Action::Fail(format!("{how}: {}", self.why));
        let left = (self.scale * PATIENCE).saturating_sub(self.spent);
        let patience = self.counted_from.map(|from| {
            let how = "it did not serve in time, although enough of the others were well";
            (from + left, failed(how))
        });
        let longest = self.began.map(|began| {
            let how =
                "it did not serve in an hour, and enough of the others were not seen to be well";
            (began + self.scale * LONGEST, failed(how))
        });
        patience
            .into_iter()
            .chain(longest)
            .min_by_key(|(at, _)| *at)
    }
}

impl Machine for Trial {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: BootTime, event: Event) -> Vec<Action> {
        if self.over {
            return Vec::new();
        }
        self.handle(now, event);
        match self.end() {
            Some((at, action)) if at <= now => {
                self.over = true;
                vec![action]
            }
            Some((at, _)) => vec![Action::WakeAt(at)],
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_boot(Duration::from_secs(seconds))
    }

    fn serves(restarts: u64) -> Event {
        Event::Own(Own::Serves { restarts })
    }

    fn waits() -> Event {
        Event::Own(Own::Waits("etcd is not ready".to_owned()))
    }

    fn trial() -> Trial {
        let mut trial = Trial::new(Scale::REAL);
        assert_eq!(trial.step(at(10), Event::Woken), [Action::WakeAt(at(610))]);
        trial
    }

    #[test]
    fn who_serves_for_a_while_without_a_break_is_good() {
        let mut trial = trial();
        assert_eq!(trial.step(at(30), serves(3)), [Action::WakeAt(at(90))]);
        assert_eq!(trial.step(at(80), serves(3)), [Action::WakeAt(at(90))]);
        // Something was started anew, and something failed: it counts from the beginning.
        assert_eq!(trial.step(at(89), serves(4)), [Action::WakeAt(at(149))]);
        assert_eq!(trial.step(at(140), waits()), [Action::WakeAt(at(610))]);
        assert_eq!(trial.step(at(141), serves(4)), [Action::WakeAt(at(201))]);
        assert_eq!(trial.step(at(201), Event::Woken), [Action::Bless]);
        assert_eq!(trial.step(at(202), waits()), []);
    }

    #[test]
    fn who_does_not_come_so_far_has_failed_and_says_why() {
        let mut trial = trial();
        trial.step(at(20), waits());
        assert_eq!(trial.step(at(609), waits()), [Action::WakeAt(at(610))]);
        let why =
            "it did not serve in time, although enough of the others were well: etcd is not ready";
        assert_eq!(
            trial.step(at(610), Event::Woken),
            [Action::Fail(why.to_owned())]
        );
        assert_eq!(trial.step(at(611), serves(0)), []);
    }

    #[test]
    fn an_outage_of_the_others_does_not_count_but_not_for_ever() {
        let mut trial = trial();
        trial.step(at(20), waits());
        assert_eq!(
            trial.step(at(110), Event::OthersWell(false)),
            [Action::WakeAt(at(3610))]
        );
        assert_eq!(
            trial.step(at(500), Event::OthersWell(false)),
            [Action::WakeAt(at(3610))]
        );
        // A hundred seconds have counted.
        assert_eq!(
            trial.step(at(2000), Event::OthersWell(true)),
            [Action::WakeAt(at(2500))]
        );
        trial.step(at(2100), Event::OthersWell(false));
        let over = trial.step(at(3610), Event::Woken);
        let why = "it did not serve in an hour, and enough of the others were not seen to be well: etcd is not ready";
        assert_eq!(over, [Action::Fail(why.to_owned())]);
    }

    #[test]
    fn times_are_scaled() {
        let mut trial = Trial::new(Scale::new(2.0).unwrap());
        assert_eq!(trial.step(at(0), Event::Woken), [Action::WakeAt(at(1200))]);
        assert_eq!(trial.step(at(1), serves(0)), [Action::WakeAt(at(121))]);
    }
}
