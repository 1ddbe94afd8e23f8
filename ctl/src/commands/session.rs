//! What the commands have in common: the configuration, and clients made from it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::Failure;
use crate::cli::{Global, Output};
use crate::client::{Client, Credentials, Trust};
use crate::config::{Config, Context, Node, Part, default_path};

/// Names the configuration when no argument does.
const CONFIG_VARIABLE: &str = "MASTCTL_CONFIG";

/// Codes of failures after which another node is asked. One that did not answer in time may have passed the word on:
/// what is asked here may be done twice.
const UNANSWERED: [&str; 3] = ["timeout", "unreachable", "connection-refused"];

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
        // Not left to clap, which would show the option in the usage line of every wrong command line.
        let from_environment = || std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        let named = global
            .config
            .clone()
            .or_else(|| from_environment().map(PathBuf::from));
        let path = named.map_or_else(default_path, Ok)?;
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
    /// know is taken for an address if it looks like one.
    pub(super) fn targets(&self, context: &Context) -> Result<Vec<Target>, Failure> {
        targets(&self.global.nodes, context)
    }

    /// The answer of the first node that hears the word.
    pub(super) async fn ask_any<M: Serialize + Sync>(
        &self,
        what: &str,
        route: &str,
        request: Option<&M>,
    ) -> Result<Value, Failure> {
        let config = self.load()?;
        let (_, context) = config.context(self.context_name(), self.path())?;
        let mut targets = self.targets(context)?.into_iter();
        loop {
            let Some(target) = targets.next() else {
                unreachable!("there is at least one target, and the last one ends the loop")
            };
            let client = self.client(context, &target.node)?;
            match client.ask(what, route, request).await {
                Err(failure) if UNANSWERED.contains(&&*failure.code) && targets.len() > 0 => {}
                answer => return answer,
            }
        }
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

/// The nodes of these names, or all of the context if there is no name.
pub(super) fn targets(names: &[String], context: &Context) -> Result<Vec<Target>, Failure> {
    let target = |name: &String| {
        Ok(Target {
            node: named(name, context)?,
            name: name.clone(),
        })
    };
    let targets: Vec<_> = if names.is_empty() {
        context.nodes.keys().map(target).collect::<Result<_, _>>()?
    } else {
        names.iter().map(target).collect::<Result<_, _>>()?
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

/// The node of that name in the context, or at that address.
pub(super) fn named(name: &str, context: &Context) -> Result<Node, Failure> {
    let known = context.nodes.get(name).cloned();
    known.map_or_else(|| as_address(name, context), Ok)
}

/// A node by its address. A single word is none: who mistypes a node's name is told the names that there are.
fn as_address(name: &str, context: &Context) -> Result<Node, Failure> {
    if name.contains(['.', ':']) || name == "localhost" {
        return Ok(Node {
            endpoint: name.to_owned(),
            name: None,
            kubernetes_server: None,
        });
    }
    let names: Vec<_> = context.nodes.keys().map(String::as_str).collect();
    Err(Failure::refused(
        format!("find the node {name}"),
        "the context has none of that name, and it is no address",
        match names.as_slice() {
            [] => "The context has no nodes: run `mastctl login NODE`.".to_owned(),
            names => format!(
                "There are: {}. For another one give its address, with the port if it is a single word: {name}:9440.",
                names.join(", ")
            ),
        },
    ))
}
