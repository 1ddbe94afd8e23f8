//! Walking a table.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::document::{Document, Place};
use crate::suggest::{listed, nearest};
use crate::value::Value;

/// A table of the document. When it goes out of scope, keys that nobody asked for are reported, with
/// those that were asked for as suggestions.
#[derive(Debug)]
pub struct Table<'d> {
    pub(crate) document: &'d Document,
    entries: &'d DeTable<'d>,
    /// Where it begins; the root has no place of its own.
    place: Option<Place>,
    /// The keys that lead to it, joined by dots; empty for the root.
    path: String,
    asked: RefCell<Vec<String>>,
    /// Required keys that are absent, and what to write.
    missing: RefCell<Vec<(String, String)>>,
}

impl<'d> Table<'d> {
    pub(crate) fn root(document: &'d Document, entries: &'d DeTable<'d>) -> Self {
        Self {
            document,
            entries,
            place: None,
            path: String::new(),
            asked: RefCell::default(),
            missing: RefCell::default(),
        }
    }

    pub(crate) fn of(value: &Value<'d>, entries: &'d DeTable<'d>) -> Self {
        Self {
            document: value.document,
            entries,
            place: Some(value.place()),
            path: value.path().to_owned(),
            asked: RefCell::default(),
            missing: RefCell::default(),
        }
    }

    /// The keys that lead to this table, joined by dots; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<Value<'d>> {
        self.ask(key);
        let (key, value) = self.entries.get_key_value(key)?;
        Some(self.value(key, value))
    }

    /// The value of a key that must be there. `example` is what to write, such as `` prefix = 24 ``.
    pub fn require(&self, key: &str, example: &str) -> Option<Value<'d>> {
        let value = self.get(key);
        if value.is_none() {
            self.missing
                .borrow_mut()
                .push((key.to_owned(), example.to_owned()));
        }
        value
    }

    /// Every key and its value, sorted by key: for a table whose keys are names. Nothing is unknown in it.
    pub fn entries(&self) -> Vec<(Key<'d>, Value<'d>)> {
        let mut asked = self.asked.borrow_mut();
        self.entries
            .iter()
            .map(|(key, value)| {
                asked.push(key.get_ref().to_string());
                (
                    Key {
                        name: key.get_ref(),
                        place: Place::new(key.span()),
                    },
                    self.value(key, value),
                )
            })
            .collect()
    }

    /// Reports a key as an error of its own, with a better reason than "unknown". Does nothing if it is absent.
    pub fn refuse(&self, key: &str, message: &str, help: &str) {
        if let Some((key, _)) = self.entries.get_key_value(key) {
            self.ask(key.get_ref());
            self.document.error(
                Some(Place::new(key.span())),
                message.to_owned(),
                help.to_owned(),
            );
        }
    }

    /// Reports an error about the table as a whole.
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.document.error(self.place, message.into(), help.into());
    }

    /// Reports an error about a place in the same document.
    pub fn error_at(&self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.document
            .error(Some(place), message.into(), help.into());
    }

    /// Reports a warning about a place in the same document.
    pub fn warning_at(&self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.document
            .warning(Some(place), message.into(), help.into());
    }

    /// Where the table is; `None` for the root.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// Whether the text has faults of syntax, so that something may be absent only because it could not be read.
    pub fn is_broken(&self) -> bool {
        self.document.broken
    }

    fn value(
        &self,
        key: &Spanned<std::borrow::Cow<'d, str>>,
        value: &'d Spanned<DeValue<'d>>,
    ) -> Value<'d> {
        let key: &str = key.get_ref();
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        Value::new(self.document, value, path)
    }

    fn ask(&self, key: &str) {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|known| known == key) {
            asked.push(key.to_owned());
        }
    }

    fn within(&self) -> String {
        if self.path.is_empty() {
            String::new()
        } else {
            format!(" in `{}`", self.path)
        }
    }

    /// Reports keys that nobody asked for. Returns the keys that were probably meant.
    fn report_unknown(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        let absent = || {
            asked
                .iter()
                .map(String::as_str)
                .filter(|key| !self.entries.contains_key(*key))
        };
        let mut meant = Vec::new();
        for key in self
            .entries
            .keys()
            .filter(|key| !asked.iter().any(|asked| asked == key.get_ref()))
        {
            let unknown = key.get_ref();
            let help = match nearest(unknown, absent()) {
                Some(key) => {
                    meant.push(key.to_owned());
                    format!("did you mean `{key}`?")
                }
                None => format!(
                    "the keys here are {}",
                    listed(asked.iter().map(String::as_str))
                ),
            };
            let message = format!("unknown key `{}`{}", unknown.escape_debug(), self.within());
            self.document
                .error(Some(Place::new(key.span())), message, help);
        }
        meant
    }

    /// Reports required keys that are absent, but for those `meant` by an unknown one.
    fn report_missing(&self, meant: &[String]) {
        // What is missing may be in the part of the text that could not be read.
        if self.document.broken {
            return;
        }
        let top = if self.place.is_none() {
            ", above the first [table]"
        } else {
            ""
        };
        for (key, example) in self
            .missing
            .borrow()
            .iter()
            .filter(|(key, _)| !meant.contains(key))
        {
            self.document.error(
                self.place,
                format!("`{key}` is missing{}", self.within()),
                format!("write {example}{top}"),
            );
        }
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        let meant = self.report_unknown();
        self.report_missing(&meant);
    }
}

/// A key and its place.
#[derive(Debug, Clone, Copy)]
pub struct Key<'d> {
    /// The key without quotes.
    pub name: &'d str,
    /// Where it is written.
    pub place: Place,
}
