//! One master on a machine: firmware or not, the real kernel, the real disk. Boots are dear where machines
//! are emulated, so each of them shows several things.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use fixture::Fixture;
use masthead_disk_layout::{Contents, Role, Table, inspect};
use masthead_imagebuild::bundle::generate_key;
use masthead_lab::{
    error::chain,
    patience::Look,
    plan::DiskRole,
    provider::{DiskCondition, Power, PowerChange, ProviderKind},
    qemu::{BootPath, MachineOptions, SeedPath},
    saved::SavedCluster,
};
use rustix::fs::{FallocateFlags, SeekFrom};
use sha2::{Digest, Sha256};
use support::console;

const A_MINUTE: Duration = Duration::from_secs(60);

/// Three boots of one machine, and between the first two its state: saved when it had a Deployment, and restored twice,
/// once to have its disk pulled out, and once to have its power cut in the middle of writes. That second disk is
/// booted by firmware from the ISO image in a CD drive, without any seed but the installed one, until it is told to switch
/// itself off. That boot has put the image on the disk, which boots by itself from then on: without the medium, with the seed in the
/// firmware's strings, and with a DATA that is beyond repair. Then it is sent an image, and taken back from it.
#[test]
fn a_master_on_a_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("saved");
    let key = folder.path().join("image.key");
    let public = generate_key(&key).expect("a key pair");
    let fixture = Fixture::off(ProviderKind::Vm, |plan, _| {
        plan.image_keys = vec![public.to_string()];
    });
    boot(&fixture, BootPath::Direct, SeedPath::FirmwareConfiguration);
    fixture.makes_a_deployment();
    fixture.expect(SavedCluster::save(&fixture.cluster, &saved));
    fixture.expect(fixture.kubectl(&["create", "configmap", "after"]));
    fixture.expect(fixture.m1().cut_power());
    drop(fixture);

    let fixture = restored(&saved);
    fixture.expect(
        fixture
            .m1()
            .set_disk(DiskRole::Etcd, DiskCondition::Removed),
    );
    the_status_tells_of_a_broken_disk(&fixture);
    drop(fixture);

    let fixture = restored(&saved);
    let acknowledged = fixture.write_until_cut(50, || fixture.expect(fixture.m1().cut_power()));

    boot(&fixture, BootPath::Cd, SeedPath::Installed);
    the_seed_was(&fixture, "installed seed (/dev/vda4)");
    the_image_is_on_the_disk(&fixture);
    let missing = fixture.expect(fixture.missing(&acknowledged));
    assert!(
        missing.is_empty(),
        "{} of {} lost: {missing:?}",
        missing.len(),
        acknowledged.len()
    );
    fixture.expect(fixture.kubectl(&["get", "deployment", "web"]));
    fixture.expect(fixture.mastctl(&["poweroff", "m1", "--accept-outage"]));
    fixture.wait_for_power(Power::Off, A_MINUTE);
    let changes: Vec<_> = fixture.m1().history();
    let changes: Vec<_> = changes.into_iter().map(|event| event.change).collect();
    assert_eq!(
        changes,
        [
            PowerChange::Restored,
            PowerChange::Cut,
            PowerChange::PoweredOn,
            PowerChange::PoweredOff
        ],
        "the machine switched itself off"
    );
    let image = disk_image(&fixture);
    the_disk_is_laid_out_and_its_file_systems_are_clean(&image);

    let data = ruin(&image, Role::Data);
    boot(&fixture, BootPath::Disk, SeedPath::OemString);
    the_seed_was(&fixture, "SMBIOS type 11");
    the_image_is_on_the_disk(&fixture);
    the_status_tells_of_a_data_that_was_set_aside(&fixture);
    an_image_that_is_sent_is_tried_and_taken_back(&fixture, &key);
    fixture.expect(fixture.kubectl(&["get", "deployment", "web"]));
    fixture.expect(fixture.m1().cut_power());
    assert_eq!(data, hash_of(&image, Role::Data), "DATA was written to");
}

