//! What a supervisor leaves to its successor: which process is, or was, which service, and how often
//! the service was started.
//!
//! PID 1 tells exits by process only. When a service dies together with its supervisor, the
//! next one learns from here whose exit it was. A record that is missing costs nothing but that
//! line of the story: what runs is found in the leaves.

use std::fs;
use std::io;
use std::path::PathBuf;

use masthead_lifecycle::ServiceName;

use crate::link::ProcessKey;

/// A directory with one small file for each service: `PID START-TIME STARTS`, and `told-to-end` if it was.
#[derive(Debug)]
pub(super) struct Records {
    directory: PathBuf,
}

/// What is noted of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its last process.
    pub(super) process: ProcessKey,
    /// How often it was started since boot, this process included.
    pub(super) starts: u64,
    /// The process was sent TERM. Once is enough: to a second one some programs end at once.
    pub(super) told_to_end: bool,
}

/// The last word of a record whose process was sent TERM.
const TOLD_TO_END: &str = "told-to-end";

impl Records {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Notes what became of a service. Lost with the machine, so it is written without a sync; renamed,
    /// so that a reader never sees half of it.
    pub(super) fn write(&self, service: &ServiceName, record: Record) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(service.as_str());
        let new = self.directory.join(format!(".{service}"));
        let ProcessKey { pid, start_time } = record.process;
        let ending = if record.told_to_end { TOLD_TO_END } else { "" };
        fs::write(
            &new,
            format!("{pid} {start_time} {} {ending}\n", record.starts),
        )?;
        fs::rename(new, path)
    }

    /// What was noted last for a service.
    pub(super) fn read(&self, service: &ServiceName) -> Option<Record> {
        let text = fs::read_to_string(self.directory.join(service.as_str())).ok()?;
        let mut fields = text.split_ascii_whitespace();
        let process = ProcessKey {
            pid: fields.next()?.parse().ok()?,
            start_time: fields.next()?.parse().ok()?,
        };
        let starts = fields.next()?.parse().ok()?;
        let told_to_end = fields.next() == Some(TOLD_TO_END);
        Some(Record {
            process,
            starts,
            told_to_end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_last_that_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::new(directory.path().join("services"));
        let name = ServiceName::from("etcd");
        assert_eq!(records.read(&name), None);
        let record = |pid, starts, told_to_end| Record {
            process: ProcessKey {
                pid,
                start_time: 99,
            },
            starts,
            told_to_end,
        };
        for written in [record(7, 1, true), record(8, 2, false), record(8, 2, true)] {
            records.write(&name, written).unwrap();
            assert_eq!(records.read(&name), Some(written));
        }
        assert_eq!(records.read(&"other".into()), None);
        fs::write(directory.path().join("services/etcd"), "8 99\n").unwrap();
        assert_eq!(records.read(&name), None);
    }
}
