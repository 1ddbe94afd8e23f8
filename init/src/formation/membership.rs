//! What peers may do, by what this node is.

use masthead_formation::Plan;
use masthead_pki::{AuthorityKind, PeerAuthority, PeerFingerprint};

use super::sealed::{self, UnsealError};
use crate::peer::{Access, Membership};

/// What a node shows to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No plan.
    Open,
    /// A plan that its etcd was not started with.
    Planned,
    /// A plan that its etcd was, or is being, started with: the seed's secret opens nothing any more.
    Founded,
}

pub(super) fn access(stage: Stage, plan: Option<&Plan>) -> Result<Access, UnsealError> {
    let membership = plan.map(membership).transpose()?;
    Ok(match (stage, membership) {
        (Stage::Founded, Some(membership)) => Access::Member(membership),
        (Stage::Open | Stage::Planned | Stage::Founded, planned) => Access::Founding {
            // The machine itself judges by the keys that it knows: a wiped planner comes back with another one.
            pinned: None,
            planned,
        },
    })
}

fn membership(plan: &Plan) -> Result<Membership, UnsealError> {
    let founded = sealed::open(&plan.document().sealed)?;
    let members = plan.members().iter().map(|member| {
        let key = PeerFingerprint(member.key.0);
        (member.machine_id.to_string(), Some(key))
    });
    Ok(Membership {
        cluster_id: plan.cluster_id().to_string(),
        authority: PeerAuthority::member(founded.roots.authority(AuthorityKind::Peers)),
        members: members.collect(),
    })
}
