//! SHA-256 values of seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Display, Formatter};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{DiskMatch, DiskSelector, Endpoint, Kubernetes, Master, Route, Seed};

/// A SHA-256 value; shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of bytes as they are.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of what a seed means. Values are named by their path and only those that are set count, so that a
    /// later version with more keys gives the same hash to a seed that uses none of them.
    pub(crate) fn of_meaning(seed: &Seed) -> Self {
        let mut meaning = Meaning::default();
        meaning.seed(seed);
        let mut hasher = Sha256::new_with_prefix("masthead seed 1");
        for (path, value) in meaning.0 {
            for part in [path.as_bytes(), value.as_bytes()] {
                // Lengths keep two parts from running into each other.
                hasher.update(part.len().to_le_bytes());
                hasher.update(part);
            }
        }
        Self(hasher.finalize().into())
    }
}

/// Path → value, sorted by path.
#[derive(Default)]
struct Meaning(BTreeMap<String, String>);

impl Meaning {
    fn put(&mut self, path: impl Into<String>, value: impl Display) {
        self.0.insert(path.into(), value.to_string());
    }

    fn put_if(&mut self, path: String, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(path, value);
        }
    }

    fn put_all(&mut self, path: &str, values: impl IntoIterator<Item = impl Display>) {
        for (index, value) in values.into_iter().enumerate() {
            self.put(format!("{path}/{index:06}"), value);
        }
    }

    fn seed(&mut self, seed: &Seed) {
        self.put("cluster", &seed.cluster);
        // Not the secret itself: this map is freed without being overwritten.
        self.put("secret", Hash::of(seed.secret.expose()));
        for admin in &seed.admins {
            self.put(format!("admins/{admin}"), "");
        }
        let operators: BTreeSet<_> = seed.operators.iter().collect();
        for operator in operators {
            self.put(format!("operators/{operator}"), "");
        }
        for key in &seed.image_keys {
            self.put(format!("image-keys/{key}"), "");
        }
        match &seed.endpoint {
            // Their order counts: the first one is what clients are told.
            Endpoint::Virtual(addresses) => {
                for (place, address) in addresses.iter().enumerate() {
                    self.put(format!("endpoint/virtual/{place}"), address);
                }
            }
            balancer @ Endpoint::LoadBalancer { .. } => {
                self.put("endpoint/load-balancer", balancer);
            }
        }
        seed.masters.iter().for_each(|master| self.master(master));
        self.kubernetes(&seed.kubernetes);
    }

    fn master(&mut self, master: &Master) {
        let path = format!("masters/{}", master.name);
        self.put_if(format!("{path}/mac"), master.selector.mac);
        self.put_if(format!("{path}/serial"), master.selector.serial.as_ref());
        self.put(format!("{path}/address"), master.address);
        self.put(format!("{path}/network/prefix"), master.network.prefix);
        self.put_if(format!("{path}/network/gateway"), master.network.gateway);
        self.put_all(&format!("{path}/network/dns"), &master.network.dns);
        self.put_all(&format!("{path}/network/ntp"), &master.network.ntp);
        self.put_if(format!("{path}/network/mtu"), master.network.mtu);
        for Route { to, via } in &master.network.routes {
            self.put(format!("{path}/network/routes/{to}"), via);
        }
        for address in &master.network.addresses {
            self.put(format!("{path}/network/addresses/{address}"), "");
        }
        match &master.disk {
            DiskSelector::Memory => self.put(format!("{path}/disk/memory"), true),
            DiskSelector::Match(disk) => self.disk(&format!("{path}/disk"), disk),
        }
        if let Some(disk) = &master.etcd_disk {
            self.disk(&format!("{path}/etcd-disk"), disk);
        }
        self.put_if(format!("{path}/wipe"), master.wipe.as_ref());
    }

    fn disk(&mut self, path: &str, disk: &DiskMatch) {
        self.put(path, "match");
        self.put_if(format!("{path}/type"), disk.kind);
        self.put_if(format!("{path}/min"), disk.min_bytes);
        self.put_if(format!("{path}/serial"), disk.serial.as_ref());
    }

    fn kubernetes(&mut self, kubernetes: &Kubernetes) {
        self.put("kubernetes/services", kubernetes.services);
        self.put_if("kubernetes/pods".to_owned(), kubernetes.pods);
        for name in &kubernetes.sans {
            self.put(format!("kubernetes/sans/{name}"), "");
        }
        for (component, flags) in &kubernetes.flags {
            for (flag, value) in flags {
                self.put(
                    format!("kubernetes/flags/{}/{flag}", component.name()),
                    value,
                );
            }
        }
        let files = &kubernetes.files;
        for (name, document) in [
            ("authentication", &files.authentication),
            ("audit-policy", &files.audit_policy),
            ("admission", &files.admission),
        ] {
            if let Some(document) = document {
                self.document(&format!("kubernetes/files/{name}"), document);
            }
        }
    }

    /// Sorted whatever order the JSON library keeps.
    fn document(&mut self, path: &str, value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(entries) => {
                self.put(path, "object");
                for (key, value) in entries {
                    self.document(&format!("{path}/{}:{key}", key.len()), value);
                }
            }
            serde_json::Value::Array(items) => {
                self.put(path, "array");
                for (index, value) in items.iter().enumerate() {
                    self.document(&format!("{path}/{index:06}"), value);
                }
            }
            scalar => self.put(path, scalar),
        }
    }
}

impl Display for Hash {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl Debug for Hash {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
