//! The interface between a cluster and the way its nodes are run.
//!
//! Everything here blocks and may be called from any thread: a test reads from top to bottom,
//! and a provider keeps whatever threads or executor it needs to itself. Nothing here waits for
//! the node's software: [`Node::power_on`] returns when PID 1 has been started (the machine
//! is running), not when Kubernetes answers; waiting is [`crate::patience`]'s business.
//!
//! What a provider must guarantee:
//!
//! * **Nothing is left behind.** Dropping a [`Node`] or a [`Provider`] ends every process, mount,
//!   device and namespace that it made; when the lab's process is killed, the same happens by
//!   itself (the kernel, or a watcher that sees the lab go).
//! * **A power cut is one.** After [`Node::cut_power`] returns, what the node had not flushed is
//!   gone, and what it had flushed is there at the next [`Node::power_on`].
//! * **The console** is appended to [`NodePlan::console`], raw, over all boots.
//! * **The host's network is not touched**: clients reach the cluster through [`Provider::forward`].

use std::{
    collections::BTreeSet,
    fmt,
    net::{SocketAddr, SocketAddrV4},
    path::Path,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    partition::Cut,
    plan::{DiskRole, NodePlan},
    qemu::{MachineOptions, SavedWire},
    tap::Tap,
};

/// How nodes are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderKind {
    /// QEMU machines: the real kernel, boot chain and disks; slow where emulated.
    Vm,
    /// PID 1 of new namespaces on the host's kernel, at native speed.
    Namespace,
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Vm => "vm",
            Self::Namespace => "namespace",
        })
    }
}

impl FromStr for ProviderKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "vm" => Ok(Self::Vm),
            "namespace" => Ok(Self::Namespace),
            other => Err(Error::Refused(format!(
                "`{other}` is no provider: write `vm` or `namespace`"
            ))),
        }
    }
}

/// One way to run the nodes of one cluster: their common wire, and the nodes on it.
pub trait Provider: Send + Sync {
    /// Which way this is.
    fn kind(&self) -> ProviderKind;

    /// The factor on all deadlines of the nodes: 1.0 is a real machine, 15 an emulated one.
    /// The nodes get it as `timing.scale`; tests multiply their patience by it.
    fn timing_scale(&self) -> f64;

    /// Prepares a node (its disks, blank) and plugs it into the wire, switched off. `seed` is
    /// the text of the cluster's seed file.
    fn add_node(&self, plan: &NodePlan, seed: &str) -> Result<Arc<dyn Node>>;

    /// Forwards connections to a new loopback port of the host to `to`, an address on the
    /// cluster's wire, until the returned value is dropped.
    fn forward(&self, to: SocketAddrV4) -> Result<Forward>;

    /// Cuts the wire between nodes: nothing goes in these directions from now on, all others are as before, and the
    /// host reaches all nodes. No cuts heal the wire.
    ///
    /// Each call replaces what the one before it said.
    fn partition(&self, cuts: &BTreeSet<Cut>) -> Result<()>;

    /// An ear on the wire.
    fn tap(&self) -> Result<Box<dyn Tap>>;

    /// What [`crate::saved`] must know of all nodes together to restore them; `node` is one of them.
    fn save(&self, _node: &NodePlan) -> Result<SavedWire> {
        Err(not_saved())
    }
}

/// A running forwarder from a loopback port of the host into the cluster's network.
pub struct Forward {
    /// Where to connect: 127.0.0.1 and a port that the kernel chose.
    pub local: SocketAddr,
    /// Stops the forwarder when dropped.
    _guard: Box<dyn Send + Sync>,
}

impl Forward {
    /// A forwarder that listens at `local` and ends, with its connections, when `guard` is dropped.
    pub fn new(local: SocketAddr, guard: impl Send + Sync + 'static) -> Self {
        Self {
            local,
            _guard: Box::new(guard),
        }
    }
}

/// One node: what a person with hands in the machine room could do to it.
pub trait Node: Send + Sync {
    /// What the node was made from.
    fn plan(&self) -> &NodePlan;

    /// Presses the power button of a node that is off.
    fn power_on(&self) -> Result<()>;

    /// Pulls the plug: what was not flushed is lost. Of a node that is off, does nothing.
    fn cut_power(&self) -> Result<()>;

    /// Whether the node runs.
    fn power(&self) -> Power;

    /// All that happened to the power since the node was made, oldest first. A reboot appears
    /// as [`PowerChange::Rebooted`]; the node is running again by itself then.
    fn history(&self) -> Vec<PowerEvent>;

    /// Plugs the network cable in or pulls it out. Survives reboots.
    fn set_link(&self, link: Link) -> Result<()>;

    /// Makes the node's cable a bad one, or a good one again: see [`Cable`]. Survives reboots.
    fn set_cable(&self, cable: Cable) -> Result<()>;

