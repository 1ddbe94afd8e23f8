//! Preparing and wiping a disk, cut at every instant and begun again, on disks of real size.

use crate::choice::{Candidate, Choice, Refusal, Wanted, choose};
use crate::contents::{Contents, inspect};
use crate::layout::{Holds, Role, complete, plan, smallest};
use crate::memory::{Image, Memory};
use crate::table::{Storage, Table};

const SERIAL: &str = "S-1";
const MIB: u64 = 1 << 20;

fn size(holds: Holds) -> u64 {
    smallest(holds) + 3 * MIB
}

fn candidate(contents: Contents) -> Candidate {
    Candidate {
        name: "vda".to_owned(),
        kind: "virtio".to_owned(),
        bytes: size(Holds::Everything),
        serial: Some(SERIAL.to_owned()),
        read_only: false,
        contents,
    }
}

/// What a node whose seed has `wipe` for this disk does with it.
fn decide(image: &Image) -> (Contents, Choice) {
    let contents = inspect(&mut Memory::of(image.clone()));
    let wanted = Wanted {
        wipe: Some(SERIAL.to_owned()),
        ..Wanted::default()
    };
    let choice = choose(Role::State, &wanted, &[candidate(contents.clone())], false);
    (contents, choice)
}

/// As `init` prepares a disk, or the rest of one with an image, with the file systems reduced to what tells them. The first sector behind STATE's
/// superblock stands for the record of the wipe, made with the file system.
fn prepare(disk: &mut Memory, holds: Holds, guid: u8) {
    let (in_preparation, image) = match inspect(disk) {
        Contents::Ours(table) => (true, table.keeps_image.then_some(table)),
        Contents::Image(table, _) => (false, Some(table)),
        _ => (false, None),
    };
    let table = match image {
        Some(image) => complete(&image, size(holds), holds, || [guid; 16]),
        None => plan(size(holds), 512, holds, || [guid; 16]),
    };
    let mut table = table.expect("fits");
    table.clear(disk, in_preparation).expect("cleared");
    table.write(disk).expect("written");
    make_file_systems(disk, &table);
    disk.sync().expect("synced");
    table.prepared = true;
    table.write(disk).expect("marked");
}

