//! A valid seed, as types.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{DiskMatch, DiskSelector, Hash, ImageKey, MacAddress, OperatorKey, Secret};

/// A valid seed. Made by [`Seed::parse`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seed {
    /// The cluster's name, a DNS label.
    pub cluster: String,
    /// From which the masters derive what they need to trust each other while founding.
    pub secret: Secret,
    /// The public keys of the operators who may log in. At least one.
    pub admins: Vec<OperatorKey>,
    /// From where the management API may be reached; from anywhere when there are none.
    pub operators: Vec<IpNet>,
    /// The public keys of those who sign images, beside those that the image itself holds.
    pub image_keys: Vec<ImageKey>,
    /// Where clients and workers reach the apiserver.
    pub endpoint: Endpoint,
    /// The masters, sorted by name. At least one.
    pub masters: Vec<Master>,
    /// What the file says about Kubernetes.
    pub kubernetes: Kubernetes,
    /// SHA-256 of the seed's meaning: comments, white space, order and spelling do not change it.
    /// Masters compare it before they found a cluster.
    pub hash: Hash,
}

/// Where clients and workers reach the apiserver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Virtual addresses, one or more, each of which one master at a time owns; port 6443. Kubeconfigs name the first.
    Virtual(Vec<IpAddr>),
    /// Somebody else's load balancer (or, with one master, that master itself).
    LoadBalancer {
        /// A DNS name, or an IP address without brackets.
        host: String,
        /// The TCP port.
        port: u16,
    },
}

impl Endpoint {
    /// The host part of what clients are told: an address without brackets, or a DNS name.
    pub fn host(&self) -> String {
        self.hosts().into_iter().next().unwrap_or_default()
    }

    /// The host parts of all ways in.
    pub fn hosts(&self) -> Vec<String> {
        match self {
            Self::Virtual(addresses) => addresses.iter().map(IpAddr::to_string).collect(),
            Self::LoadBalancer { host, .. } => vec![host.clone()],
        }
    }

    /// The addresses that masters own in turn; none behind somebody else's load balancer.
    pub fn virtual_addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Virtual(addresses) => addresses.clone(),
            Self::LoadBalancer { .. } => Vec::new(),
        }
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Virtual(_) => Self::VIRTUAL_PORT,
            Self::LoadBalancer { port, .. } => *port,
        }
    }

    /// The port behind a virtual address: the apiserver's own.
    pub const VIRTUAL_PORT: u16 = 6443;

    /// So many virtual addresses at most: each is renewed in etcd three times in a hold.
    pub const MOST_ADDRESSES: usize = 8;
}

impl fmt::Display for Endpoint {
    /// `host:port`, with brackets around an IPv6 address; ready to follow `https://`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.host(), self.port());
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

/// One master. What the common part of the file says is merged in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Master {
    /// The host name, a DNS label.
    pub name: String,
    /// How the machine is known.
    pub selector: Selector,
    /// The node's own address.
    pub address: IpAddr,
    /// How that address is reached and what it reaches.
    pub network: Network,
    /// Where state and data live.
    pub disk: DiskSelector,
    /// A disk for etcd alone; without it etcd has a partition of `disk`.
    pub etcd_disk: Option<DiskMatch>,
    /// The serial number of a disk that is erased once before use, whatever it holds.
    pub wipe: Option<String>,
}

/// How a machine is known: every one that is given must match. At least one is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The address of one of its network interfaces, which is then the one that gets the address.
    pub mac: Option<MacAddress>,
    /// The system's serial number, as the firmware's DMI tables have it.
    pub serial: Option<String>,
}

/// A node's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Length of the prefix, in bits.
    pub prefix: u8,
    /// The default route.
    pub gateway: Option<IpAddr>,
    /// Name servers, in order of preference.
    pub dns: Vec<IpAddr>,
    /// Time servers: addresses or DNS names.
    pub ntp: Vec<String>,
    /// The largest packet, in bytes; the card's own without it.
    pub mtu: Option<u32>,
    /// Ways to other networks than by the gateway.
    pub routes: Vec<Route>,
    /// Further addresses of the interface, each with its prefix.
    pub addresses: Vec<IpNet>,
}

/// A way to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// To where.
    pub to: IpNet,
    /// By which router, in one of the node's networks.
    pub via: IpAddr,
}

/// What the seed says about Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kubernetes {
    /// The prefix of the services' cluster addresses.
    pub services: IpNet,
    /// The prefix of the Pods' addresses; without it the network plug-in assigns them.
    pub pods: Option<IpNet>,
    /// More names and addresses for the apiserver's certificate.
    pub sans: Vec<SubjectName>,
    /// More flags: component → flag's name without dashes → value. None of them is Masthead's own.
    pub flags: BTreeMap<Component, BTreeMap<String, String>>,
    /// Configuration files of the apiserver.
    pub files: Files,
}

/// A subject alternative name of the apiserver's certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectName {
    /// An address.
    Address(IpAddr),
    /// A DNS name.
    Dns(String),
}

impl fmt::Display for SubjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Dns(name) => formatter.write_str(name),
        }
    }
}

/// A program whose flags a seed can extend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// etcd.
    Etcd,
    /// The apiserver.
    KubeApiserver,
    /// The controller manager.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
    ];

    /// The program's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
        }
    }
}

/// Configuration files of the apiserver as documents with `apiVersion` and `kind`, to be written out as
/// JSON (which is YAML too).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Files {
    /// An `AuthenticationConfiguration` whose `jwt` holds the issuers; it never has `anonymous`, which
    /// is Masthead's own.
    pub authentication: Option<serde_json::Value>,
    /// A `Policy` of `audit.k8s.io/v1`.
    pub audit_policy: Option<serde_json::Value>,
    /// An `AdmissionConfiguration` of `apiserver.config.k8s.io/v1`.
    pub admission: Option<serde_json::Value>,
}
