//! Boot loader entries (UAPI.1, type 1): small files, of which systemd-boot starts the one with the highest version.

use std::fmt;

/// Where an image lies on the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The image's path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::A => "/masthead/a.efi",
            Self::B => "/masthead/b.efi",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// How often the boot loader still tries an entry. It writes so itself, into the entry's name, each time before it starts it; a good entry
/// has no count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// So often. At 0 it is tried only when there is nothing else.
    pub left: u32,
    /// So often it was.
    pub done: u32,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts the images that this disk was given, from 1.
    pub generation: u32,
    /// While it is on trial.
    pub tries: Option<Tries>,
    /// Where its image is.
    pub slot: Slot,
    /// Of the image.
    pub version: String,
}

const BEGIN: &str = "masthead-";
const END: &str = ".conf";

impl Entry {
    /// The folder of all entries.
    pub const FOLDER: &'static str = "/loader/entries";

    /// Its file's name, with the count as systemd-boot reads and writes it (systemd.io/AUTOMATIC_BOOT_ASSESSMENT).
    pub fn name(&self) -> String {
        let generation = self.generation;
        let tries = match self.tries {
            None => String::new(),
            Some(Tries { left, done: 0 }) => format!("+{left}"),
            Some(Tries { left, done }) => format!("+{left}-{done}"),
        };
        format!("{BEGIN}{generation:06}{tries}{END}")
    }

    /// Its file's path.
    pub fn path(&self) -> String {
        format!("{}/{}", Self::FOLDER, self.name())
    }

    /// What is in its file. `version` is the generation: entries with one `sort-key` are ordered by it, and so neither by what an image says of
    /// itself nor by its name.
    pub fn text(&self) -> String {
        format!(
            "title Masthead {}\nsort-key masthead\nversion {}\nefi {}\n",
            self.version,
            self.generation,
            self.slot.path()
        )
    }

    /// The entry of a file, if it is one of ours and whole.
    pub fn read(name: &str, text: &str) -> Option<Self> {
        let value = |key: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        };
        let (generation, tries) = numbers(name)?;
        let path = value("efi")?;
        let entry = Self {
            generation,
            tries,
            slot: Slot::ALL.into_iter().find(|slot| slot.path() == path)?,
            version: value("title")?.strip_prefix("Masthead ")?.to_owned(),
        };
        (entry.text() == text).then_some(entry)
    }

    /// The generation in a file's name, whatever is counted there.
    pub fn generation_in(name: &str) -> Option<u32> {
        numbers(name).map(|(generation, _)| generation)
    }

    /// The one that the boot loader starts: the highest generation of those that are good or have tries left, and of the others if there is none.
    pub fn first(entries: &[Self]) -> Option<&Self> {
        let has_tries = |entry: &Self| entry.tries.is_none_or(|tries| tries.left > 0);
        let order = |entry: &&Self| (has_tries(entry), entry.generation);
        entries.iter().max_by_key(order)
    }
}

/// The generation and the count in a file's name.
fn numbers(name: &str) -> Option<(u32, Option<Tries>)> {
    let middle = name.strip_prefix(BEGIN)?.strip_suffix(END)?;
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let Some((generation, count)) = middle.split_once('+') else {
        return Some((number(middle)?, None));
    };
    let (left, done) = count.split_once('-').unwrap_or((count, "0"));
    let tries = Tries {
        left: number(left)?,
        done: number(done)?,
    };
    Some((number(generation)?, Some(tries)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(generation: u32, tries: Option<(u32, u32)>) -> Entry {
        Entry {
            generation,
            tries: tries.map(|(left, done)| Tries { left, done }),
            slot: Slot::B,
            version: "0.2.0".to_owned(),
        }
    }

    #[test]
    fn an_entry_is_read_back_and_nothing_else_is() {
        for (tries, name) in [
            (None, "masthead-000018.conf"),
            (Some((2, 0)), "masthead-000018+2.conf"),
            (Some((0, 2)), "masthead-000018+0-2.conf"),
        ] {
            let entry = entry(18, tries);
            assert_eq!(entry.name(), name);
            assert_eq!(Entry::read(name, &entry.text()), Some(entry));
        }
        let text = entry(18, None).text();
        for (name, text) in [
            ("debian.conf", text.as_str()),
            ("masthead-x.conf", &text),
            ("masthead-000018+.conf", &text),
            ("masthead-000018++1.conf", &text),
            ("masthead-000018+1-.conf", &text),
            ("masthead-000018.conf", ""),
            ("masthead-000018.conf", &text[..text.len() - 1]),
            (
                "masthead-000018.conf",
                &text.replace("version 18", "version 17"),
            ),
            ("masthead-000018.conf", &text.replace("b.efi", "c.efi")),
        ] {
            assert_eq!(Entry::read(name, text), None, "{name}: {text}");
        }
    }

    #[test]
    fn the_highest_with_tries_left_is_first() {
        let first = |entries: &[(u32, Option<(u32, u32)>)]| {
            let entries: Vec<Entry> = entries
                .iter()
                .map(|(generation, tries)| entry(*generation, *tries))
                .collect();
            Entry::first(&entries).map(|entry| entry.generation)
        };
        assert_eq!(first(&[]), None);
        assert_eq!(first(&[(17, None), (18, Some((2, 0)))]), Some(18));
        assert_eq!(first(&[(17, None), (18, Some((1, 1)))]), Some(18));
        assert_eq!(first(&[(17, None), (18, Some((0, 2)))]), Some(17));
        assert_eq!(first(&[(17, Some((0, 2))), (18, Some((0, 2)))]), Some(18));
    }
}
