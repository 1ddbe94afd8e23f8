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
