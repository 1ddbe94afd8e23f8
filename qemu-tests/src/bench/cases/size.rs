//! Sizes of what `make image` leaves.

use std::fs;

use super::{Bench, Figure, Measured};
use crate::{
    bench::figure::Statistic,
    error::{Attempt, Error, Result},
};

/// In MB (10⁶ bytes), as the goal is.
const GOAL_MB: f64 = 70.0;

pub(super) fn measure(bench: &Bench) -> Result<Measured> {
    let mut sizes = Vec::new();
    let entries = fs::read_dir(&bench.image)
        .attempt(|| format!("read {}: run make image first", bench.image.display()))?;
    for entry in entries {
        let entry = entry.attempt(|| format!("read {}", bench.image.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry.metadata().attempt(|| format!("look at {name}"))?;
        if metadata.is_file() {
            sizes.push((name, metadata.len()));
        }
    }
    let megabytes = |wanted: &dyn Fn(&str) -> bool| -> Result<Vec<f64>> {
        let found = sizes.iter().find(|(name, _)| wanted(name));
        let (_, bytes) = found.ok_or_else(|| {
            Error::Refused(format!(
                "a file is missing in {}: run make image again",
                bench.image.display()
            ))
        })?;
        #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
        Ok(vec![*bytes as f64 / 1e6])
    };
    let uki = |name: &str| {
        let version = name.strip_prefix("masthead-");
        version.is_some_and(|rest| rest.strip_suffix(".efi").is_some())
    };
    Ok(Measured {
        figures: vec![
            Figure::new("UKI", "MB", megabytes(&uki)?).goal(Statistic::Maximum, GOAL_MB),
            Figure::new(
                "root (EROFS)",
                "MB",
                megabytes(&|name| name == "root.erofs")?,
            ),
            Figure::new("kernel", "MB", megabytes(&|name| name == "vmlinuz")?),
            Figure::new("init, both roles", "MB", megabytes(&|name| name == "init")?),
        ],
        notes: vec!["1 MB is 1 000 000 bytes.".to_owned()],
    })
}
