//! When a probe is due, and what its answers amount to.

use std::time::Duration;

use masthead_machine::BootTime;

use crate::{Answer, ProbePolicy, ProbeStory};

/// One probe of one running process.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    policy: ProbePolicy,
    turn: Turn,
    asked: BootTime,
    succeeded: bool,
    failures: u32,
    story: Option<ProbeStory>,
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    /// Ours: to ask at this instant.
    Ask(BootTime),
    /// The service's: to answer until this instant.
    Answer(BootTime),
}

/// What has to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask, and wait this long.
    Ask(Duration),
    /// The answer did not come within this time.
    Late(Duration),
}

/// What an answer amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Well,
    /// A failure, but not enough in a row.
    Doubtful,
    /// Enough failures in a row.
    Unwell,
}

impl Prober {
    pub(crate) fn new(policy: ProbePolicy) -> Self {
        Self {
            policy,
            turn: Turn::Ask(BootTime::default()),
            asked: BootTime::default(),
            succeeded: false,
            failures: 0,
            story: None,
        }
    }

    /// Forgets what another process answered, and asks at once.
    pub(crate) fn begin(&mut self, now: BootTime) {
        *self = Self {
            turn: Turn::Ask(now),
            ..Self::new(self.policy)
        };
    }

    pub(crate) fn deadline(&self) -> BootTime {
        match self.turn {
            Turn::Ask(at) | Turn::Answer(at) => at,
        }
    }

    pub(crate) fn due(&mut self, now: BootTime) -> Option<Due> {
        if now < self.deadline() {
            return None;
        }
        let timeout = self.policy.timeout;
        Some(match self.turn {
            Turn::Ask(_) => {
                // Whoever asks keeps the time-out too and knows more about what went wrong; so
                // this deadline is a little later, for the case that no answer comes at all.
                self.turn = Turn::Answer(now + timeout + timeout / 4);
                self.asked = now;
                Due::Ask(timeout)
            }
            Turn::Answer(_) => Due::Late(timeout),
        })
    }

    /// Takes an answer in; none is expected, and this one is ignored, unless it was asked for.
    /// Failures that do not count are only told.
    pub(crate) fn answered(
        &mut self,
        now: BootTime,
        answer: Answer,
        failures_count: bool,
    ) -> Option<Verdict> {
        let Turn::Answer(_) = self.turn else {
            return None;
        };
        let verdict = match answer {
            Answer::Healthy => {
                self.succeeded = true;
                self.failures = 0;
                Verdict::Well
            }
            Answer::Unhealthy(_) => {
                if failures_count {
                    self.failures = self.failures.saturating_add(1);
                }
                if failures_count && self.failures >= self.policy.failures {
                    Verdict::Unwell
                } else {
                    Verdict::Doubtful
                }
            }
        };
        let interval = if self.succeeded {
            self.policy.interval
        } else {
            self.policy.startup_interval
        };
        self.turn = Turn::Ask((self.asked + interval).max(now));
        self.story = Some(ProbeStory {
            answer,
            at: now,
            failures: self.failures,
        });
        Some(verdict)
    }

    /// Whether the process has ever answered that all is well.
    pub(crate) fn has_succeeded(&self) -> bool {
        self.succeeded
    }

    pub(crate) fn story(&self) -> Option<&ProbeStory> {
        self.story.as_ref()
    }

    /// What the last failure said, if the last answer was one.
    pub(crate) fn complaint(&self) -> Option<&str> {
        match &self.story.as_ref()?.answer {
            Answer::Healthy => None,
            Answer::Unhealthy(said) => Some(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: ProbePolicy = ProbePolicy {
        interval: Duration::from_secs(10),
        startup_interval: Duration::from_secs(1),
        timeout: Duration::from_secs(4),
        failures: 2,
    };

    fn at(seconds: u64) -> BootTime {
        BootTime::from_boot(Duration::from_secs(seconds))
    }

    fn no() -> Answer {
        Answer::Unhealthy("no".into())
    }

    fn asked() -> Prober {
        let mut prober = Prober::new(POLICY);
        prober.begin(at(100));
        assert_eq!(prober.due(at(99)), None);
        assert_eq!(prober.due(at(100)), Some(Due::Ask(POLICY.timeout)));
        prober
    }

    #[test]
    fn asks_often_until_the_first_success() {
        let mut prober = asked();
        assert_eq!(
            prober.answered(at(100), no(), true),
            Some(Verdict::Doubtful)
        );
        assert_eq!(prober.deadline(), at(101));
        assert_eq!(prober.complaint(), Some("no"));
        assert!(!prober.has_succeeded());
        assert!(prober.due(at(101)).is_some());
        assert_eq!(
            prober.answered(at(102), Answer::Healthy, true),
            Some(Verdict::Well)
        );
        assert_eq!(prober.deadline(), at(111), "counted from the question");
        assert_eq!(prober.complaint(), None);
        assert!(prober.has_succeeded());
        prober.begin(at(200));
        assert!(!prober.has_succeeded());
        assert_eq!(prober.story(), None);
    }

    #[test]
    fn a_slow_answer_does_not_put_the_next_question_into_the_past() {
        let mut prober = asked();
        prober.answered(at(103), no(), true);
        assert_eq!(prober.deadline(), at(103));
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let mut prober = asked();
        let mut now = 100;
        let mut say = |answer, counts| {
            now += 10;
            prober.due(at(now));
            prober.answered(at(now), answer, counts)
        };
        assert_eq!(say(no(), true), Some(Verdict::Doubtful));
        assert_eq!(say(no(), false), Some(Verdict::Doubtful));
        assert_eq!(say(Answer::Healthy, true), Some(Verdict::Well));
        assert_eq!(say(no(), true), Some(Verdict::Doubtful));
        assert_eq!(say(no(), true), Some(Verdict::Unwell));
        assert_eq!(say(no(), false), Some(Verdict::Doubtful));
        assert_eq!(
            prober.story().map(|story| (story.failures, story.at)),
            Some((2, at(160)))
        );
    }

    #[test]
    fn notices_that_no_answer_comes() {
        let mut prober = asked();
        assert_eq!(
            prober.due(at(104)),
            None,
            "who asks may say first what went wrong"
        );
        assert_eq!(prober.due(at(105)), Some(Due::Late(POLICY.timeout)));
    }

    #[test]
    fn ignores_an_answer_that_nobody_waits_for() {
        let mut prober = asked();
        prober.answered(at(105), no(), true);
        assert_eq!(prober.answered(at(105), Answer::Healthy, true), None);
        assert!(!prober.has_succeeded());
    }
}
