//! Reading the identity, or founding a cluster of one.
//!
//! Founding writes everything into `founding/`, file by file, and then gives it its name in two steps: `pki`, then
//! `identity.json`. A power cut leaves one of:
//!
//! | `identity.json` | `pki` | `founding/identity.json` | what was cut | what follows |
//! |---|---|---|---|---|
//! | no | no | any | writing | found anew: nobody has seen what was made |
//! | no | yes | yes | between the names | give the second name |
//! | yes | yes | no | nothing | member |
//!
//! Anything else is damage, and refused by name: authorities are never made a second time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use masthead_api::ReasonCode;
use masthead_control_plane::Member;
use masthead_pki::{Authority, AuthorityKind, EncryptionKey, Roots, Secret, ServiceAccountKey};
use masthead_seed::{Master, Seed};
use rustix::rand::{GetRandomFlags, getrandom};
use time::OffsetDateTime;

use super::handover::Handover;
use super::problem::Problem;
use super::record::{
    Document as _, IdentityRecord, MemberRecord, digest, hexadecimal, parse, render,
};
use super::storage::{Durable, Storage, StorageError, exists, read};
use crate::error_chain::with_sources;

/// What this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// 32 random hexadecimal digits, made at the first boot.
    pub machine_id: String,
    /// 32 random hexadecimal digits, made when the cluster was founded.
    pub cluster_id: String,
    /// The founding members, this one with its present address.
    pub members: Vec<Member>,
    /// Authorities and keys.
    pub roots: std::sync::Arc<Roots>,
}

/// What came of [`establish`].
#[derive(Debug)]
pub enum Established {
    /// A member of a cluster, founded now or before.
    Member(Box<Identity>),
    /// Something to wait for, or to be put right by a person. Nothing was written but the machine id.
    Waiting(Problem),
}

/// Reads the identity from STATE, mounted at `state`; founds a cluster when the seed lists this master alone and
/// STATE holds nothing.
pub fn establish(state: &Path, seed: &Seed, master: &Master, now: OffsetDateTime) -> Established {
    establish_on(&Durable, state, seed, master, now).map_or_else(Established::Waiting, |identity| {
        Established::Member(Box::new(identity))
    })
}

pub(super) fn establish_on(
    storage: &impl Storage,
    state: &Path,
    seed: &Seed,
    master: &Master,
    now: OffsetDateTime,
) -> Result<Identity, Problem> {
    let places = Places::below(state);
    let machine_id = machine_id(storage, &places)?;
    match resume(storage, &places)? {
        Found::Identity(record) => load(&places, record, machine_id, seed, master),
        Found::Nothing => {
            if let [only] = seed.masters.as_slice() {
                let identity = IdentityOfOne {
                    machine_id: &machine_id,
                    seed,
                    master: only,
                    now,
                };
                let record = identity.found(storage, &places)?;
                load(&places, record, machine_id, seed, master)
            } else {
                // Where the formation of several masters begins.
                Err(formation_of_several(seed))
            }
        }
    }
}

/// Keeps what makes the identity for a supervisor that replaces this one: the files of STATE, as they are.
pub fn hand_over(state: &Path, handover: &Handover) -> Result<(), StorageError> {
    let places = Places::below(state);
    let keep = |name: &str, path: &Path| match read(path)? {
        Some(contents) => handover.keep(name, &contents),
        // What is missing is found missing by the successor.
        None => Ok(()),
    };
    keep("machine-id", &places.machine_id)?;
    for name in pki_names() {
        keep(&format!("pki/{name}"), &places.pki.join(&name))?;
    }
    // It has the digests of the others: with it, all are there.
    keep("identity.json", &places.identity)
}

/// The identity that an earlier supervisor of this boot has handed over; `None` if none has. Does not touch STATE.
pub fn handed_over(
    handover: &Handover,
    seed: &Seed,
    master: &Master,
) -> Result<Option<Identity>, Problem> {
    let places = Places::below(handover.directory());
    let Some(bytes) = read(&places.identity)? else {
        return Ok(None);
    };
    let record = parse(&places.identity, &bytes)?;
    let machine_id = read_machine_id(&places.machine_id)?
        .ok_or_else(|| Problem::damaged(&places.machine_id, "missing."))?;
    load(&places, record, machine_id, seed, master).map(Some)
}

fn formation_of_several(seed: &Seed) -> Problem {
    Problem {
        code: ReasonCode::FormationOfSeveral,
        cause: format!(
            "The seed lists {} masters, and this release founds clusters of one.",
            seed.masters.len()
        ),
        remedy: ReasonCode::FormationOfSeveral.remedy().to_owned(),
    }
}

/// Where things lie on STATE.
pub(super) struct Places {
    pub(super) machine_id: PathBuf,
    pub(super) peer_key: PathBuf,
    identity: PathBuf,
    pki: PathBuf,
    founding: PathBuf,
    started: PathBuf,
}

