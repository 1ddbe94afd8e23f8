//! What can go wrong in the lab.

use std::io;

use crate::provider::ProviderKind;

/// A failure of the lab itself. What a node does wrong is not one: that is in its console.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file operation failed.
    #[error("cannot {action}")]
    System {
        /// What was attempted, with its object: `mount /state of m1 from …/state.img`.
        action: String,
        /// Why the kernel refused.
        source: io::Error,
    },
    /// A program that the lab runs (mke2fs, mastctl, …) ended with a failure.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// The program, with the arguments that matter.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// This kind of node has no means for it.
    #[error("a {kind} node cannot {operation}: {reason}")]
    Unsupported {
        /// The kind of node.
        kind: ProviderKind,
        /// What was asked for, as a verb.
        operation: &'static str,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// The node is switched off, or on, and the operation needs the opposite.
    #[error("{node} is {state}: {remedy}")]
    WrongPower {
        /// The node's name.
        node: String,
        /// How it is.
        state: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The helper process of a node reported a failure.
    #[error("{node}: {message}")]
    Node {
        /// The node's name.
        node: String,
        /// Its words, causes included.
        message: String,
    },
    /// A condition did not come true in time.
    #[error("waited {waited_seconds:.1} s for {what}, in vain; last seen: {last}")]
    Impatient {
        /// The condition, as a noun phrase.
        what: String,
        /// How long, in seconds.
        waited_seconds: f64,
        /// What the last look at it showed.
        last: String,
    },
    /// What the user asked for cannot be.
    #[error("{0}")]
    Refused(String),
}

/// The lab's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was attempted when a system call fails.
pub trait Attempt<T> {
    /// Wraps the failure in [`Error::System`] with the words of `action`.
    fn attempt<A: Into<String>>(self, action: impl FnOnce() -> A) -> Result<T>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt<A: Into<String>>(self, action: impl FnOnce() -> A) -> Result<T> {
        self.map_err(|source| Error::System {
            action: action().into(),
            source: source.into(),
        })
    }
}

/// An error and its causes on one line, for messages that leave the process.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(each) = cause {
        text.push_str(": ");
        text.push_str(&each.to_string());
        cause = each.source();
    }
    text
}
