//! What a supervisor leaves to its successor: which process is, or was, which service.
//!
//! PID 1 tells exits by process only. When a service dies together with its supervisor, the
//! next one learns from here whose exit it was. A record that is missing costs nothing but that
//! line of the story: what runs is found in the leaves.

use std::fs;
use std::io;
use std::path::PathBuf;

use masthead_lifecycle::ServiceName;

use crate::link::ProcessKey;

/// A directory with one small file for each service: `PID START-TIME`.
#[derive(Debug)]
pub(super) struct Records {
    directory: PathBuf,
}

impl Records {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Notes the process of a service. Lost with the machine, so it is written without a sync; renamed,
    /// so that a reader never sees half of it.
    pub(super) fn write(&self, service: &ServiceName, process: ProcessKey) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(service.as_str());
        let new = self.directory.join(format!(".{service}"));
        fs::write(&new, format!("{} {}\n", process.pid, process.start_time))?;
        fs::rename(new, path)
    }

    /// The last process that was noted for a service.
    pub(super) fn read(&self, service: &ServiceName) -> Option<ProcessKey> {
        let text = fs::read_to_string(self.directory.join(service.as_str())).ok()?;
        let (pid, start_time) = text.trim_end().split_once(' ')?;
        Some(ProcessKey {
            pid: pid.parse().ok()?,
            start_time: start_time.parse().ok()?,
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
        for pid in [7, 8] {
            records
                .write(
                    &name,
                    ProcessKey {
                        pid,
                        start_time: 99,
                    },
                )
                .unwrap();
        }
        assert_eq!(
            records.read(&name),
            Some(ProcessKey {
                pid: 8,
                start_time: 99
            })
        );
        assert_eq!(records.read(&"other".into()), None);
        fs::write(directory.path().join("services/etcd"), "8\n").unwrap();
        assert_eq!(records.read(&name), None);
    }
}
