//! What the commands have in common: the configuration, and clients made from it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Failure;
use crate::cli::{Global, Output};
use crate::client::{Client, Credentials, Trust};
use crate::config::{Config, Context, Node, Part, default_path};

/// The global arguments, resolved.
#[derive(Debug)]
pub(super) struct Session {
    global: Global,
    path: PathBuf,
}

/// A node with its name in the context.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) node: Node,
}

impl Session {
    pub(super) fn new(global: Global) -> Result<Self, Failure> {
        let path = global.config.clone().map_or_else(default_path, Ok)?;
        Ok(Self { global, path })
    }

    pub(super) fn output(&self) -> Output {
        self.global.output
    }

    pub(super) fn timeout(&self) -> Duration {
        self.global.timeout
    }

    /// The context that was named, if one was.
    pub(super) fn context_name(&self) -> Option<&str> {
        self.global.context.as_deref()
    }

    /// Whether the nodes are left to the context.
    pub(super) fn names_no_node(&self) -> bool {
        self.global.nodes.is_empty()
    }

    /// The configuration's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration's directory, to which its paths are relative.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn load(&self) -> Result<Config, Failure> {
        Config::load(&self.path)
    }

    /// The nodes that were asked for: all of the context, or those named. A name that the context does not
    /// know is taken for an address.
    pub(super) fn targets(&self, context: &Context) -> Result<Vec<Target>, Failure> {
        let target = |name: &String| {
            let node = context.nodes.get(name).cloned().unwrap_or_else(|| Node {
                endpoint: name.clone(),
                name: None,
            });
            Target {
                name: name.clone(),
                node,
            }
        };
        let targets: Vec<_> = if self.global.nodes.is_empty() {
            context.nodes.keys().map(target).collect()
        } else {
            self.global.nodes.iter().map(target).collect()
        };
        if targets.is_empty() {
            return Err(Failure::refused(
                "choose a node",
                "the context has none",
                "Run `mastctl login NODE`, or name one with --nodes.",
            ));
        }
        Ok(targets)
    }

    /// The one node that was asked for.
    pub(super) fn target(&self, context: &Context) -> Result<Target, Failure> {
        let mut targets = self.targets(context)?;
        match (targets.pop(), targets.is_empty()) {
            (Some(target), true) => Ok(target),
            _ => Err(Failure::refused(
                "choose a node",
                "this needs exactly one",
                "Name one with --nodes (-n).",
            )),
        }
    }

    /// A client for a node of the context.
    pub(super) fn client(&self, context: &Context, node: &Node) -> Result<Client, Failure> {
        let needed = |part, what: &str| {
            context.part(part, self.directory())?.ok_or_else(|| {
                Failure::refused(
                    "be an operator",
                    format!("the context has no {what}"),
                    "Run `mastctl login NODE`.",
                )
            })
        };
        let credentials = Credentials {
            certificate: needed(Part::Certificate, "certificate")?,
            key: needed(Part::Key, "private key")?,
        };
        let trust = Trust::authority(&needed(Part::Authority, "authority")?)?;
        Client::new(node.clone(), trust, Some(&credentials), self.timeout())
    }
}
