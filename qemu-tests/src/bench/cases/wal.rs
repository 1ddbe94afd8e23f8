//! etcd's log under a flood of audit lines on the disk next to it.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{fd::AsFd, unix::fs::MetadataExt},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, unlinkat},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{Bench, Figure, Measured};
use crate::{
    bench::{figure::Statistic, nodes::Masthead},
    error::{Attempt, Error, Result},
};

const HISTOGRAM: &str = "etcd_disk_wal_fsync_duration_seconds";
/// etcd's own listener for metrics, of its node only.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2381);
/// One write of the flood: what the apiserver's buffered audit log hands over at once.
const CHUNK: usize = 64 * 1024;
/// Chunks a second: 5 MB.
const CHUNKS_A_SECOND: u32 = 76;
/// ConfigMaps written in each round, one after the other: half a minute's work, so that the kernel's write-back and
/// the journals' commits happen meanwhile.
const WRITES: usize = 5000;
/// Each has some 10 000 syncs, of which a hundred are beyond the p99.
const ROUNDS_AT_MOST: usize = 5;
const GOAL_RATIO: f64 = 1.2;

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let masthead = Masthead::ready(bench, "wal")?;
    let process = masthead.node().init_process()?;
    // The first is not counted: a first boot still writes by itself.
    round(&masthead, process, "warm-up")?;
    let (mut quiet, mut flooded) = (Histogram::default(), Histogram::default());
    let mut flood_bytes = 0;
    for run in 0..bench.runs.min(ROUNDS_AT_MOST) {
        quiet.add(&round(&masthead, process, &format!("quiet-{run}"))?);
        let (histogram, bytes) = under_flood(process, || {
            round(&masthead, process, &format!("flooded-{run}"))
        })?;
        flooded.add(&histogram);
        flood_bytes += bytes;
    }
    masthead.remove()?;

    let figure = |what: &str, value: Option<f64>| {
        let milliseconds = value.map(|seconds| seconds * 1000.0);
        Figure::new(what, "ms", milliseconds.into_iter().collect())
    };
    let ratio = |of: fn(&Histogram) -> Option<f64>| {
        let both = of(&flooded).zip(of(&quiet));
        both.map(|(flooded, quiet)| flooded / quiet)
            .into_iter()
            .collect()
    };
    Ok(Measured {
        figures: vec![
            figure("p99 without", quiet.percentile_99()),
            figure("p99 under the flood", flooded.percentile_99()),
            Figure::new("p99, ratio", "", ratio(Histogram::percentile_99))
                .goal(Statistic::Median, GOAL_RATIO),
            figure("mean without", quiet.mean()),
            figure("mean under the flood", flooded.mean()),
            Figure::new("mean, ratio", "", ratio(Histogram::mean)),
        ],
        notes: vec![
            format!(
                "{HISTOGRAM} of etcd, over rounds of {WRITES} ConfigMaps, in turn without and with; {:.0} and {:.0} syncs. The p99 is interpolated inside of a bucket whose bounds are powers of two, as Prometheus does it; the mean is exact.",
                quiet.count, flooded.count
            ),
            format!(
                "The flood: appends of 64 KiB to a file on DATA, {:.1} MB in all, not synced, like the apiserver's batched audit log. A namespace's disks are files on one disk of the host, which they share: a machine's ETCD may have a disk of its own.",
                bytes_to_mb(flood_bytes)
            ),
        ],
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn bytes_to_mb(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// Writes ConfigMaps, and returns how etcd's log was synced meanwhile.
fn round(masthead: &Masthead, process: i32, prefix: &str) -> Result<Histogram> {
    let before = Histogram::read(process)?;
    let mut kubectl = masthead
        .cluster
        .kubectl()
        .args(["create", "--filename=-", "--output=name"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .attempt(|| "start kubectl")?;
    if let Some(mut input) = kubectl.stdin.take() {
        for number in 0..WRITES {
            writeln!(
                input,
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {prefix}-{number}, namespace: default}}"
            )
            .attempt(|| "write to kubectl")?;
        }
    }
    let status = kubectl.wait().attempt(|| "wait for kubectl")?;
    if !status.success() {
        return Err(Error::Refused(format!("kubectl create: {status}")));
    }
    Ok(Histogram::read(process)?.since(&before))
}

/// Does `work` while audit lines flood the node's DATA; returns also how many bytes.
fn under_flood<T>(process: i32, work: impl FnOnce() -> Result<T>) -> Result<(T, usize)> {
    let path = format!("/proc/{process}/root/data");
    let data = File::open(&path).attempt(|| format!("open {path}"))?;
    let owner = data.metadata().attempt(|| format!("look at {path}"))?.uid();
    let enough = AtomicBool::new(false);
    let (done, written) = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&data, owner, &enough));
        let done = work();
        enough.store(true, Ordering::Relaxed);
        (done, flood.join())
    });
    let written = written.map_err(|_| Error::Refused("the flood panicked".to_owned()))??;
    Ok((done?, written))
}