impl Places {
    pub(super) fn below(state: &Path) -> Self {
        Self {
            machine_id: state.join("machine-id"),
            peer_key: state.join("peer.key"),
            identity: state.join("identity.json"),
            pki: state.join("pki"),
            founding: state.join("founding"),
            started: state.join("started"),
        }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        Self {
            code: ReasonCode::DiskSetupFailed,
            cause: format!("STATE cannot be used: {}.", with_sources(&error)),
            remedy: "Check the disk; replace it if it fails. The node tries again.".to_owned(),
        }
    }
}

impl From<masthead_pki::Error> for Problem {
    fn from(error: masthead_pki::Error) -> Self {
        Self {
            code: ReasonCode::IdentityDamaged,
            cause: format!(
                "Keys or certificates could not be made: {}.",
                with_sources(&error)
            ),
            remedy: "Reboot; if it happens again, report it with this message.".to_owned(),
        }
    }
}

/// 128 random bits as 32 hexadecimal digits.
fn random_id() -> Result<String, Problem> {
    let mut bytes = [0; 16];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty());
    if filled != Ok(bytes.len()) {
        return Err(Problem {
            code: ReasonCode::IdentityDamaged,
            cause: "The kernel gives no random numbers.".to_owned(),
            remedy: "Reboot.".to_owned(),
        });
    }
    Ok(hexadecimal(&bytes))
}

/// The machine's id as it was written, if it was.
pub(super) fn read_machine_id(path: &Path) -> Result<Option<String>, Problem> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let id = text.trim_end();
    let valid = id.len() == 32
        && id
            .bytes()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if valid {
        Ok(Some(id.to_owned()))
    } else {
        Err(Problem::damaged(path, "not 32 hexadecimal digits."))
    }
}

/// The machine's id: read, or made at the first boot.
pub(super) fn machine_id(storage: &impl Storage, places: &Places) -> Result<String, Problem> {
    let path = &places.machine_id;
    if let Some(id) = read_machine_id(path)? {
        return Ok(id);
    }
    if exists(&places.identity)? {
        return Err(Problem::damaged(
            path,
            "missing, while identity.json is there.",
        ));
    }
    let id = random_id()?;
    storage.replace(path, format!("{id}\n").as_bytes())?;
    Ok(id)
}

enum Found {
    Identity(IdentityRecord),
    Nothing,
}

/// Reads the identity, and finishes a founding that was cut between the two names.
fn resume(storage: &impl Storage, places: &Places) -> Result<Found, Problem> {
    if let Some(bytes) = read(&places.identity)? {
        let record = parse(&places.identity, &bytes)?;
        if exists(&places.founding)? {
            storage.remove(&places.founding)?;
        }
        return Ok(Found::Identity(record));
    }
    let pending = places.founding.join("identity.json");
    if exists(&places.pki)? {
        let Some(bytes) = read(&pending)? else {
            return Err(Problem::damaged(
                &places.identity,
                "missing, while authorities are there.",
            ));
        };
        let record = parse(&pending, &bytes)?;
        storage.rename(&pending, &places.identity)?;
        storage.remove(&places.founding)?;
        return Ok(Found::Identity(record));
    }
    if exists(&places.started)? {
        return Err(Problem::damaged(
            &places.identity,
            "missing, and so is pki, while etcd was started here before.",
        ));
    }
    storage.remove(&places.founding)?;
    Ok(Found::Nothing)
}

/// What a cluster of one follows from.
struct IdentityOfOne<'a> {
    machine_id: &'a str,
    seed: &'a Seed,
    master: &'a Master,
    now: OffsetDateTime,
}

impl IdentityOfOne<'_> {
    /// Makes a cluster and writes it.
    fn found(&self, storage: &impl Storage, places: &Places) -> Result<IdentityRecord, Problem> {
        let cluster_id = random_id()?;
        let roots = Roots::generate(&cluster_id, self.now)?;
        let files = pki_files(&roots);
        let digests = files
            .iter()
            .map(|(name, contents)| (name.clone(), digest(contents.expose())))
            .collect();
        let record = IdentityRecord {
            format: IdentityRecord::FORMAT,
            cluster: self.seed.cluster.clone(),
            cluster_id,
            services: self.seed.kubernetes.services.to_string(),
            founded_at: self.now.unix_timestamp(),
            members: vec![MemberRecord {
                machine_id: self.machine_id.to_owned(),
                name: self.master.name.clone(),
                address: self.master.address,
            }],
            digests,
        };
        let pki = places.founding.join("pki");
        storage.make_directory(&places.founding)?;
        storage.make_directory(&pki)?;
        for (name, contents) in &files {
            storage.write_new(&pki.join(name), contents.expose())?;
        }
        let pending = places.founding.join("identity.json");
        storage.write_new(&pending, &render(&record))?;
        storage.rename(&pki, &places.pki)?;
        storage.rename(&pending, &places.identity)?;
        storage.remove(&places.founding)?;
        Ok(record)
    }
}

