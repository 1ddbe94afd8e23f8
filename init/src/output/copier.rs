//! One round of copying from tmpfs to disk. Blocks as long as the disk does.

use std::io;
use std::sync::Arc;

use super::segments::{Failure, Writer};
use super::source::{Found, Source};
use super::{Cause, Config};

/// Bytes per round: a stalled disk holds at most this much, and a fast one is told of seldom.
const ROUND: usize = 256 << 10;

/// Copies one service's output.
#[derive(Debug)]
pub(super) struct Copier {
    config: Arc<Config>,
    source: Arc<Source>,
    writer: Option<Writer>,
    buffer: Vec<u8>,
}

/// How far the copy is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// Up to which offset the stream is on disk.
    pub(super) stored: u64,
    /// Bytes of this boot's stream that were lost.
    pub(super) lost: u64,
    /// Whether there is more to copy at once.
    pub(super) more: bool,
}

impl Copier {
    pub(super) fn new(config: Arc<Config>, source: Arc<Source>) -> Self {
        Self {
            config,
            source,
            writer: None,
            buffer: Vec::new(),
        }
    }

    /// Copies what is there, up to a bound. After an error the disk is asked anew how far the copy got.
    pub(super) fn round(&mut self) -> Result<Progress, Failure> {
        let unreadable = |error: io::Error| Failure {
            cause: Cause::SourceUnreadable,
            detail: format!("cannot read `{}`: {error}", self.config.source.display()),
        };
        let mut writer = if let Some(writer) = self.writer.take() {
            writer
        } else if !self.source.lock().map_err(unreadable)? {
            return Err(Failure {
                cause: Cause::DiskStalled,
                detail: format!(
                    "a write of an earlier supervisor below `{}` has not come back yet",
                    self.config.segments.display()
                ),
            });
        } else {
            let Config {
                segments,
                boot_number,
                bounds,
                ..
            } = &*self.config;
            Writer::open(segments, boot_number, *bounds)?
        };
        let end = self.source.end().map_err(unreadable)?;
        if end < writer.position() {
            self.source.extend(writer.position()).map_err(unreadable)?;
        }
        self.buffer.resize(ROUND, 0);
        let found = self
            .source
            .read(writer.position(), &mut self.buffer)
            .map_err(unreadable)?;
        let more = match found {
            Found::Hole(next) => {
                writer.skip(next - writer.position())?;
                true
            }
            Found::Bytes(length) => {
                let mut bytes = &self.buffer[..length];
                while !bytes.is_empty() {
                    let written = writer.append(bytes)?;
                    bytes = &bytes[written..];
                }
                length == ROUND
            }
        };
        let stored = writer.position();
        self.source
            .punch(stored.saturating_sub(self.config.bounds.window))
            .map_err(unreadable)?;
        if !more {
            // Nothing to do for a while: memory is dearer than the time to get it again.
            self.buffer = Vec::new();
        }
        let progress = Progress {
            stored,
            lost: writer.lost(),
            more,
        };
        self.writer = Some(writer);
        Ok(progress)
    }
}
