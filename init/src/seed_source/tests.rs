//! A node looks for its seed in a folder that looks like its file systems.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use masthead_disk_layout::{Holds, Storage, plan};
use masthead_slots::{Format, Partition};
use tempfile::TempDir;

use super::*;
use crate::disk::device::Device;

mod fetching;
use crate::volume::Filesystem;

const SEED: &str = include_str!("../../../configs/seeds/single.toml");
const MAC: &str = "52:54:00:10:00:11";

/// A machine's file systems in a folder. A volume's files are in a folder beside its device.
struct Node {
    folder: TempDir,
    roots: Roots,
}

struct Folders;

impl Mounts for Folders {
    fn open(&self, device: &Path, _: Filesystem) -> io::Result<OwnedFd> {
        Ok(fs::File::open(device.with_extension("files"))?.into())
    }
}

/// With the patience of a real machine, times `scale`.
fn means(scale: f64) -> Means<'static> {
    Means {
        mounts: &Folders,
        uplinks: &fetching::Loopback,
        scale: Scale::new(scale).expect("a scale"),
    }
}

impl Node {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let below = |name: &str| folder.path().join(name);
        let roots = Roots {
            root: below(""),
            sys: below("sys"),
            proc: below("proc"),
            dev: below("dev"),
        };
        let node = Self { folder, roots };
        node.write("proc/cmdline", "quiet\n");
        node.interface("eth0", MAC, true);
        node
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    fn interface(&self, name: &str, mac: &str, is_hardware: bool) {
        let file = |file: &str| format!("sys/class/net/{name}/{file}");
        self.write(&file("address"), format!("{mac}\n"));
        self.write(&file("type"), "1\n");
        self.write(&file("ifindex"), "2\n");
        self.write(&file("iflink"), "2\n");
        self.write(&file("uevent"), format!("INTERFACE={name}\n"));
        if is_hardware {
            self.write(&file("device/vendor"), "0x1af4\n");
        }
    }

    fn firmware(&self, seed: &str) {
        self.write(
            "sys/firmware/qemu_fw_cfg/by_name/opt/masthead/seed/raw",
            seed,
        );
    }

    fn smbios(&self, base64: &str) {
        let string = format!("{}{base64}", smbios::PREFIX);
        let table = smbios::tests::table(&[b"a vendor's", string.as_bytes()]);
        self.write("sys/firmware/dmi/tables/DMI", table);
    }

    /// A file on the EFI system partition of a disk of ours.
    fn on_system_partition(&self, device: &str, path: &str, content: &str) {
        let image = self.roots.dev.join(device);
        if !image.exists() {
            self.write(&format!("dev/{device}"), "");
            let file = fs::File::options().write(true).open(&image);
            file.expect("there").set_len(1 << 30).expect("sparse");
            let storage = Device::open(&image).expect("opened");
            Partition::format(storage, Format::disk(512)).expect("formatted");
        }
        let mut system = Partition::open(Device::open(&image).expect("opened")).expect("formatted");
        system
            .write(path, &mut content.as_bytes())
            .expect("written");
    }

    fn volume(&self, device: &str, label: &str, file: &str, seed: &str) {
        let mut image = vec![0; 32768 + 2048];
        image[32768..32774].copy_from_slice(b"\x01CD001");
        image[32768 + 40..][..label.len()].copy_from_slice(label.as_bytes());
        self.write(&format!("sys/class/block/{device}/size"), "72\n");
        self.write(&format!("dev/{device}"), image);
        self.write(&format!("dev/{device}.files/{file}"), seed);
    }

