//! The power goes at any instant of an installation, and the disk starts the whole of an image, or nothing.

use std::io::Cursor;

use masthead_uki::check;
use masthead_uki::example::{image, release};

use crate::bios;
use crate::grub_model::grub;
use crate::install::{BOOT_LOADER, SETTINGS, SETTINGS_TEXT};
use crate::memory::{Image, Recorder};
use crate::upgrade::{UpgradeError, arm, bless, previous, stage, withdraw};
use crate::{Entry, Format, Partition, Slot, Source, Tries, install, installed, upgrade};

const GIB: u64 = 1 << 30;

pub(crate) fn boot_loader() -> Vec<u8> {
    (0..20_000_u32).map(|number| (number % 241) as u8).collect()
}

fn put(recorder: &mut Recorder) {
    let mut partition = Partition::format(recorder, Format::disk(512)).expect("formatted");
    let source = Source {
        image: Cursor::new(image("1")),
        boot_loader: &boot_loader(),
    };
    let done = install(&mut partition, source, &release("1")).expect("installed");
    assert_eq!((done.generation, done.slot), (1, Slot::A));
}

/// What firmware and systemd-boot do with a disk: nothing, or start an image of that version.
fn starts(image: &Image) -> Result<Option<String>, String> {
    let mut disk = Recorder::of(image.clone());
    // Firmware that does not know the file system goes on to the next disk.
    let Ok(mut partition) = Partition::open(&mut disk) else {
        return Ok(None);
    };
    let content = partition.read(BOOT_LOADER).unwrap_or_default();
    let Some(content) = content.filter(|content| !content.is_empty()) else {
        return Ok(None);
    };
    if content != boot_loader() {
        return Err("firmware starts half a boot loader".to_owned());
    }
    let found = installed(&mut partition).map_err(|error| error.to_string())?;
    let entry = found.ok_or("the boot loader has no entry")?;
    let image = partition.file(entry.slot.path());
    let mut image = image
        .ok()
        .flatten()
        .ok_or("the entry's image is not there")?;
    let found = check(&mut image).map_err(|error| format!("the image: {error}"))?;
    if found != release(&entry.version) {
        return Err(format!("{entry:?} leads to {found:?}"));
    }
    // By the same entries a BIOS starts the same.
    let (by_grub, _) = grub(&mut partition)?.ok_or("GRUB has no entry")?;
    if by_grub != entry {
        return Err(format!("GRUB starts {by_grub:?}, and UEFI {entry:?}"));
    }
    Ok(Some(entry.version))
}

#[test]
fn an_installation_starts_the_image() {
    let mut recorder = Recorder::of(Image::blank(GIB));
    put(&mut recorder);
    assert_eq!(starts(&recorder.image()), Ok(Some("1".to_owned())));
    let mut disk = Recorder::of(recorder.image());
    let mut partition = Partition::open(&mut disk).expect("a file system");
    let settings = partition.read(SETTINGS).expect("read");
    assert_eq!(settings.as_deref(), Some(SETTINGS_TEXT.as_bytes()));
    let names = partition.names(Entry::FOLDER).expect("read");
    assert_eq!(names, ["masthead-000001.conf"]);
    let content = partition.read(Slot::A.path()).expect("read");
    assert!(content == Some(image("1")));
}

#[test]
fn a_cut_at_any_instant_leaves_a_disk_that_starts_the_image_or_nothing_and_the_next_try_completes_it()
 {
    let mut recorder = Recorder::of(Image::blank(GIB));
    put(&mut recorder);
    let (mut whole, mut nothing) = (0, 0);
    recorder.cuts(2000, 1, |cut| {
        match starts(&cut) {
            Ok(Some(_)) => whole += 1,
            Ok(None) => nothing += 1,
            Err(why) => panic!("{why}"),
        }
        // The second try meets what the first one left.
        if nothing % 16 == 0 {
            let mut again = Recorder::of(cut);
            put(&mut again);
            assert_eq!(starts(&again.image()), Ok(Some("1".to_owned())));
        }
    });
    assert!(
        whole > 0 && nothing > 100,
        "{whole} start it, {nothing} nothing"
    );
}

