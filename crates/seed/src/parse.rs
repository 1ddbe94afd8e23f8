//! The way from bytes to a [`Seed`].

use masthead_diagnostics::Report;

use crate::Seed;

impl Seed {
    /// Reads and validates a seed. The report of a refusal holds every error and warning, with secrets masked.
    pub fn parse(file_name: &str, bytes: &[u8]) -> Result<Self, Report> {
        let (seed, report) = Self::check(file_name, bytes);
        seed.ok_or(report)
    }

    /// Like [`Seed::parse`], with the warnings of a seed that is accepted: what `mastctl seed check` shows.
    pub fn check(_file_name: &str, _bytes: &[u8]) -> (Option<Self>, Report) {
        (None, Report::default())
    }
}
