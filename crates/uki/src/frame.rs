//! An image without its root file system: its frame, from which it is put together again where the root is at hand.
//!
//! A node that was started over the network has the root in memory, and not the file that holds it. With the frame it has the whole image, and can put
//! that on its disk. A frame is 16 bytes (`mh-frame`, and where the root begins, little-endian), and then the image without the root.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use crate::ImageError;
use crate::root;

/// Its name in the initramfs of a node that is started over the network.
pub const FILE: &str = "image.frame";

const MAGIC: &[u8; 8] = b"mh-frame";
const HEADER: usize = 16;

/// The frame of a whole image.
pub fn of(image: &[u8]) -> Result<Vec<u8>, ImageError> {
    let place = root::find(&mut Cursor::new(image))?;
    let cut_off = || ImageError::CutOff {
        end: place.begin + place.bytes,
        has: image.len() as u64,
    };
    let offset = |at: u64| usize::try_from(at).map_err(|_| cut_off());
    let before = image.get(..offset(place.begin)?).ok_or_else(cut_off)?;
    let after = image.get(offset(place.begin + place.bytes)?..);
    let begin = place.begin.to_le_bytes();
    Ok([&MAGIC[..], &begin, before, after.ok_or_else(cut_off)?].concat())
}

/// An image of which frame and root are two files.
#[derive(Debug)]
pub struct Framed<F, R> {
    frame: F,
    root: R,
    /// Of the root in the image.
    begin: u64,
    root_bytes: u64,
    bytes: u64,
    position: u64,
}

impl<F: Read + Seek, R: Read + Seek> Framed<F, R> {
    /// Puts both together. What comes out is the image only if [`check`](crate::check) says so.
    pub fn new(mut frame: F, mut root: R) -> Result<Self, ImageError> {
        let mut header = [0; HEADER];
        frame.seek(SeekFrom::Start(0))?;
        frame.read_exact(&mut header)?;
        let begin = header.strip_prefix(MAGIC).and_then(|begin| {
            let begin = begin.try_into().ok()?;
            Some(u64::from_le_bytes(begin))
        });
        let begin = begin.ok_or(ImageError::Foreign)?;
        let frame_bytes = frame.seek(SeekFrom::End(0))? - HEADER as u64;
        if begin > frame_bytes {
            return Err(ImageError::CutOff {
                end: begin,
                has: frame_bytes,
            });
        }
        let root_bytes = root.seek(SeekFrom::End(0))?;
        Ok(Self {
            frame,
            root,
            begin,
            root_bytes,
            bytes: frame_bytes + root_bytes,
            position: 0,
        })
    }
}

impl<F: Read + Seek, R: Read + Seek> Read for Framed<F, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (at, end) = (self.position, self.begin + self.root_bytes);
        let until = |end: u64, buffer: &mut [u8]| {
            let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            left.min(buffer.len())
        };
        let read = if at < self.begin {
            let wanted = until(self.begin, buffer);
            self.frame.seek(SeekFrom::Start(HEADER as u64 + at))?;
            self.frame.read(&mut buffer[..wanted])?
        } else if at < end {
            let wanted = until(end, buffer);
            self.root.seek(SeekFrom::Start(at - self.begin))?;
            self.root.read(&mut buffer[..wanted])?
        } else {
            let wanted = until(self.bytes, buffer);
            self.frame
                .seek(SeekFrom::Start(HEADER as u64 + at - self.root_bytes))?;
            self.frame.read(&mut buffer[..wanted])?
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl<F, R> Seek for Framed<F, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::program;
    use crate::pe::{NewSection, with_sections};
    use crate::root::tests::entry;

    fn image(root: &[u8]) -> Vec<u8> {
        let initrd = [&*entry("root.erofs", root), b"what follows"].concat();
        let added = [
            NewSection::new(".initrd", &initrd),
            NewSection::new(".linux", b"kernel"),
        ];
        with_sections(&program(), &added).unwrap()
    }

    #[test]
    fn frame_and_root_are_the_image_again() {
        let root: Vec<u8> = (0..5000_u32)
            .map(|number| number.to_le_bytes()[0])
            .collect();
        let image = image(&root);
        let frame = of(&image).unwrap();
        assert_eq!(frame.len(), image.len() - root.len() + 16);
        let framed = || Framed::new(Cursor::new(&frame), Cursor::new(&root)).unwrap();
        let mut whole = Vec::new();
        framed().read_to_end(&mut whole).unwrap();
        assert!(whole == image);
        for at in [0, 1, 511, 1000, 5000, image.len() - 3, image.len()] {
            let mut part = [0; 7];
            let mut framed = framed();
            framed.seek(SeekFrom::Start(at as u64)).unwrap();
            let wanted = part.len().min(image.len() - at);
            framed.read_exact(&mut part[..wanted]).unwrap();
            assert_eq!(part[..wanted], image[at..at + wanted], "{at}");
            assert_eq!(framed.stream_position().unwrap(), (at + wanted) as u64);
        }
        let mut framed = framed();
        assert_eq!(framed.seek(SeekFrom::End(0)).unwrap(), image.len() as u64);
        assert!(framed.seek(SeekFrom::End(-1_000_000)).is_err());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut frame = of(&image(b"root")).unwrap();
        let refused = |frame: &[u8]| {
            let root = Cursor::new(b"root");
            Framed::new(Cursor::new(frame.to_vec()), root)
                .map(drop)
                .unwrap_err()
        };
        assert!(matches!(refused(&frame[..15]), ImageError::Io(_)));
        assert!(matches!(refused(&frame[..200]), ImageError::CutOff { .. }));
        frame[0] = b'M';
        assert!(matches!(refused(&frame), ImageError::Foreign));
        assert!(of(&program()).is_err(), "it has no root");
    }
}
