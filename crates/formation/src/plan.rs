//! The plan: what a cluster is founded from.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::{ClusterId, KeyFingerprint, MachineId, PlanHash, PlanName, SeedHash};

/// The format of plans that this release writes; it reads this one and what says that it can be read so.
pub const PLAN_FORMAT: u32 = 1;

/// A plan, with the bytes that it came as: they are kept and passed on as they are, so that fields of a newer release
/// survive and the hash stays.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    document: PlanDocument,
    bytes: Vec<u8>,
    hash: PlanHash,
}

/// What a plan says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDocument {
    /// The format that it is written in.
    pub format: u32,
    /// The oldest format whose readers understand it.
    pub oldest_format: u32,
    /// Counts from 1; a higher one replaces a lower one as long as nobody holds go.
    pub generation: u64,
    /// Drawn for this plan.
    pub cluster_id: ClusterId,
    /// The cluster's name in the seed.
    pub cluster: String,
    /// The seed that all members hold.
    pub seed: SeedHash,
    /// The founding members, sorted by address. The first one is the planner.
    pub members: Vec<Member>,
    /// Names of listed masters that an operator founded without; sorted. They join later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<String>,
    /// `timing.scale` in thousandths: the same etcd heartbeat and election for all members.
    pub timing_scale_per_mille: u64,
    /// Authorities and keys; only the shell knows what is in it.
    pub sealed: Sealed,
}

/// A founding member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its address.
    pub address: IpAddr,
    /// Its name in the seed.
    pub name: String,
    /// Its machine id.
    pub machine_id: MachineId,
    /// The key that it showed while it was Fresh: the plan is given to the holder of this key only.
    pub key: KeyFingerprint,
}

/// Bytes that are secret and opaque here.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(de::Error::custom)
    }
}

/// Why bytes are no plan.
#[derive(Debug, Error)]
pub enum InvalidPlan {
    /// No JSON of that shape.
    #[error("read the plan")]
    Syntax(#[from] serde_json::Error),
    /// Only newer releases can read it.
    #[error(
        "the plan can be read from format {oldest} on, and this release reads format {PLAN_FORMAT}; boot the release that wrote it"
    )]
    TooNew {
        /// The oldest format whose readers understand it.
        oldest: u32,
    },
    /// It contradicts itself.
    #[error("the plan {0}")]
    Contradiction(&'static str),
}

impl Plan {
    /// Writes a plan down.
    pub fn write(document: &PlanDocument) -> Result<Self, InvalidPlan> {
        Self::read(serde_json::to_vec(document)?)
    }

    /// Reads a plan.
    pub fn read(bytes: Vec<u8>) -> Result<Self, InvalidPlan> {
        // First what every format has, so that a newer one is refused as such.
        #[derive(Deserialize)]
        struct Formats {
            oldest_format: u32,
        }
        let Formats { oldest_format } = serde_json::from_slice(&bytes)?;
        if oldest_format > PLAN_FORMAT {
            return Err(InvalidPlan::TooNew {
                oldest: oldest_format,
            });
        }
        let document: PlanDocument = serde_json::from_slice(&bytes)?;
        document.check().map_err(InvalidPlan::Contradiction)?;
        let hash = PlanHash::of(&bytes);
        Ok(Self {
            document,
            bytes,
            hash,
        })
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash of those bytes, by which a plan is acknowledged.
    pub fn hash(&self) -> PlanHash {
        self.hash
    }

    /// What it says.
    pub fn document(&self) -> &PlanDocument {
        &self.document
    }

    /// The generation.
    pub fn generation(&self) -> u64 {
        self.document.generation
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        self.document.cluster_id
    }

    /// How peers speak of it.
    pub fn name(&self) -> PlanName {
        PlanName {
            generation: self.generation(),
            hash: self.hash,
            cluster_id: self.cluster_id(),
        }
    }

    /// The members, sorted by address.
    pub fn members(&self) -> &[Member] {
        &self.document.members
    }

    /// Who drew it up: the member with the lowest address.
    pub fn planner(&self) -> &Member {
        &self.document.members[0]
    }

    /// The member of that name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members().iter().find(|member| member.name == name)
    }

    /// The member with that machine id.
    pub fn machine(&self, machine_id: MachineId) -> Option<&Member> {
        self.members()
            .iter()
            .find(|member| member.machine_id == machine_id)
    }

    /// The names of members that are not among `others`, when they are enough for this plan's cluster to serve.
    pub fn could_serve_beside(&self, others: &[Member]) -> Option<Vec<String>> {
        let left_out: Vec<String> = self
            .members()
            .iter()
            .filter(|member| others.iter().all(|other| other.name != member.name))
            .map(|member| member.name.clone())
            .collect();
        (left_out.len() >= self.quorum()).then_some(left_out)
    }

    /// How many members etcd needs to serve.
    pub fn quorum(&self) -> usize {
        self.members().len() / 2 + 1
    }

    /// How many members must hold go before the first of them starts etcd: a majority of the founding list, those
    /// that were left out included, so that two plans of one list cannot both get there.
    pub fn starters(&self) -> usize {
        let listed = self.members().len() + self.document.excluded.len();
        listed / 2 + 1
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.members().iter().map(|m| m.name.as_str()).collect();
        write!(
            formatter,
            "Plan(generation {}, {:?}, of {names:?})",
            self.generation(),
            self.hash
        )
    }
}

impl PlanDocument {
    fn check(&self) -> Result<(), &'static str> {
        let Some(_) = self.members.first() else {
            return Err("names no member");
        };
        if self.generation == 0 {
            return Err("has no generation");
        }
        if !self
            .members
            .is_sorted_by(|one, next| one.address < next.address)
        {
            return Err("does not sort its members by address, or names an address twice");
        }
        let mut names: Vec<&String> = self.members.iter().map(|m| &m.name).collect();
        names.extend(&self.excluded);
        names.sort();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("has a name twice");
        }
        let differ = |one: &Member, other: &Member| {
            one.machine_id != other.machine_id && one.key != other.key
        };
        for (index, member) in self.members.iter().enumerate() {
            if !self.members[..index]
                .iter()
                .all(|other| differ(member, other))
            {
                return Err("names one machine twice");
            }
        }
        Ok(())
    }
}
