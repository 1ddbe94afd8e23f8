//! PID 1's log: lines on its standard error, which is the console of a machine and the lab's in a
//! namespace.
//!
//! A line is formatted in a buffer on the stack, and is dropped where writing it would block:
//! nothing, and least of all a serial console with its flow stopped, may hold up PID 1.

use std::fmt::{self, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

/// Longer lines are cut here, in bytes.
const LONGEST: usize = 480;

/// Says one line on the console: seconds since boot, `pid1:`, and what `format!` would give.
macro_rules! say {
    ($($argument:tt)*) => { $crate::pid1::log::line(format_args!($($argument)*)) };
}
pub(crate) use say;

/// Writes one line; [`say!`] calls it.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let now = clock_gettime(ClockId::Boottime);
    let mut line = Line {
        bytes: [0; LONGEST],
        length: 0,
    };
    // Cutting a long line is all that can go wrong.
    let _ = write!(
        line,
        "[{:5}.{:06}] pid1: {text}",
        now.tv_sec,
        now.tv_nsec / 1000
    );
    line.end();
    write_without_blocking(&line.bytes[..line.length]);
}

struct Line {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Line {
    /// Ends the line as a terminal in raw mode wants it too.
    fn end(&mut self) {
        self.length = self.length.min(LONGEST - 2);
        self.bytes[self.length] = b'\r';
        self.bytes[self.length + 1] = b'\n';
        self.length += 2;
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fitting = text.len().min(LONGEST - self.length);
        self.bytes[self.length..self.length + fitting].copy_from_slice(&text.as_bytes()[..fitting]);
        self.length += fitting;
        if fitting == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

fn write_without_blocking(mut bytes: &[u8]) {
    let output = rustix::stdio::stderr();
    while !bytes.is_empty() {
        let mut ready = [PollFd::new(&output, PollFlags::OUT)];
        match poll(&mut ready, Some(&Timespec::default())) {
            Ok(1..) if ready[0].revents().contains(PollFlags::OUT) => {}
            Err(Errno::INTR) => continue,
            _ => return,
        }
        match rustix::io::write(output, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_and_ended() {
        let mut line = Line {
            bytes: [0; LONGEST],
            length: 0,
        };
        assert!(line.write_str(&"ä".repeat(LONGEST)).is_err());
        line.end();
        assert_eq!(line.length, LONGEST);
        assert!(line.bytes.ends_with(b"\r\n"));
    }
}
