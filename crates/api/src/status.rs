//! What a node says about itself. Derived from the states of its parts whenever somebody asks;
//! nothing in it is a secret.

use serde::{Deserialize, Serialize};

use crate::etcd::Etcd;
use crate::open_enum::open_enum;
use crate::{Fingerprint, Reason, Timestamp};

/// A node's whole state, as `GET /v1/status` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// See [`FORMAT`](crate::FORMAT).
    #[serde(default = "crate::first_format")]
    pub format: u32,
    /// The machine and what runs on it.
    pub node: Node,
    /// The cluster, as soon as the node knows its seed.
    #[serde(default)]
    pub cluster: Option<Cluster>,
    /// What the node is to its cluster, and who the other masters are; absent until STATE was read.
    #[serde(default)]
    pub formation: Option<Formation>,
    /// Where the seed came from, or where it was looked for.
    #[serde(default)]
    pub seed: Seed,
    /// The file systems that the node keeps, and the disks that it considered.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// What the node's disk starts; absent where the node has no disk, or has not looked yet.
    #[serde(default)]
    pub installation: Option<Installation>,
    /// Interface and addresses.
    #[serde(default)]
    pub network: Network,
    /// How the clock stands to the seed's time servers; absent where it names none, or the clock is not the node's own.
    #[serde(default)]
    pub clock: Option<Clock>,
    /// The services in order of their start.
    #[serde(default)]
    pub services: Vec<Service>,
    /// etcd as the node's member sees it, while that answers.
    #[serde(default)]
    pub etcd: Option<Etcd>,
    /// The virtual addresses as this node sees them; none where the seed names a load balancer, or before the node runs etcd.
    #[serde(default)]
    pub virtual_addresses: Vec<VirtualAddress>,
    /// Fingerprint of the operators' authority, for `mastctl login --fingerprint`.
    #[serde(default)]
    pub api_fingerprint: Option<Fingerprint>,
    /// Whether that authority is this node's own, until the cluster is founded or the node restarts.
    #[serde(default)]
    pub api_provisional: bool,
    /// Certificates of the node and when they expire.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// What the node waits for before it can do its work.
    #[serde(default)]
    pub waiting: Vec<Reason>,
    /// What is wrong although the node works.
    #[serde(default)]
    pub degraded: Vec<Reason>,
}

impl Status {
    /// Whether this master owns one of the virtual addresses.
    pub fn owns_an_address(&self) -> bool {
        let mut addresses = self.virtual_addresses.iter();
        addresses.any(|one| one.state == VirtualState::Owner)
    }
}

open_enum! {
    /// Whether a node's disk starts by itself.
    pub enum InstallationState {
        /// It does.
        Installed = "installed",
        /// It does not: the machine needs a medium, or the network, to boot.
        NotInstalled = "not-installed",
    }
}

open_enum! {
    /// Whether a clock is right.
    pub enum ClockState {
        /// It goes by a server.
        Synchronized = "synchronized",
        /// It goes by itself.
        Unsynchronized = "unsynchronized",
    }
}

/// A node's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Whether it is right.
    pub state: ClockState,
    /// The server that was believed, or not.
    #[serde(default)]
    pub server: Option<String>,
    /// That server's clock less this one, before the correction; microseconds.
    #[serde(default)]
    pub offset_us: Option<i64>,
    /// When it was corrected last.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// Why it is not right.
    #[serde(default)]
    pub reason: Option<Reason>,
}

/// What a node's disk starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Whether it starts anything.
    pub state: InstallationState,
    /// Counts the images that this disk was given.
    #[serde(default)]
    pub generation: Option<u32>,
    /// Where the image is that is tried first: `A` or `B`.
    #[serde(default)]
    pub slot: Option<String>,
    /// Of that image.
    #[serde(default)]
    pub version: Option<String>,
    /// Why it starts nothing.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// Whether the image that runs has to show yet that it is good.
    #[serde(default)]
    pub on_trial: bool,
    /// The last image that was tried and was not good.
    #[serde(default)]
    pub failed: Option<FailedImage>,
}

/// An image that was tried and was not good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedImage {
    /// The how-manieth one of its disk it was.
    pub generation: u32,
    /// Its version.
    pub version: String,
    /// What was wrong, for people.
    pub why: String,
    /// When that was found.
    pub at: Timestamp,
}

open_enum! {
    /// What a node is to its cluster.
    pub enum FormationState {
        /// Its disks were read, and hold nothing.
        Fresh = "fresh",
        /// It acknowledged a plan, and etcd was not started yet.
        Founding = "founding",
        /// It belongs to the founded cluster.
        Member = "member",
        /// etcd was started here once, and its data is gone or foreign: it stays off.
        Amnesiac = "amnesiac",
        /// A disk of it is absent or cannot be read.
        Unknown = "unknown",
    }
}

