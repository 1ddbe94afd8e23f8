//! Where a text holds the cluster's secret, so that no report ever shows it. By the text alone, because a file
//! that is not TOML is reported too.

use std::ops::Range;

use masthead_diagnostics::nearest;

use crate::Secret;

/// Parts of the text that may be a secret: everything that begins like one, and whatever follows a key that is, or
/// looks like, `secret`.
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
            ranges.push(offset + value..offset + content.len());
            open = ["\"\"\"", "'''"]
                .into_iter()
                .find(|quotes| content.matches(quotes).count() == 1);
        }
        offset += line.len();
    }
    ranges
}

/// Where the value begins on a line whose key is, or looks like, `secret`. The quote before it stays visible.
fn value_of_secret(line: &str) -> Option<usize> {
    let equals = line.find('=')?;
    let key = line[..equals].trim().trim_matches(['"', '\'']);
    // `services` looks like `secret`, and is none.
    nearest(key, ["secret", "services"]).filter(|meant| *meant == "secret")?;
    let value = &line[equals + 1..];
    let blank = value.len() - value.trim_start().len();
    let value = &value[blank..];
    let visible = usize::from(value.starts_with(['"', '\'']));
    let visible = if value[visible..].starts_with(Secret::PREFIX) {
        visible + Secret::PREFIX.len()
    } else {
        visible
    };
    Some(equals + 1 + blank + visible)
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
            "secret = \"mh1-**** * *\n"
        );
        assert_eq!(
            masked("secret = \"hunter2\nb = 1"),
            "secret = \"*******\nb = 1"
        );
        assert_eq!(masked("secret='hunter2'"), "secret='********");
        assert_eq!(masked("\"secret\" = hunter2"), "\"secret\" = *******");
        assert_eq!(masked("secert = \"hunter2\""), "secert = \"********");
        assert_eq!(masked("x = { y = \"mh1-abc\" }"), "x = { y = \"mh1-***\" }");
        assert_eq!(
            masked("secret = \"\"\"\nabc\ndef\"\"\"\nb = 1"),
            "secret = \"**\n***\n******\nb = 1"
        );
        assert_eq!(masked("cluster = \"ams\""), "cluster = \"ams\"");
        assert_eq!(
            masked("services = \"10.0.0.0/8\""),
            "services = \"10.0.0.0/8\""
        );
    }
}
