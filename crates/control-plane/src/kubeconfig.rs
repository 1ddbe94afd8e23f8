//! Kubeconfigs: `client-go`'s `Config` of `v1`, as JSON, which every YAML reader reads.

use serde_json::{Map, Value, json};

/// What a kubeconfig of one cluster and one user says.
#[derive(Clone, Copy, Debug)]
pub struct Kubeconfig<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// `https://HOST:PORT`.
    pub server: &'a str,
    /// The authority of the server's certificate.
    pub authority: Credential<'a>,
    /// The user's name in this file.
    pub user: &'a str,
    /// The client certificate.
    pub certificate: Credential<'a>,
    /// Its private key.
    pub key: Credential<'a>,
}

/// A certificate or a key.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// In a file, which clients read again when it changes.
    Path(&'a str),
    /// Within the kubeconfig: base64 of PEM.
    Data(&'a str),
}

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(formatter, "Path({path:?})"),
            Self::Data(_) => formatter.write_str("Data(hidden)"),
        }
    }
}

impl Kubeconfig<'_> {
    /// The document.
    pub fn document(&self) -> Value {
        let context = format!("{}@{}", self.user, self.cluster);
        let mut cluster = Map::from_iter([("server".to_owned(), json!(self.server))]);
        self.authority.put(&mut cluster, "certificate-authority");
        let mut user = Map::new();
        self.certificate.put(&mut user, "client-certificate");
        self.key.put(&mut user, "client-key");
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": self.cluster, "cluster": cluster }],
            "users": [{ "name": self.user, "user": user }],
            "contexts": [{
                "name": context,
                "context": { "cluster": self.cluster, "user": self.user },
            }],
            "current-context": context,
        })
    }
}

impl Credential<'_> {
    fn put(self, into: &mut Map<String, Value>, name: &str) {
        match self {
            Self::Path(path) => into.insert(name.to_owned(), json!(path)),
            Self::Data(data) => into.insert(format!("{name}-data"), json!(data)),
        };
    }
}
