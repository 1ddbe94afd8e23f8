//! The ISO image as others read it: firmware's rules for a CD and for a stick, and xorriso's own reading of the files.

use std::ops::Range;

use gptman::GPT;
use masthead_disk_layout::Role;
use masthead_slots::Partition;

use super::*;
use crate::media::volume::PATH;

const UUID: &str = "0d7b1c2e-0000-4000-8000-000000000001";
const TIME: u64 = 1_790_000_000;

/// More than the 32 MiB that El Torito can count. It repeats itself every 251 bytes, and so it does in sectors every 251 × 512.
fn image() -> Vec<u8> {
    (0..251).collect::<Vec<u8>>().repeat(160_000)
}

/// GRUB's first sectors have places for what xorriso tells it; the rest is its own.
fn built() -> Files {
    let sector = |number: usize| u8::try_from(number / 512).expect("small");
    Files {
        image: image(),
        grub: (0..30_000).map(sector).collect(),
        grub_sector: vec![0x90; 512],
    }
}

const PARTS_TEXT: &str = "# GRUB Environment Block\nimage=/masthead.efi\n";

fn made(seed: Option<&[u8]>) -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("masthead.iso");
    let contents = Contents {
        files: &built(),
        parts: PARTS_TEXT.to_owned(),
        uuid: UUID.to_owned(),
        seed,
        time: TIME,
    };
    make(&contents, &output).expect("made");
    let bytes = fs::read(&output).expect("written");
    (folder, bytes)
}

/// A file of the ISO 9660 file system, as xorriso reads it.
fn extracted(folder: &Path, name: &str) -> Option<Vec<u8>> {
    let target = folder.join("extracted");
    let _ = fs::remove_file(&target);
    let done = Command::new("xorriso")
        .args(["-osirrox", "on", "-indev"])
        .arg(folder.join("masthead.iso"))
        .args(["-extract", name])
        .arg(&target)
        .output()
        .expect("xorriso is installed");
    done.status
        .success()
        .then(|| fs::read(&target).expect("extracted"))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(
        bytes[at..at + 4].try_into().expect("four"),
    ))
}

/// Platform, number of sectors to load, and first byte of each image in the catalogue (El Torito 1.0, section 2; UEFI specification, 13.3.2).
fn catalogue(iso: &[u8]) -> Vec<(u8, u16, u64)> {
    let block = |number: u64| {
        let begin = usize::try_from(number * BLOCK).expect("small");
        &iso[begin..begin + 2048]
    };
    let record = block(17);
    assert!(record[..30].starts_with(b"\0CD001\x01EL TORITO SPECIFICATION"));
    let catalogue = block(number(record, 0x47));
    assert_eq!(catalogue[0], 1, "the validation entry");
    let sum = catalogue[..32].chunks(2).fold(0_u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
    });
    assert_eq!(sum, 0, "its checksum");
    let mut platform = catalogue[1];
    let mut found = Vec::new();
    for entry in catalogue[32..].chunks(32) {
        match entry[0] {
            0x88 => {
                assert_eq!(entry[1], 0, "no emulation");
                let sectors = u16::from_le_bytes([entry[6], entry[7]]);
                found.push((platform, sectors, number(entry, 8) * BLOCK));
            }
            0x90 | 0x91 => platform = entry[1],
            _ => break,
        }
    }
    found
}

/// The stick's only partition of which firmware starts something, in bytes.
fn system_partition(iso: &[u8]) -> Range<u64> {
    let mut disk = Cursor::new(iso);
    let table = GPT::find_from(&mut disk).expect("a partition table");
    assert_eq!(table.sector_size, 512);
    let mut systems = table
        .iter()
        .filter(|(_, entry)| entry.partition_type_guid == Role::Esp.type_guid());
    let (_, entry) = systems.next().expect("a system partition");
    assert!(systems.next().is_none(), "another one");
    entry.starting_lba * 512..(entry.ending_lba + 1) * 512
}

fn within(iso: &[u8], range: &Range<u64>) -> Vec<u8> {
    let at = |byte: u64| usize::try_from(byte).expect("small");
    iso[at(range.start)..at(range.end)].to_vec()
}

#[test]
fn a_cd_and_a_stick_lead_firmware_to_the_same_volume_with_the_image() {
    let (folder, iso) = made(None);
    let volume = system_partition(&iso);
    let images = catalogue(&iso);
    assert_eq!(images.len(), 2, "{images:?}");
    assert_eq!(images[1], (0xef, 0, volume.start));
    let mut partition = Partition::open(Cursor::new(within(&iso, &volume))).expect("FAT32");
    assert!(partition.read(PATH).expect("read") == Some(image()));
    // What Linux sees of a CD.
    assert!(extracted(folder.path(), "/masthead.efi") == Some(image()));
    assert_eq!(extracted(folder.path(), "/seed.toml"), None);
    let label = String::from_utf8_lossy(&iso[32_768 + 40..32_768 + 72]);
    assert_eq!(label.trim_end(), LABEL);
}

