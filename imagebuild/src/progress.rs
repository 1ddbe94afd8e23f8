//! What the user sees while the image is built: a line per step, alive on a terminal and plain
//! elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use masthead_streams::note;

/// All lines together.
pub struct Progress {
    /// `None`: not a terminal, plain lines.
    bars: Option<MultiProgress>,
}

/// The line of one step.
pub struct Line {
    name: &'static str,
    bar: Option<ProgressBar>,
    since: Instant,
}

impl Progress {
    /// Bars if the standard error stream is a terminal.
    pub fn new() -> Self {
        Self {
            bars: std::io::stderr().is_terminal().then(MultiProgress::new),
        }
    }

    /// Adds the line of a step that begins.
    pub fn line(&self, name: &'static str) -> Line {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {prefix:<12} {msg} ({elapsed})"));
            bar.set_prefix(name);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Line {
            name,
            bar,
            since: Instant::now(),
        }
    }

    /// Something that the user must see, whatever the lines do.
    pub fn notice(&self, text: &str) {
        match &self.bars {
            // A lost notice is better than a lost build.
            Some(bars) => drop(bars.println(text)),
            None => note(&format!("{text}\n")),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// What the step does now.
    pub fn doing(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => note(&format!("{:<12} {what}\n", self.name)),
        }
    }

    /// A step whose size is known shows a bar from here on; advance it with [`Line::advance`].
    pub fn of_bytes(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(0);
            bar.set_style(style(
                "{spinner} {prefix:<12} {msg} [{bar:24}] {bytes}/{total_bytes}",
            ));
        }
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// The step's result was there already.
    pub fn unchanged(self) {
        self.end("unchanged");
    }

    /// The step is done; what it made.
    pub fn done(self, what: &str) {
        let seconds = self.since.elapsed().as_secs_f32();
        self.end(&format!("{what} ({seconds:.1} s)"));
    }

    fn end(mut self, text: &str) {
        match self.bar.take() {
            Some(bar) => {
                bar.set_style(style("  {prefix:<12} {msg}"));
                bar.finish_with_message(text.to_owned());
            }
            None => note(&format!("{:<12} {text}\n", self.name)),
        }
    }
}

impl Drop for Line {
    /// A step that failed leaves its last words standing.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates here are well-formed")
}

/// A number of bytes for people.
pub fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