/// Appends to a file in the folder `data` until it is enough; returns how many bytes. The thread is good for nothing
/// else afterwards.
fn flood(data: &File, owner: u32, enough: &AtomicBool) -> Result<usize> {
    const NAME: &str = "flood";
    // The disk knows only the node's users, of which the host's root is none.
    nix::unistd::setfsgid(owner.into());
    nix::unistd::setfsuid(owner.into());
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
    let mut file: File = openat(data, NAME, flags, Mode::RUSR | Mode::WUSR)
        .attempt(|| "make a file on the node's DATA")?
        .into();
    let chunk = vec![b'a'; CHUNK];
    let started = Instant::now();
    let mut chunks = 0;
    while !enough.load(Ordering::Relaxed) {
        file.write_all(&chunk)
            .attempt(|| "append to a file on the node's DATA")?;
        chunks += 1;
        let due = Duration::from_secs(1) * chunks / CHUNKS_A_SECOND;
        thread::sleep(due.saturating_sub(started.elapsed()));
    }
    unlinkat(data, NAME, AtFlags::empty()).attempt(|| "remove a file on the node's DATA")?;
    Ok(chunks as usize * CHUNK)
}

/// A Prometheus histogram of seconds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Histogram {
    /// Upper bounds and how many did not exceed them, cumulative, in rising order; the last is infinite.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

impl Histogram {
    /// Reads etcd's, from inside of the node's network namespace.
    fn read(process: i32) -> Result<Self> {
        let path = format!("/proc/{process}/ns/net");
        let namespace = File::open(&path).attempt(|| format!("open {path}"))?;
        // Only the thread enters, and ends there.
        let reader = thread::spawn(move || -> Result<String> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .attempt(|| "enter the node's network")?;
            let mut answer = String::new();
            TcpStream::connect(METRICS)
                .and_then(|mut stream| {
                    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
                    stream.read_to_string(&mut answer)
                })
                .attempt(|| format!("read etcd's metrics at {METRICS}"))?;
            Ok(answer)
        });
        let text = reader
            .join()
            .map_err(|_| Error::Refused("the reader of metrics panicked".to_owned()))??;
        let histogram = Self::parse(&text);
        if histogram.buckets.is_empty() {
            return Err(Error::Refused(format!("etcd does not offer {HISTOGRAM}")));
        }
        Ok(histogram)
    }

    fn parse(text: &str) -> Self {
        let mut histogram = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line
                .strip_prefix(HISTOGRAM)
                .and_then(|rest| rest.rsplit_once(' '))
            else {
                continue;
            };
            let Ok(value) = value.parse() else { continue };
            match name {
                "_sum" => histogram.sum = value,
                "_count" => histogram.count = value,
                bucket => {
                    let bound = bucket
                        .strip_prefix("_bucket{le=\"")
                        .and_then(|rest| rest.strip_suffix("\"}"))
                        // "+Inf" is a number too.
                        .and_then(|bound| bound.parse().ok());
                    histogram.buckets.extend(bound.map(|bound| (bound, value)));
                }
            }
        }
        histogram
    }

    fn combine(&mut self, other: &Self, sign: f64) {
        if self.buckets.is_empty() {
            self.buckets = other
                .buckets
                .iter()
                .map(|&(bound, _)| (bound, 0.0))
                .collect();
        }
        for (mine, others) in self.buckets.iter_mut().zip(&other.buckets) {
            mine.1 += sign * others.1;
        }
        self.sum += sign * other.sum;
        self.count += sign * other.count;
    }

    fn add(&mut self, other: &Self) {
        self.combine(other, 1.0);
    }

    fn since(mut self, earlier: &Self) -> Self {
        self.combine(earlier, -1.0);
        self
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// As Prometheus's `histogram_quantile(0.99, …)`: linear inside of the bucket.
    fn percentile_99(&self) -> Option<f64> {
        let rank = 0.99 * self.count;
        let index = self.buckets.iter().position(|&(_, count)| count >= rank)?;
        let (low, below) = index
            .checked_sub(1)
            .map_or((0.0, 0.0), |before| self.buckets[before]);
        let (high, up_to) = self.buckets[index];
        if self.count <= 0.0 || high.is_infinite() {
            return (self.count > 0.0).then_some(low);
        }
        Some(low + (high - low) * (rank - below) / (up_to - below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 90
etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 98
etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.004\"} 100
etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 100
etcd_disk_wal_fsync_duration_seconds_sum 0.1
etcd_disk_wal_fsync_duration_seconds_count 100
";

    #[test]
    fn the_percentile_is_inside_of_its_bucket() {
        let histogram = Histogram::parse(TEXT);
        let percentile = histogram.percentile_99().expect("samples");
        assert!((percentile - 0.003).abs() < 1e-9, "{percentile}");
        assert!((histogram.mean().expect("samples") - 0.001).abs() < 1e-9);
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let histogram = Histogram::parse(TEXT);
        let nothing = histogram.clone().since(&histogram);
        assert_eq!(nothing.mean(), None);
        assert_eq!(nothing.percentile_99(), None);
    }
}
