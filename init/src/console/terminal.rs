//! The machine's consoles.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use masthead_api::Status;

use super::render::render;
use super::screen::{Screen, ScreenKind};

/// The shortest time between two pictures.
const PERIOD: Duration = Duration::from_secs(1);

/// How soon a terminal that took only part of a picture is offered the rest.
const RETRY: Duration = Duration::from_millis(50);

/// The size assumed for a terminal that does not tell its own: columns and rows of the oldest.
const DEFAULT_SIZE: (usize, usize) = (80, 25);

/// A console, written to without ever waiting for it: a serial line with flow control and nobody
/// at the other end must not stop the supervisor.
#[derive(Debug)]
pub struct Terminal {
    file: File,
    screen: Screen,
    columns: usize,
    pending: Vec<u8>,
}

impl Terminal {
    /// Opens the console at `path`.
    pub fn open(path: &Path, kind: ScreenKind) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
            .open(path)?;
        Ok(Self::on(file, kind))
    }

    /// Uses a file that is open for writing; what a namespace node has in a console's place.
    pub fn on(file: File, kind: ScreenKind) -> Self {
        let (columns, rows) = size(&file);
        Self {
            file,
            screen: Screen::new(kind, rows),
            columns,
            pending: Vec::new(),
        }
    }

    /// Shows `status`, as far as the terminal takes it now. While a picture is not written whole,
    /// newer ones are skipped: the terminal gets whole pictures only.
    fn show(&mut self, status: &Status) -> io::Result<()> {
        if self.pending.is_empty()
            && let Some(bytes) = self.screen.update(&render(status, self.columns))
        {
            self.pending = bytes;
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Columns and rows of a terminal (`TIOCGWINSZ`, tty_ioctl(2)); a serial line answers 0 × 0.
fn size(file: &File) -> (usize, usize) {
    match rustix::termios::tcgetwinsize(file) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => DEFAULT_SIZE,
    }
}

/// The consoles that the kernel writes to, by `class/tty/console/active` below `sys` (usually
/// `/sys`), as paths below `/dev`. Without that file (in a namespace): `/dev/console`, as a serial line.
pub fn discover(sys: &Path) -> Vec<(PathBuf, ScreenKind)> {
    let active = std::fs::read_to_string(sys.join("class/tty/console/active")).unwrap_or_default();
    let consoles: Vec<_> = active
        .split_whitespace()
        .map(|name| match name.strip_prefix("tty") {
            // `tty0` is whichever virtual terminal is in front.
            Some(number) if number.chars().all(|c| c.is_ascii_digit()) => {
                (Path::new("/dev").join(name), ScreenKind::Virtual)
            }
            _ => (Path::new("/dev").join(name), ScreenKind::Serial),
        })
        .collect();
    if consoles.is_empty() {
        return vec![(PathBuf::from("/dev/console"), ScreenKind::Serial)];
    }
    consoles
}

/// Shows the status on all `terminals`, for as long as any works. Ends only when none is left; a
/// node without a console is a working node.
pub async fn run(mut terminals: Vec<Terminal>, status: impl Fn() -> Status) {
    while !terminals.is_empty() {
        let picture = status();
        keep_working(&mut terminals, |terminal| terminal.show(&picture));
        let next = tokio::time::Instant::now() + PERIOD;
        while terminals
            .iter()
            .any(|terminal| !terminal.pending.is_empty())
            && tokio::time::Instant::now() + RETRY < next
        {
            tokio::time::sleep(RETRY).await;
            keep_working(&mut terminals, Terminal::flush);
        }
        tokio::time::sleep_until(next).await;
    }
}

fn keep_working(
    terminals: &mut Vec<Terminal>,
    mut write: impl FnMut(&mut Terminal) -> io::Result<()>,
) {
    terminals.retain_mut(|terminal| match write(terminal) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "a console cannot be written to any more");
            false
        }
    });
}
