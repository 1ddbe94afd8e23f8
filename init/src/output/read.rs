//! Output for those who ask: the last lines, and output as it is written.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::source::{Found, Source};
use super::{Cause, Config, State, tail};

/// Most bytes of one chunk of [`Follow`].
const CHUNK: usize = 64 << 10;

/// Reads one service's output.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) config: Arc<Config>,
    pub(super) state: watch::Receiver<State>,
}

/// Where [`Handle::follow`](super::Handle::follow) begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest output of this boot that is kept.
    Start,
    /// With the last lines, and on from there.
    Last(usize),
    /// With what is written from now on.
    End,
}

/// Output as it is written.
#[derive(Debug)]
pub struct Follow {
    reader: Reader,
    next: Next,
}

/// Where to go on.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Where the caller said.
    Begin(From),
    /// At this position of the stream.
    At(u64),
}

impl Reader {
    /// The last lines with their line ends, and the position after them.
    pub(super) async fn last_lines(&self, lines: usize) -> (Vec<u8>, u64) {
        let memory = tail::in_memory(&self.config).unwrap_or_default();
        let end = memory.end();
        let mut bytes = memory.bytes;
        // One line more tells that the first of them is whole.
        let missing = (lines + 1).saturating_sub(tail::count_lines(&bytes));
        if missing > 0 && lines > 0 {
            let read = move |config: &Config| tail::on_disk(config, memory.start, missing);
            if let Some(mut stored) = self.read_disk(read).await {
                stored.append(&mut bytes);
                bytes = stored;
            }
        }
        (tail::last_lines(&bytes, lines).to_vec(), end)
    }

    /// Runs something that may wait for the disk, and gives up on it after a while. Does not begin while
    /// the disk is known to be stalled: each try would hold a thread.
    async fn read_disk<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Config) -> io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let stalled = |trouble: &super::Trouble| trouble.cause == Cause::DiskStalled;
        if self.state.borrow().trouble.as_ref().is_some_and(stalled) {
            return None;
        }
        let config = Arc::clone(&self.config);
        let patience = config.bounds.patience;
        timeout(patience, spawn_blocking(move || read(&config)))
            .await
            .ok()?
            .ok()?
            .ok()
    }
}

impl Follow {
    pub(super) fn new(reader: Reader, from: From) -> Self {
        Self {
            reader,
            next: Next::Begin(from),
        }
    }

    /// The next bytes: at most 64 KiB, but up to 2 MiB for the last lines, which come first. A line of
    /// its own stands for bytes that cannot be had. `None` when the follower has ended. Safe to
    /// cancel.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let position = match self.next {
                Next::Begin(From::Start) => 0,
                Next::Begin(From::Last(lines)) => {
                    let (bytes, position) = self.reader.last_lines(lines).await;
                    self.next = Next::At(position);
                    return Some(bytes.into());
                }
                Next::Begin(From::End) => self.reader.last_lines(0).await.1,
                Next::At(position) => position,
            };
            self.next = Next::At(position);
            // Before reading, so that what is written meanwhile wakes us.
            self.reader.state.borrow_and_update();
            let mut bytes = vec![0; CHUNK];
            let source = Source::open_for_reading(&self.reader.config.source);
            let found = source.and_then(|source| source.read(position, &mut bytes));
            let next = match found {
                // Not made yet, or nothing new.
                Err(_) | Ok(Found::Bytes(0)) => {
                    self.reader.state.changed().await.ok()?;
                    continue;
                }
                Ok(Found::Bytes(length)) => {
                    bytes.truncate(length);
                    position + length as u64
                }
                Ok(Found::Hole(data)) => {
                    let read = move |config: &Config| tail::stored_at(config, position, CHUNK);
                    let stored = self.reader.read_disk(read).await;
                    let stored = stored.filter(|stored| stored.next > position);
                    let missing = data - position;
                    let without = || tail::Stored {
                        bytes: format!("masthead: {missing} bytes of output are not here\n").into(),
                        next: data,
                    };
                    let stored = stored.unwrap_or_else(without);
                    bytes = stored.bytes;
                    stored.next
                }
            };
            self.next = Next::At(next);
            return Some(bytes.into());
        }
    }
}
