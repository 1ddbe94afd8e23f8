//! Where an image has its kernel and its initramfs, for a boot loader that cannot start it as a whole.
//!
//! GRUB makes a disk of a file (`loopback`), and takes a list of blocks on a disk for a file (GRUB manual, "Block list syntax"). So it reads both out
//! of the image, and needs to know where they are.

use std::io::{Read, Seek, SeekFrom};

use crate::ImageError;
use crate::release::{SectionAt, sections};

/// GRUB's blocks have so many bytes on every disk.
const BLOCK: u64 = 512;
/// First bytes of what GRUB's `load_env` reads.
const BEGIN: &str = "# GRUB Environment Block\n";

/// What a boot loader needs of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The kernel.
    pub kernel: Blocks,
    /// What the kernel unpacks as its initramfs, one after the other: microcode first.
    pub initrd: Vec<Blocks>,
    /// The kernel's command line.
    pub options: String,
}

/// A part of an image, in blocks of 512 bytes. Behind its last byte there may be zeros, which neither a kernel nor an initramfs minds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Its first block.
    pub begin: u64,
    /// How many.
    pub count: u64,
}

impl Parts {
    /// Finds them. The image is only read as far as its headers go, and its command line.
    pub fn find<R: Read + Seek>(image: &mut R) -> Result<Self, ImageError> {
        let all = sections(image)?;
        let named = |name: &'static str| all.iter().find(|section| section.name == name);
        let there = |name| named(name).ok_or(ImageError::NoSection(name));
        let initrd = [".ucode", ".initrd"].into_iter().filter_map(named);
        Ok(Self {
            kernel: blocks(there(".linux")?)?,
            initrd: initrd.map(blocks).collect::<Result<_, _>>()?,
            options: command_line(image, there(".cmdline")?)?,
        })
    }

    /// What GRUB's `load_env` reads: `image`, where the image is on its file system; `kernel`, `initrd` and `options`, which are for its commands
    /// `linux` and `initrd` once `(image)` is that file.
    pub fn text(&self, image: &str) -> String {
        let on_the_image = |blocks: &Blocks| format!("(image){}+{}", blocks.begin, blocks.count);
        let initrd: Vec<_> = self.initrd.iter().map(on_the_image).collect();
        format!(
            "{BEGIN}image={image}\nkernel={}\ninitrd={}\noptions={}\n",
            on_the_image(&self.kernel),
            initrd.join(" "),
            self.options
        )
    }
}

fn blocks(section: &SectionAt) -> Result<Blocks, ImageError> {
    if !section.place.begin.is_multiple_of(BLOCK) {
        return Err(ImageError::Unaligned(section.name.clone()));
    }
    Ok(Blocks {
        begin: section.place.begin / BLOCK,
        count: section.place.bytes.div_ceil(BLOCK),
    })
}

/// GRUB's way of quoting is not the kernel's: what would have to be quoted is refused.
fn command_line<R: Read + Seek>(image: &mut R, section: &SectionAt) -> Result<String, ImageError> {
    let mut bytes = Vec::new();
    image.seek(SeekFrom::Start(section.place.begin))?;
    image
        .by_ref()
        .take(section.place.bytes)
        .read_to_end(&mut bytes)?;
    let text: String = bytes.into_iter().map(char::from).collect();
    let text = text.trim_matches(|letter| matches!(letter, '\0' | '\n' | ' '));
    let taken_otherwise =
        |letter: &char| matches!(letter, '\'' | '"' | '\\') || !matches!(letter, ' '..='~');
    match text.chars().find(taken_otherwise) {
        Some(letter) => Err(ImageError::CommandLine(letter)),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::example::program;
    use crate::pe::{NewSection, with_sections};

    fn image(added: &[(&str, &[u8])]) -> Cursor<Vec<u8>> {
        let added: Vec<_> = added
            .iter()
            .map(|(name, content)| NewSection {
                name,
                content,
                memory: 0x5000,
            })
            .collect();
        Cursor::new(with_sections(&program(), &added).expect("room"))
    }

    fn read(image: &Cursor<Vec<u8>>, blocks: Blocks) -> &[u8] {
        let byte = |block: u64| usize::try_from(block * BLOCK).expect("small");
        &image.get_ref()[byte(blocks.begin)..byte(blocks.begin + blocks.count)]
    }

    #[test]
    fn the_parts_are_where_they_are_said_to_be() {
        let mut image = image(&[
            (".cmdline", b"console=tty0 panic=10\n\0"),
            (".initrd", &[7; 1025]),
            (".ucode", &[6; 512]),
            (".linux", &[5; 100]),
        ]);
        let parts = Parts::find(&mut image).expect("all parts");
        assert_eq!(parts.options, "console=tty0 panic=10");
        assert_eq!(
            read(&image, parts.kernel)[..101],
            [&[5; 100][..], &[0]].concat()
        );
        let found: Vec<_> = parts
            .initrd
            .iter()
            .map(|blocks| read(&image, *blocks))
            .collect();
        assert_eq!(found[0], [6; 512], "microcode comes first");
        assert_eq!((found[1].len(), &found[1][..1025]), (1536, &[7; 1025][..]));
        // The program has headers of two blocks, and a section of one; the command line is in the fourth.
        assert_eq!(
            parts.text("/masthead/a.efi"),
            "# GRUB Environment Block\nimage=/masthead/a.efi\nkernel=(image)8+1\n\
             initrd=(image)7+1 (image)4+3\noptions=console=tty0 panic=10\n"
        );
    }

    #[test]
    fn what_grub_would_get_wrong_is_refused() {
        let find = |line: &'static [u8]| {
            Parts::find(&mut image(&[(".cmdline", line), (".linux", b"kernel")]))
        };
        assert_eq!(find(b"a=$b ?*#").expect("plain words").options, "a=$b ?*#");
        for line in [&b"a=\"b c\""[..], b"a='b'", b"a=\\b", b"a\nb", b"\xc3\xa9"] {
            let refused = find(line).expect_err("a letter that GRUB changes");
            assert!(matches!(refused, ImageError::CommandLine(_)), "{refused}");
        }
        let refused = Parts::find(&mut image(&[(".cmdline", b"a")])).expect_err("no kernel");
        assert!(
            matches!(refused, ImageError::NoSection(".linux")),
            "{refused}"
        );
    }
}
