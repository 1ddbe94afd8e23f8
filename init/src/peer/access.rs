//! What a node shows to its peers, and whom it lets in.

use std::collections::{BTreeMap, BTreeSet};

use masthead_peer_protocol::{RefusalCode, Route, Standing};
use masthead_pki::{PeerAuthority, PeerFingerprint, PeerSubject, Trust};

/// What a node shows to its peers, and whom it lets in.
#[derive(Clone, Debug)]
pub enum Access {
    /// It has not read its own state yet: nobody gets anything but a greeting.
    Undecided,
    /// It has no cluster yet. Whoever holds the seed's secret may send messages of formation.
    Founding {
        /// Only those with these keys; all while none are given.
        pinned: Option<BTreeSet<PeerFingerprint>>,
        /// The cluster that is about to be, once its plan is persisted: its members are let in as well.
        planned: Option<Membership>,
    },
    /// It belongs to a founded cluster. Who has nothing but the seed's secret learns that, and nothing else.
    Member(Membership),
}

/// A founded cluster, or one that is about to be.
#[derive(Clone, Debug)]
pub struct Membership {
    /// 32 hexadecimal digits.
    pub cluster_id: String,
    /// The cluster's own authority for peers.
    pub authority: PeerAuthority,
    /// The members' machine ids, each with its key where that is known.
    pub members: BTreeMap<String, Option<PeerFingerprint>>,
}

impl Access {
    /// That of a node on which nothing was decided yet.
    pub fn fresh() -> Self {
        Self::Founding {
            pinned: None,
            planned: None,
        }
    }

    pub(super) fn membership(&self) -> Option<&Membership> {
        match self {
            Self::Undecided => None,
            Self::Founding { planned, .. } => planned.as_ref(),
            Self::Member(membership) => Some(membership),
        }
    }

    pub(super) fn is_member(&self) -> bool {
        matches!(self, Self::Member(_))
    }

    pub(super) fn standing(&self) -> Standing {
        match self {
            Self::Undecided => Standing::Unknown,
            Self::Founding { .. } => Standing::Founding,
            Self::Member(membership) => Standing::member(&membership.cluster_id),
        }
    }

    /// Whether the peer with that certificate is one that this node deals with. Holds both ways: for those who call, and
    /// for those who are called and about to get a message.
    pub(super) fn knows(
        &self,
        trust: Trust,
        subject: &PeerSubject,
        key: PeerFingerprint,
    ) -> Result<(), RefusalCode> {
        match (trust, self) {
            (_, Self::Undecided) => Err(RefusalCode::Busy),
            (Trust::Join, Self::Member(_)) => Err(RefusalCode::MembersOnly),
            (Trust::Join, Self::Founding { pinned, .. }) => match pinned {
                Some(pinned) if !pinned.contains(&key) => Err(RefusalCode::NotPinned),
                _ => Ok(()),
            },
            (Trust::Member, _) => {
                let known = self
                    .membership()
                    .and_then(|membership| membership.members.get(&subject.machine_id));
                match known {
                    None => Err(RefusalCode::MembersOnly),
                    Some(Some(pinned)) if *pinned != key => Err(RefusalCode::NotPinned),
                    Some(_) => Ok(()),
                }
            }
        }
    }

    /// Whether that peer may use that route.
    pub(super) fn permits(
        &self,
        trust: Trust,
        subject: &PeerSubject,
        key: PeerFingerprint,
        route: Route,
    ) -> Result<(), RefusalCode> {
        self.knows(trust, subject, key)?;
        if trust == Trust::Join && !route.serves_founding() {
            return Err(RefusalCode::MembersOnly);
        }
        Ok(())
    }
}
