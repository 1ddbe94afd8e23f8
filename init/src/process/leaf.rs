//! The control groups (v2) of services: `services/NAME` below a given root.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::pread;
use thiserror::Error;
use tokio::io::Interest;

use crate::descriptor;

/// The controllers that services are limited by, as `cgroup.controllers` names them.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// The directory `services` of the control group tree, with every controller enabled for its
/// children that the kernel offers.
#[derive(Debug, Clone)]
pub struct Services {
    directory: PathBuf,
}

/// The control group of one service.
#[derive(Debug, Clone)]
pub struct Leaf {
    name: String,
    directory: PathBuf,
    limits: Limits,
    without: Vec<Without>,
}

/// Limits of a leaf, as cgroups(7) and the kernel's `cgroup-v2` document define them. `None` leaves the
/// kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// `memory.max`: bytes that the service may use before it is killed.
    pub memory_max: Option<u64>,
    /// `memory.high`: bytes from which on the service is throttled and reclaimed from.
    pub memory_high: Option<u64>,
    /// `memory.min`: bytes that are never reclaimed from the service.
    pub memory_min: Option<u64>,
    /// `pids.max`: processes and threads.
    pub pids_max: Option<u64>,
    /// `cpu.weight`: share of the processors, from 1 to 10000; the default is 100.
    pub cpu_weight: Option<u32>,
    /// `io.weight`: share of the disks, from 1 to 10000; the default is 100.
    pub io_weight: Option<u32>,
}

/// A setting that was asked for and that the kernel does not offer here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Without {
    /// The setting: `memory.max`, `oom_score_adj`, …
    pub setting: String,
    /// Why it could not be had.
    pub reason: String,
}

/// An operation on a control group failed.
#[derive(Debug, Error)]
#[error("cannot {action} `{}`", path.display())]
pub struct LeafError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Services {
    /// Creates `services` below `root`, the mount point of cgroup2 or a directory in it, and
    /// enables the controllers that the kernel offers there. On a machine `root` is `/sys/fs/cgroup`.
    ///
    /// `root` itself must hold no process unless it is the root of the whole hierarchy, because the
    /// kernel enables no controller next to processes (the "no internal processes" rule of
    /// cgroups(7)); what cannot be enabled shows in [`Leaf::without`].
    pub fn prepare(root: &Path) -> Result<Self, LeafError> {
        let directory = root.join("services");
        create(&directory)?;
        enable_controllers(root)?;
        enable_controllers(&directory)?;
        Ok(Self { directory })
    }

    /// Opens the leaf of a service, creating it if need be, and writes its limits; what the kernel does
    /// not offer is listed in [`Leaf::without`].
    pub fn leaf(&self, name: &str, limits: &Limits) -> Result<Leaf, LeafError> {
        let directory = self.directory.join(name);
        create(&directory)?;
        let without = limits.write(&directory);
        Ok(Leaf {
            name: name.to_owned(),
            directory,
            limits: limits.clone(),
            without,
        })
    }
}

impl Limits {
    /// The limits that are set, as (file, value).
    fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let text = |value: Option<u64>| value.map(|value| value.to_string());
        [
            ("memory.max", text(self.memory_max)),
            ("memory.high", text(self.memory_high)),
            ("memory.min", text(self.memory_min)),
            ("pids.max", text(self.pids_max)),
            ("cpu.weight", text(self.cpu_weight.map(u64::from))),
            ("io.weight", text(self.io_weight.map(u64::from))),
        ]
        .into_iter()
        .filter_map(|(file, value)| Some((file, value?)))
    }

    /// Writes them to a control group, and tells which ones it does not take.
    fn write(&self, directory: &Path) -> Vec<Without> {
        self.settings()
            .filter_map(|(file, value)| {
                let error = write_control(&directory.join(file), &value).err()?;
                Some(Without {
                    setting: file.to_owned(),
                    reason: why_without(file, &error),
                })
            })
            .collect()
    }
}

impl Leaf {
    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The limits that were asked for and that this kernel cannot keep.
    pub fn without(&self) -> &[Without] {
        &self.without
    }

