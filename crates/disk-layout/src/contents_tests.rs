use std::io::Cursor;

use super::*;

const SIZE: usize = 8 << 20;

#[test]
fn zeros_and_erased_flash_are_blank() {
    assert_eq!(inspect(&mut Cursor::new(vec![0; SIZE])), Contents::Blank);
    assert_eq!(inspect(&mut Cursor::new(vec![0xff; SIZE])), Contents::Blank);
}

#[test]
fn every_signature_is_found_by_name_and_its_neighbour_is_not() {
    for signature in SIGNATURES {
        let offset = match signature.at {
            At::Start(offset) => usize::try_from(offset).expect("fits"),
            At::End(distance) => SIZE - usize::try_from(distance).expect("fits"),
        };
        let mut disk = vec![0; SIZE];
        disk[offset..offset + signature.magic.len()].copy_from_slice(signature.magic);
        let Contents::Foreign(findings) = inspect(&mut Cursor::new(disk.clone())) else {
            panic!("{} was not found", signature.name)
        };
        // A damaged GPT is told as such, and a few formats share a place and a mark.
        assert!(
            findings.iter().any(|finding| finding.0 == signature.name
                || finding.0.contains("damaged GPT") && signature.name.contains("GPT")),
            "{}: {findings:?}",
            signature.name
        );
        let last = signature.magic.len() - 1;
        disk[offset + last] ^= 0x10;
        let Contents::Foreign(findings) = inspect(&mut Cursor::new(disk)) else {
            continue;
        };
        assert!(
            findings.iter().all(|finding| finding.0 != signature.name),
            "{} was found without its mark",
            signature.name
        );
    }
}

#[test]
fn data_without_a_mark_is_foreign_at_both_edges() {
    for offset in [0, 4242, (1 << 20) - 1, SIZE - (1 << 20), SIZE - 1] {
        let mut disk = vec![0; SIZE];
        disk[offset] = 7;
        assert_eq!(
            inspect(&mut Cursor::new(disk)),
            Contents::Foreign(vec![Finding(format!(
                "data of no known kind, from byte {offset}"
            ))])
        );
    }
}

#[test]
fn a_tiny_disk_is_looked_at_whole() {
    assert_eq!(inspect(&mut Cursor::new(vec![0; 4096])), Contents::Blank);
    let mut disk = vec![0; 4096];
    disk[4095] = 1;
    assert!(matches!(
        inspect(&mut Cursor::new(disk)),
        Contents::Foreign(_)
    ));
}

/// A disk with a bad place.
struct Broken {
    inner: Cursor<Vec<u8>>,
    bad: u64,
}

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let position = self.inner.position();
        if (position..position + buffer.len() as u64).contains(&self.bad) {
            return Err(io::Error::other("Input/output error"));
        }
        self.inner.read(buffer)
    }
}

impl Seek for Broken {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_unknown_never_blank() {
    for bad in [0, 512, 1080, 500_000, SIZE as u64 - 512, SIZE as u64 - 1] {
        let mut disk = Broken {
            inner: Cursor::new(vec![0; SIZE]),
            bad,
        };
        assert_eq!(
            inspect(&mut disk),
            Contents::Unknown {
                why: "Input/output error".to_owned()
            },
            "bad byte {bad}"
        );
    }
    let mut elsewhere = Broken {
        inner: Cursor::new(vec![0; SIZE]),
        bad: 4 << 20,
    };
    assert_eq!(inspect(&mut elsewhere), Contents::Blank);
}

#[test]
fn partitions_of_somebody_else_are_told_by_number_and_name() {
    let told = |names: &[&str]| {
        let mut disk = Cursor::new(vec![0; SIZE]);
        let mut gpt = gptman::GPT::new_from(&mut disk, 512, [1; 16]).expect("new");
        for (index, name) in names.iter().enumerate() {
            let at = 100 + 10 * index as u64;
            gpt[u32::try_from(index).expect("few") + 1] = gptman::GPTPartitionEntry {
                partition_type_guid: [0x42; 16],
                unique_partition_guid: [u8::try_from(index).expect("few") + 1; 16],
                starting_lba: at,
                ending_lba: at + 9,
                attribute_bits: 0,
                partition_name: (*name).into(),
            };
        }
        gpt.write_into(&mut disk).expect("written");
        gptman::GPT::write_protective_mbr_into(&mut disk, 512).expect("written");
        match inspect(&mut disk) {
            Contents::Foreign(findings) => findings[0].0.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told(&[]), "a GPT partition table without partitions");
    assert_eq!(
        told(&["Basic data partition", ""]),
        "a GPT partition table with 2 partitions: 1 \"Basic data partition\", 2 (no name)"
    );
}

#[test]
fn a_disk_of_ours_is_told_from_one_whose_preparation_was_interrupted() {
    let table = plan(20 << 30, 512, Holds::Everything, || [1; 16]).expect("fits");
    let of = |prepared| {
        let table = table.clone();
        Contents::Ours(Table { prepared, ..table }).to_string()
    };
    assert_eq!(of(true), "holds a Masthead");
    assert_eq!(of(false), "its preparation was interrupted");
}
