//! Founding the cluster, exactly once, and coming back to it: the shell around `masthead-formation`.
//!
//! ```text
//! /state/machine-id              random, for ever               ┐ made at the first boot
//! /state/peer.key                by which peers know this node  ┘
//! /state/formation/plan-N        a plan that this node acknowledges: members, authorities, keys
//! /state/formation/go            which plan may be started
//! /state/formation/started       etcd's first start, and on which file system
//! /etcd/started                  its counterpart
//! ```
//! All of it is root's alone (0700, 0600), and every record has a format and a checksum.
//!
//! - [`spawn`] starts the task that owns the machine; [`Handle`] is how others talk to it;
//! - `life` feeds one machine from the peers, the disks and operators, and carries out what it asks for;
//! - `own` is who this machine is, `records` what the disks hold, `sealed` the keys in a plan;
//! - `memory` is what a supervisor leaves to its successor;
//! - `membership` is what peers may do, by what this node is; [`report`] is what people are told.

mod life;
mod membership;
mod memory;
mod own;
mod records;
pub mod report;
pub(crate) mod sealed;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use masthead_api::ReasonCode;
use masthead_control_plane::EtcdStart;
use masthead_formation::{InvalidOverride, MachineId, Plan, Reason, Volume};
use masthead_machine::Scale;
use masthead_peer_protocol::{SPOKEN, Versions};
use masthead_seed::{Master, Seed};
use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use self::life::{Life, Voice};
use self::memory::Remembered;
use self::own::Own;
pub use self::records::Places;
use self::records::{Holdings, read_volumes};
pub use self::report::Report;
use crate::error_chain::with_sources;
use crate::identity::storage::{Durable, Storage};
use crate::identity::{Handover, Problem};
use crate::peer::{self, Access, Question};

/// How long to wait before disks that could not be read are read again.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// What it takes to found a cluster, or to come back to it.
pub struct Config {
    seed: Arc<Seed>,
    master: Arc<Master>,
    versions: Versions,
    scale: Scale,
    places: Places,
    handover: Handover,
    lock: PathBuf,
    storage: Arc<dyn Storage + Send + Sync>,
}

impl Config {
    /// For the `master` of the `seed` that this machine is, with its volumes at `places`. `handover` is what this boot's
    /// supervisors leave to each other, and `lock` a file in memory that is locked by the one that may write records.
    pub fn new(
        seed: Arc<Seed>,
        master: Arc<Master>,
        scale: Scale,
        places: Places,
        handover: Handover,
        lock: impl Into<PathBuf>,
    ) -> Self {
        Self {
            seed,
            master,
            versions: SPOKEN,
            scale,
            places,
            handover,
            lock: lock.into(),
            storage: Arc::new(Durable),
        }
    }

    /// The same in these versions of the peer protocol, instead of this release's.
    pub fn speaking(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }
}

/// What etcd is to be started as.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// This machine.
    pub machine_id: MachineId,
    /// What it is a member of.
    pub plan: Arc<Plan>,
    /// Whether etcd founds its store, or must find it.
    pub start: EtcdStart,
}

/// What others tell the task.
#[derive(Debug)]
enum Command {
    EtcdServed,
    VolumeLost {
        volume: Volume,
        error: String,
    },
    FoundWithout {
        names: BTreeSet<String>,
        cluster: String,
        reply: oneshot::Sender<Result<(), InvalidOverride>>,
    },
}

/// The way to the task; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    start: watch::Receiver<Option<Start>>,
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Waits until etcd may start.
    pub async fn started(&self) -> Start {
        let mut start = self.start.clone();
        let found = start.wait_for(Option::is_some).await;
        let found = found.ok().and_then(|start| start.clone());
        match found {
            Some(start) => start,
            // The task has ended, which it does with the runtime only.
            None => std::future::pending().await,
        }
    }

    /// Tells that etcd has served: from now on its data must be there.
    pub async fn etcd_served(&self) {
        let _ = self.commands.send(Command::EtcdServed).await;
    }

    /// Tells that a volume cannot be used any more.
    pub async fn volume_lost(&self, volume: Volume, error: String) {
        let _ = self
            .commands
            .send(Command::VolumeLost { volume, error })
            .await;
    }

    /// An operator's word to found without some of the listed masters; `None` when there is nobody to decide it.
    pub async fn found_without(
        &self,
        names: BTreeSet<String>,
        cluster: String,
    ) -> Option<Result<(), InvalidOverride>> {
        let (reply, answer) = oneshot::channel();
        let command = Command::FoundWithout {
            names,
            cluster,
            reply,
        };
        self.commands.send(command).await.ok()?;
        answer.await.ok()
    }
}