/// Over the network, by the real boot loader. It is the image that runs, once more, and nobody waits until it is good: that takes a minute on a real machine.
fn an_image_that_is_sent_is_tried_and_taken_back(fixture: &Fixture, key: &Path) {
    // DATA is set aside, and so there is no snapshot.
    fixture.sends_its_own_image(key);
    fixture.expect(fixture.mastctl(&["rollback", "m1", "--accept-outage"]));
    let status = fixture.expect(fixture.status());
    assert_eq!(status["installation"]["slot"], "A", "{status}");
    assert_eq!(status["installation"]["generation"], 1, "{status}");
    let failed = &status["installation"]["failed"]["why"];
    assert_eq!(*failed, "an operator has sent the node back", "{status}");
}

/// A disk that holds anything else is not written to, and the console says what it holds. The seed, which names the disk, is on a volume.
#[test]
fn a_disk_with_something_on_it_is_refused_and_left_alone() {
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    let disk = disk_image(&fixture);
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", "precious"])
        .arg(&disk)
        .status()
        .expect("mke2fs is installed");
    assert!(made.success(), "mke2fs: {made}");
    let before = hash(&disk);
    let options = MachineOptions {
        seed: SeedPath::Volume,
        ..MachineOptions::default()
    };
    fixture.expect(fixture.m1().set_machine(options));
    fixture.expect(fixture.cluster.power_on());
    fixture.wait_until("the refusal on the console", A_MINUTE, || {
        let console = console(fixture.m1());
        let refused = console.contains("disk-foreign") && console.contains("ext4");
        let refused = refused && console.contains("seed    volume CIDATA");
        Look::at(refused, || console)
    });
    assert_eq!(fixture.m1().power(), Power::On, "the node stays up");
    fixture.expect(fixture.m1().cut_power());
    assert!(before == hash(&disk), "the disk was written to");
}

