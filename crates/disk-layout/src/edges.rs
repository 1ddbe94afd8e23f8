//! The first and the last MiB of a disk, where its partition table is and nothing else.
//!
//! What a table of ours puts there is told apart from everything else, byte for byte, so that a table in preparation,
//! or one of which only the backup is whole, is believed only while nothing contradicts it. Data without a
//! known mark (an encrypted volume without a header, a disk shifted by a controller) shows here too.

use std::io::{self, Read, Seek, SeekFrom};

use crate::boot_sector::{BYTES, is_blank, is_protective, starts_something};
use crate::layout::Role;
use crate::table::{EDGE_BYTES, IN_PREPARATION, header_places};

/// What the edges hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Edges {
    /// The first byte that is neither blank nor part of a partition table of ours.
    pub(crate) unexplained: Option<u64>,
    /// A protective MBR in the first sector.
    pub(crate) protective: bool,
    /// And code there that starts something.
    pub(crate) starts_something: bool,
    /// An entry of ours for a file system, without the mark.
    pub(crate) prepared: bool,
    /// An entry of ours with it.
    pub(crate) in_preparation: bool,
}

/// Bytes of an entry; what is not an entry is looked at in the same pieces.
const ENTRY: usize = 128;

/// Reads both edges of a disk of `bytes`. With `boot_code`, the first sector may have some.
pub(crate) fn scan<R: Read + Seek + ?Sized>(
    disk: &mut R,
    bytes: u64,
    boot_code: bool,
) -> io::Result<Edges> {
    let mut edges = Edges::default();
    let front = EDGE_BYTES.min(bytes);
    for (begin, end) in [
        (0, front),
        (bytes.saturating_sub(EDGE_BYTES).max(front), bytes),
    ] {
        let mut data = Vec::new();
        disk.seek(SeekFrom::Start(begin))?;
        disk.take(end - begin).read_to_end(&mut data)?;
        if data.len() as u64 != end - begin {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if begin == 0
            && let Some(sector) = data.first_chunk()
        {
            edges.protective = is_protective(sector);
            edges.starts_something = !boot_code && starts_something(sector);
        }
        let mut at = begin;
        for piece in data.chunks(ENTRY) {
            edges.look(at, piece, bytes);
            at += piece.len() as u64;
        }
    }
    Ok(edges)
}

impl Edges {
    fn look(&mut self, at: u64, piece: &[u8], bytes: u64) {
        // Nearly all of it, and compared at once.
        if piece == [0; ENTRY] {
            return;
        }
        let Some(data) = piece.iter().position(|byte| !is_blank(*byte)) else {
            return;
        };
        let explained = self.protective && !self.starts_something;
        if at < BYTES as u64 && explained {
            return;
        }
        if header_places(bytes).any(|place| place == at) && piece.starts_with(b"EFI PART") {
            return;
        }
        match entry_of_ours(piece) {
            Some((_, attributes)) if attributes & IN_PREPARATION != 0 => self.in_preparation = true,
            // The others are without it while an image is kept, too.
            Some((role, _)) => self.prepared |= role.has_file_system(),
            None => {
                self.unexplained.get_or_insert(at + data as u64);
            }
        }
    }
}

/// The role and the attributes of an entry whose type and name are those of a role (UEFI specification, table 5.6).
fn entry_of_ours(entry: &[u8]) -> Option<(Role, u64)> {
    let role = Role::from_type_guid(entry.get(..16)?.try_into().ok()?)?;
    let name: Vec<u8> = role
        .label()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let (begins, rest) = entry.get(56..ENTRY)?.split_at(name.len());
    let is_ours = begins == name && rest.iter().all(|byte| *byte == 0);
    let attributes = u64::from_le_bytes(entry[48..56].try_into().ok()?);
    is_ours.then_some((role, attributes))
}
