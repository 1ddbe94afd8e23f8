//! The entries of folders: each has 32 bytes, and a long name is in entries of its own in front of that of the short one.

/// Bytes of an entry.
pub(super) const ENTRY: usize = 32;
/// One as it is on the disk.
pub(super) type Raw = [u8; ENTRY];

/// First byte of an entry that is free, and of one after which there are none.
pub(super) const IS_FREE: u8 = 0xe5;
const IS_END: u8 = 0;

const IS_FOLDER: u8 = 0x10;
const IS_FILE: u8 = 0x20;
const IS_LABEL: u8 = 0x08;
const IS_LONG: u8 = 0x0f;
/// Of the number of an entry of a long name: it is the last part, which comes first.
const LAST_PART: u8 = 0x40;
/// Where the letters of a part are.
const LETTERS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// Where the dates are on which it was made, read and written.
const DATES: [usize; 3] = [16, 18, 24];
/// The first day that there is: nobody here needs another one, and EDK II's driver does not rename a file that has no valid date, so that
/// systemd-boot could not count (FatSetFileInfo, measured with OVMF).
const FIRST_OF_1980: u16 = 1 << 5 | 1;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
}

/// A file or a folder.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The long name, or else the short one.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The first one; 0 for none.
    pub(super) cluster: u32,
    pub(super) size: u32,
    /// Where its entries are, that of the short name last.
    pub(super) at: Vec<u64>,
    raw: Raw,
}

impl Item {
    pub(super) fn short_at(&self) -> u64 {
        self.at.last().copied().unwrap_or_default()
    }

    /// Its entry when it leads to something else.
    pub(super) fn leading_to(&self, cluster: u32, size: u32) -> Raw {
        let mut raw = self.raw;
        lead_to(&mut raw, cluster, size);
        raw
    }
}

fn lead_to(raw: &mut Raw, cluster: u32, size: u32) {
    let number = cluster.to_le_bytes();
    raw[20..22].copy_from_slice(&number[2..]);
    raw[26..28].copy_from_slice(&number[..2]);
    raw[28..32].copy_from_slice(&size.to_le_bytes());
}

/// What a folder holds, without `.`, `..` and the volume's label.
pub(super) fn parse(places: &[(u64, Raw)]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut long: Vec<(u64, Raw)> = Vec::new();
    for (at, raw) in places {
        let (first, attributes) = (raw[0], raw[11]);
        if first == IS_END {
            break;
        }
        if first != IS_FREE && attributes & 0x3f == IS_LONG {
            if first & LAST_PART != 0 {
                long.clear();
            }
            long.push((*at, *raw));
            continue;
        }
        let parts = std::mem::take(&mut long);
        if first == IS_FREE || first == b'.' || attributes & IS_LABEL != 0 {
            continue;
        }
        let name = long_name(&parts, &raw[..11]);
        // Without their short name they belong to nobody.
        let parts = if name.is_some() { parts } else { Vec::new() };
        let number = [raw[26], raw[27], raw[20], raw[21]];
        items.push(Item {
            name: name.unwrap_or_else(|| short_name(&raw[..11])),
            kind: if attributes & IS_FOLDER == 0 {
                Kind::File
            } else {
                Kind::Folder
            },
            cluster: u32::from_le_bytes(number),
            size: u32::from_le_bytes([raw[28], raw[29], raw[30], raw[31]]),
            at: parts.iter().map(|(at, _)| *at).chain([*at]).collect(),
            raw: *raw,
        });
    }
    items
}

/// None if the parts are not whole, or another name's.
fn long_name(parts: &[(u64, Raw)], short: &[u8]) -> Option<String> {
    let count = u8::try_from(parts.len()).ok().filter(|count| *count > 0)?;
    let sum = checksum(short);
    let mut letters = Vec::new();
    for (number, (_, raw)) in (1..=count).rev().zip(parts) {
        let last = if number == count { LAST_PART } else { 0 };
        if raw[0] != number | last || raw[13] != sum {
            return None;
        }
    }
    for (_, raw) in parts.iter().rev() {
        letters.extend(LETTERS.map(|at| u16::from_le_bytes([raw[at], raw[at + 1]])));
    }
    let end = letters.iter().position(|letter| *letter == 0);
    String::from_utf16(&letters[..end.unwrap_or(letters.len())]).ok()
}

fn short_name(short: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (name, ending) = (text(&short[..8]), text(&short[8..11]));
    if ending.is_empty() {
        return name;
    }
    format!("{name}.{ending}")
}

