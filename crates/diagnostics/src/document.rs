//! A file's text, and the list of what is wrong with it.

use std::cell::RefCell;
use std::ops::Range;

use toml::de::DeTable;

use crate::excerpt::{excerpt, position};
use crate::report::{Diagnostic, Report, Severity};
use crate::syntax;
use crate::table::Table;

/// The largest file that is read, in bytes.
pub const LIMIT: usize = 256 * 1024;

/// Where in the document something is written; kept with a value that is judged later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Place {
    pub(crate) fn new(span: Range<usize>) -> Self {
        Self {
            start: span.start,
            end: span.end,
        }
    }

    /// Bytes of the text that it covers.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A file that is text, and what has been found wrong with it so far.
#[derive(Debug)]
pub struct Document {
    file: String,
    text: String,
    hidden: Vec<Range<usize>>,
    found: RefCell<Vec<Found>>,
    /// The text is not TOML: what is missing may be in the part that could not be read.
    pub(crate) broken: bool,
}

#[derive(Debug)]
struct Found {
    severity: Severity,
    /// Where; the whole file if absent.
    place: Option<Place>,
    message: String,
    help: String,
}

impl Document {
    /// Checks that bytes are text of a reasonable size. A byte order mark is skipped.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Self, Report> {
        let refuse = |line, column, message: String, help: &str| {
            Err(Report {
                diagnostics: vec![Diagnostic {
                    severity: Severity::Error,
                    file: file.to_owned(),
                    line,
                    column,
                    message,
                    help: Some(help.to_owned()),
                    excerpt: None,
                }],
            })
        };
        if bytes.len() > LIMIT {
            let message = format!(
                "the file has {} bytes, and at most {LIMIT} are read",
                bytes.len()
            );
            return refuse(1, 1, message, "check that this is the right file");
        }
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return refuse(1, 1, "the file is UTF-16".to_owned(), "save it as UTF-8");
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Self {
                file: file.to_owned(),
                text: text.to_owned(),
                hidden: Vec::new(),
                found: RefCell::default(),
                broken: false,
            }),
            Err(error) => {
                let valid = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
                let (line, column) = position(valid, valid.len());
                let byte = bytes[error.valid_up_to()];
                let message =
                    format!("the file is not UTF-8 text: byte 0x{byte:02x} is not part of it");
                refuse(
                    line,
                    column,
                    message,
                    "save the file as UTF-8, or check that it is the right file",
                )
            }
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Keeps these bytes of the text out of every report: each character is shown as an asterisk. Words of them that are
    /// long enough to tell something are hidden in messages too, which may quote them from another line.
    pub fn hide(&mut self, ranges: impl IntoIterator<Item = Range<usize>>) {
        self.hidden.extend(ranges);
    }

    /// Walks the tree of the document. What `reader` returns is handed out if, and only if, there is no error.
    pub fn read<T>(mut self, reader: impl FnOnce(&Table<'_>) -> Option<T>) -> (Option<T>, Report) {
        let text = std::mem::take(&mut self.text);
        let (root, errors) = DeTable::parse_recoverable(&text);
        self.broken = !errors.is_empty();
        // After a fault of syntax, what else is wrong with that line is only its echo.
        let mut faulty_lines = Vec::new();
        let mut end_of_sense = text.len();
        for error in &errors {
            let found = syntax::explain(&text, error);
            let start = found.place.start;
            let (line, _) = position(&text, start);
            if start > end_of_sense || faulty_lines.contains(&line) {
                continue;
            }
            self.error(Some(found.place), found.message, found.help);
            faulty_lines.push(line);
            if syntax::ends_sense(error) {
                end_of_sense = start;
            }
        }
        let of_syntax = self.found.get_mut().len();
        let value = {
            let root = Table::root(&self, root.get_ref());
            reader(&root)
        };
        let echo = |found: &Found| {
            found.place.is_some_and(|place| {
                place.start > end_of_sense || faulty_lines.contains(&position(&text, place.start).0)
            })
        };
        let mut index = 0;
        self.found.get_mut().retain(|found| {
            index += 1;
            index <= of_syntax || !echo(found)
        });
        self.text = text;
        let report = self.into_report();
        (value.filter(|_| !report.has_errors()), report)
    }

    pub(crate) fn error(&self, place: Option<Place>, message: String, help: String) {
        self.push(Severity::Error, place, message, help);
    }

    pub(crate) fn warning(&self, place: Option<Place>, message: String, help: String) {
        self.push(Severity::Warning, place, message, help);
    }

    fn push(&self, severity: Severity, place: Option<Place>, message: String, help: String) {
        self.found.borrow_mut().push(Found {
            severity,
            place,
            message,
            help,
        });
    }

    fn into_report(self) -> Report {
        let mut found = self.found.into_inner();
        // Stable: what is found first about a place is said first.
        found.sort_by_key(|found| found.place.map_or(0, |place| place.start));
        let words = hidden_words(&self.text, &self.hidden);
        let mut diagnostics = Vec::new();
        for Found {
            severity,
            place,
            message,
            help,
        } in found
        {
            let (line, column) = place.map_or((1, 1), |place| position(&self.text, place.start));
            diagnostics.push(Diagnostic {
                severity,
                file: self.file.clone(),
                line,
                column,
                message: without(&words, message),
                help: Some(without(&words, help)).filter(|help| !help.is_empty()),
                excerpt: place.map(|place| excerpt(&self.text, &place.range(), &self.hidden)),
            });
        }
        Report { diagnostics }
    }
}

/// The words of the hidden parts that must not be quoted either.
fn hidden_words<'t>(text: &'t str, hidden: &[Range<usize>]) -> Vec<&'t str> {
    /// Shorter ones are in messages by chance.
    const TELLING: usize = 8;
    let is_separator =
        |character: char| !character.is_ascii_alphanumeric() && !matches!(character, '-' | '_');
    let parts = hidden.iter().filter_map(|range| text.get(range.clone()));
    parts
        .flat_map(|part| part.split(is_separator))
        .filter(|word| word.len() >= TELLING)
        .collect()
}

fn without(words: &[&str], text: String) -> String {
    words.iter().fold(text, |text, word| {
        text.replace(word, &"*".repeat(word.len()))
    })
}
