//! From the file's tree to a draft of the seed: each value by itself. What values must be to each other is
//! judged in `check`, on the draft, so that one unreadable value hides no fault of another.

pub(crate) mod disk;
pub(crate) mod document;
pub(crate) mod kubernetes;
pub(crate) mod masters;
pub(crate) mod network;
pub(crate) mod root;
pub(crate) mod schema;

use masthead_diagnostics::{Place, Value};

/// A value and where it is written.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, source: &Value<'_>) -> Self {
        Self {
            value,
            place: source.place(),
        }
    }
}

/// A serial number: what firmware and disks print, without blanks around it.
pub(crate) fn serial_number(value: &Value<'_>) -> Option<At<String>> {
    let text = value.string()?;
    if text.is_empty() || text.trim() != text || text.chars().any(char::is_control) {
        value.error(
            format!("`{}` is empty or has blanks around it", value.path()),
            "write the serial number as it is printed, such as \"S4EV123\"",
        );
        return None;
    }
    Some(At::new(text.to_owned(), value))
}
