//! Why a node has no identity, or may not start etcd.

use std::path::Path;

use masthead_api::ReasonCode;

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
    pub(super) fn new(code: ReasonCode, cause: impl Into<String>) -> Self {
        let remedy = code.remedy().to_owned();
        Self {
            code,
            cause: cause.into(),
            remedy,
        }
    }

    /// Something on STATE is not what it must be.
    pub(super) fn damaged(path: &Path, detail: impl std::fmt::Display) -> Self {
        Self::new(
            ReasonCode::IdentityDamaged,
            format!("{}: {detail}", path.display()),
        )
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {} {}", self.code, self.cause, self.remedy)
    }
}

impl std::error::Error for Problem {}