#[test]
fn a_bios_is_led_to_grub_and_grub_to_its_rest_and_to_the_image() {
    let (folder, iso) = made(None);
    let (platform, sectors, begin) = catalogue(&iso)[0];
    assert_eq!((platform, sectors), (0, 4), "its first 2 KiB");
    let at = usize::try_from(begin).expect("small");
    let grub = built().grub;
    assert!(iso[at + 4096..at + grub.len()] == grub[4096..]);
    // Block of the descriptor, and of GRUB itself, with its length (genisoimage(1), "EL TORITO BOOT INFORMATION TABLE").
    assert_eq!(number(&iso, at + 8), 16);
    assert_eq!(number(&iso, at + 12) * BLOCK, begin);
    assert_eq!(number(&iso, at + 16), grub.len() as u64);
    // The first sector goes to GRUB's fifth sector, behind what loads it from a CD (xorrisofs(1), --grub2-mbr).
    assert_eq!(number(&iso, 0x1b0), begin / 512 + 4);
    assert_eq!(iso[..8], [0x90; 8]);
    let parts = extracted(folder.path(), "/masthead/medium.parts");
    assert_eq!(parts.as_deref(), Some(PARTS_TEXT.as_bytes()));
}

#[test]
fn a_stick_has_a_whole_table_at_both_ends_behind_a_protective_boot_record() {
    let (_, mut iso) = made(None);
    assert_eq!(iso[450], 0xee);
    assert_eq!(iso[510..512], [0x55, 0xaa]);
    assert_eq!(iso.len() % 2048, 0);
    let volume = system_partition(&iso);
    iso[512..1024].fill(0);
    assert_eq!(system_partition(&iso), volume, "by the backup");
}

#[test]
fn there_is_one_copy_of_the_image() {
    let (_, iso) = made(None);
    let image = image();
    // FAT32 has so many clusters at least; 1 MiB is free for a seed, and the rest is tables.
    let limit = (65_541 << 10) + (3 << 20);
    assert!(
        iso.len() < limit.max(image.len() + (3 << 20)),
        "{}",
        iso.len()
    );
    let begin = &image[..4096];
    let copies = iso.chunks(512).filter(|sector| sector[..] == begin[..512]);
    assert_eq!(copies.count(), image.len() / (251 * 512) + 1);
}

#[test]
fn a_seed_is_a_file_where_a_node_looks_for_it() {
    let seed = b"version = 1\n";
    let (folder, iso) = made(Some(seed));
    assert_eq!(
        extracted(folder.path(), "/seed.toml").as_deref(),
        Some(&seed[..])
    );
    assert!(extracted(folder.path(), "/masthead.efi") == Some(image()));
    let file = fs::metadata(folder.path().join("masthead.iso")).expect("there");
    assert_eq!(
        file.permissions().mode() & 0o777,
        0o600,
        "it holds a secret"
    );
    let (_, without) = made(None);
    assert!(within(&iso, &system_partition(&iso)) == within(&without, &system_partition(&without)));
}

#[test]
fn the_same_contents_give_the_same_bytes() {
    let (_, one) = made(Some(b"version = 1\n"));
    // Times are in seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (_, other) = made(Some(b"version = 1\n"));
    assert!(one == other);
}

#[test]
fn records_are_found_behind_the_end_of_a_block() {
    let record = |name: &[u8]| {
        let mut record = vec![0; NAME + name.len()];
        record[0] = u8::try_from(record.len()).expect("short");
        record[NAME_LENGTH] = u8::try_from(name.len()).expect("short");
        record[NAME..].copy_from_slice(name);
        record
    };
    let mut folder = record(b"A;1");
    folder.resize(2048, 0);
    folder.extend(record(b"B;1"));
    folder.resize(4096, 0);
    assert_eq!(find(&folder, b"A;1"), Some(0));
    assert_eq!(find(&folder, b"B;1"), Some(2048));
    assert_eq!(find(&folder, b"C;1"), None);
}

#[test]
fn an_extent_is_written_in_both_byte_orders() {
    let extent = Extent {
        block: 0x0102_0304,
        bytes: 5,
    };
    let mut record = vec![0; 2];
    record.extend(extent.bytes());
    assert_eq!(record[2..10], [4, 3, 2, 1, 1, 2, 3, 4]);
    assert_eq!(Extent::read(&record), extent);
}

#[test]
fn what_xorriso_cannot_write_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = Files {
        image: b"x".to_vec(),
        ..built()
    };
    let contents = Contents {
        files: &files,
        parts: PARTS_TEXT.to_owned(),
        uuid: "no GUID".to_owned(),
        seed: None,
        time: TIME,
    };
    let refused = make(&contents, &folder.path().join("masthead.iso"));
    let refused = format!("{:#}", refused.expect_err("refused"));
    assert!(refused.contains("xorriso"), "{refused}");
    assert!(refused.contains("no GUID"), "{refused}");
}
