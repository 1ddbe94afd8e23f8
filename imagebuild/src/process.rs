//! The one way in which other programs are run: with their name and last words in the error.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a program to its end and returns what it wrote to its standard output.
///
/// An error says the program, how it ended and the last lines of what it complained about.
pub fn output(command: &mut Command) -> Result<String> {
    let program = name(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = complaint.trim_end().lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n  ");
        bail!("{program} ended with {}:\n  {last}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading the output of {program}"))
}

/// As [`output`], for a program whose output is of no interest.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

fn name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    // The first word tells `cargo build` from `cargo metadata`; the rest is noise.
    match command.get_args().next() {
        Some(word) if !word.to_string_lossy().starts_with('-') => {
            format!("{} {}", name.display(), word.display())
        }
        _ => name.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_in_the_error() {
        let error = run(Command::new("sh").args(["-c", "echo lost the file >&2; exit 3"]))
            .expect_err("a failure");
        let text = format!("{error:#}");
        assert!(text.contains("sh ended with exit status: 3"), "{text}");
        assert!(text.contains("lost the file"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("/nonexistent/frobnicate")).expect_err("a failure");
        assert!(format!("{error:#}").contains("starting frobnicate"));
    }
}
