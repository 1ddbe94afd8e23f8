//! Reading a bundle from its beginning to its end, and giving nothing of it away that nobody has signed for.

use std::io::{self, Read};

use ring::signature::{ED25519, UnparsedPublicKey};
use thiserror::Error;

use crate::header::{ARCHITECTURE, FORMAT, Header, hash};
use crate::{BEGIN, PublicKey, SIGNATURE};

/// No header is longer: it has some 70 bytes for each block.
const LONGEST_HEADER: u32 = 1 << 20;
/// No block is longer: one is held in memory.
const LONGEST_BLOCK: u32 = 8 << 20;

/// Why a bundle is refused.
#[derive(Debug, Error)]
pub enum BundleError {
    /// It cannot be read.
    #[error("the bundle cannot be read")]
    Io(#[source] io::Error),
    /// It ends too early.
    #[error("the bundle is cut off: it ends within {within}")]
    CutOff {
        /// What was being read.
        within: &'static str,
    },
    /// It is something else.
    #[error("this is no upgrade bundle of Masthead")]
    Foreign,
    /// Nobody whom this node trusts has signed it.
    #[error("the bundle is not signed by any of the keys that this master trusts")]
    Unsigned,
    /// It is of a later format.
    #[error("the bundle has the format {0}, and this release reads {FORMAT} and earlier ones")]
    Format(u32),
    /// It is for other machines.
    #[error("the bundle is for {0}, and this machine is {ARCHITECTURE}")]
    Architecture(String),
    /// Its header contradicts itself.
    #[error("the bundle's header is not as any release writes it: {0}")]
    Header(String),
    /// A block is not as it was signed for.
    #[error(
        "block {number} of the bundle's image is damaged: its SHA-256 is {found}, and {signed} was signed for"
    )]
    Damaged {
        /// From 0.
        number: usize,
        /// What was computed.
        found: String,
        /// What the header says.
        signed: String,
    },
    /// There is something behind the image.
    #[error("the bundle goes on behind its image")]
    TooLong,
}

/// A bundle whose header is signed. Reading it gives the image.
#[derive(Debug)]
pub struct Reader<R> {
    bundle: R,
    header: Header,
    /// The next block.
    number: usize,
    /// The present one, and how much of it was given.
    block: Vec<u8>,
    given: usize,
}

impl<R: Read> Reader<R> {
    /// Reads what comes before the image, and refuses what nobody of `trusted` has signed.
    pub fn open(mut bundle: R, trusted: &[PublicKey]) -> Result<Self, BundleError> {
        let Head {
            signed: head,
            signature,
        } = Head::read(&mut bundle)?;
        let is_of = |key: &PublicKey| {
            let key = UnparsedPublicKey::new(&ED25519, key);
            key.verify(&head, &signature).is_ok()
        };
        if !trusted.iter().any(is_of) {
            return Err(BundleError::Unsigned);
        }
        // Only now: what is not signed is not looked at.
        let header = header(&head[BEFORE_HEADER..])?;
        Ok(Self {
            bundle,
            header,
            number: 0,
            block: Vec::new(),
            given: 0,
        })
    }

    /// What the bundle says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn next_block(&mut self) -> Result<(), BundleError> {
        self.given = 0;
        self.block.clear();
        let Some(signed) = self.header.blocks.get(self.number) else {
            let mut more = [0];
            return match self.bundle.read(&mut more).map_err(BundleError::Io)? {
                0 => Ok(()),
                _ => Err(BundleError::TooLong),
            };
        };
        let mut block = vec![0; self.header.bytes_of(self.number)];
        fill(&mut self.bundle, &mut block, "its image")?;
        let found = hash(&block);
        if found != *signed {
            return Err(BundleError::Damaged {
                number: self.number,
                found,
                signed: signed.clone(),
            });
        }
        self.block = block;
        self.number += 1;
        Ok(())
    }
}

/// Gives the image. What is not as it was signed for is an error whose source is a [`BundleError`], and nothing of it is given.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.block.len() {
            self.next_block().map_err(io::Error::other)?;
        }
        let rest = &self.block[self.given..];
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        self.given += bytes;
        Ok(bytes)
    }
}

/// What a bundle says that it is, whoever has signed it: for people, and for whoever sends it on.
#[derive(Clone, Debug)]
pub struct Unverified {
    /// What it says.
    pub header: Header,
    /// All before the image.
    pub head: Vec<u8>,
}

impl Unverified {
    /// Reads what comes before the image.
    pub fn read(bundle: &mut impl Read) -> Result<Self, BundleError> {
        let Head { signed, signature } = Head::read(bundle)?;
        let header = header(&signed[BEFORE_HEADER..])?;
        let head = [&*signed, &signature].concat();
        Ok(Self { header, head })
    }

    /// Bytes of the whole bundle.
    pub fn size(&self) -> u64 {
        self.head.len() as u64 + self.header.size
    }
}

/// Bytes before the header: what a bundle begins with, and the header's length.
const BEFORE_HEADER: usize = BEGIN.len() + 4;

/// What comes before the image.
struct Head {
    signed: Vec<u8>,
    signature: [u8; SIGNATURE],
}

impl Head {
    fn read(bundle: &mut impl Read) -> Result<Self, BundleError> {
        let mut signed = vec![0; BEFORE_HEADER];
        fill(bundle, &mut signed, "its beginning")?;
        let (begin, length) = signed.split_at(BEGIN.len());
        if begin != BEGIN {
            return Err(BundleError::Foreign);
        }
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        if length > LONGEST_HEADER {
            return Err(BundleError::Header(format!("it has {length} bytes")));
        }
        signed.resize(BEFORE_HEADER + length as usize, 0);
        fill(bundle, &mut signed[BEFORE_HEADER..], "its header")?;
        let mut signature = [0; SIGNATURE];
        fill(bundle, &mut signature, "its signature")?;
        Ok(Self { signed, signature })
    }
}

fn header(text: &[u8]) -> Result<Header, BundleError> {
    // First what every format has.
    #[derive(serde::Deserialize)]
    struct Any {
        format: u32,
    }
    let wrong = |error: serde_json::Error| BundleError::Header(error.to_string());
    let any: Any = serde_json::from_slice(text).map_err(wrong)?;
    if any.format > FORMAT {
        return Err(BundleError::Format(any.format));
    }
    let header: Header = serde_json::from_slice(text).map_err(wrong)?;
    if header.architecture != ARCHITECTURE {
        return Err(BundleError::Architecture(header.architecture));
    }
    if header.block > LONGEST_BLOCK || !header.is_consistent() {
        let (size, block, blocks) = (header.size, header.block, header.blocks.len());
        let why = format!("{size} bytes in {blocks} blocks of {block}");
        return Err(BundleError::Header(why));
    }
    Ok(header)
}

fn fill(
    bundle: &mut impl Read,
    buffer: &mut [u8],
    within: &'static str,
) -> Result<(), BundleError> {
    bundle
        .read_exact(buffer)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => BundleError::CutOff { within },
            _ => BundleError::Io(error),
        })
}
