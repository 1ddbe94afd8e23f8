//! STATE and ETCD as directories, with power cuts between and within all steps.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;

use masthead_api::ReasonCode;
use masthead_control_plane::{EtcdStart, subject_names};
use masthead_pki::{AuthorityKind, Leaves, Purpose, Reason};
use masthead_seed::Seed;
use tempfile::TempDir;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::first_start::{Verdict, Witnesses, first_start_on, judge};
use super::founding::establish_on;
use super::introduction::introduce_on;
use super::record::{Document as _, IdentityRecord, StartedMarker, StartedRecord, parse, render};
use super::storage::{Durable, Storage, StorageError};
use super::*;

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
const SINGLE: &str = include_str!("../../../configs/seeds/single.toml");
const SEVERAL: &str = include_str!("../../../configs/seeds/three-masters.toml");

fn seed(text: &str) -> Seed {
    Seed::parse("seed.toml", text.as_bytes()).unwrap()
}

/// How a step is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Before,
    Within,
    After,
}

/// A storage whose power is cut at the step after so many.
struct Cutting {
    left: Cell<u32>,
    how: Cut,
}

impl Cutting {
    fn at(step: u32, how: Cut) -> Self {
        Self {
            left: Cell::new(step),
            how,
        }
    }

    fn step(
        &self,
        path: &Path,
        whole: impl FnOnce() -> Result<(), StorageError>,
        half: impl FnOnce(),
    ) -> Result<(), StorageError> {
        let cut = || StorageError::new("go on without power at", path, io::Error::other("cut"));
        match self.left.get() {
            0 => {
                match self.how {
                    Cut::Before => {}
                    Cut::Within => half(),
                    Cut::After => whole()?,
                }
                self.left.set(u32::MAX);
                Err(cut())
            }
            // After the cut nothing more happens.
            u32::MAX => Err(cut()),
            left => {
                self.left.set(left - 1);
                whole()
            }
        }
    }
}

impl Storage for Cutting {
    fn make_directory(&self, path: &Path) -> Result<(), StorageError> {
        self.step(path, || Durable.make_directory(path), || ())
    }

    fn write_new(&self, path: &Path, contents: &[u8]) -> Result<(), StorageError> {
        let half = || fs::write(path, &contents[..contents.len() / 2]).unwrap();
        self.step(path, || Durable.write_new(path, contents), half)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.step(to, || Durable.rename(from, to), || ())
    }

    fn remove(&self, path: &Path) -> Result<(), StorageError> {
        // Half of a directory is gone.
        let half = || {
            let first = fs::read_dir(path)
                .ok()
                .and_then(|mut entries| entries.next());
            if let Some(Ok(entry)) = first {
                Durable.remove(&entry.path()).unwrap();
            }
        };
        self.step(path, || Durable.remove(path), half)
    }
}

fn found(state: &Path, storage: &impl Storage) -> Result<Identity, Problem> {
    let seed = seed(SINGLE);
    establish_on(storage, state, &seed, &seed.masters[0], NOW)
}

fn authorities(identity: &Identity) -> Vec<String> {
    let pem = |kind| identity.roots.authority(kind).certificate_pem().to_owned();
    AuthorityKind::ALL.map(pem).into()
}

fn volume(directory: &TempDir) -> EtcdVolume {
    EtcdVolume {
        mounted_at: directory.path().into(),
        uuid: "uuid-1".to_owned(),
    }
}

fn make_wal(volume: &EtcdVolume) {
    let wal = volume.mounted_at.join("data/member/wal");
    fs::create_dir_all(&wal).unwrap();
    fs::write(wal.join("0000000000000000-0000000000000000.wal"), "").unwrap();
}

