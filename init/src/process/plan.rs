//! What the parent prepares for a child, and what the child reports back: plain data on both sides of `clone3`.

use std::ffi::{CString, c_uint};
use std::os::fd::OwnedFd;

/// Everything that the child needs, made before it is: it must neither allocate nor lock, because
/// another thread may have held any lock at the moment of the clone.
#[derive(Debug)]
pub(super) struct Plan {
    /// Path of the program.
    pub(super) program: CString,
    /// `argv`, with the name.
    pub(super) arguments: Vec<CString>,
    /// `NAME=value` each.
    pub(super) environment: Vec<CString>,
    /// The working directory.
    pub(super) directory: CString,
    /// `/dev/null`; above the standard descriptors.
    pub(super) input: OwnedFd,
    /// The output file; above the standard descriptors.
    pub(super) output: OwnedFd,
    /// (resource, soft, hard), as prlimit(2) takes them.
    pub(super) resource_limits: Vec<(c_uint, libc::rlimit)>,
    /// The value, in decimal.
    pub(super) oom_score_adjust: String,
    /// User id.
    pub(super) user: libc::uid_t,
    /// Primary group id.
    pub(super) group: libc::gid_t,
    /// Supplementary group ids.
    pub(super) groups: Vec<libc::gid_t>,
    /// Numbers of the capabilities to keep.
    pub(super) kept: Vec<u8>,
    /// Numbers of all others that the kernel knows.
    pub(super) dropped: Vec<u8>,
}

/// A step of the child. Its number is what the child reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Session,
    Signals,
    Descriptors,
    OomScore,
    ResourceLimit,
    Dumpable,
    BoundingSet,
    Groups,
    Group,
    KeepCapabilities,
    User,
    Capabilities,
    AmbientSet,
    NoNewPrivileges,
    Directory,
    Execute,
}

impl Step {
    /// All steps, in their order.
    pub(super) const ALL: [Self; 16] = [
        Self::Session,
        Self::Signals,
        Self::Descriptors,
        Self::OomScore,
        Self::ResourceLimit,
        Self::Dumpable,
        Self::BoundingSet,
        Self::Groups,
        Self::Group,
        Self::KeepCapabilities,
        Self::User,
        Self::Capabilities,
        Self::AmbientSet,
        Self::NoNewPrivileges,
        Self::Directory,
        Self::Execute,
    ];
}

/// The length of a report in bytes: less than `PIPE_BUF`, so that it is written whole or not at all.
pub(super) const REPORT_SIZE: usize = 6;

/// What failed in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// Which step.
    pub(super) step: Step,
    /// Which of several: the index of the resource limit, the number of the capability.
    pub(super) detail: u8,
    /// The kernel's error number.
    pub(super) errno: i32,
}

impl Report {
    pub(super) fn encode(self) -> [u8; REPORT_SIZE] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.step as u8, self.detail, a, b, c, d]
    }

    /// Reads a report; `None` if it is none.
    pub(super) fn decode(bytes: [u8; REPORT_SIZE]) -> Option<Self> {
        let [step, detail, errno @ ..] = bytes;
        let step = *Step::ALL.get(usize::from(step))?;
        Some(Self {
            step,
            detail,
            errno: i32::from_ne_bytes(errno),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_back_as_they_were() {
        for (index, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(step as u8), index);
            let report = Report {
                step,
                detail: 7,
                errno: libc::EPERM,
            };
            assert_eq!(Report::decode(report.encode()), Some(report));
        }
        assert_eq!(Report::decode([16, 0, 1, 0, 0, 0]), None);
    }
}
