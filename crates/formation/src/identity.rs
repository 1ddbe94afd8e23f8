//! Who is who: ids, hashes and the founding list.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use masthead_api::hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The text is not the hexadecimal digits that it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{given}` is not {digits} hexadecimal digits")]
pub struct InvalidDigits {
    given: String,
    digits: usize,
}

/// Fixed bytes that people and JSON see as lower-case hexadecimal digits.
macro_rules! hexadecimal {
    ($(#[$meta:meta])* pub struct $name:ident([u8; $length:literal]);) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&hex::encode(&self.0))
            }
        }

        /// The first digits are enough to tell them apart in a trace.
        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({}…)", stringify!($name), hex::encode(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigits;

            fn from_str(text: &str) -> Result<Self, InvalidDigits> {
                hex::decode(text)
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(Self)
                    .ok_or_else(|| InvalidDigits { given: text.to_owned(), digits: 2 * $length })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

hexadecimal! {
    /// 128 random bits, made at a machine's first boot and kept on STATE: a wiped machine is another one.
    pub struct MachineId([u8; 16]);
}

hexadecimal! {
    /// 128 random bits, drawn with each plan; also etcd's `--initial-cluster-token`.
    pub struct ClusterId([u8; 16]);
}

hexadecimal! {
    /// SHA-256 of a peer's public key. The key is on STATE, too, and proves to the transport who speaks.
    pub struct KeyFingerprint([u8; 32]);
}

hexadecimal! {
    /// SHA-256 of a seed's meaning.
    pub struct SeedHash([u8; 32]);
}

hexadecimal! {
    /// SHA-256 of a plan's bytes, exactly as its planner wrote them.
    pub struct PlanHash([u8; 32]);
}

impl PlanHash {
    /// Of a plan's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// A master of the founding list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Master {
    /// Its address; the lowest one plans.
    pub address: IpAddr,
    /// Its name in the seed.
    pub name: String,
}

/// A peer as the transport authenticated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The address that the connection came from.
    pub address: IpAddr,
    /// The key that it proved to hold.
    pub key: KeyFingerprint,
}
