//! What peers say to each other first, and what they say when they refuse.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Versions;

/// What a node is to its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Standing {
    /// It has no cluster yet.
    Founding,
    /// It belongs to a founded cluster.
    Member {
        /// The first eight digits of the cluster's id: enough to tell clusters apart, useless for anything else.
        cluster: String,
    },
    /// It has not read its own state yet; or one that this release does not know.
    #[serde(other)]
    Unknown,
}

impl Standing {
    /// Of a member of the cluster of that id.
    pub fn member(cluster_id: &str) -> Self {
        Self::Member {
            cluster: cluster_id.chars().take(8).collect(),
        }
    }
}

/// The first words of a connection, each way. Its form never changes but for fields that are added; those that a reader
/// does not know are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// What the speaker speaks.
    pub versions: Versions,
    /// What it is to its cluster.
    pub standing: Standing,
    /// Fields of a newer release.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Greeting {
    /// A greeting of this release.
    pub fn new(versions: Versions, standing: Standing) -> Self {
        Self {
            versions,
            standing,
            more: Map::new(),
        }
    }
}

/// The kind of a refusal, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// Both sides speak no common version (426).
    NoCommonVersion,
    /// The caller has nothing but the seed's secret, and the cluster is founded (403).
    MembersOnly,
    /// The caller's key is not one of those that founding goes on with (403).
    NotPinned,
    /// The first request was no greeting, or the version is not the one agreed on (400).
    OutOfOrder,
    /// No such path (404).
    NoSuchPath,
    /// The body is too long (413).
    TooLong,
    /// The body did not arrive in time (408).
    TooSlow,
    /// The body is not what the path takes (400).
    Malformed,
    /// Nobody takes it at the moment (503).
    Busy,
    /// One that this release does not know.
    #[serde(other)]
    Unknown,
}

impl RefusalCode {
    /// The HTTP status that goes with it (RFC 9110).
    pub fn http_status(self) -> u16 {
        match self {
            Self::NoCommonVersion => 426,
            Self::MembersOnly | Self::NotPinned => 403,
            Self::OutOfOrder | Self::Malformed => 400,
            Self::NoSuchPath => 404,
            Self::TooLong => 413,
            Self::TooSlow => 408,
            Self::Busy => 503,
            Self::Unknown => 500,
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoCommonVersion => "both sides speak no common version",
            Self::MembersOnly => "only members of its cluster may do this",
            Self::NotPinned => "the key is none of those that founding goes on with",
            Self::OutOfOrder => "the connection did not begin with a greeting in that version",
            Self::NoSuchPath => "there is no such path",
            Self::TooLong => "the message is too long",
            Self::TooSlow => "the message did not arrive in time",
            Self::Malformed => "the message is not what the path takes",
            Self::Busy => "nobody takes the message at the moment",
            Self::Unknown => "for a reason that this release does not know",
        })
    }
}

/// A refused request. Its form never changes but for fields that are added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind.
    pub code: RefusalCode,
    /// What the refusing side speaks: with it, both sides can say why they do not understand each other.
    pub versions: Versions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_of_a_newer_release_is_understood_and_nothing_of_it_is_lost() {
        let text = r#"{"versions":{"oldest":7,"newest":8},"standing":{"state":"dreaming","of":"sheep"},"colour":"red"}"#;
        let greeting: Greeting = serde_json::from_str(text).unwrap();
        assert_eq!(greeting.standing, Standing::Unknown);
        assert_eq!(greeting.versions, Versions::of_release(8));
        assert_eq!(greeting.more["colour"], "red");
        let again = serde_json::to_value(&greeting).unwrap();
        assert_eq!(again["colour"], "red");
    }

    #[test]
    fn the_form_of_the_greeting_and_the_refusal_is_fixed() {
        let standing = Standing::member("0123456789abcdef0123456789abcdef");
        let greeting = Greeting::new(Versions::of_release(2), standing);
        assert_eq!(
            serde_json::to_string(&greeting).unwrap(),
            r#"{"versions":{"oldest":1,"newest":2},"standing":{"state":"member","cluster":"01234567"}}"#
        );
        let refusal = Refusal {
            code: RefusalCode::NoCommonVersion,
            versions: Versions::of_release(1),
        };
        assert_eq!(
            serde_json::to_string(&refusal).unwrap(),
            r#"{"code":"no-common-version","versions":{"oldest":1,"newest":1}}"#
        );
        let unknown: Refusal = serde_json::from_str(
            r#"{"code":"gone-fishing","versions":{"oldest":1,"newest":1},"since":3}"#,
        )
        .unwrap();
        assert_eq!(unknown.code, RefusalCode::Unknown);
    }
}
