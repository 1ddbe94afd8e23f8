//! Why a node has no identity, or may not start etcd.

use std::path::Path;

use masthead_api::{Reason, ReasonCode, Timestamp};

use super::storage::StorageError;
use crate::error_chain::with_sources;

/// What keeps the control plane from starting: shown as a reason, and waited out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// For programs.
    pub code: ReasonCode,
    /// What is the matter, with the file's name.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// With the code's general remedy.
    pub(crate) fn new(code: ReasonCode, cause: impl Into<String>) -> Self {
        let remedy = code.remedy().to_owned();
        Self {
            code,
            cause: cause.into(),
            remedy,
        }
    }

    /// As people are shown it, from now on.
    pub(crate) fn reason(&self) -> Reason {
        Reason::new(self.code.clone(), Timestamp::now())
            .with_cause(self.cause.as_str())
            .with_remedy(self.remedy.as_str())
    }

    /// Something on STATE is not what it must be.
    pub(crate) fn damaged(path: &Path, detail: impl std::fmt::Display) -> Self {
        Self::new(
            ReasonCode::IdentityDamaged,
            format!("{}: {detail}", path.display()),
        )
    }

    /// The kernel cannot draw a key or an id.
    pub(crate) fn no_random_numbers() -> Self {
        Self {
            code: ReasonCode::IdentityDamaged,
            cause: "The kernel gives no random numbers.".to_owned(),
            remedy: "Reboot.".to_owned(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {} {}", self.code, self.cause, self.remedy)
    }
}

impl std::error::Error for Problem {}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        Self {
            code: ReasonCode::DiskSetupFailed,
            cause: format!("STATE cannot be used: {}.", with_sources(&error)),
            remedy: "Check the disk; replace it if it fails. The node tries again.".to_owned(),
        }
    }
}

impl From<masthead_pki::Error> for Problem {
    fn from(error: masthead_pki::Error) -> Self {
        Self {
            code: ReasonCode::IdentityDamaged,
            cause: format!(
                "Keys or certificates could not be made: {}.",
                with_sources(&error)
            ),
            remedy: "Reboot; if it happens again, report it with this message.".to_owned(),
        }
    }
}