    /// A disk of ours with this seed on its STATE.
    fn installed(&self, disk: &str, prepared: bool, seed: &str) {
        struct Disk(fs::File);
        impl io::Read for Disk {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl io::Write for Disk {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                self.0.write(data)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl io::Seek for Disk {
            fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
                self.0.seek(to)
            }
        }
        impl Storage for Disk {
            fn sync(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bytes = 4 << 30;
        self.write(
            &format!("sys/class/block/{disk}/size"),
            format!("{}\n", bytes / 512),
        );
        self.write(&format!("sys/class/block/{disk}/device/vendor"), "0x1af4\n");
        self.write(&format!("dev/{disk}"), "");
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(self.roots.dev.join(disk))
            .expect("there");
        file.set_len(bytes).expect("sparse");
        self.write("seed", seed);
        let state = self.roots.dev.join(format!("{disk}4.files"));
        fs::create_dir_all(&state).expect("a folder");
        installed::keep(&state, &self.folder.path().join("seed")).expect("installed");
        // Last: with the table, a node finds it.
        let mut table = plan(bytes, 512, Holds::Everything, Default::default).expect("fits");
        table.prepared = prepared;
        table
            .partitions
            .iter_mut()
            .enumerate()
            .for_each(|(index, partition)| {
                partition.guid = [u8::try_from(index).expect("few") + 1; 16];
            });
        table.write(&mut Disk(file)).expect("written");
    }

    fn look(&self) -> Outcome {
        self.look_for(1.0)
    }

    fn look_for(&self, scale: f64) -> Outcome {
        look_with(&SourceKind::Machine(self.roots.clone()), &means(scale))
    }

    /// The source in use, and every attempt in one line.
    fn found(&self) -> (Option<String>, String) {
        let Outcome { attempts, found } = self.look();
        let attempts: Vec<String> = attempts
            .iter()
            .map(|attempt| {
                attempt
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        (found.map(|found| found.source), attempts.join("; "))
    }
}

#[test]
fn a_node_without_a_seed_says_where_it_looked() {
    let node = Node::new();
    let (found, attempts) = node.found();
    assert_eq!(found, None);
    assert_eq!(
        attempts,
        "kernel command line masthead.seed=: not there; kernel command line ds=nocloud;s=: not there; \
         QEMU fw_cfg opt/masthead/seed: not there; SMBIOS type 11: not there; volume CIDATA: not there; volume MASTHEAD: not there; \
         masthead/seed.toml beside an image: not there; installed seed: not there"
    );
    let reason = waiting_for(&node.look().attempts, Timestamp::now()).expect("it waits");
    assert_eq!(reason.code, ReasonCode::SeedMissing);
}

#[test]
fn the_order_is_fixed() {
    let node = Node::new();
    node.installed("vda", true, SEED);
    let device = node.roots.dev.join("vda4");
    let installed = format!("installed seed ({})", device.display());
    assert_eq!(node.found().0, Some(installed));
    node.on_system_partition("vda2", "/masthead/seed.toml", SEED);
    assert_eq!(
        node.found().0.as_deref(),
        Some("EFI system partition (vda2) masthead/seed.toml")
    );
    node.volume("vde", "INSTALL", "masthead/seed.toml", SEED);
    assert_eq!(
        node.found().0.as_deref(),
        Some("volume INSTALL (vde) masthead/seed.toml")
    );
    node.volume("vdb", "MASTHEAD", "seed.toml", SEED);
    assert_eq!(
        node.found().0.as_deref(),
        Some("volume MASTHEAD (vdb) seed.toml")
    );
    node.volume("vdc", "cidata", "user-data", SEED);
    assert_eq!(
        node.found().0.as_deref(),
        Some("volume CIDATA (vdc) user-data")
    );
    node.smbios(&STANDARD.encode(SEED));
    assert_eq!(node.found().0.as_deref(), Some("SMBIOS type 11"));
    node.firmware(SEED);
    assert_eq!(
        node.found().0.as_deref(),
        Some("QEMU fw_cfg opt/masthead/seed")
    );
    node.volume("vdd", "USB", "a/b.toml", SEED);
    node.write("proc/cmdline", "quiet masthead.seed=usb:/a/b.toml");
    assert_eq!(
        node.found().0.as_deref(),
        Some("kernel command line masthead.seed=usb:/a/b.toml")
    );
    node.write("seed.toml", SEED);
    node.write("proc/cmdline", "masthead.seed=/seed.toml");
    assert_eq!(
        node.found().0.as_deref(),
        Some("kernel command line masthead.seed=/seed.toml")
    );
}

/// The table in the manual is the order of the code.
#[test]
fn the_manual_has_the_places_in_their_order() {
    const MANUAL: &str = include_str!("../../../docs/seed.md");
    let (_, section) = MANUAL
        .split_once("\n## Where a node looks\n")
        .expect("a section");
    let (section, _) = section.split_once("\n## ").expect("another one");
    let rows: Vec<(usize, &str)> = section
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?.parse().ok()?, cells.next()?))
        })
        .collect();
    let places = places::PLACES.map(|(name, _)| name);
    let places: Vec<(usize, &str)> = (1..).zip(places).collect();
    assert_eq!(rows, places);
}

#[test]
fn a_broken_string_of_the_firmware_hides_the_good_seed_behind_it() {
    let node = Node::new();
    node.installed("vda", true, SEED);
    node.smbios("dmVyc2lvbi!");
    let outcome = node.look();
    assert!(outcome.found.is_none());
    let reason = waiting_for(&outcome.attempts, Timestamp::now()).expect("it waits");
    assert_eq!(reason.code, ReasonCode::SeedInvalid);
    let expected = "SMBIOS type 11: refused: what follows masthead.seed.base64= is no base64";
    assert!(reason.cause.starts_with(expected), "{}", reason.cause);

    let wrong = SEED.replace("version  = 1", "version  = 7");
    node.smbios(&STANDARD.encode(wrong));
    let reason = waiting_for(&node.look().attempts, Timestamp::now()).expect("it waits");
    assert!(
        reason
            .cause
            .starts_with("SMBIOS type 11:2:12: error: version 7"),
        "{}",
        reason.cause
    );
}

#[test]
fn a_seed_beside_an_image_is_meant_and_what_else_is_there_is_none() {
    let node = Node::new();
    node.installed("vda", true, SEED);
    node.on_system_partition("vda2", "/masthead/a.efi", "an image");
    node.volume("sda1", "DATA", "EFI/BOOT/BOOTX64.EFI", "a boot loader");
    let (found, attempts) = node.found();
    assert!(found.is_some_and(|found| found.starts_with("installed seed (")));
    assert!(
        attempts.contains("; masthead/seed.toml beside an image: not there; "),
        "{attempts}"
    );
    let wrong = SEED.replace("version  = 1", "version  = 7");
    node.on_system_partition("vda2", "/masthead/seed.toml", &wrong);
    let outcome = node.look();
    assert!(outcome.found.is_none());
    let reason = waiting_for(&outcome.attempts, Timestamp::now()).expect("it waits");
    assert_eq!(reason.code, ReasonCode::SeedInvalid);
    assert!(
        reason
            .cause
            .starts_with("EFI system partition (vda2) masthead/seed.toml:2:12: error: "),
        "{}",
        reason.cause
    );
    let large = format!("{SEED}\n#{}", "x".repeat(300 * 1024));
    node.on_system_partition("vda2", "/masthead/seed.toml", &large);
    assert!(node.found().1.ends_with("masthead/seed.toml: refused"));
}

/// Entries are written while a node looks: nobody is kept out.
#[test]
fn a_system_partition_is_read_while_somebody_writes_to_it() {
    let node = Node::new();
    node.installed("vda", true, SEED);
    node.on_system_partition("vda2", "/masthead/seed.toml", SEED);
    let _held = Device::open(&node.roots.dev.join("vda2")).expect("opened");
    let (found, attempts) = node.found();
    assert!(
        found.is_some_and(|found| found.starts_with("EFI system")),
        "{attempts}"
    );
}

#[test]
fn the_installed_seed_is_read_only_where_there_is_one_and_it_is_whole() {
    let node = Node::new();
    node.installed("vda", false, SEED);
    assert!(
        node.found().1.ends_with("installed seed: not there"),
        "in preparation"
    );

    let node = Node::new();
    node.installed("vda", true, SEED);
    for (file, torn) in [("seed.toml", SEED.trim_end()), ("seed.sha256", "")] {
        let path = format!("dev/vda4.files/{file}");
        let whole = fs::read(node.folder.path().join(&path)).expect("there");
        node.write(&path, torn);
        let (found, attempts) = node.found();
        assert_eq!(found, None);
        assert!(
            attempts.contains("it is not whole, as its SHA-256 says"),
            "{attempts}"
        );
        node.write(&path, whole);
    }
    assert!(node.found().0.is_some());
    // The next boot mends a record that the first was not given the time to write.
    node.write("dev/vda4.files/seed.sha256", "");
    let state = node.roots.dev.join("vda4.files");
    assert!(installed::keep(&state, &node.folder.path().join("seed")).expect("mended"));
    assert!(node.found().0.is_some());

    node.installed("vdb", true, SEED);
    let (found, attempts) = node.found();
    assert_eq!(found, None);
    assert!(
        attempts.contains("several disks have a STATE: vda (") && attempts.contains("; vdb ("),
        "{attempts}"
    );
}

#[test]
fn an_installed_seed_for_another_machine_is_not_used() {
    let node = Node::new();
    node.installed("vda", true, &SEED.replace(MAC, "52:54:00:10:00:99"));
    let Outcome { found, attempts } = node.look();
    assert!(found.is_none());
    let reason = waiting_for(&attempts, Timestamp::now()).expect("it waits");
    assert_eq!(reason.code, ReasonCode::SeedNoMatch);
}

#[test]
fn the_first_seed_stays() {
    let node = Node::new();
    node.installed("vda", true, SEED);
    node.installed("vda", true, "version = 2");
    assert!(node.found().0.is_some());
}

#[test]
fn a_bad_seed_hides_the_good_one_behind_it() {
    let node = Node::new();
    node.firmware(&SEED.replace("version  = 1", "version  = 7"));
    node.installed("vda", true, SEED);
    let outcome = node.look();
    assert!(outcome.found.is_none());
    let reason = waiting_for(&outcome.attempts, Timestamp::now()).expect("it waits");
    assert_eq!(reason.code, ReasonCode::SeedInvalid);
    assert!(
        reason
            .cause
            .starts_with("QEMU fw_cfg opt/masthead/seed:2:12: error: version 7"),
        "{}",
        reason.cause
    );
}

#[test]
fn a_machine_that_the_seed_does_not_name_says_who_it_is() {
    let node = Node::new();
    node.firmware(&SEED.replace(MAC, "52:54:00:99:99:99"));
    node.write("sys/class/dmi/id/product_serial", "J4K2M1\n");
    let outcome = node.look();
    assert!(outcome.found.is_none());
    let reason = waiting_for(&outcome.attempts, Timestamp::now()).expect("it waits");
    assert_eq!(reason.code, ReasonCode::SeedNoMatch);
    assert!(
        reason.cause.contains(MAC) && reason.cause.contains("J4K2M1"),
        "{}",
        reason.cause
    );
}

#[test]
fn what_cannot_be_read_is_named_and_passed_over() {
    let node = Node::new();
    node.write("sys/class/block/sda/size", "100\n");
    node.write("dev/sda/is-a-folder", "");
    node.write("sys/class/block/sr0/size", "0\n");
    node.installed("vda", true, SEED);
    node.write("proc/cmdline", "masthead.seed=seed.toml");
    let (found, attempts) = node.found();
    assert!(found.is_some_and(|found| found.starts_with("installed seed (")));
    assert!(
        attempts.contains("masthead.seed=seed.toml: cannot be read: write masthead.seed=/PATH"),
        "{attempts}"
    );
    assert!(
        attempts.contains("device sda: cannot be read"),
        "{attempts}"
    );
    assert!(!attempts.contains("sr0"), "{attempts}");
}

#[test]
fn links_on_a_volume_lead_nowhere() {
    let node = Node::new();
    node.write("secret.toml", SEED);
    node.volume("vdb", "MASTHEAD", "other", "");
    let link = node.folder.path().join("dev/vdb.files/seed.toml");
    symlink("../../secret.toml", link).expect("a link");
    let (found, attempts) = node.found();
    assert_eq!(found, None);
    assert!(
        attempts.contains("volume MASTHEAD (vdb) seed.toml: cannot be read"),
        "{attempts}"
    );
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let node = Node::new();
    node.firmware(&format!("{SEED}\n#{}", "x".repeat(300 * 1024)));
    let (found, attempts) = node.found();
    assert_eq!(found, None);
    assert!(attempts.contains("refused"), "{attempts}");
}

#[test]
fn a_machine_knows_its_hardware_and_no_more() {
    let node = Node::new();
    node.interface("br0", "52:54:00:00:00:01", false);
    node.interface("veth0", "52:54:00:00:00:02", false);
    node.write("sys/class/net/veth0/iflink", "9\n");
    node.interface("eth0.7", "52:54:00:00:00:03", false);
    node.write("sys/class/net/eth0.7/iflink", "3\n");
    node.write("sys/class/net/eth0.7/uevent", "DEVTYPE=vlan\n");
    node.interface("lo", "00:00:00:00:00:00", false);
    node.write("sys/class/net/lo/type", "772\n");
    node.write(
        "sys/class/dmi/id/product_serial",
        "To Be Filled By O.E.M.\n",
    );
    let machine = gather_machine(&SourceKind::Machine(node.roots.clone()));
    let macs: Vec<String> = machine.macs.iter().map(ToString::to_string).collect();
    assert_eq!(macs, ["52:54:00:00:00:02", MAC]);
    assert_eq!(machine.serial, None);
}

#[test]
fn a_namespace_node_has_its_file_and_nothing_else() {
    let node = Node::new();
    node.firmware(SEED);
    node.write("host/seed.toml", SEED);
    node.write("sys/class/dmi/id/product_serial", "HOST\n");
    let path = node.folder.path().join("host/seed.toml");
    let kind = |seed| SourceKind::Namespace {
        seed,
        roots: node.roots.clone(),
    };
    let found = look_with(&kind(Some(path)), &means(1.0))
        .found
        .expect("a seed");
    assert_eq!(found.master.name, "m1");
    assert_eq!(found.machine.serial, None);
    assert_eq!(found.bytes.0, SEED.as_bytes());
    assert_eq!(found.bytes_hash, Hash::of(SEED.as_bytes()));
    assert!(look_with(&kind(None), &means(1.0)).found.is_none());
}

#[test]
fn the_secret_shows_nowhere() {
    let node = Node::new();
    node.firmware(SEED);
    let outcome = node.look();
    assert!(outcome.found.is_some());
    assert!(
        !format!("{outcome:?}").contains("iS3UR35"),
        "the secret shows"
    );
}

#[tokio::test]
async fn waiting_ends_when_a_seed_appears() {
    let node = Node::new();
    let kind = SourceKind::Machine(node.roots.clone());
    let (report, mut reports) = watch::channel(Vec::new());
    let scale = Scale::new(0.01).expect("a scale");
    let wait = wait_for_seed(&kind, scale, &report);
    let hand_in = async {
        reports
            .wait_for(|attempts| attempts.len() == 8)
            .await
            .expect("a first look");
        node.write("host.toml", SEED);
        let firmware = "sys/firmware/qemu_fw_cfg/by_name/opt/masthead/seed";
        fs::create_dir_all(node.folder.path().join(firmware)).expect("a folder");
        fs::rename(
            node.folder.path().join("host.toml"),
            node.folder.path().join(firmware).join("raw"),
        )
        .expect("the seed appears");
    };
    let (found, ()) = tokio::join!(wait, hand_in);
    assert_eq!(found.source, "QEMU fw_cfg opt/masthead/seed");
    let last = report.borrow();
    assert_eq!(
        last.last().map(|attempt| &attempt.result),
        Some(&AttemptResult::Used)
    );
}
