//! The records on STATE and ETCD.
//!
//! Each is one line with a checksum, then a document: a flipped bit anywhere shows, and a plan's bytes stay as they are.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use masthead_api::hex;

use crate::{ClusterId, InvalidPlan, MachineId, Plan, PlanHash, Volume};

/// Something to be kept. Each replaces an earlier one of the same name, whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A plan that this node acknowledges, on STATE. Earlier generations are kept beside it.
    Plan(Arc<Plan>),
    /// The plan that may be started, on STATE.
    Go(PlanHash),
    /// etcd's first start, on STATE.
    Started(Started),
    /// Whose data ETCD holds, on ETCD.
    Marker(Marker),
}

/// etcd was, or is about to be, started for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Of what.
    pub cluster_id: ClusterId,
    /// The UUID of the file system that etcd's data is on.
    pub etcd_filesystem: String,
    /// Whether etcd was seen serving: from then on its data must be there.
    pub confirmed: bool,
}

/// Whose data ETCD holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The machine.
    pub machine_id: MachineId,
}

impl Record {
    /// Which file system it belongs on.
    pub fn volume(&self) -> Volume {
        match self {
            Self::Plan(_) | Self::Go(_) | Self::Started(_) => Volume::State,
            Self::Marker(_) => Volume::Etcd,
        }
    }

    /// The name of its file there.
    pub fn file_name(&self) -> String {
        match self {
            Self::Plan(plan) => plan_file_name(plan.generation()),
            Self::Go(_) => GO_FILE.to_owned(),
            Self::Started(_) => STARTED_FILE.to_owned(),
            Self::Marker(_) => MARKER_FILE.to_owned(),
        }
    }
}

/// `plan-GENERATION` on STATE.
pub fn plan_file_name(generation: u64) -> String {
    format!("{PLAN_FILE_PREFIX}{generation}")
}

/// What the names of plan files on STATE begin with.
pub const PLAN_FILE_PREFIX: &str = "plan-";
/// The go record on STATE.
pub const GO_FILE: &str = "go";
/// The record of etcd's first start, on STATE.
pub const STARTED_FILE: &str = "started";
/// The marker on ETCD.
pub const MARKER_FILE: &str = "started";

/// The format of records that this release writes. It reads this one.
pub const RECORD_FORMAT: u32 = 1;

/// What the first line of a record begins with.
const HEAD: &str = "masthead record sha256:";

/// Why bytes are no record.
#[derive(Debug, Error)]
pub enum InvalidRecord {
    /// The checksum is missing or does not match.
    #[error("the record is cut or damaged")]
    Checksum,
    /// No JSON of that shape.
    #[error("read the record")]
    Syntax(#[from] serde_json::Error),
    /// Only newer releases can read it.
    #[error(
        "the record has format {format}, and this release reads up to {RECORD_FORMAT}; boot the release that wrote it"
    )]
    TooNew {
        /// Its format.
        format: u32,
    },
    /// The plan in it is none.
    #[error("read the plan of a record")]
    Plan(#[from] InvalidPlan),
}

/// A small document with its format. A field that this release does not know is a newer release's business.
#[derive(Serialize, Deserialize)]
struct Document<T> {
    format: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize, Deserialize)]
struct GoDocument {
    plan: PlanHash,
}

impl Record {
    /// The bytes of its file.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Plan(plan) => checksummed(plan.bytes()),
            Self::Go(plan) => document(GoDocument { plan: *plan }),
            Self::Started(started) => document(started),
            Self::Marker(marker) => document(marker),
        }
    }
}

impl Plan {
    /// Reads a plan's record.
    pub fn from_record(bytes: &[u8]) -> Result<Self, InvalidRecord> {
        Ok(Self::read(content(bytes)?.to_vec())?)
    }
}

/// Reads the record of go: the plan's hash.
pub(crate) fn read_go(bytes: &[u8]) -> Result<PlanHash, InvalidRecord> {
    read::<GoDocument>(bytes).map(|go| go.plan)
}

/// Reads [`Started`] or [`Marker`].
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, InvalidRecord> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let content = content(bytes)?;
    let Format { format } = serde_json::from_slice(content)?;
    if format > RECORD_FORMAT {
        return Err(InvalidRecord::TooNew { format });
    }
    Ok(serde_json::from_slice::<Document<T>>(content)?.content)
}

fn document(content: impl Serialize) -> Vec<u8> {
    let document = Document {
        format: RECORD_FORMAT,
        content,
    };
    checksummed(&serde_json::to_vec(&document).expect("these types are always JSON"))
}

fn checksummed(content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{HEAD}{}\n", hex::encode(&Sha256::digest(content))).into_bytes();
    bytes.extend(content);
    bytes
}

fn content(bytes: &[u8]) -> Result<&[u8], InvalidRecord> {
    let digits = 2 * size_of::<PlanHash>();
    let line = HEAD.len() + digits;
    let (head, rest) = bytes
        .split_at_checked(line)
        .ok_or(InvalidRecord::Checksum)?;
    let content = rest.strip_prefix(b"\n").ok_or(InvalidRecord::Checksum)?;
    let expected = format!("{HEAD}{}", hex::encode(&Sha256::digest(content)));
    if head == expected.as_bytes() {
        Ok(content)
    } else {
        Err(InvalidRecord::Checksum)
    }
}
