//! `mastctl seed check`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use masthead_seed::{Hash, SEED_LIMIT, Seed};
use serde_json::json;

use super::say;
use super::session::Session;
use crate::Failure;
use crate::cli::Output;

/// Checks a seed as a node would.
pub(super) fn check(session: &Session, file: &Path) -> Result<(), Failure> {
    let what = format!("read the seed {}", file.display());
    // One byte more than a seed can have: as on a node, a larger one is refused as too large.
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(SEED_LIMIT as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::new(&what, &error, "Check the path and its mode."))?;
    // Of the bytes, as console and status show it.
    let hash = Hash::of(&bytes);
    let (seed, report) = Seed::check(&file.display().to_string(), &bytes);
    let summary = seed.as_ref().map(|seed| {
        let masters: Vec<_> = seed
            .masters
            .iter()
            .map(|master| master.name.as_str())
            .collect();
        format!(
            "{}: cluster {}, masters {}\nsha256:{}\nmeaning:{}\n",
            file.display(),
            seed.cluster,
            masters.join(", "),
            hash,
            seed.hash
        )
    });
    let mut text = report.to_string();
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(summary.as_deref().unwrap_or_default());
    say(session.output(), &text, || {
        let meaning = seed.as_ref().map(|seed| seed.hash.to_string());
        json!({
            "valid": seed.is_some(), "hash": hash.to_string(), "meaning": meaning,
            "diagnostics": report,
        })
    })?;
    if seed.is_some() {
        return Ok(());
    }
    let errors = report.errors().count();
    let failure = Failure {
        exit: crate::Exit::Failed,
        what: format!("accept the seed {}", file.display()),
        why: format!(
            "it has {errors} error{}",
            if errors == 1 { "" } else { "s" }
        ),
        next: match session.output() {
            Output::Table => "Correct it as the messages above say.".to_owned(),
            Output::Json => "Correct it as the diagnostics say.".to_owned(),
        },
        code: "seed-invalid".to_owned(),
    };
    Err(failure)
}
