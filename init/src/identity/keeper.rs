//! Leaves: issued when they are missing, due, or for other names, and kept valid while the node runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use masthead_pki::{
    Leaf, Leaves, Purpose, Reason, Renewal, Roots, Secret, SubjectNames, issue, renewal,
};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::handover::Handover;
use super::problem::Problem;
use super::storage::{Durable, Storage, StorageError, read};
use crate::error_chain::with_sources;

/// How often the clock is asked whether a leaf is due. Not only at the moment when the next one is: the clock may be set.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Issues leaves and keeps them: in memory for the next supervisor, and on STATE for the next boot.
#[derive(Clone, Debug)]
pub struct Keeper {
    on_state: PathBuf,
    handover: Handover,
    roots: Arc<Roots>,
    names: Vec<(Purpose, SubjectNames)>,
}

/// What came of a look at the leaves.
#[derive(Clone, Debug)]
pub struct Issued {
    /// All leaves, valid now.
    pub leaves: Arc<Leaves>,
    /// Which of them are new, and why.
    pub renewed: Vec<(Purpose, Reason)>,
}

impl Keeper {
    /// For STATE mounted at `state`; `names` says what each certificate is for
    /// ([`subject_names`](masthead_control_plane::subject_names)).
    pub fn new(
        state: &Path,
        handover: Handover,
        roots: Arc<Roots>,
        names: impl Fn(Purpose) -> SubjectNames,
    ) -> Self {
        let names = Purpose::ALL.map(|purpose| (purpose, names(purpose))).into();
        Self {
            on_state: state.join(LEAVES),
            handover,
            roots,
            names,
        }
    }

    /// Reads the leaves, and issues those that need it at that time. Waits for STATE only for those that no supervisor
    /// of this boot has handed over.
    pub fn look(&self, now: OffsetDateTime) -> Result<Issued, Problem> {
        let issued = self.issue(now, |purpose| {
            let kept = self.handover.read(&in_memory(purpose));
            kept.and_then(|bytes| split(&bytes))
                .or_else(|| split(&read(&self.path(purpose)).ok()??))
        })?;
        self.hand_over(&issued.leaves, Purpose::ALL);
        Ok(issued)
    }

    /// All leaves: those that are `present`, but for those that are missing, due or for other names.
    fn issue(
        &self,
        now: OffsetDateTime,
        present: impl Fn(Purpose) -> Option<Leaf>,
    ) -> Result<Issued, Problem> {
        let mut renewed = Vec::new();
        let mut leaves = Vec::new();
        for (purpose, names) in &self.names {
            let authority = self.roots.authority(purpose.authority());
            let leaf = present(*purpose);
            let leaf = match (
                renewal(*purpose, leaf.as_ref(), names, authority, now),
                leaf,
            ) {
                (Renewal::Keep { .. }, Some(leaf)) => leaf,
                (decision, _) => {
                    let reason = match decision {
                        Renewal::Issue(reason) => reason,
                        Renewal::Keep { .. } => Reason::Missing,
                    };
                    renewed.push((*purpose, reason));
                    issue(*purpose, names, authority, now)?
                }
            };
            leaves.push((*purpose, leaf));
        }
        Ok(Issued {
            leaves: Arc::new(Leaves::from_all(leaves)),
            renewed,
        })
    }

    /// Keeps leaves in memory. Without that, the next supervisor reads those of STATE.
    fn hand_over(&self, leaves: &Leaves, purposes: impl IntoIterator<Item = Purpose>) {
        for purpose in purposes {
            let file = join(leaves.get(purpose));
            if let Err(error) = self.handover.keep(&in_memory(purpose), file.expose()) {
                tracing::error!(error = %with_sources(&error), "a certificate is not handed over");
                return;
            }
        }
    }

    /// Writes the new ones to STATE. They are good also when that fails; the next boot makes others.
    pub fn store(&self, issued: &Issued) -> Result<(), StorageError> {
        if issued.renewed.is_empty() {
            return Ok(());
        }
        Durable.make_directory(&self.on_state)?;
        for (purpose, _) in &issued.renewed {
            let file = join(issued.leaves.get(*purpose));
            Durable.replace(&self.path(*purpose), file.expose())?;
        }
        Ok(())
    }

    /// Tells which leaves are new, and stores them behind the caller's back: a disk that stalls keeps nobody waiting.
    /// Must be called on the runtime.
    pub fn tell_and_store(&self, issued: &Issued) {
        for (purpose, reason) in &issued.renewed {
            tracing::info!(leaf = purpose.name(), %reason, "issued a certificate");
        }
        let (keeper, issued) = (self.clone(), issued.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = keeper.store(&issued) {
                let error = with_sources(&error);
                tracing::warn!(%error, "new certificates are in use but not on STATE");
            }
        });
    }

    fn path(&self, purpose: Purpose) -> PathBuf {
        self.on_state.join(file_name(purpose))
    }

    /// Looks now and then, and hands new leaves to `leaves`: rendering them for the services is the receiver's. Runs
    /// until nobody listens.
    pub async fn run(self, leaves: watch::Sender<Arc<Leaves>>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = leaves.closed() => return,
            }
            let current = leaves.borrow().clone();
            let present = |purpose| Some(current.get(purpose).clone());
            match self.issue(OffsetDateTime::now_utc(), present) {
                Ok(issued) if issued.renewed.is_empty() => {}
                Ok(issued) => {
                    let renewed = issued.renewed.iter().map(|(purpose, _)| *purpose);
                    self.hand_over(&issued.leaves, renewed);
                    self.tell_and_store(&issued);
                    leaves.send_replace(issued.leaves);
                }
                Err(problem) => {
                    tracing::error!(%problem, "certificates could not be issued anew");
                }
            }
        }
    }
}

/// The directory of leaves, on STATE and in memory.
const LEAVES: &str = "leaves";

fn file_name(purpose: Purpose) -> String {
    format!("{}.pem", purpose.name())
}

fn in_memory(purpose: Purpose) -> String {
    format!("{LEAVES}/{}", file_name(purpose))
}

/// Certificate and key in one file, so that they change together.
fn join(leaf: &Leaf) -> Secret {
    Secret::new([leaf.certificate_pem.as_bytes(), leaf.key_pem.expose()].concat())
}

fn split(bytes: &[u8]) -> Option<Leaf> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (certificate, key) = text.split_at(text.find("-----BEGIN PRIVATE KEY-----")?);
    Some(Leaf {
        certificate_pem: certificate.to_owned(),
        key_pem: Secret::new(key),
    })
}
