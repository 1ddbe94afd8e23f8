//! Paths.

use crate::Version;

/// `POST` a [`Greeting`](crate::Greeting): the first request of a connection, answered with a greeting. It has no version,
/// and is the only path that a founded cluster answers to those who have nothing but the seed.
pub const GREETING: &str = "/peer/greeting";

/// What peers ask of each other, behind [`Route::path`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// `POST`: a message of the formation machine; answered with nothing.
    Formation,
    /// `POST`: a question for the node's status; answered with it.
    Status,
    /// `POST`: what the owner of a virtual address tells of its clients; answered with whether the apiserver there can serve.
    Address,
    /// `POST`: an operator's word to the owner of a virtual address, passed on; answered with what became of it.
    Move,
}

impl Route {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Formation, Self::Status, Self::Address, Self::Move];

    const fn name(self) -> &'static str {
        match self {
            Self::Formation => "formation",
            Self::Status => "status",
            Self::Address => "address",
            Self::Move => "move",
        }
    }

    /// The path in that version.
    pub fn path(self, version: Version) -> String {
        format!("/v{version}/peer/{}", self.name())
    }

    /// Reads a path.
    pub fn parse(path: &str) -> Option<(Version, Self)> {
        let (version, name) = path.strip_prefix("/v")?.split_once("/peer/")?;
        let route = Self::ALL.into_iter().find(|route| route.name() == name)?;
        let version = Version(version.parse().ok()?);
        // One spelling: no sign, no leading zero.
        (route.path(version) == path).then_some((version, route))
    }

    /// Whether those who have nothing but the seed's secret may use it while the cluster is not founded.
    pub const fn serves_founding(self) -> bool {
        match self {
            Self::Formation => true,
            Self::Status | Self::Address | Self::Move => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written_and_no_other() {
        for route in Route::ALL {
            for version in [Version(1), Version(27)] {
                assert_eq!(Route::parse(&route.path(version)), Some((version, route)));
            }
        }
        for wrong in [
            "",
            "/",
            GREETING,
            "/v1/status",
            "/v1/peer/",
            "/v1/peer/unknown",
            "/v01/peer/status",
            "/v+1/peer/status",
            "/v99999999999/peer/status",
            "/v1/peer/status/",
        ] {
            assert_eq!(Route::parse(wrong), None, "{wrong}");
        }
    }
}
