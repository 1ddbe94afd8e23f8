//! Leaves: issued when they are missing, due, or for other names, and kept valid while the node runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use masthead_pki::{
    Leaf, Leaves, Purpose, Reason, Renewal, Roots, Secret, SubjectNames, issue, renewal,
};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::problem::Problem;
use super::storage::{Durable, Storage, read};
use crate::error_chain::with_sources;

/// How often the clock is asked whether a leaf is due. Not only at the moment when the next one is: the clock may be set.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Issues leaves and keeps them on STATE.
#[derive(Clone, Debug)]
pub struct Keeper {
    leaves: PathBuf,
    roots: Arc<Roots>,
    names: Vec<(Purpose, SubjectNames)>,
}

/// What came of a look at the leaves.
#[derive(Debug)]
pub struct Issued {
    /// All leaves, valid now.
    pub leaves: Arc<Leaves>,
    /// Which of them are new, and why.
    pub renewed: Vec<(Purpose, Reason)>,
    /// New ones could not be kept on STATE, because of this. They are good all the same; the next boot makes others.
    pub not_kept: Option<String>,
}

impl Keeper {
    /// For STATE mounted at `state`; `names` says what each certificate is for
    /// ([`subject_names`](masthead_control_plane::subject_names)).
    pub fn new(state: &Path, roots: Arc<Roots>, names: impl Fn(Purpose) -> SubjectNames) -> Self {
        let names = Purpose::ALL.map(|purpose| (purpose, names(purpose))).into();
        Self {
            leaves: state.join("leaves"),
            roots,
            names,
        }
    }

    /// Reads the leaves, and issues those that need it at that time.
    pub fn look(&self, now: OffsetDateTime) -> Result<Issued, Problem> {
        self.look_on(&Durable, now, |purpose| self.stored(purpose))
    }

    fn look_on(
        &self,
        storage: &impl Storage,
        now: OffsetDateTime,
        present: impl Fn(Purpose) -> Option<Leaf>,
    ) -> Result<Issued, Problem> {
        let mut kept = storage.make_directory(&self.leaves);
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
                    let leaf = issue(*purpose, names, authority, now)?;
                    let path = self.path(*purpose);
                    kept = kept.and_then(|()| storage.replace(&path, join(&leaf).expose()));
                    let reason = match decision {
                        Renewal::Issue(reason) => reason,
                        Renewal::Keep { .. } => Reason::Missing,
                    };
                    renewed.push((*purpose, reason));
                    leaf
                }
            };
            leaves.push((*purpose, leaf));
        }
        let leaves = Leaves::from_all(leaves);
        Ok(Issued {
            leaves: Arc::new(leaves),
            renewed,
            not_kept: kept.err().map(|error| with_sources(&error)),
        })
    }

    /// A leaf as STATE has it. One that cannot be read is as good as none.
    fn stored(&self, purpose: Purpose) -> Option<Leaf> {
        split(&read(&self.path(purpose)).ok()??)
    }

    fn path(&self, purpose: Purpose) -> PathBuf {
        self.leaves.join(purpose.name()).with_extension("pem")
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
            match self.look_on(&Durable, OffsetDateTime::now_utc(), present) {
                Ok(issued) if issued.renewed.is_empty() => {}
                Ok(issued) => {
                    for (purpose, reason) in &issued.renewed {
                        tracing::info!(leaf = purpose.name(), %reason, "issued a certificate anew");
                    }
                    if let Some(error) = &issued.not_kept {
                        tracing::warn!(%error, "new certificates are in use but not on STATE");
                    }
                    leaves.send_replace(issued.leaves);
                }
                Err(problem) => {
                    tracing::error!(%problem, "certificates could not be issued anew");
                }
            }
        }
    }
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