#[test]
fn founding_survives_a_power_cut_at_every_step() {
    for how in [Cut::Before, Cut::Within, Cut::After] {
        let mut steps = 0;
        loop {
            let state = tempfile::tempdir().unwrap();
            if found(state.path(), &Cutting::at(steps, how)).is_ok() {
                break;
            }
            let had_identity = fs::read(state.path().join("identity.json")).ok();
            let had_machine = fs::read(state.path().join("machine-id")).ok();
            let identity = found(state.path(), &Durable)
                .unwrap_or_else(|problem| panic!("cut {how:?} step {steps}: {problem}"));
            // What was seen by its name stays.
            if let Some(before) = had_identity {
                assert_eq!(
                    before,
                    fs::read(state.path().join("identity.json")).unwrap()
                );
            }
            if let Some(before) = had_machine {
                assert_eq!(before, format!("{}\n", identity.machine_id).as_bytes());
            }
            let again = found(state.path(), &Durable).unwrap();
            assert_eq!(identity.cluster_id, again.cluster_id);
            assert_eq!(identity.machine_id, again.machine_id);
            assert_eq!(authorities(&identity), authorities(&again));
            assert!(
                !state.path().join("founding").exists(),
                "cut {how:?} step {steps}"
            );
            steps += 1;
        }
        assert!(steps > 15, "only {steps} steps were cut");
    }
}

#[test]
fn a_first_start_survives_a_power_cut_at_every_step() {
    let state = tempfile::tempdir().unwrap();
    let identity = found(state.path(), &Durable).unwrap();
    for how in [Cut::Before, Cut::Within, Cut::After] {
        let mut steps = 0;
        loop {
            let _ = fs::remove_file(state.path().join("started"));
            let etcd = tempfile::tempdir().unwrap();
            let volume = volume(&etcd);
            let cut = Cutting::at(steps, how);
            if first_start_on(&cut, state.path(), &volume, &identity).is_ok() {
                break;
            }
            let start = || first_start(state.path(), &volume, &identity);
            assert_eq!(start(), Ok(EtcdStart::New), "cut {how:?} step {steps}");
            assert_eq!(start(), Ok(EtcdStart::New));
            make_wal(&volume);
            assert_eq!(start(), Ok(EtcdStart::Existing));
            steps += 1;
        }
        assert_eq!(steps, 4);
    }
}

#[test]
fn without_its_log_an_etcd_that_served_stays_off() {
    let state = tempfile::tempdir().unwrap();
    let identity = found(state.path(), &Durable).unwrap();
    let etcd = tempfile::tempdir().unwrap();
    let first = volume(&etcd);
    let start = |volume: &EtcdVolume| {
        first_start(state.path(), volume, &identity).map_err(|problem| problem.code)
    };
    assert_eq!(start(&first), Ok(EtcdStart::New));
    // Before it has served, an empty disk of the same name is not the one that was recorded.
    let replaced = tempfile::tempdir().unwrap();
    assert_eq!(start(&volume(&replaced)), Err(ReasonCode::EtcdAmnesiac));
    let renamed = EtcdVolume {
        uuid: "uuid-2".to_owned(),
        ..volume(&etcd)
    };
    assert_eq!(start(&renamed), Err(ReasonCode::EtcdAmnesiac));
    // Not confirmed: nothing was acknowledged.
    assert_eq!(start(&first), Ok(EtcdStart::New));
    confirm_started(state.path()).unwrap();
    confirm_started(state.path()).unwrap();
    assert_eq!(start(&first), Err(ReasonCode::EtcdAmnesiac));
    make_wal(&first);
    assert_eq!(start(&first), Ok(EtcdStart::Existing));
}