/// The files of `pki`, by name.
fn pki_files(roots: &Roots) -> BTreeMap<String, Secret> {
    let mut files = BTreeMap::new();
    for kind in AuthorityKind::ALL {
        let authority = roots.authority(kind);
        let certificate = Secret::new(authority.certificate_pem());
        files.insert(certificate_name(kind), certificate);
        files.insert(key_name(kind), authority.key_pem());
    }
    files.insert(
        SERVICE_ACCOUNT_KEY.to_owned(),
        roots.service_account.private_pem(),
    );
    files.insert(ENCRYPTION_KEY.to_owned(), roots.encryption.base64());
    files
}

/// The names of [`pki_files`].
fn pki_names() -> impl Iterator<Item = String> {
    let authorities = AuthorityKind::ALL.into_iter();
    authorities
        .flat_map(|kind| [certificate_name(kind), key_name(kind)])
        .chain([SERVICE_ACCOUNT_KEY.to_owned(), ENCRYPTION_KEY.to_owned()])
}

const SERVICE_ACCOUNT_KEY: &str = "service-account.key";
const ENCRYPTION_KEY: &str = "encryption-key";

fn certificate_name(kind: AuthorityKind) -> String {
    format!("{}.crt", kind.name())
}

fn key_name(kind: AuthorityKind) -> String {
    format!("{}.key", kind.name())
}

/// Reads what the record describes, and checks that it is that, and fits the seed.
fn load(
    places: &Places,
    record: IdentityRecord,
    machine_id: String,
    seed: &Seed,
    master: &Master,
) -> Result<Identity, Problem> {
    let services = seed.kubernetes.services.to_string();
    for (what, founded, now) in [
        ("cluster", &record.cluster, &seed.cluster),
        ("kubernetes.services", &record.services, &services),
    ] {
        if founded != now {
            return Err(Problem::new(
                ReasonCode::SeedChanged,
                format!(
                    "The seed says {what} = \"{now}\"; this node's cluster was founded with \"{founded}\"."
                ),
            ));
        }
    }
    let file = |name: &str| -> Result<Secret, Problem> {
        let path = places.pki.join(name);
        let bytes = read(&path)?.ok_or_else(|| Problem::damaged(&path, "missing."))?;
        match record.digests.get(name) {
            Some(expected) if *expected == digest(&bytes) => Ok(Secret::new(bytes)),
            Some(_) => Err(Problem::damaged(
                &path,
                "not what was written when the cluster was founded.",
            )),
            None => Err(Problem::damaged(
                &places.identity,
                format!("no digest of {name}."),
            )),
        }
    };
    let parsed = |name: &str, error: masthead_pki::Error| {
        Problem::damaged(&places.pki.join(name), format!("{}.", with_sources(&error)))
    };
    let service_account = ServiceAccountKey::parse(&file(SERVICE_ACCOUNT_KEY)?)
        .map_err(|error| parsed(SERVICE_ACCOUNT_KEY, error))?;
    let encryption = EncryptionKey::parse(&file(ENCRYPTION_KEY)?)
        .map_err(|error| parsed(ENCRYPTION_KEY, error))?;
    let authority = |kind| {
        let (certificate, key) = (certificate_name(kind), key_name(kind));
        let pem = file(&certificate)?;
        let pem = String::from_utf8_lossy(pem.expose()).into_owned();
        Authority::parse(kind, &pem, &file(&key)?).map_err(|error| parsed(&key, error))
    };
    let roots = Roots::assemble(
        |kind| match kind {
            AuthorityKind::Peers if record.format < IdentityRecord::WITH_PEERS => {
                let operators = authority(AuthorityKind::Operators)?;
                Ok(Authority::peers_of_earlier_release(
                    &operators,
                    &record.cluster_id,
                )?)
            }
            kind => authority(kind),
        },
        service_account,
        encryption,
    )?;
    if !record
        .members
        .iter()
        .any(|member| member.machine_id == machine_id)
    {
        return Err(Problem::damaged(
            &places.machine_id,
            "this machine is none of the members in identity.json: STATE was copied from another one.",
        ));
    }
    let members = record
        .members
        .into_iter()
        .map(|member| Member {
            address: if member.machine_id == machine_id {
                master.address
            } else {
                member.address
            },
            machine_id: member.machine_id,
        })
        .collect();
    Ok(Identity {
        machine_id,
        cluster_id: record.cluster_id,
        members,
        roots: roots.into(),
    })
}
