//! How long `make test` took, as it has written down itself.

use std::fs;

use super::{Bench, Figure, Measured};
use crate::{
    bench::figure::Statistic,
    error::{Attempt, Error, Result},
};

/// The last part of `scripts/test`: with it, a run is complete.
const LAST_PART: &str = "lab and cluster tests";

/// On a fresh machine: nothing fetched, nothing compiled.
const GOAL_COLD_MIN: f64 = 45.0;
/// Run again.
const GOAL_WARM_MIN: f64 = 20.0;

pub(super) fn cold(bench: &Bench) -> Result<Measured> {
    measure(bench, GOAL_COLD_MIN)
}

pub(super) fn warm(bench: &Bench) -> Result<Measured> {
    measure(bench, GOAL_WARM_MIN)
}

fn measure(bench: &Bench, goal: f64) -> Result<Measured> {
    let path = bench.repository.join("build/test/log");
    let log = fs::read_to_string(&path)
        .attempt(|| format!("read {}: run make test first", path.display()))?;
    let parts: Vec<(&str, f64)> = log.lines().filter_map(part).collect();
    if parts.last().is_none_or(|(name, _)| *name != LAST_PART) {
        return Err(Error::Refused(format!(
            "{} is not of a whole run: run make test to its end first",
            path.display()
        )));
    }
    let total = parts.iter().map(|(_, seconds)| seconds / 60.0).sum();
    let mut figures =
        vec![Figure::new("make test", "min", vec![total]).goal(Statistic::Maximum, goal)];
    figures.extend(
        parts
            .into_iter()
            .map(|(name, seconds)| Figure::new(format!("of which {name}"), "s", vec![seconds])),
    );
    Ok(Measured {
        figures,
        notes: vec![
            "The times are those that make test wrote to its log; the load beside it is not known."
                .to_owned(),
        ],
    })
}

/// The name and the seconds of `== NAME: exit STATUS after SECONDS s`.
fn part(line: &str) -> Option<(&str, f64)> {
    let (name, rest) = line.strip_prefix("== ")?.rsplit_once(": exit ")?;
    let seconds = rest.split_once(" after ")?.1.strip_suffix(" s")?;
    Some((name, seconds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_from_other_lines() {
        assert_eq!(part("== image: exit 0 after 12 s"), Some(("image", 12.0)));
        assert_eq!(part("== image"), None);
        assert_eq!(part("test result: ok. 3 passed; 0 failed"), None);
    }
}