#[test]
fn every_combination_of_witnesses_is_judged_for_safety() {
    let own = StartedMarker {
        format: StartedMarker::FORMAT,
        cluster_id: "cluster".to_owned(),
        machine_id: "machine".to_owned(),
    };
    let record = |uuid: &str, confirmed| {
        Some(StartedRecord {
            format: StartedRecord::FORMAT,
            etcd_filesystem: uuid.to_owned(),
            confirmed,
        })
    };
    let records = [
        None,
        record("a", false),
        record("a", true),
        record("b", false),
        record("b", true),
    ];
    let other_cluster = StartedMarker {
        cluster_id: "other".to_owned(),
        ..own.clone()
    };
    let other_machine = StartedMarker {
        machine_id: "other".to_owned(),
        ..own.clone()
    };
    let markers = [
        None,
        Some(own.clone()),
        Some(other_cluster),
        Some(other_machine),
    ];
    let mut counts = [0; 4];
    for record in &records {
        for marker in &markers {
            for has_wal in [false, true] {
                let witnesses = Witnesses {
                    record: record.clone(),
                    marker: marker.clone(),
                    has_wal,
                };
                let ours = marker.as_ref() == Some(&own);
                let here = record
                    .as_ref()
                    .is_some_and(|record| record.etcd_filesystem == "a");
                let confirmed = record.as_ref().is_some_and(|record| record.confirmed);
                let expected = if record.is_none() && (marker.is_none() || ours) && !has_wal {
                    0
                } else if here && ours && !has_wal && !confirmed {
                    1
                } else if here && ours && has_wal {
                    2
                } else {
                    3
                };
                let actual = match judge(&witnesses, &own, "a") {
                    Verdict::First => 0,
                    Verdict::Again => 1,
                    Verdict::Existing => 2,
                    Verdict::Amnesiac(_) => 3,
                };
                assert_eq!(actual, expected, "{witnesses:?}");
                counts[expected] += 1;
            }
        }
    }
    assert_eq!(counts, [2, 1, 2, 35]);
}

