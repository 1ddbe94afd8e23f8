//! A cluster of one, on STATE and ETCD as directories, with power cuts between and within all steps.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use masthead_api::status::FormationState;
use masthead_pki::AuthorityKind;
use tempfile::TempDir;

use super::*;
use crate::identity::Identity;
use crate::identity::storage::StorageError;

const SINGLE: &str = include_str!("../../../configs/seeds/single.toml");

/// How a step is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Before,
    Within,
    After,
}

/// A storage whose power is cut at the step after so many. After the cut nothing more happens.
struct Cutting {
    left: Mutex<Option<u32>>,
    how: Cut,
}

impl Cutting {
    fn step(
        &self,
        path: &Path,
        whole: impl FnOnce() -> Result<(), StorageError>,
        half: impl FnOnce(),
    ) -> Result<(), StorageError> {
        let mut left = self.left.lock().unwrap();
        match *left {
            Some(0) => {
                *left = None;
                match self.how {
                    Cut::Before => {}
                    Cut::Within => half(),
                    Cut::After => whole()?,
                }
            }
            Some(more) => {
                *left = Some(more - 1);
                return whole();
            }
            None => {}
        }
        let cut = io::Error::other("cut");
        Err(StorageError::new("go on without power at", path, cut))
    }

    fn is_cut(&self) -> bool {
        self.left.lock().unwrap().is_none()
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
}

/// A machine's disks, and the memory of one boot.
struct Machine {
    directory: TempDir,
    seed: String,
}

/// What came of a start.
#[derive(Debug)]
enum Outcome {
    /// etcd may start.
    Started(Box<Start>),
    /// It waits for that.
    Waits(ApiReason),
    /// The power was cut.
    Cut,
}

type ApiReason = masthead_api::Reason;

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["state", "etcd", "memory"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self {
            directory,
            seed: SINGLE.to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The power goes: what was in memory is gone.
    fn forget(&self) {
        fs::remove_dir_all(self.path("memory")).unwrap();
        fs::create_dir(self.path("memory")).unwrap();
    }

    fn seed(&self) -> Arc<Seed> {
        Arc::new(Seed::parse("seed.toml", self.seed.as_bytes()).unwrap())
    }

    fn config(&self) -> Config {
        let seed = self.seed();
        let master = Arc::new(seed.masters[0].clone());
        let places = Places {
            state: self.path("state"),
            etcd: self.path("etcd"),
        };
        let handover = Handover::in_directory(self.path("memory/handover"));
        let lock = self.path("memory/lock");
        Config::new(seed, master, Scale::REAL, places, handover, lock)
    }

    /// Starts the supervisor's part, lets `served` follow, and ends it.
    fn run(&self, storage: Arc<dyn Storage + Send + Sync>, is_cut: impl Fn() -> bool) -> Outcome {
        let config = Config {
            storage,
            ..self.config()
        };
        run(async {
            let (publisher, mut reports) = watch::channel(Report::default());
            let handle = spawn(config, listener(), publisher, |_, _| {});
            loop {
                tokio::select! {
                    start = handle.started() => return Outcome::Started(Box::new(start)),
                    _ = reports.changed() => {
                        let waiting = reports.borrow().waiting.first().cloned();
                        match waiting {
                            Some(_) if is_cut() => return Outcome::Cut,
                            Some(reason) if reason.code != ReasonCode::FormationUnderWay => {
                                return Outcome::Waits(reason);
                            }
                            _ => {}
                        }
                    }
                }
            }
        })
    }

    fn start(&self) -> Start {
        match self.run(Arc::new(Durable), || false) {
            Outcome::Started(start) => *start,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&self) -> ApiReason {
        match self.run(Arc::new(Durable), || false) {
            Outcome::Waits(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Starts it, and tells that etcd has served, to the disk.
    fn serve(&self) -> Start {
        let config = self.config();
        run(async {
            let (publisher, _reports) = watch::channel(Report::default());
            let handle = spawn(config, listener(), publisher, |_, _| {});
            let start = handle.started().await;
            let started = self.path("state/formation/started");
            let before = fs::read(&started).unwrap();
            handle.etcd_served().await;
            while fs::read(&started).unwrap() == before {
                tokio::task::yield_now().await;
            }
            start
        })
    }

    fn make_wal(&self) {
        let wal = self.path("etcd/data/member/wal");
        fs::create_dir_all(&wal).unwrap();
        fs::write(wal.join("0000000000000000-0000000000000000.wal"), "").unwrap();
    }

    fn identity(&self, start: &Start) -> Result<Identity, Problem> {
        let seed = self.seed();
        Identity::of_plan(&start.plan, start.machine_id, &seed, &seed.masters[0])
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// The files below a directory, with what is in them.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else {
                found.push((entry.path(), fs::read(entry.path()).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_list_of_one_is_founded_at_once_and_found_again() {
    let machine = Machine::new();
    let first = machine.start();
    assert_eq!(first.start, EtcdStart::New);
    let identity = machine.identity(&first).unwrap();
    assert_eq!(identity.machine_id.len(), 32);
    assert_eq!(identity.cluster_id.len(), 32);
    assert_eq!(identity.members.len(), 1);
    assert_eq!(identity.members[0].machine_id, identity.machine_id);

    machine.forget();
    let again = machine.start();
    assert_eq!(again, first, "not served: nothing was acknowledged");
    machine.forget();
    assert_eq!(machine.serve().plan, first.plan);
    machine.make_wal();
    machine.forget();
    let later = machine.start();
    assert_eq!(later.start, EtcdStart::Existing);
    assert_eq!(
        (later.plan, later.machine_id),
        (first.plan, first.machine_id)
    );
}

#[test]
fn founding_survives_a_power_cut_at_every_step() {
    for how in [Cut::Before, Cut::Within, Cut::After] {
        let mut steps = 0;
        loop {
            let machine = Machine::new();
            let cutting = Arc::new(Cutting {
                left: Mutex::new(Some(steps)),
                how,
            });
            let storage = Arc::clone(&cutting);
            let outcome = machine.run(storage, || cutting.is_cut());
            if matches!(outcome, Outcome::Started(_)) && !cutting.is_cut() {
                break;
            }
            let before = files(&machine.path("state"));
            machine.forget();
            let start = machine.start();
            assert_eq!(start.start, EtcdStart::New, "cut {how:?} step {steps}");
            machine.identity(&start).unwrap();
            // What was there by its name stays.
            let after = files(&machine.path("state"));
            for file in before {
                let rest = file.0.extension().is_some_and(|it| it == "new");
                assert!(
                    rest || after.contains(&file),
                    "cut {how:?} step {steps}: {file:?}"
                );
            }
            machine.forget();
            assert_eq!(machine.start(), start, "cut {how:?} step {steps}");
            steps += 1;
        }
        // Machine id, key, directory, plan, go, marker and started, each written and named.
        assert!(steps >= 12, "only {steps} steps were cut");
    }
}

#[test]
fn without_its_log_an_etcd_that_served_stays_off() {
    let machine = Machine::new();
    machine.serve();
    machine.forget();
    assert_eq!(machine.refusal().code, ReasonCode::EtcdAmnesiac);
    machine.make_wal();
    machine.forget();
    assert_eq!(machine.start().start, EtcdStart::Existing);
    // A disk with etcd's data of which STATE knows nothing.
    fs::remove_dir_all(machine.path("state")).unwrap();
    fs::create_dir(machine.path("state")).unwrap();
    machine.forget();
    assert_eq!(machine.refusal().code, ReasonCode::EtcdAmnesiac);
}

#[test]
fn every_damaged_file_is_named_and_none_is_made_again() {
    let machine = Machine::new();
    let first = machine.start();
    let kept = files(&machine.path("state"));
    assert_eq!(kept.len(), 5, "machine id, key, plan, go, started");
    for (path, good) in kept {
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
            machine.forget();
            // Without the record of etcd's start, nothing was started: its marker alone proves that.
            let is_started = contents.is_none() && path.ends_with("started");
            if !is_started {
                let reason = machine.refusal();
                let expected = [ReasonCode::IdentityDamaged, ReasonCode::EtcdAmnesiac];
                assert!(expected.contains(&reason.code), "{path:?}: {reason:?}");
                assert_eq!(
                    fs::read(&path).ok().as_deref(),
                    contents,
                    "{path:?} was written"
                );
            }
            fs::write(&path, &good).unwrap();
        }
    }
    machine.forget();
    assert_eq!(machine.start(), first);
}

#[test]
fn a_volume_that_cannot_be_read_is_not_empty() {
    let machine = Machine::new();
    let first = machine.start();
    // In place of the directory: root can read anything else.
    let records = machine.path("state/formation");
    fs::rename(&records, machine.path("kept")).unwrap();
    fs::write(&records, "").unwrap();
    machine.forget();
    assert_eq!(machine.refusal().code, ReasonCode::FormationVolumeUnknown);
    fs::remove_file(&records).unwrap();
    fs::rename(machine.path("kept"), &records).unwrap();

    fs::create_dir_all(machine.path("etcd/data")).unwrap();
    fs::write(machine.path("etcd/data/member"), "").unwrap();
    machine.forget();
    assert_eq!(machine.refusal().code, ReasonCode::FormationVolumeUnknown);
    fs::remove_file(machine.path("etcd/data/member")).unwrap();
    machine.forget();
    assert_eq!(machine.start(), first);
}

/// STATE is gone, and the supervisor with it: its successor has all that it needs in memory.
#[test]
fn a_successor_needs_no_disk_once_etcd_may_start() {
    let machine = Machine::new();
    let first = machine.serve();
    fs::remove_dir_all(machine.path("state")).unwrap();
    fs::remove_dir_all(machine.path("etcd")).unwrap();
    let second = machine.start();
    assert_eq!(
        (&second.plan, second.machine_id),
        (&first.plan, first.machine_id)
    );
    assert_eq!(second.start, EtcdStart::Existing);
    let certificate = |start: &Start| {
        let roots = machine.identity(start).unwrap().roots;
        roots
            .authority(AuthorityKind::Etcd)
            .certificate_pem()
            .to_owned()
    };
    assert_eq!(certificate(&first), certificate(&second));
}

#[test]
fn another_cluster_s_seed_is_refused() {
    let mut machine = Machine::new();
    let start = machine.start();
    for (line, other) in [
        ("cluster  = \"lab\"", "cluster = \"other\""),
        (
            "[masters]",
            "[kubernetes]\nservices = \"10.128.0.0/16\"\n[masters]",
        ),
    ] {
        assert!(SINGLE.contains(line));
        machine.seed = SINGLE.replace(line, other);
        let refused = machine.identity(&start).unwrap_err();
        assert_eq!(refused.code, ReasonCode::SeedChanged);
    }
    // An address may change; the member has the new one.
    machine.seed = SINGLE.replace("10.20.0.11", "10.20.0.12");
    machine.forget();
    let moved = machine.start();
    let moved = machine.identity(&moved).unwrap();
    assert_eq!(moved.members[0].address.to_string(), "10.20.0.12");
}

#[test]
fn everything_that_is_kept_is_for_root_alone() {
    let machine = Machine::new();
    machine.start();
    let kept = files(machine.directory.path());
    assert_eq!(kept.len(), 5 + 1 + 2, "STATE, ETCD, memory with its lock");
    for (path, _) in kept {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}

/// The lock is free as soon as no thread of its holder is left, and no sooner.
#[test]
fn a_successor_waits_for_the_last_write_of_its_predecessor() {
    let machine = Machine::new();
    let held = lock_file(&machine.path("memory/lock")).unwrap();
    let config = machine.config();
    run(async {
        let (publisher, reports) = watch::channel(Report::default());
        let handle = spawn(config, listener(), publisher, |_, _| {});
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(handle.start.borrow().is_none());
        assert_eq!(
            files(&machine.path("state")),
            [],
            "nothing was read or made"
        );
        drop(held);
        handle.started().await;
        let formation = reports.borrow().formation.clone();
        assert_eq!(formation.unwrap().state, FormationState::Member);
    });
}

#[tokio::test]
async fn a_founding_that_leaves_somebody_out_is_refused_where_it_makes_no_sense() {
    let machine = Machine::new();
    let (publisher, _reports) = watch::channel(Report::default());
    let handle = spawn(machine.config(), listener(), publisher, |_, _| {});
    handle.started().await;
    let refused = |names: &[&str], cluster: &str| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        handle.found_without(names, cluster.to_owned())
    };
    let other = refused(&["m1"], "other").await.unwrap().unwrap_err();
    assert!(
        matches!(other, InvalidOverride::OtherCluster { .. }),
        "{other}"
    );
    let unknown = refused(&["m9"], "lab").await.unwrap().unwrap_err();
    assert!(
        matches!(unknown, InvalidOverride::NotListed(_)),
        "{unknown}"
    );
}
