//! An initramfs of two archives, which the kernel unpacks one after the other.
//!
//! The root image is compressed already, and is stored as it is: unpacking it again would cost an
//! emulated machine seconds. What else there is, `init` above all, is a third of its size as zstd.
//! The uncompressed archive is the first, because it must begin at a multiple of four bytes
//! (init/initramfs.c of the kernel).

use std::borrow::Cow;
use std::io::{self, Read as _};

use super::cpio;

/// The first bytes of a zstd frame (RFC 8878).
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// zstd's highest level that needs no more memory to unpack than the kernel allows.
const LEVEL: i32 = 19;

/// Why an initramfs cannot be taken apart.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An archive in it is damaged.
    #[error("the archive at byte {0} is damaged")]
    Archive(usize, #[source] cpio::Error),
    /// A compressed part is damaged, or compressed in another way.
    #[error("the part at byte {0} is neither an archive nor compressed by zstd")]
    Compression(usize, #[source] io::Error),
}

/// Puts an archive that stays as it is before one that is compressed.
pub fn join(plain: Vec<u8>, compressed: &[u8]) -> io::Result<Vec<u8>> {
    let mut joined = plain;
    joined.extend(zstd::bulk::compress(compressed, LEVEL)?);
    Ok(joined)
}

/// The cpio archives of an initramfs, uncompressed.
pub fn archives(initramfs: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, Error> {
    let mut found = Vec::new();
    let mut offset = 0;
    while let Some(rest) = initramfs.get(offset..).filter(|rest| !rest.is_empty()) {
        if rest[0] == 0 {
            // Padding between parts.
            offset += 1;
        } else if rest.starts_with(ZSTD) {
            let mut archive = Vec::new();
            zstd::stream::read::Decoder::new(rest)
                .and_then(|mut decoder| decoder.read_to_end(&mut archive))
                .map_err(|error| Error::Compression(offset, error))?;
            found.push(Cow::Owned(archive));
            // A decoder takes all frames that follow each other: this is the end.
            break;
        } else {
            let (_, length) = cpio::read(rest).map_err(|error| Error::Archive(offset, error))?;
            found.push(Cow::Borrowed(&rest[..length]));
            offset += length;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::{Kind, Writer};

    fn archive(name: &str, content: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), 0);
        writer
            .add(name, Kind::File, 0o644, content)
            .expect("writing");
        writer.finish().expect("finishing")
    }

    #[test]
    fn both_archives_are_found() {
        let (plain, small) = (archive("root.erofs", b"odd"), archive("init", &[7; 5000]));
        let joined = join(plain.clone(), &small).expect("joining");
        assert!(joined.len() < plain.len() + 500, "the second is compressed");
        let found = archives(&joined).expect("well-formed");
        assert_eq!(found, [Cow::from(plain), Cow::from(small)]);
    }

    #[test]
    fn padding_and_damage_are_told_apart() {
        let mut bytes = archive("a", b"");
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        assert_eq!(archives(&bytes).expect("padded").len(), 1);
        let at = bytes.len();
        bytes.extend_from_slice(b"gzip");
        let error = archives(&bytes).expect_err("something else");
        assert!(
            matches!(error, Error::Archive(offset, _) if offset == at),
            "{error}"
        );
    }
}
