//! What the lab's commands and its daemon say to each other on `.lab/daemon.sock`: one request,
//! then any number of progress messages, then one outcome; JSON, a message per line.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cluster::{Description, Progress},
    partition::Direction,
    plan::{ClusterPlan, DiskRole},
    provider::{Cable, DiskCondition, Effective, Link, ProviderKind, Signal, Wipe},
    tools::Tools,
};

/// The first line on the daemon's standard input: what to run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) plan: ClusterPlan,
    pub(super) origin: Origin,
    pub(super) tools: Tools,
}

/// The second line: the cluster goes on without whoever ordered it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept;

/// Where a cluster comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It is founded.
    New {
        /// By nodes of this kind.
        provider: ProviderKind,
        /// Masters that stay off at first.
        off: Vec<String>,
    },
    /// It was saved in this folder. Of its plan, only the folders count.
    Saved(PathBuf),
}

/// What a command can ask of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Wait until the cluster is ready. With `or_down`, a caller that goes away before takes the
    /// cluster with it.
    Wait {
        /// See above.
        or_down: bool,
    },
    /// End the cluster and the daemon.
    Down,
    /// Describe the cluster.
    Status,
    /// Pull the plug of a node.
    PowerCut {
        /// Its name.
        node: String,
    },
    /// Press the power button of a node.
    PowerOn {
        /// Its name.
        node: String,
    },
    /// Cut the wire between groups of nodes; none heal it.
    Partition {
        /// Names.
        groups: Vec<BTreeSet<String>>,
        /// Which ways.
        direction: Direction,
    },
    /// Make a node's cable a bad one, or a good one.
    Cable {
        /// Its name.
        node: String,
        /// What it does.
        cable: Cable,
    },
    /// Give a node that is off blank disks.
    Wipe {
        /// Its name.
        node: String,
        /// Which.
        what: Wipe,
    },
    /// Give a node that is off another seed.
    Seed {
        /// Its name.
        node: String,
        /// The text of the file.
        seed: String,
    },
    /// Plug a node's cable in or pull it out.
    Link {
        /// Its name.
        node: String,
        /// In or out.
        link: Link,
    },
    /// Send a signal to a service of a node.
    Signal {
        /// The node's name.
        node: String,
        /// `etcd`, …, `supervisor` or `init`.
        service: String,
        /// What to send.
        signal: Signal,
    },
    /// Change a node's disk.
    Disk {
        /// The node's name.
        node: String,
        /// Which disk.
        role: DiskRole,
        /// How it is to be.
        condition: DiskCondition,
    },
    /// Save the cluster.
    Save {
        /// The folder to make.
        folder: PathBuf,
    },
    /// The process id of a node's PID 1.
    InitProcess {
        /// The node's name.
        node: String,
    },
}

/// What the daemon answers with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Not done yet: what each node waits for.
    Progress {
        /// The nodes, m1 first.
        nodes: Vec<Progress>,
    },
    /// Done.
    Done {
        /// What came of it.
        outcome: Outcome,
    },
    /// Not done.
    Failed {
        /// Why, causes included.
        message: String,
    },
}

/// What can come of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing to say.
    Nothing,
    /// The cluster.
    Cluster(Description),
    /// Processes were signalled.
    Processes {
        /// Their ids on the host.
        pids: Vec<i32>,
    },
    /// A disk was changed.
    Disk {
        /// When that takes effect.
        effective: Effective,
    },
}

/// Sends one message.
pub(super) fn send(mut socket: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Receives one message; `None` when the other side has gone.
pub(super) fn receive<T: DeserializeOwned>(
    socket: &mut BufReader<UnixStream>,
) -> io::Result<Option<T>> {
    let mut line = String::new();
    if socket.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}
