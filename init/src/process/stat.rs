//! The few fields of `/proc/PID/stat` that tell processes apart, see proc_pid_stat(5).

use std::fs;
use std::io;

use crate::link::ProcessKey;

/// What tells a process apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its id and start time.
    pub(super) key: ProcessKey,
    /// The id of its session, which is its own id if it leads one.
    pub(super) session: u32,
}

impl Stat {
    /// Reads the fields of a process, which may be a zombie.
    pub(super) fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(pid, &text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`/proc/{pid}/stat` is malformed"),
            )
        })
    }

    fn parse(pid: u32, text: &[u8]) -> Option<Self> {
        // The second field is the program's name in parentheses, and may hold blanks, parentheses and
        // bytes that are no UTF-8: the last parenthesis ends it.
        let name_end = text.iter().rposition(|&byte| byte == b')')?;
        let fields = std::str::from_utf8(&text[name_end + 1..]).ok()?;
        let mut fields = fields.split_ascii_whitespace();
        // `fields` begins with field 3; `nth` counts from where the last one stopped.
        let session = fields.nth(6 - 3)?.parse().ok()?;
        let start_time = fields.nth(22 - 7)?.parse().ok()?;
        Some(Self {
            key: ProcessKey { pid, start_time },
            session,
        })
    }

    /// Whether it leads a session.
    pub(super) fn leads_session(&self) -> bool {
        self.session == self.key.pid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_over_odd_names() {
        let line =
            b"42 (a) R 9 \xff) S 1 40 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 123456 7 8 9\n";
        let stat = Stat::parse(42, line).unwrap();
        assert_eq!(
            stat.key,
            ProcessKey {
                pid: 42,
                start_time: 123_456
            }
        );
        assert_eq!(stat.session, 41);
        assert!(!stat.leads_session());
        assert_eq!(Stat::parse(42, b"42 (short) S 1 40"), None);
        assert_eq!(Stat::parse(42, b""), None);
    }

    #[test]
    fn agrees_with_the_kernel_about_ourselves() {
        let stat = Stat::read(std::process::id()).unwrap();
        assert_eq!(stat.key.pid, std::process::id());
        // Zero where the session's leader lives outside of our PID namespace.
        let session = nix::unistd::getsid(None).unwrap().as_raw();
        assert_eq!(stat.session, session.cast_unsigned());
        assert!(stat.key.start_time > 0);
    }
}
