//! Versions of the protocol, and which one two peers speak.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The versions that a release speaks: its own and the one before it, so that a cluster can be upgraded one master at
/// a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest one.
    pub oldest: Version,
    /// The newest one.
    pub newest: Version,
}

/// What this release speaks. There was none before it.
pub const SPOKEN: Versions = Versions {
    oldest: Version(1),
    newest: Version(1),
};

/// Two peers have no version in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this node speaks versions {ours} of the peer protocol, the other one {theirs}")]
pub struct NoCommonVersion {
    /// Ours.
    pub ours: Versions,
    /// The peer's.
    pub theirs: Versions,
}

impl NoCommonVersion {
    /// Whether it is this side that is behind.
    pub fn ours_is_older(&self) -> bool {
        self.ours.newest < self.theirs.oldest
    }
}

impl Versions {
    /// A release's own version and the previous one.
    pub const fn of_release(newest: u32) -> Self {
        Self {
            oldest: Version(if newest > 1 { newest - 1 } else { newest }),
            newest: Version(newest),
        }
    }

    /// Whether it is one of them.
    pub fn contains(self, version: Version) -> bool {
        self.oldest <= version && version <= self.newest
    }

    /// The highest version that both speak: the same one on both sides.
    pub fn common(self, theirs: Self) -> Result<Version, NoCommonVersion> {
        let highest = self.newest.min(theirs.newest);
        if self.contains(highest) && theirs.contains(highest) {
            Ok(highest)
        } else {
            Err(NoCommonVersion { ours: self, theirs })
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(formatter, "{}", self.newest)
        } else {
            write!(formatter, "{} to {}", self.oldest, self.newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_speak_the_older_ones_version_and_others_do_not() {
        let release = Versions::of_release;
        assert_eq!(release(2).common(release(2)), Ok(Version(2)));
        assert_eq!(release(2).common(release(3)), Ok(Version(2)));
        assert_eq!(release(3).common(release(2)), Ok(Version(2)));
        let refused = release(1).common(release(3)).unwrap_err();
        assert!(refused.ours_is_older());
        assert_eq!(
            refused.to_string(),
            "this node speaks versions 1 of the peer protocol, the other one 2 to 3"
        );
        assert!(!release(3).common(release(1)).unwrap_err().ours_is_older());
    }

    #[test]
    fn this_release_speaks_its_own_and_the_one_before() {
        assert_eq!(SPOKEN, Versions::of_release(SPOKEN.newest.0));
    }

    proptest! {
        #[test]
        fn both_sides_choose_the_same(ours in (0u32..9, 0u32..9), theirs in (0u32..9, 0u32..9)) {
            let versions = |(oldest, newest)| Versions { oldest: Version(oldest), newest: Version(newest) };
            let (ours, theirs) = (versions(ours), versions(theirs));
            prop_assert_eq!(ours.common(theirs).ok(), theirs.common(ours).ok());
            if let Ok(version) = ours.common(theirs) {
                prop_assert!(ours.contains(version) && theirs.contains(version));
            }
        }
    }
}
