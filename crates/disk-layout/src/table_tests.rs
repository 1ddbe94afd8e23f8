use std::io::Cursor;

use super::*;
use crate::layout::{Holds, plan, smallest};

const SECTOR: usize = 512;

/// A disk in memory with a volatile cache, which records every state that a cut could leave: sectors
/// are whole or not written, those since the last sync in any order.
struct Memory {
    stable: Vec<u8>,
    /// Sector number and contents, in the order of writing.
    pending: Vec<(usize, [u8; SECTOR])>,
    position: u64,
    crash_states: Vec<Vec<u8>>,
}

impl Memory {
    fn new(bytes: u64) -> Memory {
        let stable = vec![0; usize::try_from(bytes).expect("fits")];
        Memory {
            crash_states: vec![],
            stable,
            pending: vec![],
            position: 0,
        }
    }

    fn apply(image: &mut [u8], (sector, data): &(usize, [u8; SECTOR])) {
        image[sector * SECTOR..][..SECTOR].copy_from_slice(data);
    }

    fn sector(&self, number: usize) -> [u8; SECTOR] {
        match self
            .pending
            .iter()
            .rev()
            .find(|(pending, _)| *pending == number)
        {
            Some((_, data)) => *data,
            None => self.stable[number * SECTOR..][..SECTOR]
                .try_into()
                .expect("a sector"),
        }
    }
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(self.position).expect("fits");
        let Some(left) = self.stable.len().checked_sub(at).filter(|left| *left > 0) else {
            return Ok(0);
        };
        let part = buffer.len().min(SECTOR - at % SECTOR).min(left);
        buffer[..part].copy_from_slice(&self.sector(at / SECTOR)[at % SECTOR..][..part]);
        self.position += part as u64;
        Ok(part)
    }
}

impl Write for Memory {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let at = usize::try_from(self.position).expect("fits");
        let part = data.len().min(SECTOR - at % SECTOR);
        let mut contents = self.sector(at / SECTOR);
        contents[at % SECTOR..][..part].copy_from_slice(&data[..part]);
        match self.pending.last_mut() {
            Some((sector, last)) if *sector == at / SECTOR => *last = contents,
            _ => self.pending.push((at / SECTOR, contents)),
        }
        self.position += part as u64;
        Ok(part)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Memory {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let length = self.stable.len() as u64;
        self.position = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(offset) => length.checked_add_signed(offset).expect("inside"),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset).expect("inside"),
        };
        Ok(self.position)
    }
}

impl Storage for Memory {
    fn sync(&mut self) -> io::Result<()> {
        // In order, each prefix; and out of order, all but any one or two of those that change anything.
        let mut prefix = self.stable.clone();
        let mut changing = Vec::new();
        for (index, write) in self.pending.iter().enumerate() {
            let before = prefix.clone();
            Memory::apply(&mut prefix, write);
            if prefix != before {
                changing.push(index);
                self.crash_states.push(before);
            }
        }
        for lost in &changing {
            for also_lost in &changing {
                let mut without = self.stable.clone();
                for (index, kept) in self.pending.iter().enumerate() {
                    if index != *lost && index != *also_lost {
                        Memory::apply(&mut without, kept);
                    }
                }
                self.crash_states.push(without);
            }
        }
        self.stable = prefix;
        self.pending.clear();
        Ok(())
    }
}

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

#[test]
fn what_is_written_is_read_back() {
    let mut disk = Memory::new(256 * 512);
    let table = small_table();
    table.write(&mut disk).expect("written");
    assert_eq!(
        Table::read(&mut disk).expect("read"),
        Found::Ours(table.clone())
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
    let mut disk = tempfile_like(bytes);
    table.write(&mut disk).expect("written");
    assert_eq!(Table::read(&mut disk).expect("read"), Found::Ours(table));
}

/// A sparse disk: only what was written takes memory.
fn tempfile_like(bytes: u64) -> Sparse {
    Sparse {
        bytes,
        position: 0,
        written: std::collections::BTreeMap::new(),
    }
}

struct Sparse {
    bytes: u64,
    position: u64,
    written: std::collections::BTreeMap<u64, u8>,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in buffer.iter_mut() {
            *byte = self.written.get(&self.position).copied().unwrap_or(0);
            self.position += 1;
        }
        Ok(buffer.len())
    }
}

impl Write for Sparse {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        for byte in data {
            self.written.insert(self.position, *byte);
            self.position += 1;
        }
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(offset) => self.bytes.checked_add_signed(offset).expect("inside"),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset).expect("inside"),
        };
        Ok(self.position)
    }
}

impl Storage for Sparse {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        let found = Table::read(&mut Cursor::new(state)).expect("read");
        let Found::Ours(seen) = found else {
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
        match Table::read(&mut Cursor::new(state)).expect("read") {
            Found::Ours(table) => assert!(!table.prepared),
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
    let whole = disk.stable.clone();
    let mut without_primary = whole.clone();
    without_primary[600] ^= 1;
    assert_eq!(
        Table::read(&mut Cursor::new(without_primary.clone())).expect("read"),
        Found::Ours(table.clone())
    );
    let mut without_backup = whole.clone();
    let last = without_backup.len() - 512;
    without_backup[last + 60] ^= 1;
    assert_eq!(
        Table::read(&mut Cursor::new(without_backup)).expect("read"),
        Found::Ours(table)
    );
    without_primary[last + 60] ^= 1;
    assert_eq!(
        Table::read(&mut Cursor::new(without_primary)).expect("read"),
        Found::Damaged
    );
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