#[test]
fn a_second_try_over_the_whole_of_a_first_one_is_as_safe() {
    let mut first = Recorder::of(Image::blank(GIB));
    put(&mut first);
    let mut second = Recorder::of(first.image());
    put(&mut second);
    second.cuts(1000, 2, |cut| {
        starts(&cut).unwrap_or_else(|why| panic!("{why}"));
    });
}

/// How many of the states that a cut can leave are bad.
fn bad_states(recorder: &Recorder) -> usize {
    let mut bad = 0;
    recorder.cuts(400, 3, |cut| bad += usize::from(starts(&cut).is_err()));
    bad
}

#[test]
fn the_replay_finds_an_installer_that_waits_for_nothing_or_begins_with_the_boot_loader() {
    let mut hasty = Recorder::of(Image::blank(GIB));
    hasty.syncs = false;
    put(&mut hasty);
    assert!(bad_states(&hasty) > 0);

    let mut wrong = Recorder::of(Image::blank(GIB));
    let mut partition = Partition::format(&mut wrong, Format::disk(512)).expect("formatted");
    let mut write = |path: &str, content: &[u8]| {
        partition.write(path, &mut &*content).expect("written");
    };
    write(BOOT_LOADER, &boot_loader());
    write(Slot::A.path(), &image("1"));
    bios::prepare(&mut partition, Slot::A, 1).expect("written");
    let mut write = |path: &str, content: &[u8]| {
        partition.write(path, &mut &*content).expect("written");
    };
    let entry = Entry {
        generation: 1,
        tries: None,
        slot: Slot::A,
        version: "1".to_owned(),
    };
    write(&entry.path(), entry.text().as_bytes());
    drop(partition);
    assert!(bad_states(&wrong) > 0);
}

/// What a change may leave the disk to start, wherever it is cut. Returns the disk after it, and what it starts then.
fn replay(
    before: &Image,
    may_start: &[&str],
    change: impl Fn(&mut Partition<&mut Recorder>),
) -> (Image, Option<String>) {
    let mut disk = Recorder::of(before.clone());
    change(&mut Partition::open(&mut disk).expect("a file system"));
    let mut states = 0;
    disk.cuts(1000, 4, |cut| {
        states += 1;
        let version = starts(&cut).unwrap_or_else(|why| panic!("{why}"));
        let version = version.expect("an installed disk always starts something");
        assert!(may_start.contains(&&*version), "it starts {version}");
        // Whoever comes next can do the same again.
        if states % 64 == 0 {
            let mut again = Recorder::of(cut);
            let mut partition = Partition::open(&mut again).expect("a file system");
            partition.remove("/masthead/none").expect("removed");
            drop(partition);
            assert_eq!(starts(&again.image()), Ok(Some(version)));
        }
    });
    assert!(states > 0);
    let after = disk.image();
    let version = starts(&after).unwrap_or_else(|why| panic!("{why}"));
    (after, version)
}

/// What systemd-boot does before it starts an entry with a count.
fn count(partition: &mut Partition<&mut Recorder>) {
    let there = upgrade::entries(partition).expect("read");
    let first = Entry::first(&there).expect("an entry").clone();
    let Some(tries) = first.tries else { return };
    let counted = Entry {
        tries: Some(Tries {
            left: tries.left - 1,
            done: tries.done + 1,
        }),
        ..first.clone()
    };
    let text = counted.text();
    partition
        .write(&counted.path(), &mut text.as_bytes())
        .expect("written");
    partition.remove(&first.path()).expect("removed");
}

fn version(found: Option<String>) -> String {
    found.expect("an installed disk always starts something")
}

