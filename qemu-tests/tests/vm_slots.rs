//! What firmware, systemd-boot and GRUB make of a node's disk, and what the node makes of that: the rules that `masthead-slots` goes by are theirs.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    fs::{self, File},
    io::{Cursor, Read as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fixture::Fixture;
use masthead_bundle::Reader;
use masthead_disk_layout::{Holds, Role, plan};
use masthead_imagebuild::bundle::generate_key;
use masthead_lab::{
    error::chain,
    image::{other_image_of_machines, unified_kernel_image},
    patience::Look,
    provider::{Power, ProviderKind},
    qemu::{BootPath, Firmware, MachineOptions, SeedPath},
    system_partition,
};
use masthead_slots::{
    Entry, Format, Grub, Partition, Slot, Source, Tries,
    bios::{complete, take_count},
    install,
    upgrade::{arm, stage},
};
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, read::elf::ElfFile64,
};
use serde_json::Value;
use support::console;

const A_MINUTE: Duration = Duration::from_secs(60);
/// What the console shows when the image runs.
const SUPERVISOR: &str = "pid1: started the supervisor";

/// A machine is installed from a medium, and boots from its disk. Then it is given a second image, on trial, whose kernel panics: that is tried
/// twice, and the first image starts again, without anybody's help, and says so. A third one, on trial again, serves, and is good after a while.
#[test]
#[ignore = "a quarter of an hour where machines are emulated; make soak runs it"]
fn an_image_on_trial_that_panics_is_tried_twice_and_one_that_serves_becomes_good() {
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    boot(&fixture, BootPath::Cd);
    let installation = installation(&fixture);
    assert_eq!(installation["state"], "installed", "{installation}");
    power_off(&fixture);

    let good = image(&fixture);
    try_out(&fixture, 2, &one_that_panics(&good));
    let shown = console(fixture.m1()).len();
    boot(&fixture, BootPath::Disk);
    let console = console(fixture.m1());
    let panics = console[shown..].matches("Kernel panic").count();
    assert_eq!(panics, 2, "{}", &console[shown..]);
    let told = wait_for(&fixture, "the failed trial", |told| {
        !told["failed"].is_null()
    });
    assert_eq!(told["failed"]["generation"], 2, "{told}");
    let why = told["failed"]["why"].as_str().unwrap_or_default();
    assert!(why.contains("started 2 times"), "{told}");
    assert_eq!(told["on_trial"], false, "{told}");
    power_off(&fixture);
    assert_eq!(entries(&fixture), ["masthead-000001.conf"]);

    try_out(&fixture, 3, &good);
    boot(&fixture, BootPath::Disk);
    let begun = Instant::now();
    let told = wait_for(&fixture, "the trial", |told| told["on_trial"] == true);
    assert_eq!(told["generation"], 3, "{told}");
    wait_for(&fixture, "the image to be good", |told| {
        told["on_trial"] == false
    });
    println!("good after {:.0} s more", begun.elapsed().as_secs_f64());
    power_off(&fixture);
    assert_eq!(
        entries(&fixture),
        ["masthead-000001.conf", "masthead-000003.conf"]
    );
}

/// SeaBIOS goes on from a disk without an image. From one that our code has written it starts GRUB, which tries an image on trial twice, because its
/// kernel panics, and counts; and then it starts the image before, without anybody's help.
#[test]
fn a_bios_starts_an_image_that_panics_twice_and_then_the_one_before() {
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    let path = disk(&fixture);
    let whole = File::options().read(true).write(true).open(&path);
    let mut whole = whole.expect("opened");
    let bytes = fs::metadata(&path).expect("a disk").len();
    let mut next = 0;
    let guid = || {
        next += 1;
        [next; 16]
    };
    let mut table = plan(bytes, 512, Holds::Everything, guid).expect("it fits");
    table.prepared = true;
    table.write(&mut whole).expect("written");
    let shown = starts(
        &fixture,
        "No bootable device",
        Firmware::Bios,
        BootPath::Disk,
    );
    assert!(!shown.contains("GRUB"), "{shown}");
    fixture.expect(fixture.m1().cut_power());

    let built = fixture.m1().plan().image.clone();
    let read = |name: &str| fs::read(built.join(name)).expect(name);
    let system = fixture.expect(system_partition::partition(&path, Role::Esp));
    let mut system = Partition::format(system, Format::disk(512)).expect("formatted");
    let good = image(&fixture);
    let source = Source {
        image: Cursor::new(&good),
        boot_loader: &read("systemd-bootx64.efi"),
    };
    let release = masthead_uki::check(&mut Cursor::new(&good)).expect("an image");
    install(&mut system, source, &release).expect("installed");
    let mut bios_boot = fixture.expect(system_partition::partition(&path, Role::BiosBoot));
    let grub = Grub {
        boot_sector: &read("grub-boot.img"),
        core: &read("grub-disk.img"),
    };
    complete(&mut system, &mut bios_boot, &mut whole, 2048, grub).expect("complete");
    drop(system);

    tries_one_that_panics(&fixture);
    let shown = starts(&fixture, SUPERVISOR, Firmware::Bios, BootPath::Disk);
    let panics = shown.matches("Kernel panic").count();
    assert_eq!(panics, 2, "{shown}");
    fixture.expect(fixture.m1().cut_power());
    let mut system = fixture.expect(system_partition::open(&path));
    let counted = take_count(&mut system).expect("read");
    let tries = counted.expect("a trial").tries;
    assert_eq!(tries, Some(Tries { left: 0, done: 2 }));
}