#[test]
fn every_damaged_file_is_named_and_none_is_made_again() {
    let state = tempfile::tempdir().unwrap();
    let identity = found(state.path(), &Durable).unwrap();
    let mut names = vec!["machine-id".to_owned(), "identity.json".to_owned()];
    for entry in fs::read_dir(state.path().join("pki")).unwrap() {
        names.push(format!(
            "pki/{}",
            entry.unwrap().file_name().to_str().unwrap()
        ));
    }
    assert_eq!(names.len(), 2 + 2 * AuthorityKind::ALL.len() + 2);
    for name in names {
        let path = state.path().join(&name);
        let good = fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let bad: [Option<&[u8]>; 4] = [
            None,
            Some(b""),
            Some(&good[..good.len() / 2]),
            Some(&flipped),
        ];
        for contents in bad {
            match contents {
                Some(contents) => fs::write(&path, contents).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            // A flipped digit of the machine's id is another id.
            let problem = found(state.path(), &Durable).expect_err(&name);
            assert_eq!(
                problem.code,
                ReasonCode::IdentityDamaged,
                "{name}: {problem}"
            );
            assert!(
                problem.cause.contains(&*path.to_string_lossy()),
                "{name}: {problem}"
            );
            assert!(!problem.remedy.is_empty());
            assert_eq!(
                fs::read(&path).ok().as_deref(),
                contents,
                "{name} was written"
            );
            fs::write(&path, &good).unwrap();
        }
    }
    assert_eq!(
        found(state.path(), &Durable).unwrap().cluster_id,
        identity.cluster_id
    );
}

#[test]
fn lost_authorities_are_not_replaced_after_etcd_was_started() {
    let state = tempfile::tempdir().unwrap();
    let identity = found(state.path(), &Durable).unwrap();
    let etcd = tempfile::tempdir().unwrap();
    first_start(state.path(), &volume(&etcd), &identity).unwrap();
    fs::remove_file(state.path().join("identity.json")).unwrap();
    fs::remove_dir_all(state.path().join("pki")).unwrap();
    let problem = found(state.path(), &Durable).unwrap_err();
    assert_eq!(problem.code, ReasonCode::IdentityDamaged);
    assert!(!state.path().join("pki").exists());
}

#[test]
fn a_newer_format_is_refused() {
    let state = tempfile::tempdir().unwrap();
    found(state.path(), &Durable).unwrap();
    let path = state.path().join("identity.json");
    let newer = serde_json::json!({ "format": 3, "fields": "of a newer release" });
    fs::write(&path, render(&newer)).unwrap();
    let problem = found(state.path(), &Durable).unwrap_err();
    assert!(problem.cause.contains("newer release"), "{problem}");
}

#[test]
fn a_cluster_of_the_first_format_has_a_peer_authority_and_is_not_written_anew() {
    let state = tempfile::tempdir().unwrap();
    found(state.path(), &Durable).unwrap();
    let path = state.path().join("identity.json");
    let mut record: IdentityRecord = parse(&path, &fs::read(&path).unwrap()).unwrap();
    record.format = 1;
    for name in ["peers.crt", "peers.key"] {
        record.digests.remove(name).unwrap();
        fs::remove_file(state.path().join("pki").join(name)).unwrap();
    }
    let first_format = render(&record);
    fs::write(&path, &first_format).unwrap();

    let peers = || {
        let identity = found(state.path(), &Durable).unwrap();
        let authority = identity.roots.authority(AuthorityKind::Peers);
        (authority.certificate_pem().to_owned(), authority.key_pem())
    };
    assert_eq!(
        peers(),
        peers(),
        "the same at each start, and on each master"
    );
    assert_eq!(fs::read(&path).unwrap(), first_format);
    assert!(!state.path().join("pki/peers.key").exists());
}

#[test]
fn the_peer_key_is_made_once_whatever_is_cut() {
    for how in [Cut::Before, Cut::Within, Cut::After] {
        for step in 0.. {
            let state = tempfile::tempdir().unwrap();
            if introduce_on(&Cutting::at(step, how), state.path()).is_ok() {
                break;
            }
            let seen = fs::read(state.path().join("peer.key")).ok();
            let first = introduce(state.path()).unwrap();
            let again = introduce(state.path()).unwrap();
            assert_eq!(first.machine_id, again.machine_id);
            assert_eq!(first.peer_key.fingerprint(), again.peer_key.fingerprint());
            if let Some(seen) = seen {
                assert_eq!(seen, first.peer_key.pem().expose());
            }
        }
    }
    let state = tempfile::tempdir().unwrap();
    introduce(state.path()).unwrap();
    fs::write(state.path().join("peer.key"), "half").unwrap();
    let problem = introduce(state.path()).unwrap_err();
    assert_eq!(problem.code, ReasonCode::IdentityDamaged);
    assert!(problem.cause.contains("peer.key"), "{problem}");
}

#[test]
fn several_masters_wait_and_nothing_is_founded() {
    let state = tempfile::tempdir().unwrap();
    let seed = seed(SEVERAL);
    let Established::Waiting(problem) = establish(state.path(), &seed, &seed.masters[0], NOW)
    else {
        panic!("three masters are not formed by this release")
    };
    assert_eq!(problem.code.as_str(), "formation-of-several");
    assert!(problem.cause.contains("3 masters"), "{problem}");
    assert!(!state.path().join("pki").exists());
    assert!(!state.path().join("identity.json").exists());
}

#[test]
fn another_cluster_s_seed_is_refused() {
    let state = tempfile::tempdir().unwrap();
    found(state.path(), &Durable).unwrap();
    for (line, other) in [
        ("cluster  = \"lab\"", "cluster = \"other\""),
        (
            "[masters]",
            "[kubernetes]\nservices = \"10.128.0.0/16\"\n[masters]",
        ),
    ] {
        assert!(SINGLE.contains(line));
        let seed = seed(&SINGLE.replace(line, other));
        let changed = establish_on(&Durable, state.path(), &seed, &seed.masters[0], NOW);
        assert_eq!(changed.unwrap_err().code, ReasonCode::SeedChanged);
    }
    // An address may change; the member has the new one.
    let seed = seed(&SINGLE.replace("10.20.0.11", "10.20.0.12"));
    let moved = establish_on(&Durable, state.path(), &seed, &seed.masters[0], NOW).unwrap();
    assert_eq!(moved.members[0].address.to_string(), "10.20.0.12");
}

#[test]
fn everything_on_state_is_for_root_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let state = tempfile::tempdir().unwrap();
    let identity = found(state.path(), &Durable).unwrap();
    let keeper = keeper(state.path(), &identity, SINGLE);
    keeper.store(&keeper.look(NOW).unwrap()).unwrap();
    hand_over(state.path(), &keeper_handover(state.path())).unwrap();
    let mut directories = vec![state.path().to_owned()];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            assert_eq!(
                metadata.permissions().mode() & 0o077,
                0,
                "{}",
                entry.path().display()
            );
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                files += 1;
            }
        }
    }
    assert_eq!(
        files,
        2 * (2 + 2 * AuthorityKind::ALL.len() + 2 + Purpose::ALL.len())
    );
}

