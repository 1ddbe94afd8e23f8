//! All keys and certificates of a master together.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::{
    Authority, AuthorityKind, EncryptionKey, Error, Leaf, Purpose, ServiceAccountKey, SubjectNames,
    issue,
};

/// What is made once, when the cluster is founded, and is the same on all masters.
#[derive(Debug)]
pub struct Roots {
    /// The authorities, by their kind; all of them.
    authorities: BTreeMap<AuthorityKind, Authority>,
    /// Signs service-account tokens.
    pub service_account: ServiceAccountKey,
    /// Encrypts secrets at rest.
    pub encryption: EncryptionKey,
}

impl Roots {
    /// Makes them for a new cluster of that id.
    pub fn generate(cluster_id: &str, now: OffsetDateTime) -> Result<Self, Error> {
        let authorities = AuthorityKind::ALL
            .into_iter()
            .map(|kind| Authority::generate(kind, cluster_id, now).map(|made| (kind, made)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            authorities,
            service_account: ServiceAccountKey::generate()?,
            encryption: EncryptionKey::generate()?,
        })
    }

    /// Puts them together again; `authority` reads each one back.
    pub fn assemble<E>(
        authority: impl Fn(AuthorityKind) -> Result<Authority, E>,
        service_account: ServiceAccountKey,
        encryption: EncryptionKey,
    ) -> Result<Self, E> {
        let authorities = AuthorityKind::ALL
            .into_iter()
            .map(|kind| authority(kind).map(|read| (kind, read)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            authorities,
            service_account,
            encryption,
        })
    }

    /// The authority of that kind.
    pub fn authority(&self, kind: AuthorityKind) -> &Authority {
        &self.authorities[&kind]
    }
}

/// The leaves of a master, by purpose; all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves(BTreeMap<Purpose, Leaf>);

impl Leaves {
    /// Puts them together.
    ///
    /// # Panics
    /// When the leaf for a purpose is missing: that would be a fault of the caller's code.
    pub fn from_all(leaves: impl IntoIterator<Item = (Purpose, Leaf)>) -> Self {
        let leaves = Self(leaves.into_iter().collect());
        assert_eq!(
            leaves.0.len(),
            Purpose::ALL.len(),
            "a master has all leaves"
        );
        leaves
    }

    /// Issues all of them; `names` gives the names of each.
    pub fn issue(
        roots: &Roots,
        names: impl Fn(Purpose) -> SubjectNames,
        now: OffsetDateTime,
    ) -> Result<Self, Error> {
        Purpose::ALL
            .into_iter()
            .map(|purpose| {
                let authority = roots.authority(purpose.authority());
                issue(purpose, &names(purpose), authority, now).map(|leaf| (purpose, leaf))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The leaf for that purpose.
    pub fn get(&self, purpose: Purpose) -> &Leaf {
        &self.0[&purpose]
    }
}