/// Starts the task on the current runtime. It publishes what people are told, and runs for as long as the supervisor. It
/// has the transport to the peers, and gives `peers` the way to them and what they ask this node for.
pub fn spawn(
    config: Config,
    listener: impl Future<Output = TcpListener> + Send + 'static,
    publisher: watch::Sender<Report>,
    peers: impl FnOnce(peer::Handle, mpsc::Receiver<Question>) + Send + 'static,
) -> Handle {
    let (start_sender, start) = watch::channel(None);
    let (command_sender, commands) = mpsc::channel(8);
    let shell = Shell {
        config: Arc::new(config),
        publisher,
        start: start_sender,
        commands,
    };
    tokio::spawn(shell.run(listener, peers));
    Handle {
        start,
        commands: command_sender,
    }
}

/// The task's own.
struct Shell {
    config: Arc<Config>,
    publisher: watch::Sender<Report>,
    start: watch::Sender<Option<Start>>,
    commands: mpsc::Receiver<Command>,
}

impl Shell {
    async fn run(
        mut self,
        listener: impl Future<Output = TcpListener>,
        peers: impl FnOnce(peer::Handle, mpsc::Receiver<Question>),
    ) {
        let remembered = memory::recall(&self.config.handover);
        let (own, mut holdings, _lock) = if let Some(remembered) = remembered {
            self.resume(remembered)
        } else {
            let lock = self.lock().await;
            let (own, holdings) = self.read().await;
            (own, holdings, lock)
        };
        let mut voice = match self.speak(&own, listener).await {
            Ok((handle, inbox)) => {
                peers(handle.clone(), inbox.questions);
                Voice::new(handle, inbox.formation)
            }
            Err(problem) => {
                report::publish(&self.publisher, |report| report.fail(&problem));
                return std::future::pending().await;
            }
        };
        loop {
            let life = Life::new(self, &own, holdings);
            self = life.run(&mut voice).await;
            // Only disks that could not be read end a life.
            holdings = self.read().await.1;
        }
    }

    /// Goes on where an earlier supervisor of this boot was, without looking at a disk.
    fn resume(&self, remembered: Remembered) -> (Own, Holdings, Option<File>) {
        let Remembered {
            own,
            holdings,
            start,
        } = remembered;
        if let Some(plan) = holdings.plan() {
            self.start.send_replace(Some(Start {
                machine_id: own.machine_id,
                plan: Arc::new(plan),
                start,
            }));
        }
        (own, holdings, None)
    }

    /// Waits until no earlier supervisor can write a record any more: one that was killed may have left a write with a
    /// disk that stalls, and what it wrote would change behind this one's back.
    async fn lock(&self) -> Option<File> {
        let path = self.config.lock.clone();
        let locking = tokio::task::spawn_blocking(move || lock_file(&path));
        match locking.await {
            Ok(Ok(file)) => Some(file),
            Ok(Err(error)) => {
                tracing::error!(%error, "the lock of formation cannot be had; going on without it");
                None
            }
            Err(panicked) => {
                tracing::error!(%panicked, "locking panicked");
                None
            }
        }
    }

    /// Reads the volumes, and waits for as long as STATE cannot be read.
    async fn read(&self) -> (Own, Holdings) {
        loop {
            let config = Arc::clone(&self.config);
            let read = tokio::task::spawn_blocking(move || {
                let holdings = read_volumes(&config.places);
                let has_records = match &holdings.state {
                    Ok(state) => !state.is_empty(),
                    Err(error) => {
                        let reason = Reason::VolumeUnknown {
                            volume: Volume::State,
                            error: error.clone(),
                        };
                        return Err(Problem::new(reason.code(), reason.to_string()));
                    }
                };
                let own = Own::establish(&*config.storage, &config.places.state, has_records)?;
                Ok((own, holdings))
            });
            match read.await {
                Ok(Ok(read)) => return read,
                Ok(Err(problem)) => {
                    report::publish(&self.publisher, |report| report.fail(&problem));
                }
                Err(panicked) => tracing::error!(%panicked, "reading the volumes panicked"),
            }
            tokio::time::sleep(self.config.scale * READ_AGAIN).await;
        }
    }

    /// Starts the transport.
    async fn speak(
        &self,
        own: &Own,
        listener: impl Future<Output = TcpListener>,
    ) -> Result<(peer::Handle, peer::Inbox), Problem> {
        let Config {
            seed,
            master,
            versions,
            scale,
            ..
        } = &*self.config;
        let machine_id = own.machine_id.to_string();
        let key = Arc::clone(&own.key);
        let settings =
            peer::Settings::of_seed(seed, master, &machine_id, key, *scale)?.speaking(*versions);
        peer::spawn(listener.await, settings, Access::Undecided).map_err(|error| {
            Problem::new(
                ReasonCode::IdentityDamaged,
                format!(
                    "The node's own key cannot be used: {}.",
                    with_sources(&error)
                ),
            )
        })
    }
}

fn lock_file(path: &Path) -> std::io::Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}