/// Beside STATE here, so that one look finds both.
fn keeper_handover(state: &Path) -> Handover {
    Handover::in_directory(state.join("handover"))
}

fn keeper(state: &Path, identity: &Identity, text: &str) -> Keeper {
    let seed = seed(text);
    Keeper::new(
        state,
        keeper_handover(state),
        identity.roots.clone(),
        |purpose| subject_names(purpose, &seed, &seed.masters[0]),
    )
}

#[test]
fn leaves_are_kept_until_they_are_due_or_names_change() {
    let state = tempfile::tempdir().unwrap();
    let identity = found(state.path(), &Durable).unwrap();
    let look = |text: &str, now| {
        let keeper = keeper(state.path(), &identity, text);
        let issued = keeper.look(now).unwrap();
        keeper.store(&issued).unwrap();
        // The next boot begins without what was in memory.
        fs::remove_dir_all(keeper_handover(state.path()).directory()).unwrap();
        issued
    };
    let count = |issued: &Issued, reason| {
        issued
            .renewed
            .iter()
            .filter(|(_, because)| *because == reason)
            .count()
    };
    let first = look(SINGLE, NOW);
    assert_eq!(count(&first, Reason::Missing), Purpose::ALL.len());
    let second = look(SINGLE, NOW + Duration::days(200));
    assert!(second.renewed.is_empty());
    assert_eq!(*first.leaves, *second.leaves);

    let moved = look(&SINGLE.replace("10.20.0.11", "10.20.0.12"), NOW);
    // etcd's two, the apiserver's and the management API's.
    assert_eq!(count(&moved, Reason::NamesChanged), moved.renewed.len());
    assert_eq!(moved.renewed.len(), 4);

    let path = state.path().join("leaves/probe-client.pem");
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let repaired = look(&SINGLE.replace("10.20.0.11", "10.20.0.12"), NOW);
    assert_eq!(repaired.renewed, [(Purpose::ProbeClient, Reason::Missing)]);

    let late = look(
        &SINGLE.replace("10.20.0.11", "10.20.0.12"),
        NOW + Duration::days(300),
    );
    assert_eq!(count(&late, Reason::Due), Purpose::ALL.len());
}

#[test]
fn leaves_are_issued_even_when_state_cannot_be_written() {
    let state = tempfile::tempdir().unwrap();
    let identity = found(state.path(), &Durable).unwrap();
    // In place of the directory: root can write anywhere else.
    fs::write(state.path().join("leaves"), "").unwrap();
    let keeper = keeper(state.path(), &identity, SINGLE);
    let issued = keeper.look(NOW).unwrap();
    keeper.store(&issued).unwrap_err();
    let leaves: &Leaves = &issued.leaves;
    leaves.get(Purpose::EtcdServer).check("etcd").unwrap();
    // And the next supervisor goes on with the same.
    let again = keeper.look(NOW).unwrap();
    assert!(again.renewed.is_empty());
    assert_eq!(again.leaves, issued.leaves);
}

