//! A disk in a folder, as the kernel shows it, and what systemd-boot has left in the firmware.

use masthead_disk_layout::{Holds, plan};
use masthead_slots::{Format, Slot, Tries};
use tempfile::TempDir;

use super::super::started::{VARIABLES, VENDOR};
use super::*;

struct Machine {
    folder: TempDir,
}

impl Machine {
    /// With a disk of ours that has these entries: generation, and tries left and done.
    fn new(there: &[(u32, Option<(u32, u32)>)]) -> Self {
        Self::with(Holds::Everything, true, there)
    }

    /// The same with a disk that holds this, and is prepared or not.
    fn with(holds: Holds, prepared: bool, there: &[(u32, Option<(u32, u32)>)]) -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let mut next = 0;
        let mut table = plan(4 << 30, 512, holds, || {
            next += 1;
            [next; 16]
        })
        .unwrap();
        table.prepared = prepared;
        table.keeps_image = !prepared;
        machine.write(
            "sys/class/block/vda/size",
            format!("{}\n", (4_u64 << 30) / 512),
        );
        machine.write("sys/class/block/vda/device/vendor", "0x1af4\n");
        table.write(&mut machine.device("vda", 4 << 30)).unwrap();
        let mut system =
            Partition::format(machine.device("vda2", 1 << 30), Format::disk(512)).unwrap();
        for (generation, tries) in there {
            let entry = Entry {
                generation: *generation,
                tries: tries.map(|(left, done)| Tries { left, done }),
                slot: Slot::A,
                version: format!("0.{generation}.0"),
            };
            system
                .write(&entry.path(), &mut entry.text().as_bytes())
                .unwrap();
        }
        machine.device("vda3", 1 << 20);
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn device(&self, name: &str, bytes: u64) -> Device {
        let path = format!("dev/{name}");
        self.write(&path, "");
        let file = fs::File::options().write(true).open(self.path(&path));
        file.unwrap().set_len(bytes).unwrap();
        Device::open(&self.path(&path)).unwrap()
    }

    fn variable(&self, name: &str, text: &str) {
        let letters = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        let content: Vec<u8> = [6, 0, 0, 0].into_iter().chain(letters).collect();
        self.write(&format!("sys/{VARIABLES}/{name}-{VENDOR}"), content);
    }

    /// As after a boot by our boot loader.
    fn started(&self, entry: &str) -> OwnDisk {
        self.variable("LoaderEntrySelected", entry);
        // The third GUID that was asked for, after the disk's own and that of the first partition.
        let partition = "03030303-0303-0303-0303-030303030303";
        self.variable("LoaderDevicePartUUID", &partition.to_ascii_uppercase());
        self.found().expect("the disk that it came from")
    }

    /// As after a boot by GRUB.
    fn started_by_grub(&self, words: &str) -> OwnDisk {
        let partition = "masthead.partition=03030303-0303-0303-0303-030303030303";
        self.write("cmdline", format!("console=tty0 {words} {partition}\n"));
        self.found().expect("the disk that it came from")
    }

    /// GRUB has tried generation 2 so often.
    fn tried(&self, used: &str) {
        let text = format!("# GRUB Environment Block\ntried=2\nused={used}\n");
        let system = Device::open(&self.path("dev/vda2")).unwrap();
        let mut system = Partition::open(system).unwrap();
        let written = system.write(bios::ENVIRONMENT, &mut text.as_bytes());
        written.unwrap();
    }

    fn found(&self) -> Option<OwnDisk> {
        OwnDisk::find(&self.roots(), &self.path("cmdline"))
    }

    fn roots(&self) -> Roots {
        Roots {
            sys: self.path("sys"),
            dev: self.path("dev"),
        }
    }

    fn names(&self) -> Vec<String> {
        let system = Device::open(&self.path("dev/vda2")).unwrap();
        let mut system = Partition::open(system).unwrap();
        system.names(Entry::FOLDER).unwrap()
    }
}

#[test]
fn a_boot_that_did_not_come_from_a_disk_of_ours_has_none() {
    let machine = Machine::new(&[(1, None)]);
    assert!(machine.found().is_none());
    machine.variable("LoaderEntrySelected", "masthead-000001.conf");
    assert!(machine.found().is_none(), "from a medium");
    assert_eq!(machine.started("masthead-000001.conf").running, 1);
    machine.variable(
        "LoaderDevicePartUUID",
        "04040404-0404-0404-0404-040404040404",
    );
    assert!(machine.found().is_none(), "another disk");
    machine.variable("LoaderEntrySelected", "debian.conf");
    assert!(machine.found().is_none(), "another system");
}

