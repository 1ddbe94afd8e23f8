//! The bundle that is sent: a file, or what a URL gives, kept in a file for as long as it is sent.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use masthead_api::routes::MAX_BUNDLE;
use masthead_api::upgrade::Image;
use masthead_bundle::Unverified;
use tokio::sync::mpsc;

use super::progress::Progress;
use crate::{Exit, Failure};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Pieces that wait for the network.
const PIECES: usize = 4;

/// A bundle. Who has signed it is not looked at: that is for the nodes.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    head: Vec<u8>,
    /// What it says that it holds.
    pub(super) image: Image,
    /// Bytes of the whole.
    pub(super) size: u64,
}

impl Source {
    /// Opens a file, or fetches what is at a URL first.
    pub(super) fn open(name: &str, progress: &Progress) -> Result<Self, Failure> {
        let what = || format!("read the bundle {name}");
        let is_url = ["http://", "https://"]
            .iter()
            .any(|begin| name.starts_with(begin));
        let mut file = if is_url {
            fetch(name, progress)?
        } else {
            File::open(name).map_err(|error| Failure::new(what(), &error, "Check the path."))?
        };
        let next = "Use a bundle as `imagebuild bundle` makes them, whole.";
        let read = Unverified::read(&mut file);
        let said = read.map_err(|error| Failure {
            exit: Exit::Refused,
            ..Failure::new(what(), &error, next).with_code("bad-bundle")
        })?;
        let size = said.size();
        let has = file
            .metadata()
            .map_err(|error| Failure::new(what(), &error, "Check the file."))?
            .len();
        if has != size {
            let why = format!("it has {has} bytes, and its header says that it has {size}");
            return Err(Failure::refused(what(), why, next).with_code("bad-bundle"));
        }
        Ok(Self {
            file,
            head: said.head,
            image: Image {
                version: said.header.version,
                image: said.header.image,
                kubernetes: said.header.kubernetes,
                etcd: said.header.etcd,
            },
            size,
        })
    }

    /// Its beginning, up to its signature: enough for a node to say whether it would take it.
    pub(super) fn beginning(&self) -> (u64, mpsc::Receiver<io::Result<Bytes>>) {
        let (sender, receiver) = mpsc::channel(1);
        // There is room for the one.
        let _ = sender.try_send(Ok(Bytes::from(self.head.clone())));
        (self.head.len() as u64, receiver)
    }

    /// All of it, once more from its beginning. `told` hears how many bytes were read so far.
    pub(super) fn pieces(
        &self,
        told: impl Fn(u64) + Send + 'static,
    ) -> Result<mpsc::Receiver<io::Result<Bytes>>, Failure> {
        let again = |error| Failure::new("read the bundle again", &error, "Check the file.");
        let mut file = self.file.try_clone().map_err(again)?;
        file.seek(SeekFrom::Start(0)).map_err(again)?;
        let (sender, receiver) = mpsc::channel(PIECES);
        tokio::task::spawn_blocking(move || {
            let mut so_far = 0;
            loop {
                let mut piece = vec![0; PIECE];
                let read = file.read(&mut piece).map(|bytes| {
                    piece.truncate(bytes);
                    Bytes::from(piece)
                });
                let is_over = read.as_ref().map_or(true, Bytes::is_empty);
                so_far += read.as_ref().map_or(0, |piece| piece.len() as u64);
                told(so_far);
                if matches!(&read, Ok(piece) if piece.is_empty())
                    || sender.blocking_send(read).is_err()
                    || is_over
                {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

fn fetch(url: &str, progress: &Progress) -> Result<File, Failure> {
    let what = || format!("fetch {url}");
    let next = "Check the address and the network, or fetch it yourself and name the file.";
    let failed = |error: &dyn std::error::Error| Failure::new(what(), error, next);
    let answer = ureq::get(url).call().map_err(|error| failed(&error))?;
    let mut body = answer.into_body().into_reader().take(MAX_BUNDLE + 1);
    let mut file = tempfile::tempfile().map_err(|error| failed(&error))?;
    progress.note(&format!("fetching {url}"));
    let bytes = io::copy(&mut body, &mut file).map_err(|error| failed(&error))?;
    if bytes > MAX_BUNDLE {
        let why = format!("it has more than the {MAX_BUNDLE} bytes that a node takes");
        return Err(Failure::refused(what(), why, "Use an upgrade bundle."));
    }
    file.seek(SeekFrom::Start(0))
        .map_err(|error| failed(&error))?;
    Ok(file)
}
