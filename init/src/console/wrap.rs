//! Text for terminals: words wrapped, control characters gone.

/// `text` broken at spaces into lines of at most `width` characters, each after `indent` spaces.
/// A word longer than a line is cut into pieces: nothing is lost.
pub(super) fn wrap(text: &str, indent: usize, width: usize) -> Vec<String> {
    let room = width.saturating_sub(indent).max(8);
    let margin = " ".repeat(indent);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + word.len() > room {
            lines.push(format!("{margin}{line}"));
            line.clear();
            length = 0;
        }
        while word.len() > room {
            let rest = word.split_off(room);
            lines.push(format!("{margin}{}", String::from_iter(word)));
            word = rest;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += word.len();
        line.extend(word);
    }
    if length > 0 {
        lines.push(format!("{margin}{line}"));
    }
    lines
}

/// One line of foreign text, cut to `width` characters, with control characters replaced: a
/// service's output must not be able to steer the terminal.
pub(super) fn harmless(text: &str, width: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(width)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_long_ones_cut() {
        assert_eq!(
            wrap("one two three abcdefghijklmno", 2, 12),
            ["  one two", "  three", "  abcdefghij", "  klmno"]
        );
        assert_eq!(wrap("  ", 2, 12), Vec::<String>::new());
        assert_eq!(wrap("exactly ten", 0, 11), ["exactly ten"]);
        assert_eq!(wrap("exactly ten", 0, 10), ["exactly", "ten"]);
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(
            harmless("a\x1b[2Jb\u{9b}c\n", 80),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}"
        );
        assert_eq!(harmless("abcdef", 3), "abc");
    }
}