/// What a node is to its cluster, and who the other masters are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    /// What it is.
    pub state: FormationState,
    /// The plan that it holds.
    #[serde(default)]
    pub plan: Option<Plan>,
    /// The other masters that the seed lists.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

/// What a cluster is founded from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Counts from 1.
    pub generation: u64,
    /// 32 hexadecimal digits.
    pub cluster_id: String,
    /// Whether the node knows that all members acknowledged it.
    #[serde(default)]
    pub go: bool,
}

/// Another master that the seed lists, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Whether it answers now.
    #[serde(default)]
    pub answers: bool,
    /// What it said last that it is.
    #[serde(default)]
    pub state: Option<FormationState>,
    /// The version of the peer protocol that both speak, while they are connected.
    #[serde(default)]
    pub protocol: Option<u32>,
    /// What keeps this node from talking to it.
    #[serde(default)]
    pub reason: Option<Reason>,
}

open_enum! {
    /// What a node runs on.
    pub enum NodeKind {
        /// A kernel of its own: metal or a virtual machine.
        Machine = "machine",
        /// Linux namespaces on a host: the lab's fast provider.
        Namespace = "namespace",
    }
}

/// The machine and what runs on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The name in the seed; empty until the node found itself in it.
    #[serde(default)]
    pub name: String,
    /// The random id that STATE keeps; absent until there is one.
    #[serde(default)]
    pub machine_id: Option<String>,
    /// What it runs on.
    pub kind: NodeKind,
    /// Masthead's version.
    pub version: String,
    /// UUID of the root file system that runs.
    #[serde(default)]
    pub image: String,
    /// The kernel's version.
    #[serde(default)]
    pub kernel: String,
    /// Kubernetes' version.
    #[serde(default)]
    pub kubernetes: String,
    /// etcd's version.
    #[serde(default)]
    pub etcd: String,
    /// When the node booted.
    pub boot_time: Timestamp,
    /// Seconds since then, on the boot clock.
    pub uptime: u64,
    /// Unique for each boot.
    pub boot_id: String,
    /// The factor on all deadlines; 1.0 on real machines.
    pub timing_scale: f64,
    /// The supervisor, as PID 1 sees it.
    pub supervisor: Supervisor,
}

/// The supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// Its process id.
    pub pid: u32,
    /// How often PID 1 started it again since boot.
    pub restarts: u32,
    /// How the last one ended, if one did.
    #[serde(default)]
    pub last_death: Option<Exit>,
    /// Resident memory in bytes, if known.
    #[serde(default)]
    pub resident: Option<u64>,
    /// Processor time consumed, in milliseconds, if known.
    #[serde(default)]
    pub processor: Option<u64>,
}

/// The cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The seed's name for it.
    pub name: String,
    /// The random id, once the cluster is founded.
    #[serde(default)]
    pub id: Option<String>,
    /// Where its apiserver is to be reached, `HOST:PORT`.
    #[serde(default)]
    pub endpoint: Option<String>,
}

/// Where the seed came from, or where it was looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Where the seed in use was found; absent while there is none.
    #[serde(default)]
    pub source: Option<String>,
    /// SHA-256 of the seed in use, hexadecimal.
    #[serde(default)]
    pub hash: Option<String>,
    /// What its parser warns of.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Every place looked at last time, in order.
    #[serde(default)]
    pub attempts: Vec<SeedAttempt>,
}

/// One place where a seed was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedAttempt {
    /// The place, for people.
    pub source: String,
    /// What was found there, or why nothing; several lines when the file is refused.
    pub outcome: String,
}

open_enum! {
    /// What a file system of the node, or a disk, is good for.
    pub enum DiskState {
        /// Mounted and writable.
        Ready = "ready",
        /// Being partitioned, checked or made.
        Preparing = "preparing",
        /// In memory only, because the seed says so.
        Memory = "memory",
        /// Mounted, but the kernel refuses writes.
        ReadOnly = "read-only",
        /// Mounted, and no room is left.
        Full = "full",
        /// It was there and is gone, or fails.
        Lost = "lost",
        /// Not there yet.
        Waiting = "waiting",
        /// Not ours, and left alone.
        Refused = "refused",
    }
}

/// A file system that the node keeps (`role` STATE, ETCD or DATA), or a disk that it considered
/// (`role` `candidate`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// `STATE`, `ETCD`, `DATA`, …, or `candidate`.
    pub role: String,
    /// The block device, if there is one: `/dev/vda4`.
    #[serde(default)]
    pub device: Option<String>,
    /// The disk's serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// What it is good for.
    pub state: DiskState,
    /// The file system's type.
    #[serde(default)]
    pub filesystem: Option<String>,
    /// Bytes in use.
    #[serde(default)]
    pub used: Option<u64>,
    /// Bytes in all.
    #[serde(default)]
    pub size: Option<u64>,
    /// Why it is not ready.
    #[serde(default)]
    pub reason: Option<Reason>,
}

