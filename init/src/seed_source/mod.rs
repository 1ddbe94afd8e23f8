//! Where a node finds its seed, and which master it then is.
//!
//! The order is fixed, and documented in `docs/seed.md`:
//!
//! 1. `masthead.seed=` on the kernel command line: `/PATH`, `LABEL:/PATH`, or an address from which it is fetched ([`fetch`]);
//! 2. NoCloud's `ds=nocloud;s=ADDRESS` on the same;
//! 3. QEMU's fw_cfg, `opt/masthead/seed`;
//! 4. an OEM string of the firmware (SMBIOS type 11), `masthead.seed.base64=`;
//! 5. volumes labelled `CIDATA` (`user-data`, the NoCloud layout) or `MASTHEAD` (`seed.toml`);
//! 6. `masthead/seed.toml` beside an image: on a medium, or on the EFI system partition of a disk that is ours;
//! 7. the installed seed: `seed.toml` on the STATE of a disk that is ours and prepared.
//!
//! A namespace node has one place: the file that the lab hands in. A place that holds nothing is passed over. A seed
//! that is broken or refused or cannot be fetched, or that does not name this machine, ends the look: whoever put it there meant it, and an
//! older one found further down must not take its place unseen.
//!
//! Nothing here writes to a disk; volumes are opened read-only, where nobody else sees them, and only while they are
//! read.

mod beside_image;
mod command_line;
mod fetch;
mod file;
mod installed;
mod machine;
mod places;
mod smbios;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use masthead_api::status::SeedAttempt;
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_machine::Scale;
use masthead_seed::{Hash, Machine, Master, NotFound, Report, Seed};
use tokio::sync::watch;
use tokio::time::sleep;

pub use fetch::{Card, Errand, Facts, How, NAME_SERVER_PORT, Uplink, Uplinks, Wanted};
pub use installed::install;
pub use machine::gather_machine;
pub(crate) use machine::is_own_interface;

use crate::network::Cards;
use crate::volume::{Mounts, SystemMounts};
use places::Places;

/// The pause after the first look without a seed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: how long a person who plugs in a stick waits at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Where this kind of node looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A machine: everywhere, below these roots.
    Machine(Roots),
    /// A namespace: in the file that the lab hands in (`--seed=PATH`), if it does, below these roots.
    Namespace {
        /// The file.
        seed: Option<PathBuf>,
        /// Only `sys` is used.
        roots: Roots,
    },
}

/// Where the kernel's and our own file systems are. Tests have them in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// In front of a path from the kernel command line.
    pub root: PathBuf,
    /// sysfs.
    pub sys: PathBuf,
    /// procfs.
    pub proc: PathBuf,
    /// The devices.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            root: "/".into(),
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
        }
    }
}

/// One place where a seed was looked for. `Display` says it in one or more lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The place, for people.
    pub source: String,
    /// What was there.
    pub result: AttemptResult,
}

/// What was found at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptResult {
    /// No seed.
    Absent,
    /// Something, but it could not be read.
    Unreadable(String),
    /// What was meant for a seed, and holds none.
    Broken(String),
    /// A seed that is to be fetched, and is not to be had.
    Unfetched(String),
    /// A seed with errors.
    Invalid(Report),
    /// A good seed in which this machine is not, or more than once.
    NotNamed(NotFound),
    /// The seed in use.
    Used,
}

/// A good seed and which master this machine is.
#[derive(Debug)]
pub struct Found {
    /// The seed.
    pub seed: Seed,
    /// This machine in it.
    pub master: Master,
    /// What its parser warns of.
    pub warnings: Report,
    /// The file as it is. It holds the secret.
    pub bytes: SeedBytes,
    /// SHA-256 of `bytes`; [`Seed::hash`] is that of the meaning.
    pub bytes_hash: Hash,
    /// Where it was found, for people.
    pub source: String,
    /// What this machine knew about itself.
    pub machine: Machine,
}

/// A seed file's bytes. Their `Debug` shows only how many there are.
pub struct SeedBytes(pub Vec<u8>);

impl fmt::Debug for SeedBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SeedBytes({} bytes)", self.0.len())
    }
}

/// What one look around gave.
#[derive(Debug)]
pub struct Outcome {
    /// Every place looked at, in order.
    pub attempts: Vec<Attempt>,
    /// The seed, if one was found.
    pub found: Option<Found>,
}

/// By what places are looked into. Tests have others than the machine's.
#[derive(Clone, Copy)]
pub struct Means<'m> {
    /// Volumes.
    pub mounts: &'m dyn Mounts,
    /// The network, for the time of a fetch.
    pub uplinks: &'m dyn Uplinks,
    /// Of its patience.
    pub scale: Scale,
}

