//! Measures the figures of `docs/benchmarks.md`, and writes that page. Called by `scripts/bench`.

use std::process::ExitCode;

use clap::Parser;
use masthead_lab::{
    bench::{
        Bench, bare,
        cases::{self, Case},
        record::{Conditions, Record},
        report,
    },
    error::{Attempt, Error, Result, chain},
};

/// Measures what was not measured yet, and writes docs/benchmarks.md.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct CommandLine {
    /// Cases to measure [default: the usual ones]
    cases: Vec<String>,
    /// Measure also what is measured already
    #[arg(long)]
    again: bool,
    /// Measure nothing: only write the page
    #[arg(long, conflicts_with = "again")]
    write: bool,
    /// How often to measure what is measured one boot at a time
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Identifies the sources: a record of others is measured again
    #[arg(long)]
    sources: String,
}

fn main() -> ExitCode {
    // Laid over the root of a bare node, this program is its PID 1.
    let outcome = if std::process::id() == 1 {
        bare::init::run()
    } else {
        measure(&CommandLine::parse())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn measure(command_line: &CommandLine) -> Result<()> {
    let repository = std::env::current_dir().attempt(|| "find the current folder")?;
    let bench = Bench {
        image: repository.join("build/image"),
        directory: repository.join("build/bench"),
        runs: command_line.runs.max(1),
        sources: command_line.sources.clone(),
        repository,
    };
    std::fs::create_dir_all(&bench.directory)
        .attempt(|| format!("make {}", bench.directory.display()))?;
    let chosen = choose(command_line)?;
    let mut failed = Vec::new();
    for case in chosen {
        // What one case cannot measure does not keep the others from it.
        if let Err(error) = one(command_line, &bench, case) {
            eprintln!("bench: {}: {}", case.name, chain(&error));
            failed.push(case.name);
        }
    }
    write_page(&bench)?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "not measured: {}; the others are kept, run this again for the rest",
        failed.join(", ")
    )))
}

fn choose(command_line: &CommandLine) -> Result<Vec<&'static Case>> {
    if command_line.write {
        return Ok(Vec::new());
    }
    if command_line.cases.is_empty() {
        return Ok(cases::ALL.iter().filter(|case| case.usual).collect());
    }
    let find = |name: &String| {
        cases::ALL
            .iter()
            .find(|case| case.name == name)
            .ok_or_else(|| {
                let names: Vec<&str> = cases::ALL.iter().map(|case| case.name).collect();
                Error::Refused(format!("no case `{name}`: there are {}", names.join(", ")))
            })
    };
    command_line.cases.iter().map(find).collect()
}

fn one(command_line: &CommandLine, bench: &Bench, case: &Case) -> Result<()> {
    let kept = Record::load(&bench.directory, case.name)?;
    if !command_line.again && kept.is_some_and(|kept| kept.sources == command_line.sources) {
        eprintln!("bench: {}: measured already", case.name);
        return Ok(());
    }
    eprintln!("bench: {} ...", case.name);
    let conditions = Conditions::when_quiet(&bench.repository)?;
    if !conditions.is_quiet() {
        eprintln!(
            "bench: {}: others use {:.0} % of the processors; the page will say so",
            case.name, conditions.busy_before
        );
    }
    let measured = (case.measure)(bench)?;
    let record = Record {
        sources: command_line.sources.clone(),
        conditions,
        figures: measured.figures,
        notes: measured.notes,
    };
    record.store(&bench.directory, case.name)
}

fn write_page(bench: &Bench) -> Result<()> {
    let mut records = std::collections::BTreeMap::new();
    for case in &cases::ALL {
        if let Some(record) = Record::load(&bench.directory, case.name)? {
            records.insert(case.name, record);
        }
    }
    let write = |path: &std::path::Path, text: String| {
        std::fs::write(path, text).attempt(|| format!("write {}", path.display()))
    };
    let docs = bench.repository.join("docs");
    let path = docs.join("benchmarks.md");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let record = |name: &str| records.get(name).cloned();
    write(&path, report::page(&before, record))?;
    for (file, picture) in report::pictures(record) {
        write(&docs.join(file), picture)?;
    }
    Ok(())
}
