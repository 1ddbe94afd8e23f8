//! META: what is known of trials, on a partition without a file system.
//!
//! Two places, each with a generation, a checksum, and a text. The newer one that is whole counts; what is written next goes to the other one. So a power cut
//! leaves what was there before, or what was written.

use std::io::{self, SeekFrom};

use masthead_disk_layout::Storage;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// First bytes of a place.
const MAGIC: &[u8; 8] = b"MHMETA\0\x01";
/// Bytes of a place: generation and checksum are in its first sector.
const PLACE: u64 = 64 << 10;
const PLACES: u64 = 2;
/// Magic, generation, length of the text, and checksum of all three and the text.
const HEAD: usize = 8 + 8 + 8 + 32;

/// Generation and text of a place that is whole.
type Content = Option<(u64, Vec<u8>)>;

/// What META says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Of this message.
    pub format: u32,
    /// The last trial that failed.
    #[serde(default)]
    pub failed: Option<FailedTrial>,
}

/// A trial that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTrial {
    /// Which one.
    pub generation: u32,
    /// Of its image.
    pub version: String,
    /// For people.
    pub why: String,
    /// When that was found, milliseconds since 1970.
    pub at: i64,
}

impl Meta {
    /// Of this release.
    pub const FORMAT: u32 = 1;

    /// What is there; nothing where no place is whole.
    pub fn read<S: Storage>(storage: &mut S) -> io::Result<Self> {
        let newest = places(storage)?
            .into_iter()
            .flatten()
            .max_by_key(|(generation, _)| *generation);
        let text = newest.map(|(_, text)| text).unwrap_or_default();
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Writes it, and waits for the disk.
    pub fn write<S: Storage>(&self, storage: &mut S) -> io::Result<()> {
        let there = places(storage)?;
        let generation = |place: &Content| place.as_ref().map(|(number, _)| *number);
        // An empty place is older than any.
        let (oldest, _) = (0..)
            .zip(&there)
            .min_by_key(|(_, place)| generation(place))
            .unwrap_or((0, &None));
        let newest = there.iter().filter_map(generation).max().unwrap_or(0);
        let text = serde_json::to_vec(self)?;
        let mut head = [
            MAGIC.as_slice(),
            &(newest + 1).to_le_bytes(),
            &(text.len() as u64).to_le_bytes(),
        ]
        .concat();
        head.extend_from_slice(&checksum(&head, &text));
        if (HEAD + text.len()) as u64 > PLACE {
            return Err(io::Error::other("it is too long for META"));
        }
        storage.seek(SeekFrom::Start(oldest * PLACE))?;
        storage.write_all(&[head, text].concat())?;
        storage.sync()
    }
}

/// Generation and text of each place that is whole.
fn places<S: Storage>(storage: &mut S) -> io::Result<Vec<Content>> {
    (0..PLACES)
        .map(|number| {
            let mut place = vec![0; usize::try_from(PLACE).unwrap_or(0)];
            storage.seek(SeekFrom::Start(number * PLACE))?;
            storage.read_exact(&mut place)?;
            Ok(whole(&place))
        })
        .collect()
}

fn whole(place: &[u8]) -> Content {
    let (head, rest) = place.split_at_checked(HEAD)?;
    let number = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let text = rest.get(..usize::try_from(number(16)?).ok()?)?;
    let is_whole = head.starts_with(MAGIC) && head[24..] == checksum(&head[..24], text);
    is_whole.then(|| (number(8).unwrap_or(0), text.to_vec()))
}

fn checksum(head: &[u8], text: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(head)
        .chain_update(text)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Image, Recorder};

    fn meta(generation: u32) -> Meta {
        Meta {
            format: Meta::FORMAT,
            failed: Some(FailedTrial {
                generation,
                version: "0.2.0".to_owned(),
                why: "it did not serve in time".repeat(40),
                at: 7,
            }),
        }
    }

    #[test]
    fn a_cut_leaves_what_was_there_or_what_is_written() {
        let mut disk = Recorder::of(Image::blank(1 << 20));
        assert_eq!(Meta::read(&mut disk).expect("read"), Meta::default());
        let mut before = Meta::default();
        for generation in 1..6 {
            let mut now = Recorder::of(disk.image());
            meta(generation).write(&mut now).expect("written");
            let mut states = 0;
            now.cuts(100, 5, |cut| {
                states += 1;
                let found = Meta::read(&mut Recorder::of(cut)).expect("read");
                assert!(found == before || found == meta(generation), "{found:?}");
            });
            assert!(states > 0);
            assert_eq!(Meta::read(&mut now).expect("read"), meta(generation));
            before = meta(generation);
            disk = Recorder::of(now.image());
        }
    }

    #[test]
    fn what_is_too_long_is_not_written() {
        let mut disk = Recorder::of(Image::blank(1 << 20));
        let mut long = meta(1);
        meta(3).write(&mut disk).expect("written");
        long.failed.as_mut().expect("there").why = "x".repeat(70_000);
        long.write(&mut disk).expect_err("too long");
        assert_eq!(Meta::read(&mut disk).expect("read"), meta(3));
    }
}
