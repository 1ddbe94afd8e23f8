//! What firmware and systemd-boot make of a node's disk, and what the node makes of that: the rules that `masthead-slots` goes by are theirs.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use fixture::Fixture;
use masthead_lab::{
    error::chain,
    image::unified_kernel_image,
    patience::Look,
    provider::{Power, ProviderKind},
    qemu::{BootPath, MachineOptions, SeedPath},
    system_partition,
};
use masthead_slots::{Entry, Slot, Tries};
use serde_json::Value;
use support::console;

const A_MINUTE: Duration = Duration::from_secs(60);

/// A machine is installed from a medium, and boots from its disk. Then it is given a second image, on trial, whose kernel panics: that is tried
/// twice, and the first image starts again, without anybody's help, and says so. A third one, on trial again, serves, and is good after a while.
#[test]
#[ignore = "a quarter of an hour where machines are emulated; make soak runs it"]
fn an_image_on_trial_that_panics_is_tried_twice_and_one_that_serves_becomes_good() {
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    boot(&fixture, BootPath::Uefi);
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
    image
}

fn boot(fixture: &Fixture, boot: BootPath) {
    let seed = SeedPath::FirmwareConfiguration;
    fixture.expect(fixture.m1().set_machine(MachineOptions { boot, seed }));
    let shown = console(fixture.m1()).len();
    fixture.expect(fixture.cluster.power_on());
    fixture.wait_until("the supervisor", 3 * A_MINUTE, || {
        let console = console(fixture.m1());
        let new = console.get(shown..).unwrap_or_default();
        let started = new.contains("pid1: started the supervisor");
        Look::at(started, || new.to_owned())
    });
    fixture.expect(fixture.cluster.wait_until_ready());
}
