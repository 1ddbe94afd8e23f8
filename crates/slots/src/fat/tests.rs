//! What is written here is read by two other programs, and cut anywhere.

use std::collections::BTreeMap;
use std::process::Command;

use masthead_machine::Random;

use super::*;
use crate::memory::{Image, Recorder};

const GIB: u64 = 1 << 30;

/// Some bytes, of that number.
fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    std::iter::repeat_with(|| u8::try_from(random.below(256)).unwrap_or_default())
        .take(bytes)
        .collect()
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).expect("small")
}

fn formatted(sector_bytes: u16) -> Recorder {
    let mut disk = Recorder::of(Image::blank(GIB));
    Partition::format(&mut disk, Format::disk(sector_bytes)).expect("formatted");
    disk
}

/// fsck.fat(8), which says nothing of what is right.
fn check(image: &Image) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("partition");
    image.store(&path).expect("stored");
    let checked = Command::new("fsck.fat").arg("-n").arg(&path).output();
    let checked = checked.expect("dosfstools is installed");
    assert!(checked.status.success(), "{checked:?}");
}

/// All files below /masthead and /loader/entries, by another reader.
fn by_fatfs(image: &Image) -> BTreeMap<String, Vec<u8>> {
    let mut disk = Recorder::of(image.clone());
    let files = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new()).expect("FAT32");
    let mut found = BTreeMap::new();
    for folder in ["masthead", "loader/entries"] {
        let folder_there = files.root_dir().open_dir(folder).expect("there");
        for entry in folder_there.iter().map(|entry| entry.expect("read")) {
            if entry.is_file() {
                let mut bytes = Vec::new();
                entry.to_file().read_to_end(&mut bytes).expect("read");
                found.insert(format!("/{folder}/{}", entry.file_name()), bytes);
            }
        }
    }
    found
}

/// The same by ours.
fn by_us(image: &Image) -> BTreeMap<String, Vec<u8>> {
    let mut disk = Recorder::of(image.clone());
    let mut partition = Partition::open(&mut disk).expect("FAT32");
    let mut found = BTreeMap::new();
    for folder in ["/masthead", "/loader/entries"] {
        for name in partition.names(folder).expect("read") {
            let path = format!("{folder}/{name}");
            let bytes = partition.read(&path).expect("read").expect("there");
            found.insert(path, bytes);
        }
    }
    found
}

const PATHS: [&str; 5] = [
    "/masthead/a.efi",
    "/masthead/b.efi",
    "/loader/entries/masthead-000001.conf",
    "/loader/entries/masthead-000002+3.conf",
    "/loader/entries/a name that takes more than three entries of its folder.conf",
];

#[test]
fn others_read_what_is_written_replaced_and_removed() {
    for sector_bytes in [512, 4096] {
        let mut disk = formatted(sector_bytes);
        check(&disk.image());
        let mut model = BTreeMap::new();
        let mut random = Random::new(11);
        for round in 0..120 {
            let path = PATHS[below(&mut random, PATHS.len())];
            let mut partition = Partition::open(&mut disk).expect("FAT32");
            if random.below(4) == 0 {
                partition.remove(path).expect("removed");
                model.remove(path);
            } else {
                let lengths = [0, 1, 8191, 8192, 8193, 70_000];
                let bytes = content(round, lengths[below(&mut random, lengths.len())]);
                partition.write(path, &mut &*bytes).expect("written");
                model.insert(path.to_owned(), bytes);
            }
        }
        let image = disk.image();
        assert!(by_us(&image) == model);
        assert!(by_fatfs(&image) == model);
        check(&image);
    }
}

#[test]
fn what_others_have_written_is_read() {
    let mut disk = Recorder::of(formatted(512).image());
    let files = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new()).expect("FAT32");
    let mut file = files
        .root_dir()
        .create_file("loader/entries/masthead-000009+1-2.conf")
        .expect("made");
    io::Write::write_all(&mut file, &content(1, 9000)).expect("written");
    drop(file);
    drop(files);
    let found = by_us(&disk.image());
    let name = "/loader/entries/masthead-000009+1-2.conf".to_owned();
    assert!(found == BTreeMap::from([(name, content(1, 9000))]));
}

/// A change that the power may interrupt.
type Change = fn(&mut Partition<&mut Recorder>);

