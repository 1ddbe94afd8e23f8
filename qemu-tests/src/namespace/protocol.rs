//! What the lab and the launcher of one node say to each other: JSON, one message per line, on
//! the launcher's standard input, which is a socket. When the lab goes, the socket ends, and so
//! does the node.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    plan::{DiskRole, NodePlan},
    provider::DiskCondition,
};

/// The first message to a launcher: all it needs for one power-on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Configuration {
    pub(super) plan: NodePlan,
    pub(super) seed: String,
    pub(super) timing_scale: f64,
    /// The node's control group on the host; the launcher makes and removes it.
    pub(super) cgroup: PathBuf,
    /// Disks that are not listed are healthy.
    pub(super) disks: BTreeMap<DiskRole, DiskCondition>,
}

/// The lab to the launcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub(super) enum Command {
    /// The network is plugged in: start PID 1.
    Start,
    /// Pull the plug.
    Cut,
    /// Change a disk; answered by [`Report::Done`] or [`Report::Failed`].
    Disk {
        role: DiskRole,
        condition: DiskCondition,
    },
}

/// The launcher to the lab.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub(super) enum Report {
    /// The namespaces are there, and wait for their network.
    Born { pid: i32 },
    /// PID 1 runs.
    Started,
    /// A command has been carried out.
    Done,
    /// A command, or the start, has failed.
    Failed { message: String },
    /// PID 1 has ended and the disks are unmounted. The last message.
    Ended { how: End },
}

/// How a node's PID 1 ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub(super) enum End {
    /// It asked the kernel for a restart.
    Reboot,
    /// It asked the kernel to switch the machine off.
    PowerOff,
    /// The lab cut its power.
    Cut,
    /// It ended otherwise.
    Crash { how: String },
}

/// Sends one message.
pub(super) fn send(mut socket: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Receives one message; `None` when the other side has gone.
pub(super) fn receive<T: DeserializeOwned>(
    socket: &mut BufReader<UnixStream>,
) -> io::Result<Option<T>> {
    let mut line = String::new();
    match socket.read_line(&mut line) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(serde_json::from_str(&line)?)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error),
    }
}
