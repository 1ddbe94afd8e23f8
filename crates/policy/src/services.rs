//! `services.toml`: who each service is, and what it may do and use.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

use crate::{TableError, parse, table};

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// The supervisor itself.
    pub supervisor: Supervisor,
    /// The services, by name.
    #[serde(rename = "service")]
    pub services: Vec<Service>,
}

/// What holds for the supervisor, which runs as root in `/supervisor`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supervisor {
    /// See [`Service::oom_score_adj`].
    pub oom_score_adj: i32,
    /// The most memory, in bytes (`memory.max`).
    #[serde(default)]
    pub memory_max: Option<u64>,
    /// The most processes and threads (`pids.max`).
    #[serde(default)]
    pub pids_max: Option<u64>,
    /// Resource limits.
    #[serde(default)]
    pub limits: Limits,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The service, its program and its leaf `/services/NAME`.
    pub name: String,
    /// Its user's name, for `/etc/passwd`.
    pub user: String,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Further groups.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// The only capabilities that it keeps, as capabilities(7) names them.
    pub capabilities: Vec<String>,
    /// From -1000 (never killed for want of memory) to 1000 (first). A node in a namespace may
    /// not go below 0.
    pub oom_score_adj: i32,
    /// `cpu.weight`, 1 to 10000; the kernel's default is 100.
    #[serde(default)]
    pub cpu_weight: Option<u32>,
    /// `io.weight`, 1 to 10000; the kernel's default is 100.
    #[serde(default)]
    pub io_weight: Option<u32>,
    /// Memory that is never reclaimed from it, in bytes (`memory.min`).
    #[serde(default)]
    pub memory_min: Option<u64>,
    /// From here on it is throttled and reclaimed from, in bytes (`memory.high`).
    #[serde(default)]
    pub memory_high: Option<u64>,
    /// The most memory, in bytes (`memory.max`).
    #[serde(default)]
    pub memory_max: Option<u64>,
    /// The most processes and threads (`pids.max`).
    pub pids_max: u64,
    /// Resource limits.
    pub limits: Limits,
    /// Directories that are made for it, and are its own.
    #[serde(default)]
    pub directories: Vec<Directory>,
}

/// Resource limits by name (`nofile`, `core`, `memlock`, `nproc`, ...), soft and hard alike; see
/// getrlimit(2) for the units.
pub type Limits = BTreeMap<String, u64>;

/// A directory that belongs to a service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Permissions; in the file an octal string such as `"0700"`.
    #[serde(deserialize_with = "octal")]
    pub mode: u32,
}

impl Services {
    /// The table of this image.
    pub fn embedded() -> Result<Self, TableError> {
        parse("services.toml", table!("services.toml"))
    }

    /// The service of this name.
    pub fn get(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// `/etc/passwd`: root, and a user for each service, none with a shell.
    pub fn passwd(&self) -> String {
        let user = |service: &Service| {
            let Service {
                user,
                uid,
                gid,
                name,
                ..
            } = service;
            format!("{user}:x:{uid}:{gid}:{name}:/:/sbin/nologin\n")
        };
        let root = "root:x:0:0:root:/:/sbin/nologin\n".to_owned();
        std::iter::once(root)
            .chain(self.services.iter().map(user))
            .collect()
    }

    /// `/etc/group`: root, and a group for each service.
    pub fn group(&self) -> String {
        let group = |service: &Service| format!("{}:x:{}:\n", service.user, service.gid);
        std::iter::once("root:x:0:\n".to_owned())
            .chain(self.services.iter().map(group))
            .collect()
    }
}

fn octal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    u32::from_str_radix(&text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| {
            de::Error::invalid_value(
                de::Unexpected::Str(&text),
                &"an octal mode such as \"0700\"",
            )
        })
}
