//! What failed, where, why, and what to do next.

use std::error::Error;
use std::process::ExitCode;

use masthead_api::{ApiError, ErrorCode};
use masthead_streams::note;

use crate::cli::Output;

/// The exit codes of `mastctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was tried and failed: 1.
    Failed,
    /// Wrong usage, or refused before anything was done: 2.
    Refused,
    /// It began, and stopped before it was done: 3.
    Stopped,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Failed => 1,
            Exit::Refused => 2,
            Exit::Stopped => 3,
        })
    }
}

/// A failure for people and programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What failed and where, without "cannot": `read the seed m.toml`.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do next: sentences.
    pub next: String,
    /// A stable code for programs; the node's own where the node refused.
    pub code: String,
}

impl Failure {
    /// A failure because of `error`.
    pub fn new(what: impl Into<String>, error: &dyn Error, next: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            what: what.into(),
            why: chain(error),
            next: next.into(),
            code: "failed".to_owned(),
        }
    }

    /// A refusal, with nothing done.
    pub fn refused(
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            exit: Exit::Refused,
            what: what.into(),
            why: why.into(),
            next: next.into(),
            code: "refused".to_owned(),
        }
    }

    /// What a node answered instead of doing it.
    pub fn answered(what: impl Into<String>, error: &ApiError) -> Self {
        Self {
            exit: Exit::Failed,
            what: what.into(),
            why: error.message.clone(),
            next: error.remedy.clone(),
            code: error.code.to_string(),
        }
    }

    /// The same with another stable code.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        code.clone_into(&mut self.code);
        self
    }

    /// The same, after something had been done.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.exit = Exit::Stopped;
        self
    }

    /// The same as a refusal where the node says so: it looked at everything first, and did nothing.
    #[must_use]
    pub fn as_the_node_says(mut self) -> Self {
        let refusals = [
            ErrorCode::Conflict,
            ErrorCode::LoginRefused,
            ErrorCode::NotFound,
        ];
        if refusals.iter().any(|code| code.as_str() == self.code) {
            self.exit = Exit::Refused;
        }
        self
    }

    /// As a JSON object.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "code": self.code,
            "message": format!("cannot {}: {}", self.what, self.why),
            "remedy": self.next,
        })
    }

    /// For people, several lines.
    pub fn text(&self) -> String {
        let mut text = format!("error: cannot {}\n", self.what);
        for line in self.why.lines() {
            text.push_str("  why:  ");
            text.push_str(line);
            text.push('\n');
        }
        if !self.next.is_empty() {
            text.push_str("  next: ");
            text.push_str(&self.next);
            text.push('\n');
        }
        text
    }

    /// Prints it to standard error.
    pub fn print(&self, output: Output) {
        match output {
            Output::Table => note(&self.text()),
            Output::Json => note(&format!(
                "{}\n",
                serde_json::json!({ "error": self.json() })
            )),
        }
    }
}

/// An error with its sources, each said once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Some libraries repeat their source in their own text.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
