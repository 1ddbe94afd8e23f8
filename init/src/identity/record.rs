//! The documents on STATE and ETCD. Each has a format number and a checksum; a release reads its own format
//! and all earlier ones.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use masthead_api::ReasonCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::problem::Problem;

/// A kind of document.
pub(super) trait Document: DeserializeOwned {
    /// Its newest format: the one that is written.
    const FORMAT: u32;
}

impl Document for IdentityRecord {
    const FORMAT: u32 = 2;
}

impl IdentityRecord {
    /// Since this format a cluster is founded with a peer authority.
    pub(super) const WITH_PEERS: u32 = 2;
}

impl Document for StartedRecord {
    const FORMAT: u32 = 1;
}

impl Document for StartedMarker {
    const FORMAT: u32 = 1;
}

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

/// What stands between a document and its checksum. The checksum is the last field, of all bytes before this, so that the
/// file is JSON for whoever reads it, and one flipped bit anywhere shows.
const CHECKSUM: &str = ",\n  \"sha256\": \"";
const END: &str = "\"\n}\n";

/// Reads a document, with its name in every refusal.
pub(super) fn parse<T: Document>(path: &Path, bytes: &[u8]) -> Result<T, Problem> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |detail: &str| Problem::damaged(path, detail);
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("no text."))?;
    let (document, checksum) = text
        .rsplit_once(CHECKSUM)
        .and_then(|(document, rest)| Some((document, rest.strip_suffix(END)?)))
        .ok_or_else(|| damaged("cut, or no document of Masthead."))?;
    if checksum != digest(document.as_bytes()) {
        return Err(damaged("the checksum does not match."));
    }
    let Format { format } =
        serde_json::from_str(text).map_err(|error| Problem::damaged(path, error))?;
    if format > T::FORMAT {
        return Err(Problem {
            code: ReasonCode::IdentityDamaged,
            cause: format!(
                "{}: written by a newer release (format {format}; this one reads up to {}).",
                path.display(),
                T::FORMAT
            ),
            remedy: "Boot the newer release.".to_owned(),
        });
    }
    serde_json::from_str(text).map_err(|error| Problem::damaged(path, error))
}

/// The bytes of a document: an object with at least one field.
pub(super) fn render(document: &impl Serialize) -> Vec<u8> {
    let text = serde_json::to_string_pretty(document).expect("these types are always JSON");
    let document = text
        .strip_suffix("\n}")
        .expect("these types are objects with fields");
    let checksum = digest(document.as_bytes());
    format!("{document}{CHECKSUM}{checksum}{END}").into_bytes()
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Two lower-case digits for each byte.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    masthead_api::hex::encode(bytes)
}
