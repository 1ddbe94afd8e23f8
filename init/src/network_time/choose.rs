//! What several time servers' answers say together, and what is done about it: pure.
//!
//! A server may be wrong by years, and by nobody's malice. So an answer counts as the interval in which the true offset lies, and the offset is taken
//! from where most intervals meet (Marzullo's algorithm, as in RFC 5905, 11.2.1).

use std::time::Duration;

/// What is added to half of an answer's delay on both sides: networks are not symmetric, and servers not exact. Seconds.
const MARGIN: f64 = 0.05;

/// Up to here the clock is made faster or slower; seconds. Beyond, it is set: to catch up a second would take more than half an hour.
const MOST_SLEWED: f64 = 0.5;

/// Once the clock was right it is not set by more than this; seconds. That is as long as a certificate may be early, and no clock drifts that far
/// between two questions: it is the servers that are wrong.
const MOST_SET_LATER: f64 = 1000.0;

/// The pauses between two questions.
const SHORTEST_PAUSE: Duration = Duration::from_secs(16);
const LONGEST_PAUSE: Duration = Duration::from_secs(1024);

/// Offsets below this let the pause grow; seconds.
const SMALL: f64 = 0.01;

/// A server's answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// As the seed names it.
    pub(super) server: String,
    /// Its clock less ours, seconds.
    pub(super) offset: f64,
    /// Of question and answer together, seconds.
    pub(super) delay: f64,
}

impl Answer {
    fn ends(&self) -> (f64, f64) {
        let half = self.delay.max(0.0) / 2.0 + MARGIN;
        (self.offset - half, self.offset + half)
    }

    fn holds(&self, offset: f64) -> bool {
        let (low, high) = self.ends();
        (low..=high).contains(&offset)
    }
}

/// The answer to go by: the one with the least delay of those that agree, if they are more than half. None if no half of them does, or if two
/// do: a slow answer may agree with either of two that do not.
pub(super) fn choose(answers: &[Answer]) -> Option<&Answer> {
    let agreeing = |offset: f64| answers.iter().filter(move |one| one.holds(offset));
    // Where most intervals meet, one of them begins.
    let begins = || answers.iter().map(|one| one.ends().0);
    let most = begins().map(|begin| agreeing(begin).count()).max()?;
    if most * 2 <= answers.len() {
        return None;
    }
    let best = begins().filter(|begin| agreeing(*begin).count() == most);
    let mut nearest = best
        .filter_map(|begin| agreeing(begin).min_by(|one, other| one.delay.total_cmp(&other.delay)));
    let first = nearest.next()?;
    nearest
        .all(|other| first.ends().0 <= other.ends().1 && other.ends().0 <= first.ends().1)
        .then_some(first)
}

/// What is done to the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Correction {
    /// It is made faster or slower until it has moved by so many seconds.
    Slew(f64),
    /// It is set, by so many seconds.
    Set(f64),
    /// Nothing: nobody would believe it.
    Refuse(f64),
}

/// How an offset is corrected. `first` is for a clock that was not right yet, since boot.
pub(super) fn correct(offset: f64, first: bool) -> Correction {
    if offset.abs() <= MOST_SLEWED {
        Correction::Slew(offset)
    } else if first || offset.abs() <= MOST_SET_LATER {
        Correction::Set(offset)
    } else {
        Correction::Refuse(offset)
    }
}

/// The pause after a question with this outcome: twice the last one while the clock is right, and the shortest one otherwise.
pub(super) fn pause(last: Option<Duration>, offset: Option<f64>) -> Duration {
    match (last, offset) {
        (Some(last), Some(offset)) if offset.abs() < SMALL => (last * 2).min(LONGEST_PAUSE),
        _ => SHORTEST_PAUSE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(of: &[(f64, f64)]) -> Vec<Answer> {
        let answer = |(number, (offset, delay)): (usize, &(f64, f64))| Answer {
            server: number.to_string(),
            offset: *offset,
            delay: *delay,
        };
        of.iter().enumerate().map(answer).collect()
    }

    #[test]
    fn most_of_them_decide_and_of_these_the_nearest() {
        let chosen = |of: &[(f64, f64)]| choose(&answers(of)).map(|one| one.server.clone());
        let server = |name: &str| Some(name.to_owned());
        assert_eq!(chosen(&[]), None);
        assert_eq!(
            chosen(&[(7200.0, 0.01)]),
            server("0"),
            "one alone is believed"
        );
        assert_eq!(chosen(&[(0.01, 0.2), (0.02, 0.01)]), server("1"));
        assert_eq!(
            chosen(&[(0.0, 0.01), (3600.0, 0.01)]),
            None,
            "nobody knows which"
        );
        let liar = [(0.01, 0.02), (1e9, 0.001), (0.03, 0.01)];
        assert_eq!(chosen(&liar), server("2"));
        assert_eq!(chosen(&[(0.0, 0.01), (10.0, 0.01), (20.0, 0.01)]), None);
        assert_eq!(chosen(&[(0.0, 0.01), (1.0, 0.01), (0.5, 2.0)]), None);
        assert_eq!(chosen(&[(0.0, 0.01), (0.5, 2.0)]), server("0"));
        let two_each = [(0.0, 0.01), (0.0, 0.02), (9.0, 0.01), (9.0, 0.02)];
        assert_eq!(chosen(&two_each), None);
        assert_eq!(
            chosen(&[(0.0, -1.0)]),
            server("0"),
            "a delay that cannot be"
        );
    }

    #[test]
    fn what_is_far_off_is_set_and_what_cannot_be_is_refused() {
        assert_eq!(correct(-0.5, false), Correction::Slew(-0.5));
        assert_eq!(correct(0.6, false), Correction::Set(0.6));
        assert_eq!(correct(-1000.0, false), Correction::Set(-1000.0));
        assert_eq!(correct(1000.5, false), Correction::Refuse(1000.5));
        assert_eq!(correct(-1e9, true), Correction::Set(-1e9));
    }

    #[test]
    fn a_clock_that_is_right_is_asked_about_seldom() {
        let mut last = pause(None, Some(0.0));
        assert_eq!(last, SHORTEST_PAUSE);
        for _ in 0..10 {
            last = pause(Some(last), Some(0.001));
        }
        assert_eq!(last, LONGEST_PAUSE);
        assert_eq!(pause(Some(last), Some(0.02)), SHORTEST_PAUSE);
        assert_eq!(pause(Some(last), None), SHORTEST_PAUSE);
    }
}
