//! Where a text holds the cluster's secret, so that no report ever shows it. By the text alone, because a file
//! that is not TOML is reported too.

use std::ops::Range;

use masthead_diagnostics::nearest;

use crate::{ImageKey, OperatorKey, Secret};

/// What encloses a value over several lines.
const LONG_QUOTES: [&str; 2] = ["\"\"\"", "'''"];

/// Parts of the text that may be a secret: everything that begins like one, whatever follows a key that is, or looks like,
/// `secret`, and long words that look like a piece of one.
pub(crate) fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = text
        .match_indices(Secret::PREFIX)
        .map(|(start, prefix)| {
            let start = start + prefix.len();
            let end = text[start..].find(|character: char| {
                character.is_whitespace() || matches!(character, '"' | '\'')
            });
            start..end.map_or(text.len(), |length| start + length)
        })
        .collect();

    ranges.extend(random_words(text));

    let mut offset = 0;
    // The quotes that a value over several lines still waits for.
    let mut open: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end();
        if let Some(quotes) = open {
            ranges.push(offset..offset + content.len());
            if content.contains(quotes) {
                open = None;
            }
        } else if let Some(value) = value_of_secret(content) {
            ranges.push(offset + value.start..offset + value.end);
            open = LONG_QUOTES
                .into_iter()
                .find(|quotes| content.matches(quotes).count() == 1);
        }
        offset += line.len();
    }
    ranges
}

/// Long words of base64url with letters of both cases and digits, such as a secret that was broken over two lines
/// has. Public keys of operators are none, and what begins like a secret is found already.
fn random_words(text: &str) -> impl Iterator<Item = Range<usize>> {
    const LONG: usize = 16;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let bytes = text.as_bytes();
    let words = bytes.chunk_by(move |one, other| is_part(*one) == is_part(*other));
    let mut end = 0;
    words.filter_map(move |word| {
        let start = end;
        end += word.len();
        let has = |kind: fn(&u8) -> bool| word.iter().any(kind);
        let looks_random = word.len() >= LONG
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit)
            && is_part(word[0])
            && ![OperatorKey::PREFIX, ImageKey::PREFIX, Secret::PREFIX]
                .iter()
                .any(|prefix| word.starts_with(prefix.as_bytes()));
        looks_random.then_some(start..end)
    })
}

/// Where the value is on a line whose key is, or looks like, `secret`: between the first and the last quote after the
/// equals sign, or up to the end of the line. What it begins with stays visible, if that tells nothing.
fn value_of_secret(line: &str) -> Option<Range<usize>> {
    let equals = line.find('=')?;
    let key = line[..equals].trim().trim_matches(['"', '\'']);
    // `services` looks like `secret`, and is none.
    nearest(key, ["secret", "services"]).filter(|meant| *meant == "secret")?;
    let value = &line[equals + 1..];
    let quote = |character: char| matches!(character, '"' | '\'');
    let start = value.len() - value.trim_start().len();
    let start = if value[start..].starts_with(quote) {
        start + 1
    } else {
        start
    };
    let start = if value[start..].starts_with(Secret::PREFIX) {
        start + Secret::PREFIX.len()
    } else {
        start
    };
    let is_long = LONG_QUOTES.iter().any(|quotes| value.contains(quotes));
    let end = value
        .rfind(quote)
        .filter(|end| *end > start && !is_long)
        .unwrap_or(value.len());
    Some(equals + 1 + start..equals + 1 + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let ranges = secrets(text);
        text.char_indices()
            .map(|(offset, character)| {
                let hidden = ranges.iter().any(|range| range.contains(&offset));
                if hidden && !character.is_whitespace() {
                    '*'
                } else {
                    character
                }
            })
            .collect()
    }

    #[test]
    fn secrets_are_found_in_texts_of_any_shape() {
        assert_eq!(
            masked("secret = \"mh1-abc\" # x\n"),
            "secret = \"mh1-***\" # x\n"
        );
        assert_eq!(
            masked("secret = \"hunter2\nb = 1"),
            "secret = \"*******\nb = 1"
        );
        assert_eq!(masked("secret='hunter2'"), "secret='*******'");
        assert_eq!(masked("\"secret\" = hunter2"), "\"secret\" = *******");
        assert_eq!(masked("secert = \"hunter2\""), "secert = \"*******\"");
        assert_eq!(masked("x = { y = \"mh1-abc\" }"), "x = { y = \"mh1-***\" }");
        assert_eq!(
            masked("secret = \"\"\"\nabc\ndef\"\"\"\nb = 1"),
            "secret = \"**\n***\n******\nb = 1"
        );
        assert_eq!(masked("secret = \"\"\"abc\n"), "secret = \"*****\n");
        assert_eq!(masked("cluster = \"ams\""), "cluster = \"ams\"");
        assert_eq!(
            masked("services = \"10.0.0.0/8\""),
            "services = \"10.0.0.0/8\""
        );
    }
}
