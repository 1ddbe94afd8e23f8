//! A finished case, kept as JSON below `build/bench`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::figure::Figure;
use crate::{
    error::{Attempt, Error, Result},
    tools::run,
};

/// What a case has measured, and in which conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Identifies the sources that were measured: `scripts/sources`.
    pub sources: String,
    /// Where and when.
    pub conditions: Conditions,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What a reader must know to judge them, a sentence each.
    pub notes: Vec<String>,
}

/// Where and when something was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Date and time (UTC) of the end.
    pub date: String,
    /// The commit that was checked out, with `-dirty` if files differed from it.
    pub commit: String,
    /// The processor's name.
    pub processor: String,
    /// Processors that are online.
    pub processors: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The host's kernel.
    pub kernel: String,
    /// As `qemu-system-x86_64 --version` has it; empty where it is not installed.
    pub qemu: String,
    /// Average load of one minute just before: of others, and of the case before this one.
    pub load_before: f64,
    /// The share of all processors that others used just before, in percent.
    pub busy_before: f64,
}

/// Others that use more than this of the processors, in percent, are felt in the figures.
pub const QUIET_PERCENT: f64 = 5.0;
/// How long it is measured what others use.
const LISTENING: Duration = Duration::from_secs(3);
/// How long to wait for quiet: a case before may have left work for the kernel.
const QUIET_PATIENCE: Duration = Duration::from_secs(60);

impl Conditions {
    /// Of this machine, as soon as it is quiet, or as it is when it does not become so.
    pub fn when_quiet(repository: &Path) -> Result<Self> {
        let begun = Instant::now();
        loop {
            let now = Self::now(repository)?;
            if now.is_quiet() || begun.elapsed() > QUIET_PATIENCE {
                return Ok(now);
            }
        }
    }

    /// Whether others were hardly felt.
    pub fn is_quiet(&self) -> bool {
        self.busy_before <= QUIET_PERCENT
    }

    /// Of this machine at this moment, to which it listens for some seconds.
    pub fn now(repository: &Path) -> Result<Self> {
        let (processors, memory) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?);
        let git = ["describe", "--always", "--dirty", "--abbrev=12"];
        Ok(Self {
            date: run(Command::new("date").args(["--utc", "+%Y-%m-%d %H:%M"]))?,
            commit: run(Command::new("git").arg("-C").arg(repository).args(git))?,
            processor: field(&processors, "model name").unwrap_or_else(|| "unknown".to_owned()),
            processors: thread::available_parallelism().map_or(0, usize::from),
            memory_mib: field(&memory, "MemTotal")
                .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
                .unwrap_or_default()
                / 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            qemu: run(Command::new("qemu-system-x86_64").arg("--version"))
                .ok()
                .and_then(|text| text.lines().next().map(str::to_owned))
                .unwrap_or_default(),
            load_before: load()?,
            busy_before: busy()?,
        })
    }
}

impl Record {
    /// Reads the record of a case; `None` if it was never finished.
    pub fn load(folder: &Path, case: &str) -> Result<Option<Self>> {
        let path = file(folder, case);
        match fs::read_to_string(&path) {
            // One of an earlier version of the bench lacks what the page says now, and is measured again.
            Ok(text) => Ok(serde_json::from_str(&text)
                .inspect_err(|error| eprintln!("bench: {} is not used: {error}", path.display()))
                .ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).attempt(|| format!("read {}", path.display())),
        }
    }

    /// Keeps the record of a case, whole or not at all.
    pub fn store(&self, folder: &Path, case: &str) -> Result<()> {
        let path = file(folder, case);
        let partial = path.with_extension("partial");
        let text = serde_json::to_string_pretty(self).map_err(|error| {
            Error::Refused(format!("the figures of {case} are no JSON: {error}"))
        })?;
        fs::write(&partial, text + "\n")
            .and_then(|()| fs::rename(&partial, &path))
            .attempt(|| format!("write {}", path.display()))
    }
}

/// Average load of the last minute.
pub fn load() -> Result<f64> {
    let text = read("/proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first
        .parse()
        .map_err(|_| Error::Refused(format!("/proc/loadavg begins with `{first}`")))
}

/// The share of all processors that is used over some seconds, in percent.
fn busy() -> Result<f64> {
    let before = ticks(&read("/proc/stat")?)?;
    thread::sleep(LISTENING);
    let after = ticks(&read("/proc/stat")?)?;
    let (busy, all) = (after.0 - before.0, after.1 - before.1);
    let percent = if all > 0.0 { 100.0 * busy / all } else { 0.0 };
    // More digits would mean nothing, and not survive JSON.
    Ok((percent * 10.0).round() / 10.0)
}

/// Busy and all ticks of all processors since boot, of the first line of `/proc/stat` (proc_stat(5)).
fn ticks(stat: &str) -> Result<(f64, f64)> {
    let line = stat.lines().next().unwrap_or_default();
    let fields = line.split_whitespace().skip(1);
    // User, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user already.
    let ticks: Option<Vec<f64>> = fields.take(8).map(|field| field.parse().ok()).collect();
    match ticks.as_deref() {
        Some([_, _, _, idle, waiting, ..]) => {
            let all: f64 = ticks.iter().flatten().sum();
            Ok((all - idle - waiting, all))
        }
        _ => Err(Error::Refused(format!("/proc/stat begins with `{line}`"))),
    }
}

fn file(folder: &Path, case: &str) -> PathBuf {
    folder.join(case).with_extension("json")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).attempt(|| format!("read {path}"))
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_version_kept_is_measured_again() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("size.json"), r#"{ "sources": "abc" }"#).expect("written");
        assert_eq!(Record::load(folder.path(), "size").expect("read"), None);
    }

    #[test]
    fn waiting_for_a_disk_is_not_work() {
        let (busy, all) = ticks("cpu  10 0 20 60 10 0 0 0 5 0\ncpu0 1\n").expect("a line");
        assert_eq!((busy, all), (30.0, 100.0));
        assert!(ticks("intr 1 2").is_err());
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(
            Record::load(folder.path(), "size").expect("nothing yet"),
            None
        );
        let record = Record {
            sources: "abc".to_owned(),
            conditions: Conditions::now(Path::new(".")).expect("a machine"),
            figures: vec![Figure::new("UKI", "MB", vec![69.5])],
            notes: vec!["A note.".to_owned()],
        };
        record.store(folder.path(), "size").expect("kept");
        let back = Record::load(folder.path(), "size").expect("read");
        assert_eq!(back, Some(record));
    }
}
