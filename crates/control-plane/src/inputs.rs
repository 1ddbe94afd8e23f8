//! What a plan follows from: the seed's part, the node's identity, and where things lie.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::Component;

/// Everything that decides what a master runs. Plain values: the supervisor fills them from the seed, from the
/// identity and from the disks.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The cluster's name in the seed; names the cluster in kubeconfigs.
    pub cluster: String,
    /// The random id that the cluster got when it was founded; etcd's `--initial-cluster-token`.
    pub cluster_id: String,
    /// This master.
    pub node: Node,
    /// All founding members, this one included; etcd's `--initial-cluster`.
    pub members: Vec<Member>,
    /// Whether etcd founds its store or finds it.
    pub etcd_start: EtcdStart,
    /// Where clients outside reach the API.
    pub endpoint: Endpoint,
    /// Service networks in CIDR notation, one or two (dual stack).
    pub services: Vec<String>,
    /// Pod networks in CIDR notation; when given, each node is allotted a part of them.
    pub pods: Vec<String>,
    /// Flags of the seed, added to ours or replacing those that may be replaced.
    pub extra_flags: ExtraFlags,
    /// Policy files of the seed.
    pub files: KubernetesFiles,
    /// Where the audit log goes.
    pub audit: AuditStore,
    /// Factor on etcd's heartbeat and election time-out (`timing.scale`); 1 on real machines.
    pub timing_scale: f64,
    /// Where things lie.
    pub paths: Paths,
}

/// This master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in the seed.
    pub name: String,
    /// Its random id, 32 hexadecimal digits.
    pub machine_id: String,
    /// Its own address: never the VIP.
    pub address: IpAddr,
}

/// A member of etcd's static list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The machine's random id, 32 hexadecimal digits; also etcd's member name.
    pub machine_id: String,
    /// The machine's own address.
    pub address: IpAddr,
}

/// Whether etcd founds its store or finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdStart {
    /// The first start ever: `--initial-cluster-state=new`.
    New,
    /// Any later one: `existing`; without data etcd then refuses instead of founding an empty cluster.
    Existing,
}

/// Where clients outside reach the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An address or a name.
    pub host: String,
    /// A TCP port.
    pub port: u16,
    /// It belongs to a load balancer outside of the masters, and is no VIP of ours.
    pub external: bool,
}

/// Flags of the seed by component: flag (without dashes) to value.
pub type ExtraFlags = BTreeMap<Component, BTreeMap<String, String>>;

/// Policy files of the seed's `[kubernetes.files]`, YAML or JSON as Kubernetes reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesFiles {
    /// An `AuthenticationConfiguration`; its `anonymous` part is ours.
    pub authentication: Option<String>,
    /// An audit `Policy`, instead of ours.
    pub audit_policy: Option<String>,
    /// An `AdmissionConfiguration`, instead of ours.
    pub admission: Option<String>,
}

/// Where the audit log goes, and how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditStore {
    /// The DATA file system.
    Disk,
    /// Memory: there is no DATA; little is kept.
    Memory,
}

/// Where things lie. All are directories; a test puts them below a directory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The programs: `/bin`.
    pub programs: PathBuf,
    /// Rendered configuration, a directory for each service: `/run/masthead/config`.
    pub configuration: PathBuf,
    /// The ETCD file system: `/etcd`.
    pub etcd: PathBuf,
    /// The audit log: `/data/audit`, or below `/run/masthead` for a node without DATA.
    pub audit: PathBuf,
}

impl Default for Paths {
    /// Those of a node.
    fn default() -> Self {
        Self {
            programs: "/bin".into(),
            configuration: "/run/masthead/config".into(),
            etcd: "/etcd".into(),
            audit: "/data/audit".into(),
        }
    }
}
