//! Walking a value.

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use crate::document::{Document, Place};
use crate::suggest::{listed, nearest};
use crate::table::Table;

/// A value of the document. Its readers write down what is wrong and return `None` then.
#[derive(Debug, Clone)]
pub struct Value<'d> {
    pub(crate) document: &'d Document,
    inner: &'d Spanned<DeValue<'d>>,
    path: String,
}

/// A value by its type, for readers of free-form parts.
#[derive(Debug)]
pub enum Shape<'d> {
    /// Text.
    String(&'d str),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date, a time or both, as it is written.
    Datetime(String),
    /// A list.
    Array(Vec<Value<'d>>),
    /// A table, for [`Value::table`] to read.
    Table,
}

impl<'d> Value<'d> {
    pub(crate) fn new(
        document: &'d Document,
        inner: &'d Spanned<DeValue<'d>>,
        path: String,
    ) -> Self {
        Self {
            document,
            inner,
            path,
        }
    }

    /// The keys that lead to it, joined by dots.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where it is written.
    pub fn place(&self) -> Place {
        Place::new(self.inner.span())
    }

    /// Reports an error about it.
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.document
            .error(Some(self.place()), message.into(), help.into());
    }

    /// Reports a warning about it.
    pub fn warning(&self, message: impl Into<String>, help: impl Into<String>) {
        self.document
            .warning(Some(self.place()), message.into(), help.into());
    }

    /// Reports that it is of the wrong type. `example` is what to write, such as `` prefix = 24 ``.
    pub fn wrong_type(&self, expected: &str, example: &str) {
        let found = type_name(self.inner.get_ref());
        let message = format!("`{}` must be {expected}, and this is {found}", self.path);
        self.error(
            message,
            if example.is_empty() {
                String::new()
            } else {
                format!("write {example}")
            },
        );
    }

    /// Text.
    pub fn string(&self) -> Option<&'d str> {
        if let DeValue::String(text) = self.inner.get_ref() {
            return Some(text);
        }
        self.wrong_type("a string", &format!("{} = \"…\"", self.key()));
        None
    }

    /// A whole number within a range.
    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let (least, most) = (range.start(), range.end());
        let DeValue::Integer(number) = self.inner.get_ref() else {
            // "24" in quotes was meant as 24.
            let quoted = match self.inner.get_ref() {
                DeValue::String(text) => text.parse().ok().filter(|number| range.contains(number)),
                _ => None,
            };
            let number = quoted.unwrap_or(*least);
            self.wrong_type(
                "a whole number",
                &format!("{} = {number}, without quotes", self.key()),
            );
            return None;
        };
        let number = to_i64(number).filter(|number| range.contains(number));
        if number.is_none() {
            self.out_of_range(&format!("from {least} to {most}"));
        }
        number
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        if let DeValue::Boolean(value) = self.inner.get_ref() {
            return Some(*value);
        }
        self.wrong_type(
            "true or false",
            &format!("{} = true, without quotes", self.key()),
        );
        None
    }

    /// A table.
    pub fn table(&self) -> Option<Table<'d>> {
        self.table_like(&format!("{} = {{ key = value }}", self.key()))
    }

    /// A table. `example` is what to write instead of anything else, such as `` network = { prefix = 24 } ``.
    pub fn table_like(&self, example: &str) -> Option<Table<'d>> {
        if let DeValue::Table(entries) = self.inner.get_ref() {
            return Some(Table::of(self, entries));
        }
        self.wrong_type("a table", example);
        None
    }

    /// A list.
    pub fn array(&self) -> Option<Vec<Self>> {
        if let DeValue::Array(items) = self.inner.get_ref() {
            return Some(self.items(items));
        }
        let item = match self.inner.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            _ => "…".to_owned(),
        };
        self.wrong_type("a list", &format!("{} = [{item}]", self.key()));
        None
    }

    /// A list of which every item is read; `None` if one of them could not be.
    pub fn array_of<T>(&self, mut item: impl FnMut(&Self) -> Option<T>) -> Option<Vec<T>> {
        // Read all before giving up, so that each one's fault is reported.
        let items: Vec<Option<T>> = self.array()?.iter().map(&mut item).collect();
        items.into_iter().collect()
    }

    /// Text that is one of the given words.
    pub fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let help = match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!(
                "the choices are {}",
                listed(words.iter().map(|(word, _)| *word))
            ),
        };
        self.error(format!("`{}` cannot be {:?}", self.path, text), help);
        None
    }

    /// Text that `parse` understands. Its error says what is wrong; `help` what to write instead.
    pub fn parse<T, E: Display>(
        &self,
        parse: impl FnOnce(&'d str) -> Result<T, E>,
        help: &str,
    ) -> Option<T> {
        match parse(self.string()?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(format!("`{}`: {error}", self.path), help);
                None
            }
        }
    }

    /// The value by its type. A number that no 64 bits hold is reported.
    pub fn shape(&self) -> Option<Shape<'d>> {
        Some(match self.inner.get_ref() {
            DeValue::String(text) => Shape::String(text),
            DeValue::Boolean(value) => Shape::Boolean(*value),
            DeValue::Datetime(value) => Shape::Datetime(value.to_string()),
            DeValue::Array(items) => Shape::Array(self.items(items)),
            DeValue::Table(_) => Shape::Table,
            DeValue::Float(number) => Shape::Float(number.as_str().parse().ok()?),
            DeValue::Integer(number) => {
                let number = to_i64(number);
                if number.is_none() {
                    self.out_of_range("of at most 64 bits");
                }
                Shape::Integer(number?)
            }
        })
    }

    fn out_of_range(&self, range: &str) {
        self.error(
            format!("`{}` is out of range", self.path),
            format!("write a number {range}"),
        );
    }

    fn items(&self, items: &'d [Spanned<DeValue<'d>>]) -> Vec<Self> {
        let item =
            |(index, item)| Self::new(self.document, item, format!("{}[{index}]", self.path));
        items.iter().enumerate().map(item).collect()
    }

    /// The last key of the path.
    fn key(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }
}

fn to_i64(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