    /// Sends a signal to every process of a service (`etcd`, …), or to `supervisor` or `init`.
    /// Returns their process ids as the host sees them. No process is an error.
    fn signal(&self, service: &str, signal: Signal) -> Result<Vec<i32>>;

    /// The processes of a service, or of `supervisor` or `init`, as the host numbers them.
    fn processes(&self, service: &str) -> Result<Vec<i32>>;

    /// Puts a disk into a state of trouble, or out of it. Says when it takes effect.
    fn set_disk(&self, role: DiskRole, condition: DiskCondition) -> Result<Effective>;

    /// Replaces a disk of a node that is off, or all of them, by a blank one, of the same size.
    fn wipe(&self, what: Wipe) -> Result<()>;

    /// Hands another seed file in, from the next power on of a node that is off.
    fn set_seed(&self, seed: &str) -> Result<()>;

    /// Chooses how a machine boots and where its seed is, from the next power on.
    fn set_machine(&self, _options: MachineOptions) -> Result<()> {
        Err(Error::Unsupported {
            kind: ProviderKind::Namespace,
            operation: "boot in another way",
            reason: "there is no firmware in a namespace",
        })
    }

    /// Forwards connections to a new loopback port of the host to a port of the node's address, from inside of the node: behind its
    /// firewall.
    fn forward_inside(&self, _port: u16) -> Result<Forward> {
        Err(Error::Unsupported {
            kind: ProviderKind::Vm,
            operation: "be reached behind its firewall",
            reason: "a machine has no way in",
        })
    }

    /// The process id of PID 1 on the host, where it is a process of the host: `lab exec`
    /// enters its namespaces.
    fn init_process(&self) -> Result<i32>;

    /// The node as one that can be saved and restored.
    fn saving(&self) -> Result<&dyn Saving> {
        Err(not_saved())
    }
}

/// What a cluster is saved and restored with. All nodes are paused before the first is saved, and none
/// goes on before the last is: no node may see another one stand still.
pub trait Saving {
    /// Stops a running node between two instructions. What it has written is on its disk's image then.
    fn pause(&self) -> Result<()>;

    /// Writes a node into a folder: disk and console, and of a paused one also memory and devices.
    fn save(&self, folder: &Path) -> Result<()>;

    /// Makes a node that is off, and was never on, the one that was saved in a folder: paused or off.
    fn restore(&self, folder: &Path) -> Result<()>;

    /// Lets a paused node go on.
    fn resume(&self) -> Result<()>;
}

fn not_saved() -> Error {
    Error::Unsupported {
        kind: ProviderKind::Namespace,
        operation: "be saved",
        reason: "its processes live in the host's kernel, which cannot copy them; a new cluster of this kind is \
                 ready in seconds",
    }
}

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// It runs.
    On,
    /// It is off.
    Off,
}

/// One change of a node's power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerEvent {
    /// When, by the host's clock.
    pub at: SystemTime,
    /// What happened.
    #[serde(flatten)]
    pub change: PowerChange,
}

/// What can happen to a node's power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum PowerChange {
    /// Somebody pressed the button.
    PoweredOn,
    /// It was made the one that was saved, and went on from there.
    Restored,
    /// The node asked for a restart, and was started again.
    Rebooted,
    /// The node switched itself off.
    PoweredOff,
    /// The plug was pulled.
    Cut,
    /// PID 1 ended without asking for anything: a machine would have panicked. The node stays off.
    Crashed {
        /// How it ended.
        how: String,
    },
}

/// A network cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// Plugged in.
    Up,
    /// Pulled out.
    Down,
}

/// What a node's cable does to the frames that it carries from and to other nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cable {
    /// Every frame to the node comes that much later.
    pub delay: Duration,
    /// Of every hundred frames that many are lost, in each direction; 0 to 100.
    pub loss_percent: f64,
}

/// What to replace by a blank disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wipe {
    /// The file system of one role.
    Disk(DiskRole),
    /// Everything that the node has ever written.
    All,
}

/// The signals that the lab sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// Ends a process at once.
    Kill,
    /// Asks it to end.
    Terminate,
    /// Makes it hang.
    Stop,
    /// Makes a hanging one go on.
    Continue,
}

/// How a disk behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskCondition {
    /// As it should.
    Healthy,
    /// The file system has met an error and refuses writes.
    ReadOnly,
    /// The disk has been pulled out: every access fails.
    Removed,
    /// The disk does not answer: writes wait for ever.
    Stalled,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effective {
    /// It has.
    Now,
    /// When the node is next switched on: a file system that has given up does not come back
    /// under a running node.
    NextPowerOn,
}

impl fmt::Display for PowerChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOn => formatter.write_str("powered on"),
            Self::Restored => formatter.write_str("restored"),
            Self::Rebooted => formatter.write_str("rebooted"),
            Self::PoweredOff => formatter.write_str("switched itself off"),
            Self::Cut => formatter.write_str("power cut"),
            Self::Crashed { how } => write!(formatter, "crashed: {how}"),
        }
    }
}