/// A machine without UEFI installs itself, and SeaBIOS and GRUB start its disk. From an image that panics it goes back, and says so. Then it is sent an
/// image over the network, which GRUB starts, and which serves and becomes good.
#[test]
#[ignore = "a quarter of an hour where machines are emulated; make soak runs it"]
fn a_machine_without_uefi_is_upgraded() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("image.key");
    let public = generate_key(&key).expect("a key pair");
    let fixture = Fixture::off(ProviderKind::Vm, |plan, _| {
        plan.image_keys = vec![public.to_string()];
    });
    boot(&fixture, BootPath::Network);
    let told = installation(&fixture);
    assert_eq!(told["state"], "installed", "{told}");
    power_off(&fixture);

    tries_one_that_panics(&fixture);
    boot_by_bios(&fixture);
    let told = wait_for(&fixture, "the failed trial", |told| {
        !told["failed"].is_null()
    });
    assert_eq!(told["generation"], 1, "{told}");
    assert_eq!(told["failed"]["generation"], 2, "{told}");
    let why = told["failed"]["why"].as_str().unwrap_or_default();
    assert!(why.contains("started 2 times"), "{told}");

    fixture.sends_its_own_image(&key);
    let begun = Instant::now();
    wait_for(&fixture, "the image to be good", |told| {
        told["on_trial"] == false
    });
    println!("good after {:.0} s more", begun.elapsed().as_secs_f64());
    power_off(&fixture);
    assert_eq!(
        entries(&fixture),
        ["masthead-000001.conf", "masthead-000002.conf"]
    );
    boot_by_bios(&fixture);
    let told = installation(&fixture);
    assert_eq!(
        (&told["slot"], &told["generation"]),
        (&"B".into(), &2.into()),
        "{told}"
    );
    power_off(&fixture);
}

/// Puts an image whose kernel panics on trial on the disk of a machine that is off, as a node does it.
fn tries_one_that_panics(fixture: &Fixture) {
    let bad = one_that_panics(&image(fixture));
    let mut partition = fixture.expect(system_partition::open(&disk(fixture)));
    let staged = stage(&mut partition, 1, &mut &*bad).expect("staged");
    arm(&mut partition, 1, &staged.release.image).expect("armed");
}

/// Powers on, and returns what the console has shown until it shows this.
fn starts(fixture: &Fixture, until: &str, firmware: Firmware, boot: BootPath) -> String {
    let options = MachineOptions {
        firmware,
        boot,
        seed: SeedPath::FirmwareConfiguration,
    };
    fixture.expect(fixture.m1().set_machine(options));
    let shown = console(fixture.m1()).len();
    fixture.expect(fixture.cluster.power_on());
    fixture.wait_until(until, 3 * A_MINUTE, || {
        let console = console(fixture.m1());
        let new = console.get(shown..).unwrap_or_default();
        Look::at(new.contains(until), || new.to_owned())
    });
    console(fixture.m1())[shown..].to_owned()
}

/// Without a medium: iPXE starts it, and what it was started with is put on its disk. That boots by another firmware, too.
#[test]
#[ignore = "some minutes where machines are emulated; make soak runs it"]
fn a_machine_that_is_started_by_ipxe_installs_itself() {
    is_installed_over_the_network(BootPath::Network);
}

/// The same by UEFI's own network boot, which fetches one file.
#[test]
#[ignore = "some minutes where machines are emulated; make soak runs it"]
fn a_machine_that_is_started_by_uefi_over_the_network_installs_itself() {
    is_installed_over_the_network(BootPath::UefiNetwork);
}

