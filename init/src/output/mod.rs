//! Output of services: followed from tmpfs to disk, never in the service's way.
//!
//! A service appends to a file on a size-limited tmpfs, which neither breaks nor blocks it when the
//! supervisor or the disk does. One follower task per service copies the bytes verbatim to
//! segments on DATA and punches holes behind the copy. Positions are offsets in the *stream* of one
//! boot, which are also the offsets in the tmpfs file: it is never truncated, only punched.

mod copier;
mod follower;
mod read;
mod segments;
mod source;
mod tail;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use masthead_machine::Scale;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use read::Reader;
pub use read::{Follow, From};

/// Where one service's output is and goes, and the bounds on it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The service's name.
    pub service: String,
    /// The append-only file on tmpfs: `/run/masthead/output/SERVICE`. Made if it does not exist.
    pub source: PathBuf,
    /// The service's directory on disk: `/data/log/SERVICE`. It and its parent are made when the disk is
    /// there; until then output is held in memory.
    pub segments: PathBuf,
    /// A small file on a tmpfs that holds this boot's number: `/run/masthead/boot-number`; shared by all
    /// services, made by whoever first sees the disk.
    pub boot_number: PathBuf,
    /// Bounds.
    pub bounds: Bounds,
}

/// How much output is kept, in bytes, and how long the disk is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of one segment on disk.
    pub segment: u64,
    /// Of all segments of one service on disk, of all boots.
    pub disk: u64,
    /// Of what tmpfs holds of one service while the disk does not take it; then the oldest is dropped.
    /// While the disk is slow but takes it, it is twice this much.
    pub memory: u64,
    /// Of what stays in tmpfs although it is on disk, so that the last lines can be read when the disk
    /// is gone.
    pub window: u64,
    /// How long to wait before a disk that failed is tried again.
    pub retry: Duration,
    /// After how long a write that does not come back counts as stalled.
    pub stall: Duration,
    /// How long a reader waits for the disk before it does without it.
    pub patience: Duration,
}

impl Bounds {
    /// The bounds of this release: 16 MiB segments, 128 MiB on disk for each service, 12 MiB in memory,
    /// so that the four services stay within their tmpfs of 64 MiB.
    pub fn new(scale: Scale) -> Self {
        Self {
            segment: 16 << 20,
            disk: 128 << 20,
            memory: 12 << 20,
            window: 256 << 10,
            retry: scale * Duration::from_secs(2),
            stall: scale * Duration::from_secs(10),
            patience: scale * Duration::from_secs(2),
        }
    }

    /// The bounds on a file system of this many bytes, 0 for one without a limit: no more than an eighth of it for each
    /// service, so that a small one, or memory in the place of a disk, keeps the newest output and room for others.
    fn on(self, bytes: u64) -> Self {
        let disk = bytes / 8;
        if bytes == 0 || disk >= self.disk {
            return self;
        }
        Self {
            disk,
            segment: self.segment.min(disk / 4),
            ..self
        }
    }
}

/// What a follower does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Bytes that the service has written since boot: the end of the stream.
    pub written: u64,
    /// Up to which offset the stream is on disk.
    pub stored: u64,
    /// Bytes of this boot's stream that never reached the disk, as far as known.
    pub lost: u64,
    /// Why nothing is copied at the moment; `None` while all is well.
    pub trouble: Option<Trouble>,
}

/// Why output is not stored (reason code `output-not-stored`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Cause.
    pub cause: Cause,
    /// Details for people, with the path.
    pub detail: String,
    /// Since when.
    pub since: SystemTime,
}

/// What keeps output from the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// DATA is not mounted.
    DiskAbsent,
    /// No room.
    DiskFull,
    /// The kernel refuses writes.
    DiskReadOnly,
    /// A read or write failed.
    DiskFailing,
    /// A write has not come back for long.
    DiskStalled,
    /// The tmpfs file itself cannot be read.
    SourceUnreadable,
}

/// A running follower. Dropping the last handle ends it.
#[derive(Debug, Clone)]
pub struct Handle {
    reader: Reader,
    _task: Arc<Task>,
}

/// The follower's task, which ends with its last handle.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the follower of one service on the current runtime.
///
/// When a disk stalls, a blocking thread hangs in it until it comes back; a program that ends must not
/// wait for it (`Runtime::shutdown_background`).
pub fn spawn(config: Config) -> Handle {
    let config = Arc::new(config);
    let (sender, state) = watch::channel(State::default());
    let task = tokio::spawn(follower::follow(Arc::clone(&config), sender));
    Handle {
        reader: Reader { config, state },
        _task: Arc::new(Task(task)),
    }
}

impl Handle {
    /// Its state, and changes of it.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.reader.state.clone()
    }

    /// The last lines, oldest first, without their line ends; bytes that are no UTF-8 are replaced. Reads
    /// tmpfs, then disk, and earlier boots if need be; what the disk does not give back in time is left
    /// out.
    pub async fn tail(&self, lines: usize) -> Vec<String> {
        let (bytes, _) = self.reader.last_lines(lines).await;
        let text = String::from_utf8_lossy(&bytes);
        // A power cut may leave zeros where a line should be.
        text.lines()
            .map(|line| line.trim_matches('\0').to_owned())
            .collect()
    }

    /// Waits until all that the service has written so far is on disk, or until it is known that the disk
    /// does not take it. Ends also when the follower does.
    pub async fn stored(&self) {
        let Ok(source) = std::fs::metadata(&self.reader.config.source) else {
            // Nothing was ever written.
            return;
        };
        let mut state = self.watch();
        let _ = state
            .wait_for(|state| state.stored >= source.len() || state.trouble.is_some())
            .await;
    }

    /// Output from a point on, as it is written.
    pub fn follow(&self, from: From) -> Follow {
        Follow::new(self.reader.clone(), from)
    }
}
