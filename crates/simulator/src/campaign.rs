//! Many histories, and the smallest one that fails.

use std::collections::BTreeSet;
use std::fmt;

use masthead_machine::BootTime;

use crate::{Environment, Simulation};

/// How many lines of a failed history are shown: its end is what matters.
const SHOWN_LINES: usize = 120;

/// A history in which a property was violated, with no more mishaps than it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed, which makes the same history again.
    pub seed: u64,
    /// When.
    pub at: BootTime,
    /// The property, and how it was violated.
    pub violation: String,
    /// The mishaps that are needed, in order of time.
    pub mishaps: Vec<String>,
    /// What happened, one line each.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            at,
            violation,
            mishaps,
            trace,
        } = self;
        writeln!(
            formatter,
            "{violation}\nseed {seed}, {at} s into the history"
        )?;
        writeln!(formatter, "mishaps that it takes: {mishaps:?}")?;
        let hidden = trace.len().saturating_sub(SHOWN_LINES);
        if hidden > 0 {
            writeln!(formatter, "({hidden} lines before)")?;
        }
        trace
            .iter()
            .skip(hidden)
            .try_for_each(|line| writeln!(formatter, "{line}"))
    }
}

impl std::error::Error for Failure {}

/// Runs the histories of all `seeds` to `end`; `build` makes the simulation of a seed, the same
/// one each time. The first failure is made small by replaying it.
pub fn check<E: Environment>(
    seeds: impl IntoIterator<Item = u64>,
    end: BootTime,
    build: impl Fn(u64) -> Simulation<E>,
) -> Result<(), Box<Failure>> {
    for seed in seeds {
        let announce = AnnounceOnPanic(seed);
        if build(seed).run(end).is_err() {
            return Err(Box::new(shrink(seed, end, &build)));
        }
        drop(announce);
    }
    Ok(())
}

/// Runs the history of one seed, without the mishaps of these numbers, and tells what fails.
pub fn replay<E: Environment>(
    seed: u64,
    end: BootTime,
    suppressed: BTreeSet<usize>,
    build: impl Fn(u64) -> Simulation<E>,
) -> Result<(), Box<Failure>> {
    let mut simulation = build(seed);
    simulation.schedule.suppress(suppressed);
    simulation.schedule.start_trace();
    simulation.run(end).map_err(|violation| {
        let schedule = &mut simulation.schedule;
        let mishaps = schedule.mishaps().iter();
        Box::new(Failure {
            seed,
            at: schedule.now(),
            violation,
            mishaps: mishaps
                .map(|(number, what)| format!("{number}: {what}"))
                .collect(),
            trace: schedule.take_trace(),
        })
    })
}

/// Leaves out mishaps, at first half of them at once, at last one by one, as long as some
/// property is still violated.
fn shrink<E: Environment>(
    seed: u64,
    end: BootTime,
    build: &impl Fn(u64) -> Simulation<E>,
) -> Failure {
    let fails = |suppressed: &BTreeSet<usize>| {
        let mut simulation = build(seed);
        simulation.schedule.suppress(suppressed.clone());
        let failed = simulation.run(end).is_err();
        let happened: Vec<usize> = simulation
            .schedule
            .mishaps()
            .iter()
            .map(|(number, _)| *number)
            .collect();
        failed.then_some(happened)
    };
    let mut suppressed = BTreeSet::new();
    let mut needed = fails(&suppressed).unwrap_or_default();
    let mut part = needed.len().div_ceil(2);
    while part > 0 {
        let mut start = 0;
        while start < needed.len() {
            let mut fewer = suppressed.clone();
            fewer.extend(needed.iter().skip(start).take(part));
            if let Some(happened) = fails(&fewer) {
                suppressed = fewer;
                needed = happened;
            } else {
                start += part;
            }
        }
        part /= 2;
    }
    match replay(seed, end, suppressed, build) {
        Err(failure) => *failure,
        Ok(()) => unreachable!("a history that failed twice fails again: it is deterministic"),
    }
}

/// Names the seed when a machine panics, which no error can tell.
struct AnnounceOnPanic(u64);

impl Drop for AnnounceOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the panic is in the history of seed {}", self.0);
        }
    }
}
