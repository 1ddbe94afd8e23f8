//! `mastctl.toml`: contexts, each with nodes, a pinned authority, a certificate and a key.
//!
//! ```toml
//! format = 1
//! current = "ams-prod"
//!
//! [contexts.ams-prod]
//! authority = "-----BEGIN CERTIFICATE-----…"   # or authority_file = "PATH"
//! certificate = "-----BEGIN CERTIFICATE-----…" # or certificate_file = "PATH"
//! key_file = "operator.key"                    # or key = "-----BEGIN PRIVATE KEY-----…"
//!
//! [contexts.ams-prod.nodes.m1]
//! endpoint = "10.20.0.11:9440"
//! name = "10.20.0.11"                          # in its certificate; default: the endpoint's host
//! kubernetes_server = "https://127.0.0.1:6443" # the apiserver from here; default: as the node says
//! ```
//!
//! Paths are relative to the file's directory. The file must be its owner's only (mode 0600).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use masthead_api::routes;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::files::{read_private, write_private};

/// The format number that this release reads and writes.
pub const FORMAT: u32 = 1;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// See [`FORMAT`].
    pub format: u32,
    /// The context to use when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Contexts by name, usually the cluster's.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: FORMAT,
            current: None,
            contexts: BTreeMap::new(),
        }
    }
}

