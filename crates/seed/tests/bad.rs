//! The corpus of bad seeds: `bad/NAME.toml` is refused with exactly the report in `bad/NAME.expected`.
//!
//! At its end a bad seed may say how it is mended, one line each: `#~ LINE: what to write there`. Mended,
//! it must be accepted: so the reported fault is the only one, and the report asks for nothing needless.
//!
//! `MASTHEAD_REWRITE=1 cargo test -p masthead-seed --test bad` writes the expected reports anew; read each before it
//! is committed: does it help somebody at three in the morning?

use std::fs;
use std::path::{Path, PathBuf};

use masthead_seed::Seed;

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let entries = fs::read_dir(folder).expect("the corpus is readable");
    let mut seeds: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    seeds.sort();
    assert!(
        seeds.len() >= 60,
        "only {} bad seeds were found",
        seeds.len()
    );
    seeds
}

/// What the seed says about its mending, if anything: the file with those lines replaced.
fn mended(text: &str) -> Option<String> {
    let replacements: Vec<(usize, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#~ "))
        .map(|directive| {
            let (line, replacement) = directive.split_once(':').expect("#~ LINE: text");
            (
                line.parse().expect("a line number"),
                replacement.trim_start(),
            )
        })
        .collect();
    let line = |(index, line)| {
        replacements
            .iter()
            .find(|(number, _)| *number == index + 1)
            .map_or(line, |(_, text)| *text)
    };
    let lines: Vec<&str> = text.lines().enumerate().map(line).collect();
    (!replacements.is_empty()).then(|| lines.join("\n"))
}

#[test]
fn every_bad_seed_is_refused_with_the_expected_report() {
    let rewrite = std::env::var_os("MASTHEAD_REWRITE").is_some();
    let mut wrong = Vec::new();
    for path in corpus() {
        let bytes = fs::read(&path).expect("the seed is readable");
        let (seed, report) = Seed::check("seed.toml", &bytes);
        assert!(seed.is_none(), "{} was accepted", path.display());
        assert!(
            report.has_errors(),
            "{} was refused without a reason",
            path.display()
        );
        // The examples' secret is part of most of them; its warning would only be in the way.
        let report: String = report
            .diagnostics()
            .iter()
            .filter(|diagnostic| !diagnostic.message.contains("Masthead's examples"))
            .map(ToString::to_string)
            .collect();
        let expected = path.with_extension("expected");
        if rewrite {
            fs::write(&expected, &report).expect("the expected report is writable");
        } else if fs::read_to_string(&expected).unwrap_or_default() != report {
            wrong.push(format!("{}:\n{report}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "reports differ:\n{}", wrong.join("\n"));
}

#[test]
fn every_mended_seed_is_accepted() {
    let mut count = 0;
    for path in corpus() {
        let Some(text) = fs::read(&path)
            .ok()
            .and_then(|bytes| mended(&String::from_utf8(bytes).ok()?))
        else {
            continue;
        };
        if let Err(report) = Seed::parse("seed.toml", text.as_bytes()) {
            panic!("{} is mended and still refused:\n{report}", path.display());
        }
        count += 1;
    }
    assert!(count >= 60, "only {count} seeds say how they are mended");
}

#[test]
fn no_report_shows_a_secret() {
    for path in corpus() {
        let report = fs::read_to_string(path.with_extension("expected")).expect("a report");
        for secret in ["hunter2", "iS3UR35", "AAECAwQF", "UR35iI6VKJc"] {
            assert!(
                !report.contains(secret),
                "{} shows {secret}",
                path.display()
            );
        }
    }
}