fn is_installed_over_the_network(path: BootPath) {
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    boot(&fixture, path);
    let told = installation(&fixture);
    assert_eq!(told["state"], "installed", "{told}");
    let mut partition = fixture.expect(system_partition::open(&disk(&fixture)));
    let slot = partition.read(Slot::A.path()).expect("read");
    assert!(
        slot.as_ref() == Some(&image(&fixture)),
        "it is not the image"
    );
    power_off(&fixture);
    boot(&fixture, BootPath::Disk);
    let told = installation(&fixture);
    assert_eq!(
        (&told["slot"], &told["generation"]),
        (&"A".into(), &1.into())
    );
    power_off(&fixture);
}

/// A second image, on trial, hangs with interrupts off, as a driver can, before PID 1 feeds the watchdog: the watchdog alone resets the machine,
/// twice, and the first image starts again and says so.
#[test]
#[ignore = "a quarter of an hour where machines are emulated; make soak runs it"]
fn an_image_that_hangs_is_reset_by_the_watchdog() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("image.key");
    let public = generate_key(&key).expect("a key pair");
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    boot(&fixture, BootPath::Cd);
    power_off(&fixture);

    let built = &fixture.m1().plan().image;
    let change = |tree: &Path| {
        hang_when_loaded(&module(tree, "inet_diag"));
        Ok(())
    };
    let bundle = other_image_of_machines(built, folder.path(), "0.2.0", &key, change);
    let bundle = File::open(fixture.expect(bundle)).expect("the bundle");
    let mut image = Vec::new();
    Reader::open(bundle, &[public.0])
        .expect("a bundle")
        .read_to_end(&mut image)
        .expect("its image");
    try_out(&fixture, 2, &image);
    let shown = console(fixture.m1()).len();
    boot(&fixture, BootPath::Disk);
    let console = console(fixture.m1());
    let starts = console[shown..].matches("Masthead 0.2.0").count();
    assert_eq!(starts, 2, "{}", &console[shown..]);
    let told = wait_for(&fixture, "the failed trial", |told| {
        !told["failed"].is_null()
    });
    assert_eq!(told["failed"]["generation"], 2, "{told}");
    let why = told["failed"]["why"].as_str().unwrap_or_default();
    assert!(why.contains("started 2 times"), "{told}");
    power_off(&fixture);
}

/// The image is whole, and its signature right; but its `/init` does not take the seed of the machine that it is sent to, which goes on as it is.
#[test]
#[ignore = "some minutes where machines are emulated; make soak runs it"]
fn an_image_that_does_not_take_the_seed_is_not_tried() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("image.key");
    let public = generate_key(&key).expect("a key pair");
    let fixture = Fixture::off(ProviderKind::Vm, |plan, _| {
        plan.image_keys = vec![public.to_string()];
    });
    boot(&fixture, BootPath::Cd);
    power_off(&fixture);
    boot(&fixture, BootPath::Disk);

    let built = &fixture.m1().plan().image;
    let change = |tree: &Path| {
        let init = env!("CARGO_BIN_EXE_init-of-stricter-release");
        fs::copy(init, tree.join("init")).expect("copied");
        Ok(())
    };
    let strict = other_image_of_machines(built, folder.path(), "0.3.0", &key, change);
    let strict = fixture.expect(strict).display().to_string();
    let mut upgrade = fixture.cluster.mastctl();
    upgrade.args(["upgrade", "m1", &strict, "--accept-outage"]);
    let refused = upgrade.output().expect("mastctl runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("does not take this node's seed"), "{said}");
    assert!(said.contains("of an older format"), "{said}");
    assert_eq!(entries(&fixture), ["masthead-000001.conf"]);
    let told = installation(&fixture);
    assert_eq!(told["on_trial"], false, "{told}");
    power_off(&fixture);
}

/// A module's file in the tree of a root.
fn module(tree: &Path, name: &str) -> PathBuf {
    let name = format!("{name}.ko");
    let mut folders = vec![tree.join("lib/modules")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("read").flatten() {
            if entry.file_name() == *name {
                return entry.path();
            }
            if entry.file_type().expect("a type").is_dir() {
                folders.push(entry.path());
            }
        }
    }
    panic!("there is no {name} in {}", tree.display());
}