/// A cluster, and how to be somebody there. Each of the three is inline (PEM) or a path.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The operators' authority, PEM: pinned, nobody else is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_file: Option<PathBuf>,
    /// The operator's certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// The operator's private key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Whether the authority is that of one node which belonged to no cluster when somebody logged in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// Nodes by name.
    #[serde(default)]
    pub nodes: BTreeMap<String, Node>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Context")
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Where to connect to: `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
    pub endpoint: String,
    /// The name or address that its certificate must have, when it is not the endpoint's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The URL of its apiserver from here, when it is not the one that the node says. A forwarded port of this machine
    /// needs no other name: loopback's addresses are in every apiserver's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_server: Option<String>,
}

impl Node {
    /// Host and port to connect to; the port is the management API's when none is written.
    pub fn address(&self) -> (String, u16) {
        split(&self.endpoint)
    }

    /// The name that its certificate must have.
    pub fn certificate_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.address().0)
    }
}

fn split(endpoint: &str) -> (String, u16) {
    let bare = endpoint
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'));
    let (host, port) = match bare {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        // An IPv6 address without brackets has colons and no port.
        None if endpoint.matches(':').count() > 1 => (endpoint, None),
        None => match endpoint.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (endpoint, None),
        },
    };
    let port = port
        .and_then(|port| port.parse().ok())
        .unwrap_or(routes::PORT);
    (host.to_owned(), port)
}

/// Where the file is when nobody says.
pub fn default_path() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")))
        .map(|base| base.join("masthead/mastctl.toml"))
        .ok_or_else(|| {
            Failure::refused(
                "find the configuration",
                "neither HOME nor XDG_CONFIG_HOME is set",
                "Say where it is with --config.",
            )
        })
}

impl Config {
    /// Reads the file; one that does not exist is an empty configuration.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = read_private("the configuration", path)?;
        let what = || format!("read the configuration {}", path.display());
        let config: Self = toml::from_str(&text).map_err(|error| {
            // Only the place and the message: the parser's own text quotes the line, which may be a key.
            let offset = error.span().map_or(0, |span| span.start);
            let line = text.get(..offset).unwrap_or_default().matches('\n').count() + 1;
            Failure::refused(
                what(),
                format!("line {line}: {}", error.message()),
                "Correct it as docs/mastctl.md says, or move it away and log in again.",
            )
        })?;
        if config.format != FORMAT {
            return Err(Failure::refused(
                what(),
                format!(
                    "its format is {}, and this mastctl knows {FORMAT}",
                    config.format
                ),
                "Use the mastctl that wrote it, or a newer one.",
            ));
        }
        Ok(config)
    }

    /// Writes the file, mode 0600, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let what = "the configuration";
        let text = toml::to_string(self)
            .map_err(|error| Failure::new(format!("write {what}"), &error, "Report it."))?;
        write_private(what, path, text.as_bytes(), true)
    }

    /// The context of that name, or the current one, or the only one.
    pub fn context(&self, name: Option<&str>, path: &Path) -> Result<(&str, &Context), Failure> {
        let only = (self.contexts.len() == 1)
            .then(|| self.contexts.keys().next())
            .flatten();
        let wanted = name
            .or(self.current.as_deref())
            .or(only.map(String::as_str));
        let what = "choose a context";
        let Some(wanted) = wanted else {
            let (why, next) = if self.contexts.is_empty() {
                ("there is no login yet", "Run `mastctl login NODE`.")
            } else {
                (
                    "there are several, and none is the current one",
                    "Name one with --context.",
                )
            };
            return Err(Failure::refused(
                what,
                format!("{}: {why}", path.display()),
                next,
            ));
        };
        self.contexts
            .get_key_value(wanted)
            .map(|(name, context)| (&**name, context))
            .ok_or_else(|| {
                let names: Vec<_> = self.contexts.keys().map(String::as_str).collect();
                let next = match names.as_slice() {
                    [] => "Run `mastctl login NODE`.".to_owned(),
                    names => format!("There are: {}.", names.join(", ")),
                };
                let why = format!("{} has no context \"{wanted}\"", path.display());
                Failure::refused(what, why, next)
            })
    }
}

/// Which of a context's three parts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Authority,
    Certificate,
    Key,
}

impl Context {
    /// One part's PEM, from where it is; paths are relative to `directory`.
    pub(crate) fn part(&self, part: Part, directory: &Path) -> Result<Option<String>, Failure> {
        let (what, inline, file) = match part {
            Part::Authority => ("the authority", &self.authority, &self.authority_file),
            Part::Certificate => ("the certificate", &self.certificate, &self.certificate_file),
            Part::Key => ("the private key", &self.key, &self.key_file),
        };
        match (inline, file, part) {
            (Some(text), _, _) => Ok(Some(text.clone())),
            (None, Some(file), Part::Key) => read_private(what, &directory.join(file)).map(Some),
            (None, Some(file), _) => {
                let file = directory.join(file);
                std::fs::read_to_string(&file).map(Some).map_err(|error| {
                    let what = format!("read {what} {}", file.display());
                    Failure::new(what, &error, "Check the path, or run `mastctl login NODE`.")
                })
            }
            (None, None, _) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;

    fn node(endpoint: &str, name: Option<&str>) -> Node {
        Node {
            endpoint: endpoint.into(),
            name: name.map(str::to_owned),
            kubernetes_server: None,
        }
    }

    #[test]
    fn an_endpoint_has_a_host_a_port_and_a_name() {
        let cases = [
            ("10.0.0.1", "10.0.0.1", 9440),
            ("10.0.0.1:4000", "10.0.0.1", 4000),
            ("m1.example.net:4000", "m1.example.net", 4000),
            ("[fd00::1]:4000", "fd00::1", 4000),
            ("[fd00::1]", "fd00::1", 9440),
            ("fd00::1", "fd00::1", 9440),
        ];
        for (endpoint, host, port) in cases {
            assert_eq!(
                node(endpoint, None).address(),
                (host.to_owned(), port),
                "{endpoint}"
            );
            assert_eq!(node(endpoint, None).certificate_name(), host);
        }
        let forwarded = node("127.0.0.1:4001", Some("10.20.0.11"));
        assert_eq!(forwarded.certificate_name(), "10.20.0.11");
    }

    #[test]
    fn a_configuration_is_written_and_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mastctl.toml");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        let mut config = Config {
            current: Some("a.b".into()),
            ..Config::default()
        };
        let context = Context {
            authority: Some("-----BEGIN\nx\n-----END\n".into()),
            key_file: Some("operator.key".into()),
            nodes: BTreeMap::from([("m1".into(), node("127.0.0.1:4001", Some("10.20.0.11")))]),
            ..Context::default()
        };
        config.contexts.insert("a.b".into(), context);
        config.save(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), config);
        assert!(!format!("{config:?}").contains("BEGIN"));
    }

    #[test]
    fn a_wrong_configuration_is_refused_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mastctl.toml");
        for (text, why) in [
            ("format = 2\n", "format is 2"),
            (
                "format = 1\n[contexts.a]\nky = \"SECRET\"\n",
                "line 3: unknown field `ky`",
            ),
            ("format = 1\n[contexts.a]\nkey = \"SECRET\n", "line 3:"),
        ] {
            write_private("it", &path, text.as_bytes(), true).unwrap();
            let failure = Config::load(&path).unwrap_err();
            assert_eq!(failure.exit, Exit::Refused);
            assert!(failure.why.contains(why), "{failure:?}");
            assert!(!failure.text().contains("SECRET"), "{failure:?}");
        }
    }

    #[test]
    fn a_context_is_chosen() {
        let path = Path::new("c.toml");
        let mut config = Config::default();
        assert!(
            config
                .context(None, path)
                .unwrap_err()
                .next
                .contains("mastctl login")
        );
        config.contexts.insert("a".into(), Context::default());
        assert_eq!(config.context(None, path).unwrap().0, "a");
        config.contexts.insert("b".into(), Context::default());
        assert!(
            config
                .context(None, path)
                .unwrap_err()
                .next
                .contains("--context")
        );
        config.current = Some("b".into());
        assert_eq!(config.context(None, path).unwrap().0, "b");
        assert_eq!(config.context(Some("a"), path).unwrap().0, "a");
        assert!(
            config
                .context(Some("c"), path)
                .unwrap_err()
                .next
                .contains("a, b")
        );
    }
}
