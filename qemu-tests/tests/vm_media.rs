//! Each medium on a machine with firmware: the node installs itself from it, and boots from its disk when the medium is gone.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    fs::File,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use fixture::Fixture;
use masthead_disk_layout::{Contents, Role, inspect};
use masthead_imagebuild::steps::disk::FILE;
use masthead_lab::{
    patience::Look,
    provider::{Power, ProviderKind},
    qemu::{BootPath, Firmware, MachineOptions, SeedPath},
};
use support::console;

const A_MINUTE: Duration = Duration::from_secs(60);

/// With the seed that `imagebuild iso --seed` has put on it.
#[test]
#[ignore = "minutes where machines are emulated; make soak runs it"]
fn a_cd_with_a_seed_on_it_installs_a_master() {
    installs_from(
        BootPath::Cd,
        SeedPath::Medium,
        "volume MASTHEAD (sr0) seed.toml",
    );
}

/// With the seed that an operator has copied to the stick's FAT volume.
#[test]
#[ignore = "minutes where machines are emulated; make soak runs it"]
fn a_stick_with_a_seed_on_it_installs_a_master() {
    installs_from(
        BootPath::Stick,
        SeedPath::Medium,
        "volume MASTHEAD (sda2) seed.toml",
    );
}

/// On USB, which the kernel of the default image does not have, with a seed beside the image.
#[test]
#[ignore = "for images with the full kernel: scripts/soak runs it"]
fn a_usb_stick_with_a_seed_on_it_installs_a_master() {
    installs_from(
        BootPath::UsbStick,
        SeedPath::BesideImage,
        "volume MASTHEAD (sda2) masthead/seed.toml",
    );
}

/// By GRUB, from the same ISO image.
#[test]
#[ignore = "minutes where machines are emulated; make soak runs it"]
fn a_bios_starts_a_master_from_a_cd_and_from_a_stick() {
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    let bios = Firmware::Bios;
    let status = boot_by(&fixture, bios, BootPath::Cd, SeedPath::Medium);
    let source = &status["seed"]["source"];
    assert_eq!(*source, "volume MASTHEAD (sr0) seed.toml", "{source}");
    fixture.expect(fixture.m1().cut_power());
    let status = boot_by(&fixture, bios, BootPath::Stick, SeedPath::Medium);
    let source = &status["seed"]["source"];
    assert_eq!(*source, "volume MASTHEAD (sda2) seed.toml", "{source}");
    fixture.expect(fixture.kubectl(&["get", "namespaces"]));
    fixture.expect(fixture.m1().cut_power());
}

/// A machine's disk is larger than the disk image that was written to it. Its power is cut as soon as its table is being changed; then it completes the disk, and
/// is a master.
#[test]
#[ignore = "minutes where machines are emulated; make soak runs it"]
fn a_disk_image_becomes_a_master() {
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    let plan = fixture.m1().plan();
    let (image, disk) = (plan.image.join(FILE), plan.directory.join("disk.img"));
    let written = Command::new("dd")
        .arg(format!("if={}", image.display()))
        .arg(format!("of={}", disk.display()))
        .args(["bs=1M", "conv=notrunc,sparse"])
        .status();
    assert!(written.expect("dd is installed").success());
    let seed = SeedPath::Volume;
    let boot_path = BootPath::Disk;
    let options = MachineOptions {
        boot: boot_path,
        seed,
        ..MachineOptions::default()
    };
    fixture.expect(fixture.m1().set_machine(options));
    fixture.expect(fixture.cluster.power_on());
    fixture.wait_until("the disk to be in preparation", 3 * A_MINUTE, || {
        Look::at(is_in_preparation(&disk), || console(fixture.m1()))
    });
    fixture.expect(fixture.m1().cut_power());
    assert!(is_in_preparation(&disk), "it was cut too late");

    let status = boot(&fixture, boot_path, seed);
    assert_installed(&status);
    fixture.expect(fixture.mastctl(&["poweroff", "m1", "--accept-outage"]));
    fixture.wait_for_power(Power::Off, A_MINUTE);
    let mut file = File::open(&disk).expect("the disk");
    let contents = inspect(&mut file);
    let Contents::Ours(table) = &contents else {
        panic!("{contents:?}")
    };
    let roles: Vec<_> = table.partitions.iter().map(|part| part.role).collect();
    assert_eq!(roles, Role::ALL);
    let status = boot(&fixture, boot_path, SeedPath::Installed);
    assert_installed(&status);
    fixture.expect(fixture.kubectl(&["get", "namespaces"]));
    fixture.expect(fixture.m1().cut_power());
}

fn is_in_preparation(disk: &Path) -> bool {
    let mut file = File::open(disk).expect("the disk");
    matches!(inspect(&mut file), Contents::Ours(table) if !table.prepared && table.keeps_image)
}

fn installs_from(medium: BootPath, seed: SeedPath, source: &str) {
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    let status = boot(&fixture, medium, seed);
    assert_eq!(status["seed"]["source"], source, "{}", status["seed"]);
    assert_installed(&status);
    fixture.expect(fixture.mastctl(&["poweroff", "m1", "--accept-outage"]));
    fixture.wait_for_power(Power::Off, A_MINUTE);
    let status = boot(&fixture, BootPath::Disk, SeedPath::Installed);
    assert_installed(&status);
    fixture.expect(fixture.kubectl(&["get", "namespaces"]));
    fixture.expect(fixture.m1().cut_power());
}

fn assert_installed(status: &serde_json::Value) {
    let installation = &status["installation"];
    assert_eq!(installation["state"], "installed", "{installation}");
    assert_eq!(installation["slot"], "A", "{installation}");
    assert_eq!(installation["on_trial"], false, "{installation}");
}

/// Powers on, waits until the cluster is ready, and returns what m1 says.
fn boot(fixture: &Fixture, boot: BootPath, seed: SeedPath) -> serde_json::Value {
    boot_by(fixture, Firmware::Uefi, boot, seed)
}

fn boot_by(
    fixture: &Fixture,
    firmware: Firmware,
    boot: BootPath,
    seed: SeedPath,
) -> serde_json::Value {
    let options = MachineOptions {
        firmware,
        boot,
        seed,
    };
    fixture.expect(fixture.m1().set_machine(options));
    let shown = console(fixture.m1()).len();
    let begun = Instant::now();
    fixture.expect(fixture.cluster.power_on());
    fixture.wait_until("the supervisor", 3 * A_MINUTE, || {
        let console = console(fixture.m1());
        let new = console.get(shown..).unwrap_or_default();
        let started = new.contains("pid1: started the supervisor");
        Look::at(started, || new.to_owned())
    });
    let supervisor = begun.elapsed().as_secs_f64();
    fixture.expect(fixture.cluster.wait_until_ready());
    println!(
        "{firmware:?}, {boot:?}: supervisor after {supervisor:.1} s, ready after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    fixture.expect(fixture.status())
}
