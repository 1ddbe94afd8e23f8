//! What an image says of itself, in its section `.osrel` (os-release(5)), and whether a copy of it is whole.
//!
//! Some lines are Masthead's own. `MASTHEAD_IMAGE` is the UUID of the root file system: it follows from everything that the image is built
//! from, and the root holds it, too, so that a running node knows its own image again wherever it finds one. `MASTHEAD_SHA256` is a
//! digest of all sections as they lie in the file, with its own digits taken as zeros. The headers before them and a signature behind them
//! are outside of it: signing an image changes both.

use std::io::{self, Read, Seek, SeekFrom};

use object::LittleEndian as LE;
use object::read::pe::{ImageNtHeaders as _, ImageOptionalHeader as _, PeFile64};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::root::Place;

const VERSION: &str = "VERSION_ID=";
const IMAGE: &str = "MASTHEAD_IMAGE=";
const KUBERNETES: &str = "MASTHEAD_KUBERNETES=";
const ETCD: &str = "MASTHEAD_ETCD=";
const DIGEST: &str = "MASTHEAD_SHA256=";
/// Of a digest.
const DIGITS: usize = 64;
/// All headers of an image are within so many bytes.
const HEADERS: u64 = 64 << 10;
/// No `.osrel` is longer.
const LONGEST_RELEASE: u64 = 64 << 10;
/// What is read at once.
const CHUNK: usize = 1 << 20;

/// What an image says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Of the image, such as `0.1.0`.
    pub version: String,
    /// UUID of its root file system.
    pub image: String,
    /// Its Kubernetes, such as `v1.36.3`.
    pub kubernetes: String,
    /// Its etcd, such as `3.6.16`.
    pub etcd: String,
}