#[test]
fn a_cut_leaves_the_changed_file_as_it_was_or_empty_or_as_it_is_to_be_and_no_other_one_changed() {
    let changes: [(&str, Change); 4] = [
        (PATHS[1], |partition| {
            let bytes = content(5, 60_000);
            partition.write(PATHS[1], &mut &*bytes).expect("written");
        }),
        (PATHS[1], |partition| {
            partition.remove(PATHS[1]).expect("removed");
        }),
        (PATHS[4], |partition| {
            let bytes = content(6, 100);
            partition.write(PATHS[4], &mut &*bytes).expect("written");
        }),
        (PATHS[2], |partition| {
            partition.remove(PATHS[2]).expect("removed");
        }),
    ];
    for (changed, change) in changes {
        let mut disk = formatted(512);
        let mut partition = Partition::open(&mut disk).expect("FAT32");
        for (path, seed) in PATHS[..3].iter().zip(0..) {
            let bytes = content(seed, 50_000);
            partition.write(path, &mut &*bytes).expect("written");
        }
        drop(partition);
        let before = by_us(&disk.image());
        let mut disk = Recorder::of(disk.image());
        change(&mut Partition::open(&mut disk).expect("FAT32"));
        let after = by_us(&disk.image());
        let mut states = 0_u32;
        disk.cuts(300, 9, |cut| {
            states += 1;
            let mut there = by_us(&cut);
            let one = there.remove(changed).unwrap_or_default();
            let was = before.get(changed).cloned().unwrap_or_default();
            let is_to_be = after.get(changed).cloned().unwrap_or_default();
            assert!(one.is_empty() || one == was || one == is_to_be, "{changed}");
            let mut others = before.clone();
            others.remove(changed);
            assert!(there == others, "another file than {changed}");
            // The next change meets what the cut has left.
            if states.is_multiple_of(8) {
                let mut again = Recorder::of(cut);
                let mut partition = Partition::open(&mut again).expect("FAT32");
                partition.remove(changed).expect("removed");
                let bytes = content(77, 90_000);
                partition
                    .write("/masthead/c.efi", &mut &*bytes)
                    .expect("written");
                drop(partition);
                let mut there = by_fatfs(&again.image());
                assert!(there.remove("/masthead/c.efi") == Some(bytes));
                assert!(there == others);
            }
        });
        assert!(states > 20, "{states}");
    }
}

#[test]
fn what_is_damaged_says_so_and_ends() {
    let mut disk = formatted(512);
    let mut partition = Partition::open(&mut disk).expect("FAT32");
    partition
        .write(PATHS[0], &mut &*content(1, 20_000))
        .expect("written");
    let first = partition.find(partition.geometry.root, "masthead", Kind::Folder);
    let folder = first.expect("read").expect("there").cluster;
    let file = partition.find(folder, "a.efi", Kind::File);
    let cluster = file.expect("read").expect("there").cluster;
    let table = partition.geometry.tables[0];
    drop(partition);
    let with = |next: u32| {
        let mut disk = Recorder::of(disk.image());
        set(
            &mut disk,
            table + 4 * u64::from(cluster),
            &next.to_le_bytes(),
        )
        .expect("written");
        let mut partition = Partition::open(&mut disk).expect("FAT32");
        partition.read(PATHS[0]).expect_err("damaged").to_string()
    };
    let damaged = "the file system of the EFI system partition is damaged: ";
    assert_eq!(with(cluster), format!("{damaged}a chain leads in a circle"));
    assert_eq!(
        with(0x00ff_0000),
        format!("{damaged}a chain leads out of it")
    );
    assert_eq!(
        with(END_OF_CHAIN),
        format!("{damaged}a file is longer than its clusters")
    );
    let mut blank = Recorder::of(Image::blank(GIB));
    let opened = Partition::open(&mut blank);
    assert!(matches!(opened, Err(PartitionError::Foreign)));
    let mut small = Recorder::of(Image::blank(1 << 20));
    let full = Partition::format(&mut small, Format::disk(512));
    let full = full
        .expect("formatted")
        .write(PATHS[0], &mut io::repeat(1).take(2 << 20));
    let full = full.expect_err("no space").to_string();
    assert_eq!(
        full,
        "the EFI system partition has no space for /masthead/a.efi"
    );
}
