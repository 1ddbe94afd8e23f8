//! What to start, and with which rights.

use std::ffi::OsString;
use std::path::PathBuf;
use std::{fs, io};

use caps::Capability;
use nix::sys::resource::{Resource, getrlimit};

use super::leaf::Without;
use crate::node::{Facility, NodeKind};

/// A program to start, and everything that its process is to have: nothing is inherited.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program's absolute path, which is also its `argv[0]`.
    pub program: PathBuf,
    /// The arguments after the program's name.
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The working directory; the service's user must be able to enter it.
    pub directory: PathBuf,
    /// The file to which stdout and stderr are appended. Made with mode 0600, owned by root, if it
    /// does not exist. Standard input is `/dev/null`.
    pub output: PathBuf,
    /// What the process may do and use.
    pub rights: Rights,
}

/// Who a process is, and what it may do and use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Who it is.
    pub account: Account,
    /// The capabilities that it keeps, in all five sets (bounding, permitted, effective,
    /// inheritable, ambient): it has no others and cannot get others.
    pub capabilities: Vec<Capability>,
    /// Resource limits; those not named stay the supervisor's, but no core is ever dumped.
    pub resource_limits: Vec<ResourceLimit>,
    /// From -1000 (never killed when memory runs out) to 1000, see proc_pid_oom_score_adj(5).
    pub oom_score_adjust: i32,
}

/// User and groups of a process, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub user: u32,
    /// Primary group id.
    pub group: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// One limit of getrlimit(2), in the resource's own unit; `u64::MAX` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    /// What is limited.
    pub resource: Resource,
    /// What the kernel enforces.
    pub soft: u64,
    /// How far the process may raise the soft limit itself.
    pub hard: u64,
}

impl Rights {
    /// Takes back what the kernel refuses in a kind of node, and says what: in a namespace nobody may
    /// go below the inherited `oom_score_adj`, nor above an inherited hard limit.
    pub fn fit(&mut self, kind: NodeKind) -> io::Result<Vec<Without>> {
        let mut without = Vec::new();
        if kind.has(Facility::OomProtection) {
            return Ok(without);
        }
        let inherited = fs::read_to_string("/proc/self/oom_score_adj")?;
        let inherited: i32 = inherited.trim().parse().map_err(io::Error::other)?;
        if self.oom_score_adjust < inherited {
            without.push(Without {
                setting: format!("oom_score_adj {}", self.oom_score_adjust),
                reason: format!("a {kind} cannot go below the inherited {inherited}"),
            });
            self.oom_score_adjust = inherited;
        }
        for limit in &mut self.resource_limits {
            let (_, inherited) = getrlimit(limit.resource)?;
            if limit.hard > inherited {
                without.push(Without {
                    setting: format!("{:?} {}", limit.resource, limit.hard),
                    reason: format!("a {kind} cannot go above the inherited {inherited}"),
                });
                limit.hard = inherited;
                limit.soft = limit.soft.min(inherited);
            }
        }
        Ok(without)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_keeps_within_what_it_inherits() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let limit = |soft, hard| ResourceLimit {
            resource: Resource::RLIMIT_NOFILE,
            soft,
            hard,
        };
        let mut rights = Rights {
            account: Account {
                user: 1,
                group: 1,
                groups: Vec::new(),
            },
            capabilities: Vec::new(),
            resource_limits: vec![limit(5, 10), limit(u64::MAX, u64::MAX)],
            oom_score_adjust: -1000,
        };
        let before = rights.resource_limits.clone();
        assert_eq!(rights.fit(NodeKind::Machine).unwrap(), []);
        assert_eq!(rights.oom_score_adjust, -1000);
        assert_eq!(rights.resource_limits, before);

        let without = rights.fit(NodeKind::Namespace).unwrap();
        assert_eq!(without[0].setting, "oom_score_adj -1000");
        assert!(rights.oom_score_adjust > -1000);
        assert_eq!(rights.resource_limits, [limit(5, 10), limit(hard, hard)]);
    }
}
