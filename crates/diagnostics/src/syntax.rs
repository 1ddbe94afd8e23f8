//! What the TOML parser found, said for people.

use toml::de::Error;

use crate::document::Place;

/// A fault of syntax.
pub(crate) struct Explained {
    pub(crate) place: Place,
    pub(crate) message: String,
    pub(crate) help: String,
}

pub(crate) fn explain(text: &str, error: &Error) -> Explained {
    let span = error.span().unwrap_or(text.len()..text.len());
    let start = floor(text, span.start);
    let end = floor(text, span.end).max(start);
    let written = &text[start..end];
    let original = error.message();
    let (message, help) = match original {
        "duplicate key" => (
            format!("`{written}` is given twice"),
            "keep one of the two; a [table] too can be opened only once".to_owned(),
        ),
        _ => (
            format!("this is not TOML: {original}"),
            remedy(original).to_owned(),
        ),
    };
    Explained {
        place: Place::new(start..end),
        message,
        help,
    }
}

fn remedy(message: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 9] = [
        (
            "missing comma between array elements",
            "close the list above with `]`, or write a comma",
        ),
        (
            "missing comma between key-value pairs",
            "close the table above with `}`, or write a comma",
        ),
        (
            "string values must be quoted",
            "put text, addresses and sizes in double quotes: key = \"text\"",
        ),
        (
            "invalid basic string",
            "close the string with the quote that opened it, on the same line",
        ),
        (
            "invalid literal string",
            "close the string with the quote that opened it, on the same line",
        ),
        ("unclosed array", "close the list with `]`"),
        ("unclosed inline table", "close the table with `}`"),
        ("key with no value", "write key = value"),
        (
            "recursion limit",
            "nest fewer tables and lists in each other",
        ),
    ];
    REMEDIES
        .iter()
        .find(|(part, _)| message.contains(part))
        .map_or(
            "write key = value, one a line, text in double quotes",
            |(_, remedy)| remedy,
        )
}

/// Whether a bracket was not closed: from there on, the parser stumbles over every line, and nothing that it says is worth
/// repeating.
pub(crate) fn ends_sense(error: &Error) -> bool {
    error.message().contains("missing comma")
}

/// The nearest character boundary at or before `offset`.
fn floor(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len()))
        .rev()
        .find(|index| text.is_char_boundary(*index))
        .unwrap_or(0)
}