/// By which the parts of a long name belong to a short one.
fn checksum(short: &[u8]) -> u8 {
    short
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The entries of a new file, that of its short name last.
pub(super) fn compose(name: &str, beside: &[Item], cluster: u32, size: u32) -> Vec<Raw> {
    let (short, fits) = shorten(name, beside);
    let mut last = entry(short, IS_FILE, cluster);
    lead_to(&mut last, cluster, size);
    let mut entries = Vec::new();
    if !fits {
        let mut letters: Vec<u16> = name.encode_utf16().collect();
        if !letters.len().is_multiple_of(LETTERS.len()) {
            letters.push(0);
            let full = letters.len().next_multiple_of(LETTERS.len());
            letters.resize(full, 0xffff);
        }
        let parts = letters.chunks_exact(LETTERS.len()).zip(1_u8..);
        for (part, number) in parts {
            let mut raw = [0; ENTRY];
            raw[0] = number;
            raw[11] = IS_LONG;
            raw[13] = checksum(&short);
            for (at, letter) in LETTERS.into_iter().zip(part) {
                raw[at..at + 2].copy_from_slice(&letter.to_le_bytes());
            }
            entries.push(raw);
        }
        if let Some(raw) = entries.last_mut() {
            raw[0] |= LAST_PART;
        }
        entries.reverse();
    }
    entries.push(last);
    entries
}

/// A short name that no other has, and whether it says all.
fn shorten(name: &str, beside: &[Item]) -> ([u8; 11], bool) {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let simple = |text: &str| {
        let kept = text.bytes().filter(u8::is_ascii_alphanumeric);
        kept.map(|byte| byte.to_ascii_uppercase())
            .collect::<Vec<u8>>()
    };
    let put = |stem: &[u8]| {
        let mut short = [b' '; 11];
        let ending = simple(ending);
        short[..stem.len().min(8)].copy_from_slice(&stem[..stem.len().min(8)]);
        short[8..][..ending.len().min(3)].copy_from_slice(&ending[..ending.len().min(3)]);
        short
    };
    let whole = put(&simple(stem));
    if short_name(&whole) == name {
        return (whole, true);
    }
    let taken = |short: &[u8; 11]| beside.iter().any(|item| item.raw[..11] == short[..]);
    if short_name(&whole).eq_ignore_ascii_case(name) && !taken(&whole) {
        // Only the case is in the long name.
        return (whole, false);
    }
    let mut number = 1_u32;
    loop {
        let tail = format!("~{number}");
        let mut begin = simple(stem);
        begin.truncate(8 - tail.len().min(7));
        begin.extend_from_slice(tail.as_bytes());
        let short = put(&begin);
        if !taken(&short) {
            return (short, false);
        }
        number += 1;
    }
}

/// Places that follow each other and are free, beside these items. A long name that belongs to nobody was left by a cut.
pub(super) fn free_run(places: &[(u64, Raw)], beside: &[Item], wanted: usize) -> Option<Vec<u64>> {
    let is_free = |(at, raw): &(u64, Raw)| {
        let is_long = raw[11] & 0x3f == IS_LONG;
        matches!(raw[0], IS_FREE | IS_END)
            || is_long && !beside.iter().any(|item| item.at.contains(at))
    };
    let run = places.windows(wanted).find(|run| run.iter().all(is_free))?;
    Some(run.iter().map(|(at, _)| *at).collect())
}

/// The volume's label, which is in the root.
pub(super) fn label(name: [u8; 11]) -> Raw {
    entry(name, IS_LABEL, 0)
}

/// What a folder begins with: itself and the one above.
pub(super) fn beginning(own: u32, above: u32) -> Vec<Raw> {
    vec![
        entry(*b".          ", IS_FOLDER, own),
        entry(*b"..         ", IS_FOLDER, above),
    ]
}

/// A folder in another one.
pub(super) fn of_folder(name: [u8; 11], cluster: u32) -> Raw {
    entry(name, IS_FOLDER, cluster)
}

fn entry(name: [u8; 11], attributes: u8, cluster: u32) -> Raw {
    let mut raw = [0; ENTRY];
    raw[..11].copy_from_slice(&name);
    raw[11] = attributes;
    for at in DATES {
        raw[at..at + 2].copy_from_slice(&FIRST_OF_1980.to_le_bytes());
    }
    lead_to(&mut raw, cluster, 0);
    raw
}