/// Why an image is not taken.
#[derive(Debug, Error)]
pub enum ImageError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// It is no EFI program.
    #[error("it is no 64-bit EFI program")]
    Parse(#[from] object::read::Error),
    /// It is an EFI program of somebody else.
    #[error("it is no image of Masthead's")]
    Foreign,
    /// It says nothing about this.
    #[error("its section .osrel has no line {0}")]
    Missing(&'static str),
    /// It lacks this section.
    #[error("it has no section {0}")]
    NoSection(&'static str),
    /// A section is where GRUB cannot read it.
    #[error("its section {0} does not begin at a multiple of 512 bytes, in which GRUB counts")]
    Unaligned(String),
    /// GRUB would hand over another command line.
    #[error("its command line has a {0:?}, which GRUB does not hand over as it is")]
    CommandLine(char),
    /// Its bytes are not those that it was built with.
    #[error("it is damaged: its sections have the SHA-256 {found}, and it was built with {built}")]
    Damaged {
        /// What was computed.
        found: String,
        /// What it says.
        built: String,
    },
    /// Its headers lead out of it.
    #[error("it is cut off: a section ends at byte {end}, and it has {has}")]
    CutOff {
        /// Where, in bytes.
        end: u64,
        /// Its size, bytes.
        has: u64,
    },
}

impl Release {
    /// The section, with room for the digest (see [`seal`]).
    ///
    /// IMAGE_VERSION is the same in every release: systemd-boot sorts by it before it sorts by name, and a downgrade, or the same
    /// version again, would never be tried where it is looked at.
    pub fn text(&self) -> String {
        let Self {
            version,
            image,
            kubernetes,
            etcd,
        } = self;
        let digest = "0".repeat(DIGITS);
        format!(
            "ID=masthead\nNAME=Masthead\nPRETTY_NAME=\"Masthead {version}\"\n{VERSION}{version}\n\
             IMAGE_ID=masthead\nIMAGE_VERSION=1\n{IMAGE}{image}\n{KUBERNETES}{kubernetes}\n{ETCD}{etcd}\n\
             {DIGEST}{digest}\n"
        )
    }
}

/// Writes the digest of a finished image into it.
pub fn seal(image: &mut [u8]) -> Result<(), ImageError> {
    let mut reader = io::Cursor::new(&*image);
    let places = Places::find(&mut reader)?;
    let digest = places.digest(&mut reader)?;
    let at = usize::try_from(places.digits).unwrap_or(usize::MAX);
    let place = image.get_mut(at..).and_then(|rest| rest.get_mut(..DIGITS));
    place
        .ok_or(ImageError::Missing(DIGEST))?
        .copy_from_slice(digest.as_bytes());
    Ok(())
}

/// Reads an image whole, and says what it is if it is as it was built. Bytes behind its last section, such as a signature, are not looked at.
pub fn check<R: Read + Seek>(image: &mut R) -> Result<Release, ImageError> {
    let places = Places::find(image)?;
    let found = places.digest(image)?;
    let built = places.line(DIGEST)?.to_owned();
    if found != built {
        return Err(ImageError::Damaged { found, built });
    }
    places.release()
}

/// What an image says of itself, without looking whether it is whole.
pub fn read<R: Read + Seek>(image: &mut R) -> Result<Release, ImageError> {
    let places = Places::find(image)?;
    places.release()
}

/// A section, without its content.
pub(crate) struct SectionAt {
    pub(crate) name: String,
    pub(crate) place: Place,
    /// Bytes of it in the file, with the padding at its end.
    padded: u64,
}

/// The sections of an image, which is only read as far as its headers go.
pub(crate) fn sections<R: Read + Seek>(image: &mut R) -> Result<Vec<SectionAt>, ImageError> {
    Ok(headers(image)?.1)
}

/// How many bytes the headers have, and the sections behind them.
fn headers<R: Read + Seek>(image: &mut R) -> Result<(u64, Vec<SectionAt>), ImageError> {
    let mut head = Vec::new();
    image.seek(SeekFrom::Start(0))?;
    image.by_ref().take(HEADERS).read_to_end(&mut head)?;
    let file = PeFile64::parse(&*head)?;
    let begin = u64::from(file.nt_headers().optional_header().size_of_headers());
    let has = image.seek(SeekFrom::End(0))?;
    let mut sections = Vec::new();
    for section in file.section_table().iter() {
        let at = u64::from(section.pointer_to_raw_data.get(LE));
        let padded = u64::from(section.size_of_raw_data.get(LE));
        let used = u64::from(section.virtual_size.get(LE));
        let end = at + padded;
        if end > has {
            return Err(ImageError::CutOff { end, has });
        }
        sections.push(SectionAt {
            name: String::from_utf8_lossy(section.raw_name()).into_owned(),
            place: Place {
                begin: at,
                bytes: padded.min(used),
            },
            padded,
        });
    }
    Ok((begin, sections))
}

/// Where things are in a file, in bytes.
struct Places {
    /// The section `.osrel`.
    text: String,
    /// Of the digest, as it is written.
    digits: u64,
    /// Of the first section.
    begin: u64,
    /// Behind the last section.
    end: u64,
}

impl Places {
    fn find<R: Read + Seek>(image: &mut R) -> Result<Self, ImageError> {
        let (begin, sections) = headers(image)?;
        let ends = sections
            .iter()
            .map(|section| section.place.begin + section.padded);
        let end = ends.max().unwrap_or(begin);
        let release = sections.iter().find(|section| section.name == ".osrel");
        let Place { begin: at, bytes } = release.ok_or(ImageError::Foreign)?.place;
        let mut text = Vec::new();
        image.seek(SeekFrom::Start(at))?;
        image
            .by_ref()
            .take(bytes.min(LONGEST_RELEASE))
            .read_to_end(&mut text)?;
        let release = String::from_utf8(text).map_err(|_| ImageError::Foreign)?;
        if !release.lines().any(|line| line == "ID=masthead") {
            return Err(ImageError::Foreign);
        }
        // At the beginning of a line: the text begins with another one.
        let line = release.find(&format!("\n{DIGEST}"));
        let line = line.ok_or(ImageError::Missing(DIGEST))?;
        let digits = at + (line + 1 + DIGEST.len()) as u64;
        Ok(Self {
            text: release,
            digits,
            begin,
            end,
        })
    }

    fn release(&self) -> Result<Release, ImageError> {
        let line = |name| self.line(name).map(str::to_owned);
        Ok(Release {
            version: line(VERSION)?,
            image: line(IMAGE)?,
            kubernetes: line(KUBERNETES)?,
            etcd: line(ETCD)?,
        })
    }

    fn line(&self, name: &'static str) -> Result<&str, ImageError> {
        let mut lines = self.text.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .ok_or(ImageError::Missing(name))
    }

    fn digest<R: Read + Seek>(&self, image: &mut R) -> Result<String, ImageError> {
        let mut digest = Sha256::new();
        let mut update = |image: &mut R, from: u64, to: u64| -> io::Result<()> {
            image.seek(SeekFrom::Start(from))?;
            let mut part = image.by_ref().take(to - from);
            let mut chunk = vec![0; CHUNK];
            loop {
                match part.read(&mut chunk)? {
                    0 => return Ok(()),
                    read => digest.update(&chunk[..read]),
                }
            }
        };
        let behind = (self.digits + DIGITS as u64).min(self.end);
        update(image, self.begin, self.digits)?;
        update(&mut *image, behind, self.end)?;
        Ok(format!("{:x}", digest.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::program;
    use crate::pe::{self, NewSection};

    fn release() -> Release {
        Release {
            version: "0.1.0".to_owned(),
            image: "0d7b1c2e-0000-4000-8000-000000000001".to_owned(),
            kubernetes: "v1.36.3".to_owned(),
            etcd: "3.6.16".to_owned(),
        }
    }

    fn image() -> Vec<u8> {
        let text = release().text();
        let initrd: Vec<u8> = (0..3_000_000_u32)
            .map(|number| (number % 251) as u8)
            .collect();
        let added = [
            NewSection::new(".osrel", text.as_bytes()),
            NewSection::new(".initrd", &initrd),
        ];
        let mut image = pe::with_sections(&program(), &added).expect("room for both");
        seal(&mut image).expect("a line for the digest");
        image
    }

    fn of(image: &[u8]) -> Result<Release, ImageError> {
        check(&mut io::Cursor::new(image))
    }

    #[test]
    fn an_image_is_known_by_what_it_was_built_from() {
        let image = image();
        assert_eq!(of(&image).expect("whole"), release());
        let mut signed = image;
        signed.extend_from_slice(b"a signature");
        assert_eq!(of(&signed).expect("whole"), release());
    }

    #[test]
    fn every_bit_of_a_section_counts() {
        let image = image();
        let begin = usize::try_from(
            Places::find(&mut io::Cursor::new(&image))
                .expect("an image")
                .begin,
        );
        let begin = begin.expect("small");
        for at in (begin..image.len())
            .step_by(9973)
            .chain([begin, image.len() - 1])
        {
            let mut damaged = image.clone();
            damaged[at] ^= 0x10;
            assert!(of(&damaged).is_err(), "byte {at}");
        }
        let cut = of(&image[..image.len() - 512]);
        assert!(matches!(cut, Err(ImageError::CutOff { .. })), "{cut:?}");
    }

    #[test]
    fn what_is_no_image_says_so() {
        assert!(matches!(of(b"#!/bin/sh\n"), Err(ImageError::Parse(_))));
        assert!(matches!(of(&program()), Err(ImageError::Foreign)));
        let section = NewSection::new(".osrel", b"NAME=Other\nID=other\n");
        let other = pe::with_sections(&program(), &[section]).expect("room");
        assert!(matches!(of(&other), Err(ImageError::Foreign)));
    }

    #[test]
    fn only_names_and_digests_differ_between_releases() {
        let sorted_by = |version: &str| {
            let release = Release {
                version: version.to_owned(),
                ..release()
            };
            let text = release.text();
            let lines = text.lines().filter(|line| line.starts_with("IMAGE_"));
            lines.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(sorted_by("0.1.0"), sorted_by("0.2.0"));
        assert_eq!(sorted_by("0.1.0").len(), 2);
    }
}