/// Powers on and waits until the cluster is ready. Prints what that took: see docs/benchmarks.md.
fn boot(fixture: &Fixture, boot: BootPath, seed: SeedPath) {
    let options = MachineOptions {
        boot,
        seed,
        ..MachineOptions::default()
    };
    fixture.expect(fixture.m1().set_machine(options));
    let shown = console(fixture.m1()).len();
    let begun = Instant::now();
    fixture.expect(fixture.cluster.power_on());
    let reach = |what: &str| {
        fixture.wait_until(what, A_MINUTE, || {
            let console = console(fixture.m1());
            let new = console.get(shown..).unwrap_or_default();
            Look::at(new.contains(what), || new.to_owned())
        });
        begun.elapsed().as_secs_f64()
    };
    let init = reach("pid1: root: EROFS");
    let supervisor = reach("pid1: started the supervisor");
    fixture.expect(fixture.cluster.wait_until_ready());
    println!(
        "{boot:?}, seed by {seed:?}: init after {init:.1} s, supervisor after {supervisor:.1} s, \
         ready after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}

/// The cluster as it was when it was saved, and not as it was later.
fn restored(saved: &Path) -> Fixture {
    let begun = Instant::now();
    let fixture = Fixture::restored(saved);
    println!(
        "restored, ready after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    fixture.expect(fixture.kubectl(&["get", "deployment", "web"]));
    let later = fixture.kubectl(&["get", "configmap", "after"]);
    assert!(later.is_err(), "it was written after the cluster was saved");
    fixture
}

fn the_status_tells_of_a_broken_disk(fixture: &Fixture) {
    fixture.wait_until("ETCD to be broken", A_MINUTE, || match fixture.status() {
        Ok(status) => {
            let disks = status["disks"].as_array().cloned().unwrap_or_default();
            let broken = disks.iter().any(|disk| {
                disk["role"] == "ETCD" && (disk["state"] == "lost" || disk["state"] == "read-only")
            });
            Look::at(broken, || format!("{disks:?}"))
        }
        Err(error) => Look::NotYet(chain(&error)),
    });
    assert_eq!(fixture.m1().power(), Power::On, "the node stays up");
}

fn the_seed_was(fixture: &Fixture, source: &str) {
    let status = fixture.expect(fixture.status());
    assert_eq!(status["seed"]["source"], source, "{}", status["seed"]);
}

fn the_image_is_on_the_disk(fixture: &Fixture) {
    let status = fixture.expect(fixture.status());
    let installation = &status["installation"];
    assert_eq!(installation["state"], "installed", "{installation}");
    assert_eq!(installation["slot"], "A", "{installation}");
    assert_eq!(installation["generation"], 1, "{installation}");
    assert_eq!(installation["version"], status["node"]["version"]);
}

fn the_status_tells_of_a_data_that_was_set_aside(fixture: &Fixture) {
    let status = fixture.expect(fixture.status());
    let disks = status["disks"].as_array().cloned().unwrap_or_default();
    let data = disks.iter().find(|disk| disk["role"] == "DATA");
    let data = data.unwrap_or_else(|| panic!("no DATA: {disks:?}"));
    assert_eq!(data["state"], "memory", "{data}");
    assert_eq!(data["reason"]["code"], "disk-set-aside", "{data}");
    let cause = data["reason"]["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("e2fsck on /dev/vda6"), "{data}");
    let refused = status["degraded"].to_string().contains("/data is");
    assert!(!refused, "told twice: {}", status["degraded"]);
}

/// Puts something in a partition's place that no check of file systems can mend. Returns a hash of the place.
fn ruin(image: &Path, role: Role) -> [u8; 32] {
    let (offset, bytes) = place(image, role);
    let disk = File::options().write(true).open(image).expect("the image");
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&disk, flags, offset, bytes).expect("a hole");
    disk.write_all_at(&vec![0xa5; 1 << 16], offset + (3 << 20))
        .expect("written");
    hash_of(image, role)
}

fn hash_of(image: &Path, role: Role) -> [u8; 32] {
    let (offset, bytes) = place(image, role);
    hash_within(image, offset, offset + bytes)
}

/// Where a partition is, in bytes, and how large.
fn place(image: &Path, role: Role) -> (u64, u64) {
    let Contents::Ours(table) = inspect(&mut File::open(image).expect("the image")) else {
        panic!("the disk is not ours");
    };
    let partition = table.partition(role).expect("a partition");
    (
        partition.first_sector * table.sector_bytes,
        partition.bytes(table.sector_bytes),
    )
}

fn disk_image(fixture: &Fixture) -> PathBuf {
    fixture.m1().plan().directory.join("disk.img")
}

fn the_disk_is_laid_out_and_its_file_systems_are_clean(image: &Path) {
    let disk = File::open(image).expect("the image");
    let Contents::Ours(table) = inspect(&mut &disk) else {
        panic!("the disk is not ours");
    };
    let roles: Vec<Role> = table.partitions.iter().map(|part| part.role).collect();
    assert_eq!(roles, Role::ALL);
    for role in roles.into_iter().filter(|role| role.has_file_system()) {
        let offset = offset_of(&table, role);
        // ext4's superblock (Documentation/filesystems/ext4/super.rst): state at 0x3a, 1 is clean;
        // incompatible features at 0x60, where 4 says that the journal must be replayed.
        let mut superblock = [0; 1024];
        disk.read_exact_at(&mut superblock, offset + 1024)
            .expect("a superblock");
        assert_eq!(superblock[0x38..0x3c], [0x53, 0xef, 1, 0], "{role:?}");
        assert_eq!(superblock[0x60] & 4, 0, "{role:?} was not unmounted");
        let checked = Command::new("e2fsck")
            .args(["-n", "-f"])
            .arg(format!("{}?offset={offset}", image.display()))
            .output()
            .expect("e2fsck is installed");
        assert!(checked.status.success(), "{role:?}: {checked:?}");
    }
}

fn offset_of(table: &Table, role: Role) -> u64 {
    let partition = table.partition(role).expect("a partition");
    partition.first_sector * table.sector_bytes
}

/// A hash of all that a sparse file holds, and where. Zeros count as holes: when the host writes its
/// page cache back, one becomes the other.
fn hash(path: &Path) -> [u8; 32] {
    hash_within(path, 0, u64::MAX)
}

/// The same of the part from byte `begin` to `end`, which are at multiples of a block.
fn hash_within(path: &Path, begin: u64, end: u64) -> [u8; 32] {
    const BLOCK: usize = 4096;
    let last = end;
    let file = File::open(path).expect("the image");
    let mut hash = Sha256::new();
    let mut block = [0; BLOCK];
    let mut at = begin;
    while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at))
        && data < last
    {
        let end = rustix::fs::seek(&file, SeekFrom::Hole(data)).expect("an end");
        let end = end.min(last);
        at = data - data % BLOCK as u64;
        while at < end {
            file.read_exact_at(&mut block, at).expect("read");
            if block.iter().any(|byte| *byte != 0) {
                hash.update(at.to_le_bytes());
                hash.update(block);
            }
            at += BLOCK as u64;
        }
    }
    hash.finalize().into()
}