/// Has a module's first function disable interrupts and spin: what a driver's fault can do, and no program.
fn hang_when_loaded(module: &Path) {
    // The kernel itself writes over an endbr64, of four bytes, and a call, of five, with which a function begins.
    const AFTER: u64 = 9;
    // cli; pause; jmp to the pause.
    const SPIN: [u8; 5] = [0xfa, 0xf3, 0x90, 0xeb, 0xfc];
    let mut content = fs::read(module).expect("read");
    // A kernel takes one without a signature, and none whose signature is wrong. (`struct module_signature` of the kernel, and what follows it.)
    let after = content
        .strip_suffix(b"~Module signature appended~\n")
        .expect("a signature");
    let (rest, length) = after.split_last_chunk::<4>().expect("its length");
    let length = usize::try_from(u32::from_be_bytes(*length)).expect("a length");
    content.truncate(rest.len() - 8 - length);
    let file = ElfFile64::<Endianness>::parse(&*content).expect("a module");
    let symbol = file.symbols().find(|one| one.name() == Ok("init_module"));
    let symbol = symbol.expect("its first function");
    let section = symbol.section_index().expect("its section");
    let section = file.section_by_index(section).expect("a section");
    let spin = symbol.address() + AFTER;
    let begin = section.file_range().expect("it is in the file").0 + spin;
    let begin = usize::try_from(begin).expect("an offset");
    let relocated = section
        .relocations()
        .any(|(at, _)| at.wrapping_sub(spin) < SPIN.len() as u64);
    assert!(!relocated, "choose another module");
    content[begin..begin + SPIN.len()].copy_from_slice(&SPIN);
    fs::write(module, content).expect("written");
}

fn installation(fixture: &Fixture) -> Value {
    fixture.expect(fixture.status())["installation"].clone()
}

fn wait_for(fixture: &Fixture, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    fixture.wait_until(what, 3 * A_MINUTE, || match fixture.status() {
        Ok(status) if is_so(&status["installation"]) => Look::Done(status["installation"].clone()),
        Ok(status) => Look::NotYet(status["installation"].to_string()),
        Err(error) => Look::NotYet(chain(&error)),
    })
}

fn power_off(fixture: &Fixture) {
    fixture.expect(fixture.mastctl(&["poweroff", "m1", "--accept-outage"]));
    fixture.wait_for_power(Power::Off, A_MINUTE);
}

/// Puts an image into the second slot of a machine that is off, on trial.
fn try_out(fixture: &Fixture, generation: u32, image: &[u8]) {
    let entry = Entry {
        generation,
        tries: Some(Tries { left: 2, done: 0 }),
        slot: Slot::B,
        version: "0.1.0".to_owned(),
    };
    let mut partition = fixture.expect(system_partition::open(&disk(fixture)));
    for (path, content) in [
        (entry.slot.path().to_owned(), image),
        (entry.path(), entry.text().as_bytes()),
    ] {
        partition.write(&path, &mut &*content).expect("written");
    }
}

fn entries(fixture: &Fixture) -> Vec<String> {
    let mut partition = fixture.expect(system_partition::open(&disk(fixture)));
    partition.names(Entry::FOLDER).expect("read")
}

fn disk(fixture: &Fixture) -> PathBuf {
    fixture.m1().plan().directory.join("disk.img")
}

fn image(fixture: &Fixture) -> Vec<u8> {
    let path = fixture.expect(unified_kernel_image(&fixture.m1().plan().image));
    fs::read(path).expect("read")
}

/// The image with a command line by which its kernel finds nothing to run.
fn one_that_panics(image: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    let sections = masthead_uki::pe::sections(&image).expect("sections");
    let line = sections.iter().find(|section| section.name == ".cmdline");
    let line = line.expect("a command line").content.to_vec();
    let begin = image.windows(line.len()).position(|part| part == line);
    let begin = begin.expect("it is in the file");
    let mut other = b"console=ttyS0,115200 rdinit=/none init=/none panic=1".to_vec();
    assert!(other.len() <= line.len(), "it does not fit");
    other.resize(line.len(), b' ');
    image[begin..begin + other.len()].copy_from_slice(&other);
    masthead_uki::seal(&mut image).expect("room for the digest");
    image
}

fn boot(fixture: &Fixture, boot: BootPath) {
    starts(fixture, SUPERVISOR, Firmware::Uefi, boot);
    fixture.expect(fixture.cluster.wait_until_ready());
}

fn boot_by_bios(fixture: &Fixture) {
    starts(fixture, SUPERVISOR, Firmware::Bios, BootPath::Disk);
    fixture.expect(fixture.cluster.wait_until_ready());
}