#[test]
fn a_disk_that_is_yet_to_be_prepared_around_its_image_is_the_one_and_left_alone() {
    for (holds, prepared, is_fresh) in [
        (Holds::Image, true, true),
        (Holds::Everything, false, true),
        (Holds::Everything, true, false),
    ] {
        let machine = Machine::with(holds, prepared, &[(1, None)]);
        let disk = machine.started("masthead-000001.conf");
        assert_eq!((disk.running, disk.is_fresh), (1, is_fresh), "{holds:?}");
        // The partition has the same name then.
        assert_eq!(disk.system, machine.path("dev/vda2"));
    }
}

#[test]
fn an_image_on_trial_is_blessed() {
    let machine = Machine::new(&[(1, None), (2, Some((1, 1)))]);
    let disk = machine.started("masthead-000002+1-1.conf");
    assert!(disk.is_on_trial().unwrap());
    assert_eq!(disk.bless().unwrap().generation, 2);
    assert!(!disk.is_on_trial().unwrap());
    assert_eq!(
        machine.names(),
        ["masthead-000001.conf", "masthead-000002.conf"]
    );
    assert_eq!(disk.settle().unwrap(), None);
}

#[test]
fn an_image_that_gives_up_says_why_to_the_one_before() {
    let machine = Machine::new(&[(1, None), (2, Some((1, 1)))]);
    let disk = machine.started("masthead-000002.conf");
    disk.give_up("it did not serve in time").unwrap();
    assert_eq!(machine.names(), ["masthead-000001.conf"]);
    let failed = machine.started("masthead-000001.conf").settle().unwrap();
    let failed = failed.expect("a trial that has failed");
    assert_eq!((failed.generation, &*failed.version), (2, "0.2.0"));
    assert_eq!(failed.why, "it did not serve in time");
}

#[test]
fn an_image_that_said_nothing_is_put_away_and_one_that_is_still_to_come_is_not() {
    let machine = Machine::new(&[(1, None), (2, Some((0, 2))), (3, Some((2, 0)))]);
    let disk = machine.started("masthead-000001.conf");
    assert!(!disk.is_on_trial().unwrap());
    let failed = disk.settle().unwrap().expect("a trial that has failed");
    assert_eq!(failed.generation, 2);
    assert!(failed.why.contains("started 2 times"), "{}", failed.why);
    assert_eq!(
        machine.names(),
        ["masthead-000001.conf", "masthead-000003+2.conf"]
    );
    // Until a later one is good that is what is known.
    assert_eq!(disk.settle().unwrap(), Some(failed));
    let disk = machine.started("masthead-000003.conf");
    disk.bless().unwrap();
    assert_eq!(disk.settle().unwrap(), None);
}

#[test]
fn what_grub_has_counted_is_known_to_the_image_that_it_starts_next() {
    let machine = Machine::new(&[(1, None), (2, Some((2, 0)))]);
    machine.tried("x");
    let disk = machine.started_by_grub("masthead.entry=2");
    disk.take_count().unwrap();
    assert!(disk.is_on_trial().unwrap());
    assert!(!disk.count().unwrap(), "it is counted");
    assert_eq!(
        machine.names(),
        ["masthead-000001.conf", "masthead-000002+1-1.conf"]
    );

    let machine = Machine::new(&[(1, None), (2, Some((2, 0)))]);
    machine.tried("");
    let disk = machine.started_by_grub("masthead.entry=1");
    disk.take_count().unwrap();
    assert_eq!(disk.settle().unwrap(), None, "it is still to come");
    let disk = machine.started_by_grub("masthead.entry=1 masthead.passed-over=2");
    let failed = disk.settle().unwrap().expect("one that was not tried");
    assert_eq!(failed.generation, 2);
    assert!(failed.why.contains("could not count"), "{}", failed.why);
    assert_eq!(machine.names(), ["masthead-000001.conf"]);
}

#[test]
fn a_guid_is_written_as_firmware_does() {
    let system = Role::Esp.type_guid();
    assert_eq!(guid(system), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
}