/// Looks once.
pub async fn look(kind: &SourceKind, scale: Scale) -> Outcome {
    let kind = kind.clone();
    // Devices and networks may be slow or hang: that must not stop the supervisor's other tasks.
    let looked = tokio::task::spawn_blocking(move || {
        let sys = match &kind {
            SourceKind::Machine(roots) | SourceKind::Namespace { roots, .. } => roots.sys.clone(),
        };
        let means = Means {
            mounts: &SystemMounts,
            uplinks: &Cards { sys },
            scale,
        };
        look_with(&kind, &means)
    })
    .await;
    looked.unwrap_or_else(|error| Outcome {
        attempts: vec![Attempt {
            source: "every place".to_owned(),
            result: AttemptResult::Unreadable(error.to_string()),
        }],
        found: None,
    })
}

/// Looks until there is a seed that names this machine, with growing pauses. `report` always has the last look.
pub async fn wait_for_seed(
    kind: &SourceKind,
    scale: Scale,
    report: &watch::Sender<Vec<Attempt>>,
) -> Found {
    let mut pause = FIRST_PAUSE;
    loop {
        let Outcome { attempts, found } = look(kind, scale).await;
        report.send_replace(attempts);
        if let Some(found) = found {
            return found;
        }
        sleep(scale * pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Looks once, without an executor.
pub fn look_with(kind: &SourceKind, means: &Means<'_>) -> Outcome {
    let machine = gather_machine(kind);
    let mut attempts = Vec::new();
    for candidate in Places::new(kind, means) {
        let bytes = match candidate.content {
            Ok(bytes) => bytes,
            Err(result) => {
                let is_meant = matches!(
                    result,
                    AttemptResult::Broken(_) | AttemptResult::Unfetched(_)
                );
                attempts.push(Attempt {
                    source: candidate.source,
                    result,
                });
                if is_meant {
                    break;
                }
                continue;
            }
        };
        let (result, found) = judge(bytes, &candidate.source, &machine);
        attempts.push(Attempt {
            source: candidate.source,
            result,
        });
        return Outcome { attempts, found };
    }
    Outcome {
        attempts,
        found: None,
    }
}

fn judge(bytes: Vec<u8>, source: &str, machine: &Machine) -> (AttemptResult, Option<Found>) {
    let bytes_hash = Hash::of(&bytes);
    let (seed, report) = Seed::check(source, &bytes);
    let Some(seed) = seed else {
        return (AttemptResult::Invalid(report), None);
    };
    match seed.find_self(machine).cloned() {
        Err(not_found) => (AttemptResult::NotNamed(not_found), None),
        Ok(master) => {
            let found = Found {
                seed,
                master,
                warnings: report,
                bytes: SeedBytes(bytes),
                bytes_hash,
                source: source.to_owned(),
                machine: machine.clone(),
            };
            (AttemptResult::Used, Some(found))
        }
    }
}

/// What a node without a seed waits for; nothing if the last look found one.
pub fn waiting_for(attempts: &[Attempt], since: Timestamp) -> Option<Reason> {
    let last = attempts.last();
    let reason = |code| Reason::new(code, since);
    match last.map(|attempt| &attempt.result) {
        Some(AttemptResult::Used) => None,
        Some(AttemptResult::Broken(_)) => {
            let cause = last.map(ToString::to_string).unwrap_or_default();
            Some(reason(ReasonCode::SeedInvalid).with_cause(cause))
        }
        Some(AttemptResult::Unfetched(_)) => {
            let cause = last.map(ToString::to_string).unwrap_or_default();
            Some(reason(ReasonCode::SeedUnreachable).with_cause(cause))
        }
        Some(AttemptResult::Invalid(report)) => {
            Some(reason(ReasonCode::SeedInvalid).with_cause(report.to_string()))
        }
        Some(AttemptResult::NotNamed(not_found)) => {
            Some(reason(ReasonCode::SeedNoMatch).with_cause(not_found.to_string()))
        }
        _ => Some(reason(ReasonCode::SeedMissing)),
    }
}

impl From<&Attempt> for SeedAttempt {
    fn from(attempt: &Attempt) -> Self {
        Self {
            source: attempt.source.clone(),
            outcome: attempt.result.to_string(),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.source, self.result)
    }
}

impl fmt::Display for AttemptResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("not there"),
            Self::Unreadable(reason) => write!(formatter, "cannot be read: {reason}"),
            Self::Unfetched(reason) => write!(formatter, "cannot be fetched: {reason}"),
            Self::Broken(reason) => write!(formatter, "refused: {reason}"),
            Self::Invalid(report) => {
                write!(formatter, "refused\n{}", report.to_string().trim_end())
            }
            Self::NotNamed(not_found) => write!(formatter, "{not_found}"),
            Self::Used => formatter.write_str("in use"),
        }
    }
}

#[cfg(test)]
mod tests;
