//! What a cluster is made of: all that follows from a few numbers.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The wire's network: the lab is its gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);
/// The gateway's Ethernet address.
pub const GATEWAY_MAC: Mac = Mac([0x52, 0x54, 0x00, 0x10, 0x00, 0x01]);
/// The cluster's endpoint: the virtual address of its masters.
pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 10);
/// Length of the wire's network prefix, in bits.
pub const PREFIX: u8 = 24;
/// Port of kube-apiserver.
pub const KUBERNETES_PORT: u16 = 6443;
/// Port of the management API.
pub const MANAGEMENT_PORT: u16 = 9440;
/// Port of the metrics.
pub const METRICS_PORT: u16 = 9441;
/// Port of etcd for its clients.
pub const ETCD_PORT: u16 = 2379;
/// More than seven voters only slow etcd down.
pub const MAXIMUM_MASTERS: u8 = 7;
/// More machines beside the masters, such as to replace them.
pub const MAXIMUM_SPARES: u8 = 7;

/// What a user decides about a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterPlan {
    /// The cluster's name, in its seed.
    pub name: String,
    /// How many masters the seed lists: m1…mN.
    pub masters: u8,
    /// How many machines more are on the wire, which the seed does not list: mN+1…
    pub spares: u8,
    /// Memory of one node, in MiB. Namespaces share the host's and ignore it.
    pub memory_mib: u32,
    /// Where everything of this cluster is kept: the lab's `.lab`, or a test's own.
    pub directory: PathBuf,
    /// The built image: what `imagebuild` writes (`root.erofs`, `vmlinuz`, `initrd`, …).
    pub image: PathBuf,
    /// A folder whose files replace those of the same path in the node's root, for positive
    /// controls that need a broken program. Only namespaces can do that.
    pub root_changes: Option<PathBuf>,
    /// The same for some nodes, by name, in place of those for all.
    pub root_changes_of: BTreeMap<String, PathBuf>,
    /// The virtual addresses of its masters; the first is [`ENDPOINT`].
    pub endpoints: Vec<Ipv4Addr>,
    /// Whether nodes boot from a disk of their own, on which the image is installed, and can be upgraded. Only namespaces need to be told:
    /// machines have such a disk, and are told how they boot by their options.
    pub boots_from_disk: bool,
    /// The factor on every deadline of a node in a namespace; machines get what fits their speed.
    pub timing_scale: f64,
    /// Who signs images for it (`mi1-…`).
    pub image_keys: Vec<String>,
    /// Lines that are appended to the seed, such as `[kubernetes.flags]` tables.
    pub seed_extra: String,
}

impl ClusterPlan {
    /// The usual cluster of `masters` masters, kept in `directory`, of the image in `image`.
    pub fn new(masters: u8, directory: impl Into<PathBuf>, image: impl Into<PathBuf>) -> Self {
        Self {
            name: "lab".to_owned(),
            masters,
            spares: 0,
            memory_mib: 2048,
            directory: directory.into(),
            image: image.into(),
            root_changes: None,
            root_changes_of: BTreeMap::new(),
            endpoints: vec![ENDPOINT],
            boots_from_disk: false,
            timing_scale: 1.0,
            image_keys: Vec::new(),
            seed_extra: String::new(),
        }
    }

    /// All machines of the cluster, masters first.
    pub fn nodes(&self) -> Vec<NodePlan> {
        (1..=self.masters.saturating_add(self.spares))
            .map(|number| {
                let name = format!("m{number}");
                NodePlan {
                    number,
                    directory: self.directory.join(&name),
                    image: self.image.clone(),
                    root_changes: self
                        .root_changes_of
                        .get(&name)
                        .or(self.root_changes.as_ref())
                        .cloned(),
                    memory_mib: self.memory_mib,
                    boots_from_disk: self.boots_from_disk,
                    timing_scale: self.timing_scale,
                    disks: DiskRole::ALL
                        .map(|role| (role, role.usual_size_mib()))
                        .into(),
                    name,
                }
            })
            .collect()
    }

    /// The text of the seed that makes this cluster.
    ///
    /// `secret` is the founding secret (`mh1-…`), `admins` are operators' public keys (`mk1-…`).
    pub fn seed(&self, secret: &str, admins: &[String]) -> String {
        let masters: Vec<String> = self
            .nodes()
            .iter()
            .filter(|node| node.number <= self.masters)
            .map(|node| {
                let (name, mac, address) = (&node.name, node.mac(), node.address());
                format!("{name} = {{ mac = \"{mac}\", address = \"{address}\" }}\n")
            })
            .collect();
        let admins: Vec<String> = admins.iter().map(|key| format!("\"{key}\"")).collect();
        let image_keys = match &self.image_keys[..] {
            [] => String::new(),
            keys => format!("image-keys = {keys:?}\n"),
        };
        let endpoints: Vec<String> = self
            .endpoints
            .iter()
            .map(|address| format!("\"{address}\""))
            .collect();
        format!(
            "version  = 1\n\
             cluster  = \"{}\"\n\
             secret   = \"{secret}\"\n\
             admins   = [{}]\n\
             {image_keys}\
             endpoint = {}\n\
             network  = {{ prefix = {PREFIX}, gateway = \"{GATEWAY}\" }}\n\
             disk     = {{ type = \"virtio\" }}\n\
             [masters]\n\
             {}{}",
            self.name,
            admins.join(", "),
            match &endpoints[..] {
                [one] => one.clone(),
                several => format!("[{}]", several.join(", ")),
            },
            masters.concat(),
            self.seed_extra
        )
    }
}

