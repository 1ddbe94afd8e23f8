//! What firmware and systemd-boot make of a node's disk: the rules that `masthead-slots` goes by are theirs.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{fs, time::Duration};

use fixture::Fixture;
use masthead_lab::{
    patience::Look,
    provider::{Power, ProviderKind},
    qemu::{BootPath, MachineOptions, SeedPath},
    system_partition,
};
use masthead_slots::{Entry, Slot, Tries};
use support::console;

const A_MINUTE: Duration = Duration::from_secs(60);

/// A machine is installed from a medium, and boots from its disk. Then it is given a second image, on trial, whose kernel panics: that is tried
/// twice, and the first image starts again, without anybody's help.
#[test]
#[ignore = "some minutes where machines are emulated; make soak runs it"]
fn an_image_on_trial_that_panics_is_tried_twice_and_the_good_one_starts_again() {
    let fixture = Fixture::off(ProviderKind::Vm, |_, _| ());
    boot(&fixture, BootPath::Uefi);
    let status = fixture.expect(fixture.status());
    let installation = &status["installation"];
    assert_eq!(installation["state"], "installed", "{installation}");
    fixture.expect(fixture.mastctl(&["poweroff", "m1", "--accept-outage"]));
    fixture.wait_for_power(Power::Off, A_MINUTE);

    let mut trial = Entry {
        generation: 2,
        tries: Some(Tries { left: 2, done: 0 }),
        slot: Slot::B,
        version: "0.1.0-panics".to_owned(),
    };
    let image = one_that_panics(&fixture);
    let disk = fixture.m1().plan().directory.join("disk.img");
    let mut partition = fixture.expect(system_partition::open(&disk));
    for (path, content) in [
        (trial.slot.path().to_owned(), &*image),
        (trial.path(), trial.text().as_bytes()),
    ] {
        partition.write(&path, &mut &*content).expect("written");
    }
    drop(partition);

    let shown = console(fixture.m1()).len();
    boot(&fixture, BootPath::Disk);
    let console = console(fixture.m1());
    let panics = console[shown..].matches("Kernel panic").count();
    assert_eq!(panics, 2, "{}", &console[shown..]);
    fixture.expect(fixture.m1().cut_power());

    trial.tries = Some(Tries { left: 0, done: 2 });
    let mut partition = fixture.expect(system_partition::open(&disk));
    let names = partition.names(Entry::FOLDER).expect("read");
    assert_eq!(names, ["masthead-000001.conf".to_owned(), trial.name()]);
}

/// The image with a command line by which its kernel finds nothing to run.
fn one_that_panics(fixture: &Fixture) -> Vec<u8> {
    let folder = &fixture.m1().plan().image;
    let images = fs::read_dir(folder).expect("the image's folder").flatten();
    let path = images
        .map(|entry| entry.path())
        .find(|path| {
            path.extension().is_some_and(|end| end == "efi")
                && !path.ends_with("systemd-bootx64.efi")
        })
        .expect("a unified kernel image");
    let mut image = fs::read(&path).expect("read");
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
    fixture.expect(fixture.cluster.power_on());
    fixture.wait_until("the supervisor", 3 * A_MINUTE, || {
        let console = console(fixture.m1());
        let started = console.contains("pid1: started the supervisor");
        Look::at(started, || console)
    });
    fixture.expect(fixture.cluster.wait_until_ready());
}