#[test]
fn from_one_image_to_the_next_and_on_a_cut_leaves_one_of_the_two() {
    let mut disk = Recorder::of(Image::blank(GIB));
    put(&mut disk);
    let mut now = disk.image();
    // A to B to A to B; the third one is a downgrade, and the fourth the same again.
    let steps = [(1, "1", "2"), (2, "2", "1"), (3, "1", "1")];
    for (running, old, new) in steps {
        let (staged, found) = replay(&now, &[old], |partition| {
            let staged = stage(partition, running, &mut &*image(new)).expect("staged");
            assert_eq!(staged.release.version, new);
            let there = upgrade::staged(partition, running).expect("there");
            assert_eq!(there, staged);
            let back = previous(partition, running);
            assert!(matches!(back, Err(UpgradeError::NoWayBack(_))), "{back:?}");
        });
        assert_eq!(version(found), old);
        let (armed, found) = replay(&staged, &[old, new], |partition| {
            let entry = arm(partition, running, &release(new).image).expect("armed");
            assert_eq!(entry.generation, running + 1);
        });
        assert_eq!(version(found), new);
        let (booted, found) = replay(&armed, &[old, new], count);
        assert_eq!(version(found), new);
        // While it is on trial the other slot is the way back.
        let mut disk = Recorder::of(booted.clone());
        let mut partition = Partition::open(&mut disk).expect("a file system");
        let refused = stage(&mut partition, running + 1, &mut &*image("9"));
        assert!(
            matches!(refused, Err(UpgradeError::OnTrial(_))),
            "{refused:?}"
        );
        drop(partition);
        let (blessed, found) = replay(&booted, &[new], |partition| {
            let entry = bless(partition, running + 1).expect("blessed");
            assert_eq!(entry.tries, None);
            assert_eq!(bless(partition, running + 1).expect("again"), entry);
        });
        assert_eq!(version(found), new);
        let mut disk = Recorder::of(blessed.clone());
        let mut partition = Partition::open(&mut disk).expect("a file system");
        let back = previous(&mut partition, running + 1).expect("the one before");
        assert_eq!(back.release.version, old);
        let other = arm(&mut partition, running + 1, "another");
        assert!(
            matches!(other, Err(UpgradeError::Another { .. })),
            "{other:?}"
        );
        drop(partition);
        now = blessed;
    }
}

#[test]
fn a_trial_that_is_used_up_or_withdrawn_leads_back() {
    let mut disk = Recorder::of(Image::blank(GIB));
    put(&mut disk);
    let mut partition = Partition::open(&mut disk).expect("a file system");
    stage(&mut partition, 1, &mut &*image("2")).expect("staged");
    arm(&mut partition, 1, &release("2").image).expect("armed");
    count(&mut partition);
    drop(partition);
    let once = disk.image();
    let mut partition = Partition::open(&mut disk).expect("a file system");
    count(&mut partition);
    drop(partition);
    assert_eq!(starts(&disk.image()), Ok(Some("1".to_owned())));

    let (after, found) = replay(&once, &["1", "2"], |partition| {
        assert_eq!(
            withdraw(partition, |_, tries| tries.done == 0).expect("none"),
            []
        );
        let gone = withdraw(partition, |_, tries| tries.done > 0).expect("withdrawn");
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].generation, 2);
    });
    assert_eq!(version(found), "1");
    let mut disk = Recorder::of(after);
    let mut partition = Partition::open(&mut disk).expect("a file system");
    let again = arm(&mut partition, 1, &release("2").image).expect("armed");
    assert_eq!(again.generation, 2);
}

#[test]
fn what_is_not_whole_is_not_tried() {
    let mut disk = Recorder::of(Image::blank(GIB));
    put(&mut disk);
    let mut partition = Partition::open(&mut disk).expect("a file system");
    let nothing = arm(&mut partition, 1, &release("2").image);
    assert!(
        matches!(nothing, Err(UpgradeError::NothingStaged(Slot::B))),
        "{nothing:?}"
    );
    let mut damaged = image("2");
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let refused = stage(&mut partition, 1, &mut &*damaged);
    assert!(
        matches!(refused, Err(UpgradeError::ReadBack { .. })),
        "{refused:?}"
    );
    let refused = arm(&mut partition, 1, &release("2").image);
    assert!(
        matches!(refused, Err(UpgradeError::ReadBack { .. })),
        "{refused:?}"
    );
    let unknown = arm(&mut partition, 7, &release("2").image);
    assert!(
        matches!(unknown, Err(UpgradeError::NotThere(7))),
        "{unknown:?}"
    );
    drop(partition);
    assert_eq!(starts(&disk.image()), Ok(Some("1".to_owned())));
}