    /// The ids of the processes in it, in no order.
    pub fn processes(&self) -> Result<Vec<u32>, LeafError> {
        let path = self.directory.join("cgroup.procs");
        let text = fs::read_to_string(&path).map_err(LeafError::new("read", &path))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Whether any process is in it or below it. Zombies do not count.
    pub fn is_populated(&self) -> Result<bool, LeafError> {
        let path = self.directory.join("cgroup.events");
        let text = fs::read_to_string(&path).map_err(LeafError::new("read", &path))?;
        Ok(tells_populated(&text))
    }

    /// Replaces the leaf by a new one of the same name and limits; `false` if it is populated, which
    /// the kernel itself checks.
    ///
    /// A process can be born only into a leaf in which nothing was ever killed with
    /// [`kill`](Self::kill): since 6.14, and in the stable series before it, the kernel compares the
    /// number of such kills of the *parent's* control group with the child's, and kills the child at
    /// birth when they differ (`kill_seq` in `cgroup_css_set_fork`, read before `CLONE_INTO_CGROUP`
    /// is looked at). A new leaf counts from zero, as the supervisor's own does, on which
    /// `cgroup.kill` must never be used.
    pub fn renew(&self) -> Result<bool, LeafError> {
        match fs::remove_dir(&self.directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
            Err(error) => return Err(LeafError::new("remove", &self.directory)(error)),
        }
        create(&self.directory)?;
        self.limits.write(&self.directory);
        Ok(true)
    }

    /// Waits until no process is left. Safe to cancel.
    pub async fn emptied(&self) -> Result<(), LeafError> {
        let path = self.directory.join("cgroup.events");
        let file = File::open(&path).map_err(LeafError::new("open", &path))?;
        // The kernel reports a change of the file as priority data.
        let events =
            descriptor::watch(file, Interest::PRIORITY).map_err(LeafError::new("watch", &path))?;
        loop {
            let mut buffer = [0; 256];
            let length = pread(events.get_ref(), &mut buffer, 0)
                .map_err(|error| LeafError::new("read", &path)(error.into()))?;
            if !tells_populated(&String::from_utf8_lossy(&buffer[..length])) {
                return Ok(());
            }
            let mut changed = events
                .ready(Interest::PRIORITY)
                .await
                .map_err(LeafError::new("watch", &path))?;
            changed.clear_ready();
        }
    }

    /// Kills every process in it and below it, also those that fork meanwhile (`cgroup.kill`).
    /// Returns at once: wait with [`emptied`](Self::emptied).
    pub fn kill(&self) -> Result<(), LeafError> {
        let path = self.directory.join("cgroup.kill");
        write_control(&path, "1").map_err(LeafError::new("write to", &path))
    }
}

impl LeafError {
    fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            source,
        }
    }
}

fn create(directory: &Path) -> Result<(), LeafError> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(LeafError::new("create the control group", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Enables for the children of `directory` each controller that it has. One by one, because the
/// kernel takes all of a list or nothing; one that is refused shows where its limits are written.
fn enable_controllers(directory: &Path) -> Result<(), LeafError> {
    let offered = directory.join("cgroup.controllers");
    let offered = fs::read_to_string(&offered).map_err(LeafError::new("read", &offered))?;
    let control = directory.join("cgroup.subtree_control");
    for controller in offered
        .split_whitespace()
        .filter(|name| CONTROLLERS.contains(name))
    {
        if let Err(error) = write_control(&control, &format!("+{controller}")) {
            tracing::warn!(controller, %error, group = %directory.display(), "controller refused");
        }
    }
    Ok(())
}

/// Writes a control file, which must exist: in cgroupfs none is ever created by opening.
fn write_control(path: &Path, value: &str) -> io::Result<()> {
    // One write(2), which is one command to the kernel.
    File::options()
        .write(true)
        .open(path)?
        .write_all_at(value.as_bytes(), 0)
}

fn why_without(file: &str, error: &io::Error) -> String {
    let controller = file.split('.').next().unwrap_or(file);
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("the kernel does not offer the controller `{controller}` here")
        }
        _ => format!("the kernel refused the value: {error}"),
    }
}

fn tells_populated(events: &str) -> bool {
    events.lines().any(|line| line == "populated 1")
}
