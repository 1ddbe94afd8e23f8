//! Samples of one quantity.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One quantity, measured once or more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured, as a noun phrase.
    pub what: String,
    /// The unit of all samples; empty for ratios.
    pub unit: String,
    /// What was measured, in the order in which it was.
    pub samples: Vec<f64>,
    /// What it should be.
    #[serde(default)]
    pub goals: Vec<Goal>,
}

/// How much more `ours` took than `theirs`, of samples that were taken in turn: pair by pair, so that what else
/// happened on the machine meanwhile happened to both.
pub fn ratio(what: &str, ours: &Figure, theirs: &Figure, at_most: f64) -> Figure {
    let pairs = ours.samples.iter().zip(&theirs.samples);
    let ratios = pairs.map(|(ours, theirs)| ours / theirs).collect();
    Figure::new(format!("{what}, Masthead / bare"), "", ratios).goal(Statistic::Median, at_most)
}

/// An upper bound on one statistic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// Of which statistic.
    pub of: Statistic,
    /// In the figure's unit.
    pub at_most: f64,
}

/// A number that stands for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// The smallest.
    Minimum,
    /// The middle one; of an even number, the mean of the middle two.
    Median,
    /// The smallest sample that at least 99 of 100 do not exceed. Of fewer than 100 samples it is the largest.
    Percentile99,
    /// The largest.
    Maximum,
}

impl Figure {
    /// A figure without goals.
    pub fn new(what: impl Into<String>, unit: &str, samples: Vec<f64>) -> Self {
        Self {
            what: what.into(),
            unit: unit.to_owned(),
            samples,
            goals: Vec::new(),
        }
    }

    /// The same with one more goal.
    #[must_use]
    pub fn goal(mut self, of: Statistic, at_most: f64) -> Self {
        self.goals.push(Goal { of, at_most });
        self
    }

    /// A statistic of the samples; `None` without any.
    pub fn statistic(&self, which: Statistic) -> Option<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let last = count.checked_sub(1)?;
        Some(match which {
            Statistic::Minimum => sorted[0],
            Statistic::Median => f64::midpoint(sorted[last / 2], sorted[count / 2]),
            // Nearest rank: the sample number ⌈0.99 n⌉, counted from 1.
            Statistic::Percentile99 => sorted[(count * 99).div_ceil(100) - 1],
            Statistic::Maximum => sorted[last],
        })
    }

    /// Whether all goals are met; `None` without a goal or samples.
    pub fn is_met(&self) -> Option<bool> {
        let met = self
            .goals
            .iter()
            .map(|goal| Some(self.statistic(goal.of)? <= goal.at_most));
        met.reduce(|all, one| Some(all? && one?)).flatten()
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Minimum => "min",
            Self::Median => "median",
            Self::Percentile99 => "p99",
            Self::Maximum => "max",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_of_sorted_samples() {
        let figure = Figure::new("a time", "ms", vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(figure.statistic(Statistic::Minimum), Some(1.0));
        assert_eq!(figure.statistic(Statistic::Median), Some(2.5));
        assert_eq!(figure.statistic(Statistic::Percentile99), Some(4.0));
        assert_eq!(figure.statistic(Statistic::Maximum), Some(4.0));
        let none = Figure::new("a time", "ms", Vec::new());
        assert_eq!(none.statistic(Statistic::Median), None);
    }

    #[test]
    fn one_of_a_hundred_may_exceed_the_percentile() {
        let samples = (1..=200).map(f64::from).collect();
        let figure = Figure::new("a time", "ms", samples);
        assert_eq!(figure.statistic(Statistic::Percentile99), Some(198.0));
    }

    #[test]
    fn ratios_are_of_pairs() {
        let figure = |samples: &[f64]| Figure::new("x", "s", samples.to_vec());
        let ratio = ratio("boot", &figure(&[2.0, 30.0]), &figure(&[1.0, 10.0]), 1.15);
        assert_eq!(ratio.samples, [2.0, 3.0]);
        assert_eq!(ratio.is_met(), Some(false));
    }

    #[test]
    fn a_goal_is_met_up_to_its_bound() {
        let figure = |sample| Figure::new("x", "", vec![sample]).goal(Statistic::Median, 1.15);
        assert_eq!(figure(1.15).is_met(), Some(true));
        assert_eq!(figure(1.16).is_met(), Some(false));
    }
}
