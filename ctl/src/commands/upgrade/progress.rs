//! What a person sees meanwhile: a line that lives on a terminal, plain lines elsewhere, on the standard error stream. A program that asks for
//! JSON sees nothing: what is there, if anything, is the one document of an error.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use masthead_streams::note;

use crate::cli::Output;
use crate::text::harmless;

/// The line of one master.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// None: no terminal, plain lines.
    bar: Option<ProgressBar>,
    name: String,
    quiet: bool,
}

impl Progress {
    /// A line for a master, or for what comes before all of them.
    pub(super) fn of(name: &str, output: Output) -> Self {
        let quiet = output == Output::Json;
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            name: name.to_owned(),
            quiet,
        }
    }

    /// What is done now.
    pub(super) fn note(&self, doing: &str) {
        let doing = harmless(doing);
        match &self.bar {
            Some(bar) => {
                bar.set_style(style("{spinner} {prefix}: {msg} ({elapsed})"));
                bar.set_message(doing);
            }
            None => self.say(&doing),
        }
    }

    /// An image is being sent. Returns what hears how many bytes were sent.
    pub(super) fn sending(&self, what: &str, bytes: u64) -> impl Fn(u64) + Send + 'static {
        self.note(what);
        if let Some(bar) = &self.bar {
            bar.set_length(bytes);
            bar.set_style(style(
                "{spinner} {prefix}: {msg} [{bar:30}] {bytes}/{total_bytes} ({elapsed})",
            ));
        }
        let bar = self.bar.clone();
        move |sent| {
            if let Some(bar) = &bar {
                bar.set_position(sent);
            }
        }
    }

    /// The last word, which stays.
    pub(super) fn done(&self, outcome: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.say(&harmless(outcome));
    }

    fn say(&self, words: &str) {
        if !self.quiet {
            note(&format!("{}: {words}\n", self.name));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are whole.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
