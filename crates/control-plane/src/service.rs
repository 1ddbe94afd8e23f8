//! The result of planning: services, and the files and directories that they read and write.

use std::net::SocketAddr;
use std::path::PathBuf;

use masthead_lifecycle::{Policy, ServiceName};
use masthead_pki::Secret;

use crate::Component;

/// Everything that a master runs and reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlPlane {
    /// The services, in the order of [`Component::ALL`].
    pub services: Vec<Service>,
    /// Directories to create before the files, parents before children.
    pub directories: Vec<Directory>,
    /// Files to write before the service that owns them starts, each atomically.
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

/// One service as the supervisor runs it. Its user, group, capabilities and limits are found by its
/// name in `configs/node/services.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Which program it is; [`Component::name`] is the service's name.
    pub component: Component,
    /// The program's path.
    pub program: PathBuf,
    /// Arguments after the program's name, one flag each (`--name=value`).
    pub arguments: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// What to ask to learn whether it does its work.
    pub readiness: Request,
    /// What to ask to learn whether it hangs.
    pub liveness: Request,
    /// Order, probes, back-off and graces; not yet scaled.
    pub policy: Policy,
}

impl Service {
    /// The service's name to the life-cycle machine.
    pub fn name(&self) -> ServiceName {
        self.component.name().into()
    }
}

/// A GET request of a probe. Any status from 200 to 299 is a yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Plain HTTP.
    Http {
        /// Where it listens.
        address: SocketAddr,
        /// Path and query.
        path: String,
    },
    /// HTTP over TLS, with the server's certificate verified for the address.
    Https {
        /// Where it listens.
        address: SocketAddr,
        /// Path and query.
        path: String,
        /// File with the certificate of the authority that issued the server's, PEM.
        authority: PathBuf,
        /// The certificate to present. Its files change when it is renewed: read them anew when the
        /// server closes the connection.
        client: ClientCertificate,
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
    /// The service reads the file only at its start: when the contents change it must be restarted for
    /// them to take effect. Otherwise it notices by itself.
    pub read_once: bool,
}
