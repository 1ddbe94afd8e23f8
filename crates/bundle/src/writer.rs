//! Making a bundle.

use std::io::{self, Read, Seek, SeekFrom, Write};

use thiserror::Error;

use crate::header::{ARCHITECTURE, FORMAT, Header, hash};
use crate::{BEGIN, SIGNATURE};

/// Bytes a block.
const BLOCK: u32 = 1 << 20;

/// Why no bundle was made.
#[derive(Debug, Error)]
pub enum WriterError {
    /// The image cannot be read.
    #[error("the image cannot be read")]
    Image(#[source] io::Error),
    /// There is nothing in it.
    #[error("the image is empty")]
    Empty,
    /// It is not the same at the second reading.
    #[error("the image has changed while the bundle was made of it")]
    Changed,
    /// The bundle cannot be written.
    #[error("the bundle cannot be written")]
    Write(#[source] io::Error),
    /// Nobody has signed it.
    #[error("the bundle cannot be signed")]
    Sign(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a bundle is made of.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Of the image.
    pub version: String,
    /// UUID of its root file system.
    pub image: String,
    /// Its Kubernetes.
    pub kubernetes: String,
    /// Its etcd.
    pub etcd: String,
}

impl Writer {
    /// Reads an image twice, and writes a bundle of it. `sign` makes an Ed25519 signature of 64 bytes.
    pub fn write(
        &self,
        image: &mut (impl Read + Seek),
        bundle: &mut impl Write,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<Header, WriterError> {
        let mut blocks = Vec::new();
        let size = each_block(image, |block| {
            blocks.push(hash(block));
            Ok(())
        })?;
        if size == 0 {
            return Err(WriterError::Empty);
        }
        let header = Header {
            format: FORMAT,
            version: self.version.clone(),
            image: self.image.clone(),
            architecture: ARCHITECTURE.to_owned(),
            kubernetes: self.kubernetes.clone(),
            etcd: self.etcd.clone(),
            size,
            block: BLOCK,
            blocks,
        };
        let text = serde_json::to_vec(&header).map_err(|error| WriterError::Write(error.into()))?;
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let head = [BEGIN.as_slice(), &length.to_le_bytes(), &text].concat();
        let signature = sign(&head).map_err(WriterError::Sign)?;
        if signature.len() != SIGNATURE {
            return Err(WriterError::Sign("it is no Ed25519 signature".into()));
        }
        for part in [&head, &signature] {
            bundle.write_all(part).map_err(WriterError::Write)?;
        }
        let mut hashes = header.blocks.iter();
        each_block(image, |block| {
            if hashes.next() != Some(&hash(block)) {
                return Err(WriterError::Changed);
            }
            bundle.write_all(block).map_err(WriterError::Write)
        })?;
        bundle.flush().map_err(WriterError::Write)?;
        Ok(header)
    }
}

/// Returns how many bytes there are.
fn each_block(
    image: &mut (impl Read + Seek),
    mut take: impl FnMut(&[u8]) -> Result<(), WriterError>,
) -> Result<u64, WriterError> {
    image.seek(SeekFrom::Start(0)).map_err(WriterError::Image)?;
    let mut size = 0;
    loop {
        let mut block = Vec::new();
        let read = image
            .by_ref()
            .take(u64::from(BLOCK))
            .read_to_end(&mut block);
        let read = read.map_err(WriterError::Image)?;
        if read == 0 {
            return Ok(size);
        }
        take(&block)?;
        size += read as u64;
    }
}