/// Interface and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The interface that the seed chose.
    #[serde(default)]
    pub interface: Option<String>,
    /// Its number in the kernel: another one of the same name has another one.
    #[serde(default)]
    pub index: Option<u32>,
    /// Its MAC address.
    #[serde(default)]
    pub mac: Option<String>,
    /// Whether it has a carrier.
    #[serde(default)]
    pub carrier: bool,
    /// Its addresses with their prefix lengths: `10.20.0.11/24`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The default route's gateway.
    #[serde(default)]
    pub gateway: Option<String>,
    /// What the network waits for.
    #[serde(default)]
    pub waiting: Option<Reason>,
}

open_enum! {
    /// How a virtual address stands, as one node sees it.
    pub enum VirtualState {
        /// The node does not know yet, or cannot.
        Unknown = "unknown",
        /// This node owns it, and answers for it.
        Owner = "owner",
        /// Another master owns it.
        Standby = "standby",
        /// This node lets go of it.
        Releasing = "releasing",
        /// Nobody owns it.
        Nobody = "nobody",
    }
}

/// A virtual address, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualAddress {
    /// The address.
    pub address: String,
    /// How it stands.
    pub state: VirtualState,
    /// The name of the master that owns it, if one does.
    #[serde(default)]
    pub owner: Option<String>,
    /// Since when, as far as this node has seen it.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// How often it has had another owner since the cluster was founded.
    #[serde(default)]
    pub epoch: u64,
    /// For how long each of its owner's renewals holds, in milliseconds.
    #[serde(default)]
    pub hold: Option<u64>,
    /// How often it has moved in the last 24 hours, as far as this node's supervisor has seen it.
    #[serde(default)]
    pub moves: u32,
    /// Why nobody owns it, or what is wrong although somebody does.
    #[serde(default)]
    pub reason: Option<Reason>,
}

open_enum! {
    /// Where a service is in its life.
    pub enum ServiceState {
        /// Not started yet: see `waiting`.
        Waiting = "waiting",
        /// Started, not ready yet.
        Starting = "starting",
        /// Running and ready.
        Ready = "ready",
        /// Running and no longer ready.
        Unready = "unready",
        /// Ended, and will be started again after a pause.
        BackingOff = "backing-off",
        /// Told to stop, still running.
        Stopping = "stopping",
        /// Stopped, and stays so.
        Stopped = "stopped",
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name: `etcd`, `kube-apiserver`, …
    pub name: String,
    /// Where it is in its life.
    pub state: ServiceState,
    /// Since when it is there.
    pub since: Timestamp,
    /// Its main process, while it runs.
    #[serde(default)]
    pub pid: Option<u32>,
    /// How often it was started again since boot.
    #[serde(default)]
    pub restarts: u32,
    /// How it ended last time.
    #[serde(default)]
    pub last_exit: Option<Exit>,
    /// It keeps dying, and is still retried.
    #[serde(default)]
    pub crash_looping: bool,
    /// The last result of each probe.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// What it waits for.
    #[serde(default)]
    pub waiting: Option<Reason>,
    /// The last lines of its output, oldest first; filled when it is not well.
    #[serde(default)]
    pub last_lines: Vec<String>,
}

/// How a process ended: `code` or `signal` is there, not both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code, when it ended by itself.
    #[serde(default)]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// When.
    pub at: Timestamp,
    /// Milliseconds that it ran.
    #[serde(default)]
    pub ran_for: Option<u64>,
    /// Why the supervisor ended it, when it did: `liveness probe failed`, …
    #[serde(default)]
    pub ended_by: Option<String>,
}

open_enum! {
    /// What a probe is for.
    pub enum ProbeKind {
        /// Can it do its work?
        Readiness = "readiness",
        /// Is it alive, or is a restart due?
        Liveness = "liveness",
    }
}

/// The last result of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What it is for.
    pub kind: ProbeKind,
    /// Whether it succeeded.
    pub healthy: bool,
    /// What it saw.
    #[serde(default)]
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// A certificate of the node: a leaf, or an authority of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// What it is for: `management-server`, `etcd-peer`, …; an authority's ends with `-ca`.
    pub name: String,
    /// The name of the authority that issued it; none for an authority, which signs itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_by: Option<String>,
    /// When it expires; none for one that never does (RFC 5280, 4.1.2.5), as those among peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When the node renews it by itself; none for what is never renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<Timestamp>,
}
