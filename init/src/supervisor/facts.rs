//! What does not change while a supervisor runs.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use masthead_api::Timestamp;
use masthead_api::status::Exit;
use masthead_machine::Scale;
use serde::{Deserialize, Serialize};

use crate::link::{PreviousEnd, Welcome};
use crate::node::NodeKind;
use crate::slots::RUNNING;

/// `/etc/masthead/release.json`, which imagebuild writes.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Release {
    pub(super) version: String,
    pub(super) kubernetes: String,
    pub(super) etcd: String,
}

impl Release {
    fn read() -> Self {
        let text = fs::read("/etc/masthead/release.json").unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::error!(%error, "/etc/masthead/release.json cannot be read; the image is damaged");
            Self {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                kubernetes: String::new(),
                etcd: String::new(),
            }
        })
    }
}

/// One boot of this node. The first supervisor makes it, later ones read it: the kernel's own boot id
/// is the host's in a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ThisBoot {
    pub(super) id: String,
    pub(super) since_unix_millis: i64,
}

const BOOT: &str = "/run/masthead/boot.json";

impl ThisBoot {
    fn establish() -> Self {
        let known = fs::read(BOOT)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        known.unwrap_or_else(|| {
            let mut random = [0; 16];
            if let Err(error) = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()) {
                tracing::error!(%error, "the kernel gave no random numbers for a boot id");
            }
            let boot = Self {
                id: masthead_api::hex::encode(&random),
                since_unix_millis: Timestamp::from(SystemTime::now()).unix_millis(),
            };
            let text = serde_json::to_vec(&boot).unwrap_or_default();
            if let Err(error) = write(Path::new(BOOT), &text) {
                tracing::error!(%error, "{BOOT} cannot be written; the next supervisor makes another boot id");
            }
            boot
        })
    }
}

/// Atomically, so that a supervisor that is killed here leaves nothing half written.
fn write(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, contents)?;
    fs::rename(temporary, path)
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) kind: NodeKind,
    pub(super) scale: Scale,
    pub(super) release: Release,
    /// UUID of the root.
    pub(super) image: String,
    pub(super) kernel: String,
    pub(super) boot: ThisBoot,
    pub(super) supervisor_restarts: u32,
    pub(super) previous_end: Option<Exit>,
}

impl Facts {
    pub(super) fn gather(kind: NodeKind, welcome: &Welcome) -> Self {
        let kernel = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        Self {
            kind,
            scale: welcome.timing_scale,
            release: Release::read(),
            image: fs::read_to_string(RUNNING)
                .unwrap_or_default()
                .trim()
                .to_owned(),
            kernel,
            boot: ThisBoot::establish(),
            supervisor_restarts: welcome.supervisor_starts.saturating_sub(1),
            previous_end: exit(welcome.previous_end),
        }
    }
}

/// When it ended is not told; that the next one starts at once is known.
fn exit(end: PreviousEnd) -> Option<Exit> {
    let exit = |code, signal, ended_by: Option<&str>| {
        Some(Exit {
            code,
            signal,
            at: Timestamp::now(),
            ran_for: None,
            ended_by: ended_by.map(str::to_owned),
        })
    };
    match end {
        PreviousEnd::None => None,
        PreviousEnd::Exited(code) => exit(i32::try_from(code).ok(), None, None),
        PreviousEnd::Killed(signal) => exit(None, i32::try_from(signal).ok(), None),
        PreviousEnd::Silent => exit(
            None,
            Some(libc::SIGKILL),
            Some("PID 1: it had not beaten for too long"),
        ),
    }
}
