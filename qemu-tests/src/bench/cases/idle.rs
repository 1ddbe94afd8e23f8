//! What PID 1 and the supervisor cost while nothing happens.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{Bench, Figure, Measured};
use crate::{
    bench::{figure::Statistic, nodes::Masthead},
    error::{Attempt, Error, Result},
    provider::Node,
};

/// After ready: controllers finish what a first boot gives them to do.
const SETTLE: Duration = Duration::from_secs(15);
/// What is looked at as one sample.
const WINDOW: Duration = Duration::from_secs(60);

const GOAL_SUPERVISOR_MIB: f64 = 12.0;
const GOAL_PID1_MIB: f64 = 3.0;
const GOAL_SHARE_PERCENT: f64 = 0.2;

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let masthead = Masthead::ready(bench, "idle")?;
    thread::sleep(SETTLE);
    let node = masthead.node();
    let parts = [Part::of(node, "init")?, Part::of(node, "supervisor")?];
    let told = [
        ("PID 1", GOAL_PID1_MIB),
        ("supervisor", GOAL_SUPERVISOR_MIB),
    ];
    let mut samples = parts.each_ref().map(|_| Samples::default());
    let mut sums = Vec::new();
    for _ in 0..bench.runs.min(3) {
        let started = Instant::now();
        let before = used(&parts)?;
        thread::sleep(WINDOW);
        let after = used(&parts)?;
        let elapsed = started.elapsed();
        let mut sum = 0.0;
        for (index, part) in parts.iter().enumerate() {
            let used = after[index].saturating_sub(before[index]);
            let share = 100.0 * used.as_secs_f64() / elapsed.as_secs_f64();
            sum += share;
            samples[index].share.push(share);
            samples[index].resident.push(part.memory("Rss")?);
            samples[index].proportional.push(part.memory("Pss")?);
        }
        sums.push(sum);
    }
    let mut figures = Vec::new();
    for ((name, goal_mib), samples) in told.into_iter().zip(samples) {
        let what = |quantity: &str| format!("{name}, {quantity}");
        figures.push(
            Figure::new(what("resident memory (Rss)"), "MiB", samples.resident)
                .goal(Statistic::Maximum, goal_mib),
        );
        figures.push(Figure::new(
            what("of which its own share (Pss)"),
            "MiB",
            samples.proportional,
        ));
        figures.push(Figure::new(
            what("share of one processor"),
            "%",
            samples.share,
        ));
    }
    figures.push(
        Figure::new("both together, share of one processor", "%", sums)
            .goal(Statistic::Maximum, GOAL_SHARE_PERCENT),
    );
    masthead.remove()?;
    Ok(Measured {
        figures,
        notes: vec![
            "A node in a namespace with its four services ready, 15 s after that; each sample is a window of 60 s.".to_owned(),
            "Memory is smaps_rollup's, processor time the control group's usage_usec. PID 1 and the supervisor are one file and share its pages: Rss counts them in both.".to_owned(),
        ],
    })
}

#[derive(Default)]
struct Samples {
    resident: Vec<f64>,
    proportional: Vec<f64>,
    share: Vec<f64>,
}

/// PID 1 or the supervisor.
pub(super) struct Part {
    process: i32,
    group: PathBuf,
}

impl Part {
    /// By the name of its control group.
    pub(super) fn of(node: &dyn Node, leaf: &str) -> Result<Self> {
        let processes = node.processes(leaf)?;
        let [process] = processes[..] else {
            return Err(Error::Refused(format!(
                "{leaf} has the processes {processes:?}, not one"
            )));
        };
        Ok(Self {
            process,
            group: group(process)?,
        })
    }

    /// In MiB.
    fn memory(&self, field: &str) -> Result<f64> {
        let path = format!("/proc/{}/smaps_rollup", self.process);
        let kib = number(Path::new(&path), &format!("{field}:"))?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        Ok(kib as f64 / 1024.0)
    }
}

/// Processor time used since the start, of each part.
pub(super) fn used(parts: &[Part]) -> Result<Vec<Duration>> {
    let one =
        |part: &Part| number(&part.group.join("cpu.stat"), "usage_usec").map(Duration::from_micros);
    parts.iter().map(one).collect()
}

/// The control group of a process on the host.
fn group(process: i32) -> Result<PathBuf> {
    let path = format!("/proc/{process}/cgroup");
    let groups = fs::read_to_string(&path).attempt(|| format!("read {path}"))?;
    let mounts = fs::read_to_string("/proc/mounts").attempt(|| "read /proc/mounts")?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let target = fields.next()?;
        (fields.next()? == "cgroup2").then_some(target)
    });
    match (root, group) {
        (Some(root), Some(group)) => Ok(Path::new(root).join(group)),
        _ => Err(Error::Refused(format!(
            "{path} or /proc/mounts does not show a control group of version 2"
        ))),
    }
}

/// The number after `name` in a file of lines `name number …`.
fn number(path: &Path, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).attempt(|| format!("read {}", path.display()))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .ok_or_else(|| Error::Refused(format!("no `{name}` in {}", path.display())))
}