/// One node of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    /// 1 for m1.
    pub number: u8,
    /// `m1`, …
    pub name: String,
    /// The node's own folder: its disks, console and sockets.
    pub directory: PathBuf,
    /// See [`ClusterPlan::image`].
    pub image: PathBuf,
    /// See [`ClusterPlan::root_changes`].
    pub root_changes: Option<PathBuf>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// See [`ClusterPlan::boots_from_disk`].
    pub boots_from_disk: bool,
    /// See [`ClusterPlan::timing_scale`].
    pub timing_scale: f64,
    /// The disks by role with their sizes in MiB. A VM has one disk of their sum, or more.
    pub disks: Vec<(DiskRole, u32)>,
}

impl NodePlan {
    /// The node's MAC address, by which it finds itself in the seed.
    pub fn mac(&self) -> Mac {
        Mac([0x52, 0x54, 0x00, 0x10, 0x00, 0x10 + self.number])
    }

    /// The node's address on the wire.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 20, 0, 10 + self.number)
    }

    /// Where its kube-apiserver listens.
    pub fn kubernetes(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(), KUBERNETES_PORT)
    }

    /// Where its management API listens.
    pub fn management(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(), MANAGEMENT_PORT)
    }

    /// Where its metrics are.
    pub fn metrics(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(), METRICS_PORT)
    }

    /// Where its etcd listens for clients.
    pub fn etcd(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(), ETCD_PORT)
    }

    /// The file that its console is appended to.
    pub fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// The image of a machine's disk.
    pub fn disk_image(&self) -> PathBuf {
        self.directory.join("disk.img")
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.0.map(|byte| format!("{byte:02x}"));
        formatter.write_str(&pairs.join(":"))
    }
}

/// What a disk, or a partition of a VM's disk, is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskRole {
    /// Seed, identity, PKI.
    State,
    /// etcd's data, alone.
    Etcd,
    /// Audit log, service logs, snapshots.
    Data,
}

impl DiskRole {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::State, Self::Etcd, Self::Data];

    /// As it is written on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Etcd => "etcd",
            Self::Data => "data",
        }
    }

    /// Where the node mounts it.
    pub fn mount_point(self) -> &'static str {
        match self {
            Self::State => "/state",
            Self::Etcd => "/etcd",
            Self::Data => "/data",
        }
    }

    /// Label of the file system.
    pub fn label(self) -> &'static str {
        match self {
            Self::State => "STATE",
            Self::Etcd => "ETCD",
            Self::Data => "DATA",
        }
    }

    /// Size in MiB. The image files are sparse: what is not written costs nothing.
    pub fn usual_size_mib(self) -> u32 {
        match self {
            Self::State => 256,
            Self::Etcd | Self::Data => 4096,
        }
    }
}

impl fmt::Display for DiskRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for DiskRole {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| {
                Error::Refused(format!(
                    "`{text}` is no disk: write `state`, `etcd` or `data`"
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use masthead_seed::{Machine, Secret, Seed};

    use super::*;

    /// What the lab writes is what nodes read.
    #[test]
    fn the_seed_is_accepted_and_every_master_finds_itself() {
        let mut random = [0; 32];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .expect("random numbers");
        let secret = Secret::generate(random).expect("a secret").to_text();
        let admin = masthead_seed::OperatorKey([7; 32]).to_string();
        for masters in 1..=MAXIMUM_MASTERS {
            let mut plan = ClusterPlan::new(masters, "/lab", "/image");
            plan.spares = 1;
            let text = plan.seed(&secret, std::slice::from_ref(&admin));
            let seed = Seed::parse("seed.toml", text.as_bytes())
                .unwrap_or_else(|report| panic!("{report:?}"));
            for node in plan.nodes() {
                let mac = node.mac().to_string().parse().expect("an address");
                let machine = Machine {
                    macs: vec![mac],
                    serial: None,
                };
                let found = seed.find_self(&machine).map(|master| master.name.clone());
                match node.number {
                    spare if spare > masters => assert!(found.is_err(), "{found:?}"),
                    _ => assert_eq!(found.expect("itself"), node.name),
                }
            }
        }
    }
}
