//! Where the files of the services lie, and who may read them.

use std::path::PathBuf;

use masthead_pki::{AuthorityKind, Purpose, Secret};

use crate::service::ClientCertificate;
use crate::{Component, Directory, File, Inputs, Request};

/// Collects files while services are planned.
pub(crate) struct Files<'a> {
    inputs: &'a Inputs<'a>,
    directories: Vec<Directory>,
    collected: Vec<File>,
}

/// Whether a program notices that a file changed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Reading {
    /// It does, or the file never changes.
    Watched,
    /// Only when it is restarted.
    Once,
}

impl<'a> Files<'a> {
    /// Only the supervisor's own files: what its probes present.
    pub(crate) fn new(inputs: &'a Inputs<'a>) -> Self {
        let configuration = &inputs.paths.configuration;
        let mut directories = vec![
            Directory {
                path: configuration.clone(),
                owner: None,
                mode: 0o711,
            },
            Directory {
                path: configuration.join(SUPERVISOR),
                owner: None,
                mode: 0o700,
            },
        ];
        directories.extend(Component::ALL.map(|component| Directory {
            path: configuration.join(component.name()),
            owner: Some(component),
            mode: 0o500,
        }));
        let mut files = Self {
            inputs,
            directories,
            collected: Vec::new(),
        };
        files.authority(None, AuthorityKind::Kubernetes);
        files.leaf(None, Purpose::ProbeClient, Reading::Watched);
        files
    }

    pub(crate) fn finish(self) -> (Vec<Directory>, Vec<File>) {
        (self.directories, self.collected)
    }

    fn path(&self, owner: Option<Component>, name: &str) -> PathBuf {
        let directory = owner.map_or(SUPERVISOR, Component::name);
        self.inputs.paths.configuration.join(directory).join(name)
    }

    /// Adds a file of that service, and returns its path as a flag's value.
    pub(crate) fn add(
        &mut self,
        owner: Option<Component>,
        name: &str,
        contents: Secret,
        reading: Reading,
    ) -> String {
        let path = self.path(owner, name);
        let text = path.display().to_string();
        let read_once = reading == Reading::Once;
        self.collected.push(File {
            path,
            owner,
            mode: 0o400,
            contents,
            read_once,
        });
        text
    }

    /// Adds a configuration document; JSON, which every YAML reader reads.
    pub(crate) fn document(
        &mut self,
        owner: Component,
        name: &str,
        document: &serde_json::Value,
        reading: Reading,
    ) -> String {
        let mut text = format!("{document:#}");
        text.push('\n');
        self.add(Some(owner), name, Secret::new(text), reading)
    }

    /// Adds the certificate of an authority, by which the service verifies others.
    pub(crate) fn authority(&mut self, owner: Option<Component>, kind: AuthorityKind) -> String {
        let certificate = self.inputs.roots.authority(kind).certificate_pem();
        let name = format!("{}-ca.crt", kind.name());
        self.add(owner, &name, Secret::new(certificate), Reading::Watched)
    }

    /// Adds a leaf; returns the paths of certificate and key.
    pub(crate) fn leaf(
        &mut self,
        owner: Option<Component>,
        purpose: Purpose,
        reading: Reading,
    ) -> (String, String) {
        let leaf = self.inputs.leaves.get(purpose);
        let name = purpose.name();
        let certificate = Secret::new(leaf.certificate_pem.as_str());
        let certificate = self.add(owner, &format!("{name}.crt"), certificate, reading);
        let key = self.add(owner, &format!("{name}.key"), leaf.key_pem.clone(), reading);
        (certificate, key)
    }

    /// A probe over TLS, with the supervisor's certificate.
    pub(crate) fn probe(&self, port: u16, path: &str) -> Request {
        let name = Purpose::ProbeClient.name();
        Request::Https {
            address: self.inputs.local(port),
            path: path.to_owned(),
            authority: self.path(
                None,
                &format!("{}-ca.crt", AuthorityKind::Kubernetes.name()),
            ),
            client: ClientCertificate {
                certificate: self.path(None, &format!("{name}.crt")),
                key: self.path(None, &format!("{name}.key")),
            },
        }
    }
}

/// The supervisor's directory beside those of the services.
const SUPERVISOR: &str = "supervisor";
