//! Instants in messages.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An instant of the node's wall clock, to the millisecond; RFC 3339 in UTC on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// Now, by this machine's wall clock.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// From milliseconds since 1970 (UTC); values outside of the years 0 to 9999 become 1970.
    pub fn from_unix_millis(millis: i64) -> Self {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
            .ok()
            .filter(|instant| (0..=9999).contains(&instant.year()))
            .map_or(Self(OffsetDateTime::UNIX_EPOCH), Self)
    }

    /// Milliseconds since 1970 (UTC).
    pub fn unix_millis(self) -> i64 {
        i64::try_from(self.0.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }

    /// Whole seconds from this instant to `later`; negative when `later` is earlier.
    pub fn seconds_until(self, later: Self) -> i64 {
        (later.0 - self.0).whole_seconds()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(instant: SystemTime) -> Self {
        let millis = match instant.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        Self::from_unix_millis(millis)
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(instant: OffsetDateTime) -> Self {
        Self::from(SystemTime::from(instant))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let instant = OffsetDateTime::parse(&text, &Rfc3339).map_err(de::Error::custom)?;
        Ok(Self(instant.to_offset(time::UtcOffset::UTC)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_rfc_3339_in_utc() {
        let instant = Timestamp::from_unix_millis(1_790_000_000_250);
        assert_eq!(instant.to_string(), "2026-09-21T14:13:20.25Z");
        let read: Timestamp = serde_json::from_str("\"2026-09-21T16:13:20.25+02:00\"").unwrap();
        assert_eq!(read, instant);
        assert_eq!(read.to_string(), instant.to_string());
        assert_eq!(Timestamp::from_unix_millis(i64::MAX).unix_millis(), 0);
    }

    #[test]
    fn counts_seconds_in_both_directions() {
        let earlier = Timestamp::from_unix_millis(1_000);
        let later = Timestamp::from_unix_millis(61_500);
        assert_eq!(earlier.seconds_until(later), 60);
        assert_eq!(later.seconds_until(earlier), -60);
    }
}