fn make_file_systems(disk: &mut Memory, table: &Table) {
    for partition in &table.partitions {
        if partition.role.has_file_system() {
            let begin = partition.first_sector * 512;
            let mut superblock = [0; 512];
            superblock[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
            let label = partition.role.label().as_bytes();
            superblock[0x78..][..label.len()].copy_from_slice(label);
            disk.put(begin + 4096, b"group descriptors");
            disk.put(begin + 2048, b"the wipe was carried out");
            disk.put(begin + 1024, &superblock);
        }
    }
}

fn holds_whole_file_systems(image: &Image, table: &Table) -> bool {
    table.partitions.iter().all(|partition| {
        let mut there = Memory::of(image.clone());
        let mut bytes = [0; 4];
        let at = std::io::SeekFrom::Start(partition.first_sector * 512 + 2048);
        std::io::Seek::seek(&mut there, at).expect("inside");
        std::io::Read::read_exact(&mut there, &mut bytes).expect("read");
        !partition.role.has_file_system() || bytes == *b"the "
    })
}

/// Disks as they are before a Masthead gets them: blank, used before with blank edges, and of others.
fn beginnings(holds: Holds) -> Vec<(&'static str, bool, Image)> {
    let blank = || Memory::new(size(holds));
    let mut old_partition = blank();
    old_partition.put(1027 * MIB, b"XFSB");
    let mut whole_disk = blank();
    whole_disk.put(0, b"XFSB");
    whole_disk.put(70_000, b"data");
    let mut partitioned = blank();
    let mut boot_sector = [0; 512];
    boot_sector[450] = 0x83;
    boot_sector[510..].copy_from_slice(&[0x55, 0xaa]);
    partitioned.put(0, &boot_sector);
    partitioned.put(MIB + 1080, &[0x53, 0xef]);
    partitioned.put(size(holds) - 8192, &[0xfc, 0x4e, 0x2b, 0xa9]);
    let mut gpt = blank();
    foreign_table(&mut gpt);
    let mut begun = blank();
    let table = plan(size(holds), 512, holds, || [9; 16]).expect("fits");
    table.write(&mut begun).expect("written");
    begun.put(0, b"XFSB");
    vec![
        ("blank", false, blank().image()),
        ("blank edges", false, old_partition.image()),
        ("a file system", true, whole_disk.image()),
        ("an MBR", true, partitioned.image()),
        ("a GPT", true, gpt.image()),
        ("a file system over our beginning", true, begun.image()),
    ]
}

fn foreign_table(disk: &mut Memory) {
    let mut gpt = gptman::GPT::new_from(disk, 512, [7; 16]).expect("new");
    gpt[1] = gptman::GPTPartitionEntry {
        partition_type_guid: [0x42; 16],
        unique_partition_guid: [8; 16],
        starting_lba: 2048,
        ending_lba: 9999,
        attribute_bits: 0,
        partition_name: "Basic data partition".into(),
    };
    gpt.write_into(disk).expect("written");
    gptman::GPT::write_protective_mbr_into(disk, 512).expect("written");
}

/// The states in which a cut may leave a disk that is being prepared, each checked.
fn cut_everywhere(what: &str, foreign: bool, holds: Holds, begin: &Image, guid: u8) -> Vec<Image> {
    let mut disk = Memory::of(begin.clone());
    prepare(&mut disk, holds, guid);
    let mut marked = false;
    let states = std::mem::take(&mut disk.crash_states);
    assert!(states.len() > 20, "{what}: {} states", states.len());
    for (index, state) in states.iter().enumerate() {
        let (contents, choice) = decide(state);
        match &contents {
            Contents::Ours(table) if table.prepared => {
                marked = true;
                assert!(holds_whole_file_systems(state, table), "{what}, {index}");
                if holds != Holds::EtcdAlone {
                    assert!(matches!(choice, Choice::Use { .. }), "{what}, {index}");
                }
            }
            Contents::Ours(_) | Contents::Blank => {}
            Contents::Foreign(_) if foreign && !marked => {}
            _ => panic!("{what}, cut {index}: {contents:?}"),
        }
        if !matches!(&contents, Contents::Ours(table) if table.prepared)
            && holds != Holds::EtcdAlone
        {
            let again = matches!(&choice, Choice::Prepare { wiped, .. } if wiped.as_deref() == Some(SERIAL));
            assert!(
                again,
                "{what}, cut {index}: it goes on by itself, and counts as the wipe: {choice:?}"
            );
        }
    }
    let (contents, _) = decide(&disk.image());
    assert!(
        matches!(&contents, Contents::Ours(table) if table.prepared),
        "{what}: {contents:?}"
    );
    states
}

#[test]
fn a_cut_at_any_instant_leaves_a_disk_as_it_was_or_begun_or_done() {
    for holds in [
        Holds::Everything,
        Holds::EverythingButEtcd,
        Holds::EtcdAlone,
    ] {
        for (what, foreign, begin) in beginnings(holds) {
            cut_everywhere(what, foreign, holds, &begin, 1);
        }
    }
}

/// The second attempt starts from every state that the first was cut in, and is cut everywhere as well.
#[test]
fn a_second_cut_while_it_is_begun_again_does_no_harm_either() {
    let holds = Holds::Everything;
    for (what, foreign, begin) in beginnings(holds) {
        let states = cut_everywhere(what, foreign, holds, &begin, 1);
        for state in states.iter().step_by(states.len() / 4) {
            if !matches!(decide(state).1, Choice::Use { .. }) {
                cut_everywhere(&format!("{what}, again"), foreign, holds, state, 2);
            }
        }
    }
}

fn prepared() -> Memory {
    let mut disk = Memory::new(size(Holds::Everything));
    prepare(&mut disk, Holds::Everything, 1);
    Memory::of(disk.image())
}

fn half_prepared() -> (Memory, Table) {
    let holds = Holds::Everything;
    let mut disk = Memory::new(size(holds));
    let table = plan(size(holds), 512, holds, || [1; 16]).expect("fits");
    table.write(&mut disk).expect("written");
    (Memory::of(disk.image()), table)
}

fn remains(disk: &Memory) {
    let (contents, choice) = decide(&disk.image());
    assert!(matches!(contents, Contents::Remains(_)), "{contents:?}");
    let Choice::Wait(Refusal::Remains(line)) = choice else {
        panic!("{choice:?}")
    };
    assert!(line.contains("what is left of a Masthead"), "{line}");
}

#[test]
fn a_master_whose_table_is_lost_is_never_wiped() {
    let end = size(Holds::Everything);
    // Both headers damaged.
    let mut disk = prepared();
    disk.flip(600);
    disk.flip(end - 512 + 60);
    remains(&disk);
    // Both headers gone, entries left.
    let mut disk = prepared();
    disk.put(512, &[0; 512]);
    disk.put(end - 512, &[0; 512]);
    remains(&disk);
    // Nothing at the edges any more: only the file systems tell.
    let mut disk = prepared();
    disk.put(0, &vec![0; 1 << 20]);
    disk.put(end - MIB, &vec![0; 1 << 20]);
    remains(&disk);
    // Somebody has made a new table, and nothing else yet.
    let mut disk = prepared();
    foreign_table(&mut disk);
    remains(&disk);
    // Another system over the front; the backup is whole.
    let mut disk = prepared();
    disk.put(0, b"XFSB");
    disk.put(512, &[7; 4096]);
    remains(&disk);
    // The file systems are gone, and the entries tell, with damaged headers and without any.
    let mut disk = prepared();
    let table = plan(end, 512, Holds::Everything, || [1; 16]).expect("fits");
    table.clear(&mut disk, true).expect("cleared");
    disk.flip(600);
    disk.flip(end - 512 + 60);
    remains(&disk);
    disk.put(512, &[0; 512]);
    disk.put(end - 512, &[0; 512]);
    remains(&disk);
}

#[test]
fn a_master_of_which_only_the_backup_table_is_whole_is_used_while_nothing_contradicts_it() {
    let mut disk = prepared();
    disk.flip(600);
    assert!(matches!(decide(&disk.image()).1, Choice::Use { .. }));
    // The whole of the header and of the entries is garbage.
    disk.put(512, &vec![0xa7; 33 * 512]);
    assert!(matches!(decide(&disk.image()).1, Choice::Use { .. }));
    // But not where the file system that would tell whose it is has gone as well.
    let mut doubtful = Memory::of(disk.image());
    doubtful.put(1027 * MIB + 1024, &[0; 512]);
    remains(&doubtful);
    disk.put(0, &vec![0; 1 << 20]);
    assert!(matches!(decide(&disk.image()).1, Choice::Use { .. }));
    disk.put(1027 * MIB, b"XFSB");
    disk.put(1027 * MIB + 1024, &[0; 512]);
    let (contents, _) = decide(&disk.image());
    let Contents::Remains(findings) = contents else {
        panic!("{contents:?}")
    };
    assert_eq!(
        findings[0].0,
        "XFS file system in the place of masthead-state"
    );
}

#[test]
fn code_in_the_first_sector_is_a_masters_boot_loader_and_on_a_half_prepared_disk_somebody_elses() {
    // jmp, and the word that GRUB says.
    let grub = [&[0xeb, 0x63, 0x90][..], b"GRUB "].concat();
    let mut master = prepared();
    master.put(0, &grub);
    assert!(matches!(decide(&master.image()).1, Choice::Use { .. }));
    // By its backup, too.
    master.flip(600);
    assert!(matches!(decide(&master.image()).1, Choice::Use { .. }));
    let (mut disk, _) = half_prepared();
    let (contents, _) = decide(&disk.image());
    assert!(matches!(contents, Contents::Ours(_)), "{contents:?}");
    disk.put(0, &grub);
    let (contents, _) = decide(&disk.image());
    assert!(matches!(contents, Contents::Foreign(_)), "{contents:?}");
}

#[test]
fn a_half_prepared_disk_that_somebody_else_has_used_is_theirs() {
    let foreign = |disk: &Memory, what: &str| {
        let (contents, _) = decide(&disk.image());
        let Contents::Foreign(findings) = contents else {
            panic!("{what}: {contents:?}")
        };
        assert!(findings[0].0.contains(what), "{what}: {findings:?}");
    };
    // A new MBR; the header behind it is gone, or still there.
    for header in [&[0_u8; 512][..], &[]] {
        let (mut disk, _) = half_prepared();
        disk.put(450, &[0x83]);
        disk.put(512, header);
        foreign(&disk, "MBR");
    }
    // A file system over the whole disk, known and unknown.
    let (mut disk, _) = half_prepared();
    disk.put(0, b"XFSB");
    disk.put(512, &[7; 4096]);
    foreign(&disk, "XFS");
    let (mut disk, _) = half_prepared();
    disk.put(512, &[7; 512]);
    foreign(&disk, "data of no known kind, from byte 512");
    // Only where a partition is, with either copy lost.
    let (mut disk, table) = half_prepared();
    let data = table.partition(Role::Data).expect("there").first_sector * 512;
    disk.flip(600);
    disk.put(data, b"LUKS\xba\xbe");
    foreign(&disk, "LUKS encrypted volume in the place of masthead-data");
}

#[test]
fn a_half_prepared_disk_that_nobody_has_touched_is_begun_again_by_either_copy() {
    let end = size(Holds::Everything);
    for damage in [600, end - 512 + 60] {
        let (mut disk, _) = half_prepared();
        disk.flip(damage);
        let (contents, choice) = decide(&disk.image());
        assert!(
            matches!(&contents, Contents::Ours(table) if !table.prepared),
            "{contents:?}"
        );
        assert!(matches!(choice, Choice::Prepare { .. }), "{choice:?}");
    }
}

/// What is in the slots of an image, and in front of the partitions.
const IMAGE: &[u8] = b"an image, and what starts it";
const BOOT_CODE: &[u8] = b"\xebcode of a boot loader";

/// A disk to which a disk image was written that is smaller than it, with something else behind that.
fn with_image(behind: impl FnOnce(&mut Memory)) -> Image {
    let mut small = Memory::new(smallest(Holds::Image));
    let mut table = plan(smallest(Holds::Image), 512, Holds::Image, || [3; 16]).expect("fits");
    table.prepared = true;
    table.write(&mut small).expect("written");
    let mut disk = Memory::new(size(Holds::Everything));
    behind(&mut disk);
    // All of it is copied, also the table's backup in the middle of nowhere.
    let bytes = smallest(Holds::Image);
    for edge in [0, bytes - MIB] {
        let mut copied = vec![0; 1 << 20];
        std::io::Seek::seek(&mut small, std::io::SeekFrom::Start(edge)).expect("inside");
        std::io::Read::read_exact(&mut small, &mut copied).expect("read");
        disk.put(edge, &copied);
    }
    disk.put(0, BOOT_CODE);
    let system = table.partition(Role::Esp).expect("there").first_sector * 512;
    // FAT32, as every EFI system partition.
    disk.put(system + 82, b"FAT32   ");
    disk.put(system + (5 << 20), IMAGE);
    disk.image()
}

/// By firmware's rules: the first table that is whole leads to the image, whatever else is on the disk.
fn starts_the_image(state: &Image) {
    let mut disk = Memory::of(state.clone());
    let Ok(crate::table::Found::Ours { table, .. }) = Table::read(&mut disk) else {
        panic!("no table is whole")
    };
    let system = table.partition(Role::Esp).expect("it is in the table");
    let mut found = vec![0; IMAGE.len()];
    let at = std::io::SeekFrom::Start(system.first_sector * 512 + (5 << 20));
    std::io::Seek::seek(&mut disk, at).expect("inside");
    std::io::Read::read_exact(&mut disk, &mut found).expect("read");
    assert_eq!(found, IMAGE);
    let mut code = vec![0; BOOT_CODE.len()];
    std::io::Seek::seek(&mut disk, std::io::SeekFrom::Start(0)).expect("inside");
    std::io::Read::read_exact(&mut disk, &mut code).expect("read");
    assert_eq!(code, BOOT_CODE);
}

/// Prepares it, with a cut everywhere. Returns the states.
fn completed_with_cuts(what: &str, begin: &Image, guid: u8) -> Vec<Image> {
    let mut disk = Memory::of(begin.clone());
    prepare(&mut disk, Holds::Everything, guid);
    let states = std::mem::take(&mut disk.crash_states);
    assert!(states.len() > 20, "{what}: {} states", states.len());
    for (index, state) in states.iter().enumerate() {
        starts_the_image(state);
        let (contents, choice) = decide(state);
        match &contents {
            Contents::Ours(table) if table.prepared => {
                assert!(holds_whole_file_systems(state, table), "{what}, {index}");
                assert!(matches!(choice, Choice::Use { .. }), "{what}, {index}");
            }
            Contents::Ours(_) | Contents::Image(..) => {
                let again = matches!(&choice, Choice::Prepare { wiped, .. } if wiped.as_deref() == Some(SERIAL));
                assert!(again, "{what}, cut {index}: {choice:?}");
            }
            _ => panic!("{what}, cut {index}: {contents:?}"),
        }
    }
    starts_the_image(&disk.image());
    let (contents, _) = decide(&disk.image());
    let Contents::Ours(table) = contents else {
        panic!("{what}: {contents:?}")
    };
    assert!(table.prepared, "{what}");
    let end = table.partitions.last().expect("DATA").last_sector * 512;
    assert!(end > size(Holds::Everything) - 2 * MIB, "all of the disk");
    states
}

#[test]
fn a_disk_with_an_image_is_completed_and_starts_the_image_whenever_it_is_cut() {
    type Put = fn(&mut Memory);
    let leftovers: [(&str, Put); 4] = [
        ("nothing", |_| ()),
        // In the place of ETCD: where STATE begins the image's last MiB is.
        ("a file system", |disk| disk.put(1283 * MIB, b"XFSB")),
        ("a table", foreign_table),
        ("data at the end", |disk| {
            disk.put(size(Holds::Everything) - 5000, b"data");
        }),
    ];
    for (what, behind) in leftovers {
        let begin = with_image(behind);
        let (contents, choice) = decide(&begin);
        let Contents::Image(_, findings) = &contents else {
            panic!("{what}: {contents:?}")
        };
        assert_eq!(
            findings.is_empty(),
            what == "nothing",
            "{what}: {findings:?}"
        );
        assert!(matches!(choice, Choice::Prepare { .. }), "{what}");
        let states = completed_with_cuts(what, &begin, 1);
        for state in states.iter().step_by(states.len() / 4) {
            if !matches!(decide(state).1, Choice::Use { .. }) {
                completed_with_cuts(&format!("{what}, again"), state, 2);
            }
        }
    }
}

#[test]
fn an_image_over_a_master_is_the_remains_of_that() {
    let former = |disk: &mut Memory| prepare(disk, Holds::Everything, 9);
    let mut disk = Memory::of(with_image(former));
    remains(&disk);
    // Its file systems are gone, and the backup of its table tells.
    let table = plan(size(Holds::Everything), 512, Holds::Everything, || [9; 16]).expect("fits");
    for role in [Role::State, Role::Etcd, Role::Data] {
        let begin = table.partition(role).expect("there").first_sector * 512;
        disk.put(begin + 1024, &[0; 512]);
    }
    remains(&disk);
}