/// STATE is gone, and the supervisor with it: its successor has all that it needs in memory.
#[test]
fn a_successor_needs_no_state() {
    let state = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir().unwrap();
    let handover = Handover::in_directory(memory.path().join("handover"));
    let seed = seed(SINGLE);
    let recall = || handed_over(&handover, &seed, &seed.masters[0]);
    assert!(recall().unwrap().is_none(), "the first of this boot");
    assert_eq!(handed_over_etcd_start(&handover), None);

    let introduction = introduce(state.path()).unwrap();
    assert!(handed_over_introduction(&handover).unwrap().is_none());
    hand_over_introduction(&handover, &introduction).unwrap();
    let known = handed_over_introduction(&handover).unwrap().unwrap();
    assert_eq!(known.machine_id, introduction.machine_id);
    assert_eq!(
        known.peer_key.pem().expose(),
        introduction.peer_key.pem().expose()
    );

    let identity = found(state.path(), &Durable).unwrap();
    hand_over(state.path(), &handover).unwrap();
    for start in [EtcdStart::New, EtcdStart::Existing] {
        keep_etcd_start(&handover, start).unwrap();
        assert_eq!(handed_over_etcd_start(&handover), Some(start));
    }
    let keeper = |state: &Path| {
        let names = |purpose| subject_names(purpose, &seed, &seed.masters[0]);
        Keeper::new(state, handover.clone(), identity.roots.clone(), names)
    };
    let first = keeper(state.path()).look(NOW).unwrap();

    let gone = state.path().join("gone");
    let recalled = recall().unwrap().unwrap();
    assert_eq!(recalled.machine_id, identity.machine_id);
    assert_eq!(recalled.cluster_id, identity.cluster_id);
    assert_eq!(authorities(&recalled), authorities(&identity));
    let second = keeper(&gone).look(NOW).unwrap();
    assert!(second.renewed.is_empty());
    assert_eq!(second.leaves, first.leaves);

    // One that was cut while it was handing over has not handed over.
    fs::remove_file(handover.path("pki/encryption-key")).unwrap();
    assert!(recall().is_err());
    fs::remove_file(handover.path("identity.json")).unwrap();
    assert!(recall().unwrap().is_none());
}

#[test]
fn a_plan_is_written_once_and_changes_are_told() {
    use masthead_control_plane::{AuditStore, Component, Inputs, Paths, plan};
    let state = tempfile::tempdir().unwrap();
    let identity = found(state.path(), &Durable).unwrap();
    let target = tempfile::tempdir().unwrap();
    let write = |text: &str, now| {
        let seed = seed(text);
        let issued = keeper(state.path(), &identity, text).look(now).unwrap();
        let plan = plan(&Inputs {
            seed: &seed,
            master: &seed.masters[0],
            cluster_id: &identity.cluster_id,
            machine_id: &identity.machine_id,
            members: &identity.members,
            etcd_start: EtcdStart::Existing,
            roots: &identity.roots,
            leaves: &issued.leaves,
            audit: AuditStore::Disk,
            scale: masthead_machine::Scale::REAL,
            paths: Paths {
                configuration: target.path().join("config"),
                ..Paths::default()
            },
        });
        let changes = write_plan(&plan, &Owners::default()).unwrap();
        for file in &plan.files {
            assert_eq!(fs::read(&file.path).unwrap(), file.contents.expose());
        }
        (changes, plan.files.len())
    };
    let (changes, all) = write(SINGLE, NOW);
    assert_eq!((changes.written, changes.restart.len()), (all, 0));
    assert_eq!(write(SINGLE, NOW).0, Changes::default());
    // Services notice new certificates by themselves.
    let (changes, _) = write(SINGLE, NOW + Duration::days(300));
    assert_eq!((changes.written, changes.restart.len()), (22, 0));
    // Not so another audit policy.
    let policy = "[kubernetes.files]\naudit-policy = { rules = [{ level = \"None\" }] }\n";
    let text = format!("{SINGLE}\n{policy}");
    write(&text, NOW + Duration::days(300));
    let text = text.replace("\"None\"", "\"Metadata\"");
    let (changes, _) = write(&text, NOW + Duration::days(300));
    assert_eq!(changes.written, 1);
    assert_eq!(changes.restart, [Component::KubeApiserver].into());
}
