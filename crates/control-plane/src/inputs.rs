//! What a plan follows from: the seed, the node's identity, and where things lie.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use masthead_machine::Scale;
use masthead_pki::{Leaves, Roots};
use masthead_seed::{Master, Seed};

/// Everything that decides what a master runs.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The seed.
    pub seed: &'a Seed,
    /// This master's part of it.
    pub master: &'a Master,
    /// The random id that the cluster got when it was founded; etcd's `--initial-cluster-token`.
    pub cluster_id: &'a str,
    /// This machine's random id: etcd's `--name`.
    pub machine_id: &'a str,
    /// All founding members, this one included; etcd's `--initial-cluster`.
    pub members: &'a [Member],
    /// Whether etcd founds its store or finds it.
    pub etcd_start: EtcdStart,
    /// Authorities and keys of the cluster.
    pub roots: &'a Roots,
    /// Certificates of this master.
    pub leaves: &'a Leaves,
    /// Where the audit log goes.
    pub audit: AuditStore,
    /// `timing.scale`: a factor on the deadlines that the components keep among themselves.
    pub scale: Scale,
    /// Where things lie.
    pub paths: Paths,
}

impl Inputs<'_> {
    /// Loopback, of the same family as the node's address.
    pub(crate) fn loopback(&self) -> IpAddr {
        match self.master.address {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// A port on loopback.
    pub(crate) fn local(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.loopback(), port)
    }

    /// The local apiserver, as the components on this master call it.
    pub(crate) fn local_apiserver(&self) -> String {
        format!("https://{}", self.local(crate::APISERVER_PORT))
    }
}

/// A member of etcd's static list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The machine's random id: etcd's member name.
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

/// Where the audit log goes, which decides how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditStore {
    /// The DATA file system: at most 1.1 GB and 30 days.
    Disk,
    /// Memory, where there is no DATA: at most 16 MB.
    Memory,
}

/// Where things lie. All are directories; a test puts them below one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The programs: `/bin`.
    pub programs: PathBuf,
    /// Rendered configuration, a directory for each service: `/run/masthead/config`.
    pub configuration: PathBuf,
    /// etcd's data: `/etcd/data`.
    pub etcd_data: PathBuf,
    /// The audit log: `/data/audit`, or below `/run/masthead` on a node without DATA.
    pub audit: PathBuf,
}

impl Default for Paths {
    /// Those of a node with disks.
    fn default() -> Self {
        Self {
            programs: "/bin".into(),
            configuration: "/run/masthead/config".into(),
            etcd_data: "/etcd/data".into(),
            audit: "/data/audit".into(),
        }
    }
}
