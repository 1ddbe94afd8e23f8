use super::*;
use crate::layout::{Holds, plan, smallest};
use crate::memory::Memory;

fn small_table() -> Table {
    // A real layout is gigabytes; the same roles on few sectors make the crash replay fast.
    let mut first = 100;
    let partitions = Role::ALL
        .into_iter()
        .enumerate()
        .map(|(index, role)| {
            let partition = Partition {
                role,
                guid: [u8::try_from(index).expect("few") + 1; 16],
                first_sector: first,
                last_sector: first + 9,
            };
            first += 10;
            partition
        })
        .collect();
    Table {
        sector_bytes: 512,
        disk_guid: [9; 16],
        partitions,
        prepared: false,
        keeps_image: false,
    }
}

fn whole(table: &Table) -> Found {
    Found::Ours {
        table: table.clone(),
        primary: true,
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut disk = Memory::new(256 * 512);
    let table = small_table();
    table.write(&mut disk).expect("written");
    assert_eq!(
        Table::read(&mut disk).expect("read"),
        Found::Ours {
            table: table.clone(),
            primary: true
        }
    );
    assert_eq!(table.number(Role::BiosBoot), Some(1));
    assert_eq!(table.number(Role::Data), Some(6));
}

#[test]
fn a_planned_table_survives_its_encoding() {
    let mut guid = 0;
    let bytes = smallest(Holds::EtcdAlone);
    let table = plan(bytes, 4096, Holds::EtcdAlone, || {
        guid += 1;
        [guid; 16]
    })
    .expect("fits");
    let mut disk = Memory::new(bytes);
    table.write(&mut disk).expect("written");
    assert_eq!(Table::read(&mut disk).expect("read"), whole(&table));
}

#[test]
fn a_cut_while_marking_a_table_prepared_always_leaves_one_that_is_ours() {
    let mut disk = Memory::new(256 * 512);
    let mut table = small_table();
    table.write(&mut disk).expect("written");
    disk.crash_states.clear();
    table.prepared = true;
    table.write(&mut disk).expect("marked");
    let states = std::mem::take(&mut disk.crash_states);
    assert!(
        states.len() > 10,
        "the replay saw the writes: {}",
        states.len()
    );
    for (index, state) in states.into_iter().enumerate() {
        let found = Table::read(&mut Memory::of(state)).expect("read");
        let Found::Ours { table: seen, .. } = found else {
            panic!("crash state {index}: {found:?}")
        };
        assert_eq!(
            Table {
                prepared: true,
                ..seen
            },
            table,
            "crash state {index}"
        );
    }
}

#[test]
fn a_cut_while_writing_to_a_blank_disk_never_looks_prepared() {
    let mut disk = Memory::new(256 * 512);
    small_table().write(&mut disk).expect("written");
    for state in std::mem::take(&mut disk.crash_states) {
        match Table::read(&mut Memory::of(state)).expect("read") {
            Found::Ours { table, .. } => assert!(!table.prepared),
            Found::None | Found::Damaged => {}
            Found::Foreign(names) => panic!("foreign: {names:?}"),
        }
    }
}

#[test]
fn each_copy_alone_is_enough_and_none_is_damage() {
    let mut disk = Memory::new(256 * 512);
    let table = small_table();
    table.write(&mut disk).expect("written");
    let last = 256 * 512 - 512;
    let flipped = |places: &[u64]| {
        let mut disk = Memory::of(disk.image());
        for place in places {
            disk.flip(*place);
        }
        Table::read(&mut disk).expect("read")
    };
    let by_backup = Found::Ours {
        table: table.clone(),
        primary: false,
    };
    assert_eq!(flipped(&[600]), by_backup);
    assert_eq!(flipped(&[last + 60]), whole(&table));
    assert_eq!(flipped(&[600, last + 60]), Found::Damaged);
}

#[test]
fn a_table_of_somebody_else_is_foreign_by_name() {
    let mut cursor = Cursor::new(vec![0; 512 * 256]);
    let mut gpt = GPT::new_from(&mut cursor, 512, [1; 16]).expect("new");
    gpt[1] = GPTPartitionEntry {
        partition_type_guid: [0x42; 16],
        unique_partition_guid: [1; 16],
        starting_lba: 100,
        ending_lba: 110,
        attribute_bits: 0,
        partition_name: "Basic data partition".into(),
    };
    gpt.write_into(&mut cursor).expect("written");
    assert_eq!(
        Table::read(&mut cursor).expect("read"),
        Found::Foreign(vec!["Basic data partition".to_owned()])
    );
}

#[test]
fn an_esp_alone_is_not_ours() {
    let mut disk = Memory::new(256 * 512);
    let mut table = small_table();
    table
        .partitions
        .retain(|partition| partition.role == Role::Esp);
    table.write(&mut disk).expect("written");
    assert!(matches!(
        Table::read(&mut disk).expect("read"),
        Found::Foreign(_)
    ));
}

#[test]
fn partitions_that_do_not_fit_make_a_table_foreign() {
    let found = |change: fn(&mut Vec<Partition>)| {
        let mut disk = Memory::new(256 * 512);
        let mut table = small_table();
        change(&mut table.partitions);
        table.write(&mut disk).expect("written");
        Table::read(&mut disk).expect("read")
    };
    // Sectors 34 to 222 are between the two copies. Partitions may touch, and the last one may be a single sector.
    let fitting: [fn(&mut Vec<Partition>); 3] = [
        |partitions| partitions[0].first_sector = 34,
        |partitions| partitions[5].last_sector = 222,
        |partitions| partitions[5].last_sector = partitions[5].first_sector,
    ];
    for change in fitting {
        assert!(matches!(found(change), Found::Ours { .. }));
    }
    let wrong: [fn(&mut Vec<Partition>); 5] = [
        |partitions| partitions[0].first_sector = 33,
        |partitions| partitions[5].last_sector = 223,
        |partitions| partitions[5].last_sector = partitions[5].first_sector - 1,
        |partitions| partitions[1].first_sector = partitions[0].last_sector,
        |partitions| partitions[1].role = partitions[0].role,
    ];
    for (index, change) in wrong.into_iter().enumerate() {
        let found = found(change);
        assert!(matches!(found, Found::Foreign(_)), "{index}: {found:?}");
    }
}

/// IEEE 802.3, as the UEFI specification has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

/// What is found where the primary header has other bytes at some offsets, a sum that fits them, and no backup.
fn found_with_header(changes: &[(usize, &[u8])]) -> Found {
    const SECTORS: usize = 512;
    let mut disk = Cursor::new(vec![0; SECTORS * 512]);
    let mut memory = Memory::new(SECTORS as u64 * 512);
    small_table().write(&mut memory).expect("written");
    memory.rewind().expect("rewound");
    io::copy(&mut memory, &mut disk).expect("copied");
    let bytes = disk.get_mut();
    bytes[(SECTORS - 1) * 512..].fill(0);
    let header = &mut bytes[512..512 + 92];
    for (offset, change) in changes {
        header[*offset..offset + change.len()].copy_from_slice(change);
    }
    header[16..20].fill(0);
    let sum = crc32(header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    Table::read(&mut disk).expect("read")
}

/// The sum says only that a header is what somebody wrote (UEFI specification, 5.3.2).
#[test]
fn a_header_that_lies_is_damage() {
    assert_eq!(found_with_header(&[]), whole(&small_table()));
    let lies: [(usize, &[u8]); 5] = [
        (24, &2_u64.to_le_bytes()),
        (72, &(1_u64 << 20).to_le_bytes()),
        (72, &u64::MAX.to_le_bytes()),
        (80, &(MOST_ENTRIES + 1).to_le_bytes()),
        (84, &256_u32.to_le_bytes()),
    ];
    for lie in lies {
        assert_eq!(found_with_header(&[lie]), Found::Damaged, "{lie:?}");
    }
    // As many entries as are believed, with the sum of them all.
    let mut array = vec![0; MOST_ENTRIES as usize * 128];
    let mut memory = Memory::new(512 * 512);
    small_table().write(&mut memory).expect("written");
    memory.seek(SeekFrom::Start(1024)).expect("sought");
    memory.read_exact(&mut array).expect("read");
    let (count, sum) = (MOST_ENTRIES.to_le_bytes(), crc32(&array).to_le_bytes());
    let found = found_with_header(&[(80, &count), (88, &sum)]);
    assert_eq!(found, whole(&small_table()));
}

#[test]
fn entries_without_their_sum_are_damage() {
    let mut disk = Memory::new(256 * 512);
    let table = small_table();
    table.write(&mut disk).expect("written");
    // In an entry of each copy: the second one's entries are before its header.
    let (first, second) = (1024 + 8, 223 * 512 + 8);
    disk.flip(first);
    let by_backup = Found::Ours {
        table,
        primary: false,
    };
    assert_eq!(Table::read(&mut disk).expect("read"), by_backup);
    disk.flip(second);
    assert_eq!(Table::read(&mut disk).expect("read"), Found::Damaged);
}

#[test]
fn both_copies_are_new_after_a_write_to_a_disk_that_lost_its_first() {
    let mut disk = Memory::new(256 * 512);
    let mut table = small_table();
    table.write(&mut disk).expect("written");
    disk.flip(600);
    table.prepared = true;
    table.write(&mut disk).expect("written again");
    assert_eq!(Table::read(&mut disk).expect("read"), whole(&table));
    disk.flip(600);
    let by_backup = Found::Ours {
        table,
        primary: false,
    };
    assert_eq!(Table::read(&mut disk).expect("read"), by_backup);
}
