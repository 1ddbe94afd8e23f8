//! The documents on STATE and ETCD. Each has a format number; a release reads its own and all earlier ones.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use masthead_api::ReasonCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// The newest format of all documents here.
pub(super) const FORMAT: u32 = 1;

/// `identity.json`: what the node is a member of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdentityRecord {
    pub(super) format: u32,
    /// The cluster's name in the seed that it was founded with.
    pub(super) cluster: String,
    /// 32 random hexadecimal digits.
    pub(super) cluster_id: String,
    /// The services' network that the cluster was founded with: it cannot change afterwards.
    pub(super) services: String,
    /// Seconds since 1970, by the founding node's clock.
    pub(super) founded_at: i64,
    /// etcd's static list.
    pub(super) members: Vec<MemberRecord>,
    /// SHA-256 (hexadecimal) of each file in `pki`, by name: a flipped bit in a key would otherwise show
    /// years later, as secrets that cannot be decrypted.
    pub(super) digests: BTreeMap<String, String>,
}

/// A founding member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberRecord {
    pub(super) machine_id: String,
    pub(super) name: String,
    pub(super) address: IpAddr,
}

/// `started` on STATE: etcd was or is about to be started for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartedRecord {
    pub(super) format: u32,
    /// The UUID of the file system that etcd's data is on.
    pub(super) etcd_filesystem: String,
    /// Whether etcd was seen serving: from then on its data must be there.
    pub(super) confirmed: bool,
}

/// `started` on ETCD: whose data this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartedMarker {
    pub(super) format: u32,
    pub(super) cluster_id: String,
    pub(super) machine_id: String,
}

/// Reads a document, with its name in every refusal.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, Problem> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } =
        serde_json::from_slice(bytes).map_err(|error| Problem::damaged(path, error))?;
    if format > FORMAT {
        return Err(Problem {
            code: ReasonCode::IdentityDamaged,
            cause: format!(
                "{}: written by a newer release (format {format}; this one reads up to {FORMAT}).",
                path.display()
            ),
            remedy: "Boot the newer release.".to_owned(),
        });
    }
    serde_json::from_slice(bytes).map_err(|error| Problem::damaged(path, error))
}

/// The bytes of a document.
pub(super) fn render(document: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(document).expect("these types are always JSON");
    bytes.push(b'\n');
    bytes
}
