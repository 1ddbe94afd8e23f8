//! The result of planning: services, and the files and directories they read and write.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a master runs and reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlPlane {
    /// The services, in the order of [`Component::ALL`].
    pub services: Vec<Service>,
    /// Directories to create before the files, parents before children.
    pub directories: Vec<Directory>,
    /// Files to write, each atomically, before the service that owns it starts. A file whose contents
    /// changed under a running service is picked up by it unless [`File::restart`] says otherwise.
    pub files: Vec<File>,
}

impl ControlPlane {
    /// The service that runs `component`.
    pub fn service(&self, component: Component) -> &Service {
        self.services
            .iter()
            .find(|service| service.component == component)
            .expect("a plan holds every component")
    }
}

/// One of the four programs of a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The store.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The controllers.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
}

impl Component {
    /// All of them, in the order in which they are listed everywhere.
    pub const ALL: [Self; 4] =
        [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager, Self::KubeScheduler];

    /// The name of the service, of its user and group, of its control group, and of the program in `/bin`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
        }
    }

    /// The component of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.name() == name)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One service as the supervisor runs it. Its user, group, capabilities and limits are found by its
/// name in `configs/node/services.toml`. All durations are unscaled: multiply by `timing.scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Which program it is; [`Component::name`] is the service's name.
    pub component: Component,
    /// The program's path in the root.
    pub program: PathBuf,
    /// Arguments after the program's name, one flag each (`--name=value`).
    pub arguments: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// Services that must be ready before this one starts.
    pub after: Vec<Component>,
    /// Services that must have stopped before this one is asked to stop.
    pub stops_after: Vec<Component>,
    /// Tells that it does its work.
    pub readiness: Probe,
    /// Tells that it is not hung; failing it restarts the service.
    pub liveness: Probe,
    /// How long it may take from its start until liveness first holds, before it counts as hung.
    pub startup: Duration,
    /// How long it may take to end after TERM before `cgroup.kill`.
    pub grace: Duration,
}

/// A question asked periodically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked; any status from 200 to 299 is a yes.
    pub request: Request,
    /// From the start of one question to the start of the next.
    pub period: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many consecutive failures make a no.
    pub failures: u32,
}

/// A GET request of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Plain HTTP.
    Http {
        /// Where it listens.
        address: SocketAddr,
        /// Path and query.
        path: String,
    },
    /// HTTP over TLS, with the server's certificate verified.
    Https {
        /// Where it listens.
        address: SocketAddr,
        /// The name to verify, as the certificate has it.
        server_name: String,
        /// Path and query.
        path: String,
        /// File with the certificate of the authority that issued the server's, PEM.
        authority: PathBuf,
        /// The certificate to present, where one is asked for.
        client: Option<ClientCertificate>,
    },
}

/// Files of a client's certificate and key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A directory that a service needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where.
    pub path: PathBuf,
    /// Whose user and group own it; `None` is root.
    pub owner: Option<Component>,
    /// Permission bits, such as `0o700`.
    pub mode: u32,
}

/// A file that a service reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// Whose user and group own it; `None` is root.
    pub owner: Option<Component>,
    /// Permission bits, such as `0o400`.
    pub mode: u32,
    /// The contents.
    pub contents: Secret,
    /// The service reads the file only at its start: when the contents change, it must be restarted for them to
    /// take effect. Otherwise it notices by itself.
    pub restart: bool,
}

/// Contents that may hold a secret: they have no `Display`, and `Debug` shows only their length.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps contents.
    pub fn new(contents: impl Into<Vec<u8>>) -> Self {
        Self(contents.into())
    }

    /// The contents, for the one who writes the file.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secret({} bytes)", self.0.len())
    }
}
