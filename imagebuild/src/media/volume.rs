//! The FAT volume of a medium: the image where firmware looks for it, in one piece.

use std::io::Cursor;
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use masthead_slots::{Format, Partition};

/// Where firmware looks on a medium (UEFI specification, 3.5.1.1).
pub const PATH: &str = "/EFI/BOOT/BOOTX64.EFI";
/// What is left free for whoever puts a seed on a stick: four of the largest.
const FREE: u64 = 1 << 20;
/// Where the image begins is a multiple of this: a block of a CD, so that the image is a file of its own there.
pub const BLOCK: u64 = 2048;

/// A file system, and where the image is in it.
pub struct Volume {
    /// All of it.
    pub bytes: Vec<u8>,
    /// The image's bytes.
    pub image: Range<u64>,
}

/// Makes the volume of an image. The same image gives the same bytes.
pub fn make(image: &[u8]) -> Result<Volume> {
    let format = Format::medium();
    let bytes = format.smallest(image.len() as u64 + FREE);
    let bytes = usize::try_from(bytes).context("the image is too large for a medium")?;
    let storage = Cursor::new(vec![0; bytes]);
    let making = "making the volume with the image";
    let mut partition = Partition::format(storage, format).context(making)?;
    partition.write(PATH, &mut &*image).context(making)?;
    let range = partition.range(PATH).context(making)?;
    let range = range.context("the image is in pieces on its volume")?;
    ensure!(
        range.start.is_multiple_of(BLOCK),
        "the image begins at byte {} of its volume, which is in the middle of a CD's block",
        range.start
    );
    Ok(Volume {
        bytes: partition.into_storage().into_inner(),
        image: range,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// As large as one of ours.
    fn image(bytes: usize) -> Vec<u8> {
        let mut image = (0..251).collect::<Vec<u8>>().repeat(bytes / 251 + 1);
        image.truncate(bytes);
        image
    }

    #[test]
    fn others_read_it_and_find_the_image_where_it_is_said_to_be() {
        let folder = tempfile::tempdir().expect("a folder");
        for bytes in [1, 3 << 20, 69_123_457, 90 << 20] {
            let image = image(bytes);
            let volume = make(&image).expect("made");
            let range = usize::try_from(volume.image.start).expect("small")
                ..usize::try_from(volume.image.end).expect("small");
            assert!(volume.bytes[range] == image, "{bytes}");
            assert!(
                volume.bytes.len() < (68 << 20).max(bytes + (3 << 20)),
                "{bytes}: {}",
                volume.bytes.len()
            );
            let path = folder.path().join("volume");
            fs::write(&path, &volume.bytes).expect("written");
            let mut check = Command::new("fsck.fat");
            let checked = check.args(["-n", "-v"]).arg(&path).output();
            let checked = checked.expect("dosfstools is installed");
            let said = String::from_utf8_lossy(&checked.stdout);
            assert!(checked.status.success(), "{said}");
            assert!(said.contains("32 bit entries"), "{said}");
            let mut read = Command::new("mtype");
            let read = read.arg("-i").arg(&path).arg(format!("::{PATH}")).output();
            assert!(read.expect("mtools is installed").stdout == image);
        }
    }

    #[test]
    fn there_is_room_for_a_seed() {
        let volume = make(&image(69_123_457)).expect("made");
        let mut partition = Partition::open(Cursor::new(volume.bytes)).expect("FAT32");
        let largest = vec![b'#'; 256 << 10];
        partition
            .write("/seed.toml", &mut &*largest)
            .expect("space");
        let read = partition.read("/seed.toml").expect("read");
        assert!(read.is_some_and(|read| read == largest));
    }
}
