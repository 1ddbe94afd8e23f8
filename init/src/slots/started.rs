//! What has started this boot: what the boot loader says of itself.
//!
//! systemd-boot leaves two words in variables of the firmware (systemd.io/BOOT_LOADER_INTERFACE): which partition it was on, and which
//! entry it has started. GRUB says the same on the kernel's command line (firmware/grub-disk.cfg). They are there after a boot from a disk of ours, and
//! only then.

use std::fs;
use std::path::Path;

use masthead_slots::Entry;

pub(super) const VARIABLES: &str = "firmware/efi/efivars";
pub(super) const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// What the boot loader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Started {
    /// The generation that it has started.
    pub(super) generation: u32,
    /// GUID of the partition with the entries, as people write it.
    pub(super) partition: String,
    /// A generation on trial that it did not start, because it could not count that.
    pub(super) passed_over: Option<u32>,
}

impl Started {
    /// By the firmware's variables below `sys`, or else by the kernel's command line.
    pub(super) fn find(sys: &Path, command_line: &Path) -> Option<Self> {
        Self::in_firmware(&sys.join(VARIABLES)).or_else(|| {
            let text = fs::read_to_string(command_line).ok()?;
            Self::on_the_command_line(&text)
        })
    }

    fn in_firmware(variables: &Path) -> Option<Self> {
        Some(Self {
            generation: Entry::generation_in(&variable(variables, "LoaderEntrySelected")?)?,
            partition: variable(variables, "LoaderDevicePartUUID")?,
            passed_over: None,
        })
    }

    fn on_the_command_line(text: &str) -> Option<Self> {
        // The last one is GRUB's.
        let word = |name: &str| {
            let words = text.split_ascii_whitespace();
            words.rev().find_map(|word| word.strip_prefix(name))
        };
        Some(Self {
            generation: word("masthead.entry=")?.parse().ok()?,
            partition: word("masthead.partition=")?.to_owned(),
            passed_over: word("masthead.passed-over=").and_then(|number| number.parse().ok()),
        })
    }
}

/// A variable's text: four bytes of attributes, and UTF-16 that ends with a zero.
fn variable(folder: &Path, name: &str) -> Option<String> {
    let content = fs::read(folder.join(format!("{name}-{VENDOR}"))).ok()?;
    let letters = content.get(4..)?.chunks_exact(2);
    let letters: Vec<u16> = letters
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|letter| *letter != 0)
        .collect();
    String::from_utf16(&letters).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grubs_words_are_read_and_half_of_them_are_none() {
        let text = "console=tty0 masthead.entry=18 masthead.partition=0303-03 panic=10";
        let started = Started {
            generation: 18,
            partition: "0303-03".to_owned(),
            passed_over: None,
        };
        assert_eq!(Started::on_the_command_line(text), Some(started.clone()));
        let over = Started {
            passed_over: Some(19),
            ..started
        };
        let text = format!("{text} masthead.passed-over=19\n");
        assert_eq!(Started::on_the_command_line(&text), Some(over));
        for text in [
            "",
            "masthead.entry=18",
            "masthead.partition=0303",
            "masthead.entry=x masthead.partition=0303",
        ] {
            assert_eq!(Started::on_the_command_line(text), None, "{text}");
        }
    }
}
