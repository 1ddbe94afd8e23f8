//! What a terminal needs to show a text.

/// How a console wants to be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScreenKind {
    /// A virtual terminal with a cursor: the screen is cleared and painted anew.
    Virtual,
    /// A serial line, perhaps into a log: the block is written below the last one.
    Serial,
}

/// Remembers what is shown, and says what to write to show something else.
#[derive(Debug)]
pub struct Screen {
    kind: ScreenKind,
    rows: usize,
    shown: Option<String>,
}

impl Screen {
    /// A screen of `rows` lines; 0 for one that scrolls without end.
    pub fn new(kind: ScreenKind, rows: usize) -> Self {
        Self {
            kind,
            rows,
            shown: None,
        }
    }

    /// The bytes that show `text`, or nothing when it is what is shown already.
    pub fn update(&mut self, text: &str) -> Option<Vec<u8>> {
        if self.shown.as_deref() == Some(text) {
            return None;
        }
        self.shown = Some(text.to_owned());
        let mut bytes = String::new();
        match self.kind {
            // Home, erase to the end of each line and of the screen: without the flicker of a
            // cleared screen (ECMA-48: CUP, EL, ED).
            ScreenKind::Virtual => {
                bytes.push_str("\x1b[H");
                for line in self.fit(text) {
                    bytes.push_str(&line);
                    bytes.push_str("\x1b[K\r\n");
                }
                bytes.push_str("\x1b[J");
            }
            ScreenKind::Serial => {
                bytes.push_str("\r\n");
                for line in text.lines() {
                    bytes.push_str(line);
                    bytes.push_str("\r\n");
                }
            }
        }
        Some(bytes.into_bytes())
    }

    /// The lines that fit without scrolling the first ones away; the last one says what is missing.
    fn fit(&self, text: &str) -> Vec<String> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let room = self.rows.saturating_sub(1);
        if self.rows > 1 && lines.len() > room {
            let hidden = lines.len() - (room - 1);
            lines.truncate(room - 1);
            lines.push(format!("({hidden} more lines: mastctl status)"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_line_gets_a_block_only_when_something_changed() {
        let mut screen = Screen::new(ScreenKind::Serial, 0);
        assert_eq!(screen.update("a\nb\n").unwrap(), b"\r\na\r\nb\r\n");
        assert_eq!(screen.update("a\nb\n"), None);
        assert!(screen.update("a\nc\n").is_some());
    }

    #[test]
    fn a_virtual_terminal_is_painted_from_its_corner() {
        let mut screen = Screen::new(ScreenKind::Virtual, 25);
        assert_eq!(screen.update("a\n").unwrap(), b"\x1b[Ha\x1b[K\r\n\x1b[J");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut screen = Screen::new(ScreenKind::Virtual, 4);
        let bytes = screen.update("1\n2\n3\n4\n5\n").unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.contains("2\x1b[K\r\n(3 more lines: mastctl status)"),
            "{text:?}"
        );
        assert!(!text.contains("3\x1b[K"));
    }
}
