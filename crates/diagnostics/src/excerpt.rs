//! The source line under a message: masked, free of control characters, and never too long.

use std::ops::Range;

use crate::report::Excerpt;

/// Characters of a line that are shown.
const WINDOW: usize = 120;
/// Characters kept before the first caret when a long line is cut.
const BEFORE: usize = 40;
const TAB: &str = "    ";

/// Line and column (both from 1, the column in characters) of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let start = line_start(text, offset);
    let line = text[..start].matches('\n').count() + 1;
    (line, text[start..offset].chars().count() + 1)
}

fn line_start(text: &str, offset: usize) -> usize {
    text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The line of `span.start` with carets under the part of `span` that is on it. Bytes in `hidden`
/// are shown as asterisks.
pub(crate) fn excerpt(text: &str, span: &Range<usize>, hidden: &[Range<usize>]) -> Excerpt {
    let start = line_start(text, span.start);
    let end = text[start..]
        .find('\n')
        .map_or(text.len(), |newline| start + newline);
    let line = text[start..end].trim_end_matches('\r');

    let cells: Vec<(usize, String)> = line
        .char_indices()
        .map(|(index, character)| {
            let offset = start + index;
            let shown = if hidden.iter().any(|range| range.contains(&offset)) {
                "*".to_owned()
            } else if character == '\t' {
                TAB.to_owned()
            } else if is_printable(character) {
                character.to_string()
            } else {
                char::REPLACEMENT_CHARACTER.to_string()
            };
            (offset, shown)
        })
        .collect();

    let first = cells
        .iter()
        .take_while(|(offset, _)| *offset < span.start)
        .count();
    let from = if cells.len() > WINDOW {
        first.saturating_sub(BEFORE)
    } else {
        0
    };
    let to = cells.len().min(from + WINDOW);
    let width_of = |cells: &[(usize, String)]| -> usize {
        cells.iter().map(|(_, shown)| shown.chars().count()).sum()
    };

    let mut shown = String::new();
    let mut offset = width_of(&cells[from..first.clamp(from, to)]);
    if from > 0 {
        shown.push('…');
        offset += 1;
    }
    shown.extend(cells[from..to].iter().map(|(_, text)| text.as_str()));
    if to < cells.len() {
        shown.push('…');
    }
    let marked = cells[first.min(to)..to]
        .iter()
        .take_while(|(offset, _)| *offset < span.end)
        .count();
    let width = width_of(&cells[first.min(to)..first.min(to) + marked]).max(1);
    Excerpt {
        text: shown,
        offset,
        width,
    }
}

/// Whether a character is safe on a console: neither a control character nor one that turns the
/// direction of writing.
pub(crate) fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>, hidden: &[Range<usize>]) -> String {
        let Excerpt {
            text,
            offset,
            width,
        } = excerpt(text, &span, hidden);
        format!("{text}|{offset}+{width}")
    }

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("a\nbä c", 0), (1, 1));
        assert_eq!(position("a\nbä c", 2), (2, 1));
        assert_eq!(position("a\nbä c", 6), (2, 4));
    }

    #[test]
    fn tabs_become_cells_and_carriage_returns_vanish() {
        assert_eq!(shown("a\r\n\tb = 1\r\n", 4..5, &[]), "    b = 1|4+1");
    }

    #[test]
    fn carets_stop_at_the_end_of_the_line_and_are_never_absent() {
        assert_eq!(shown("ab = [\n1]", 5..9, &[]), "ab = [|5+1");
        assert_eq!(shown("ab", 2..2, &[]), "ab|2+1");
        assert_eq!(shown("", 0..0, &[]), "|0+1");
    }

    #[test]
    fn hidden_bytes_and_control_characters_are_not_shown() {
        assert_eq!(
            shown("k = \"geheim\"", 4..12, &[5..8, 7..11]),
            "k = \"******\"|4+8"
        );
        assert_eq!(shown("k\u{1b}[2J", 0..1, &[]), "k\u{fffd}[2J|0+1");
    }

    #[test]
    fn long_lines_are_cut_around_the_fault() {
        let line = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let Excerpt {
            text,
            offset,
            width,
        } = excerpt(&line, &(300..301), &[]);
        assert_eq!(text.chars().count(), WINDOW + 2);
        assert_eq!(text.chars().nth(offset), Some('X'));
        assert_eq!(width, 1);
    }
}
