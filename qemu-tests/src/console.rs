//! Reading a node's console.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    thread,
    time::Duration,
};

/// All that a console has shown; a node that was never on has shown nothing.
pub fn text(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| plain(&String::from_utf8_lossy(&bytes)))
        .unwrap_or_default()
}

/// The last word on a console that begins with `prefix`.
pub fn last_word<'a>(console: &'a str, prefix: &str) -> Option<&'a str> {
    console
        .split_whitespace()
        .rev()
        .find(|word| word.starts_with(prefix))
}

/// The last line that holds letters: frames and rules of a status screen do not count.
pub fn last_line(console: &str) -> Option<&str> {
    console
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| line.chars().any(char::is_alphanumeric))
}

/// Copies a console to `out`: what is there and, with `follow`, what comes, until `out` is closed.
pub fn copy(path: &Path, follow: bool, out: &mut impl Write) -> io::Result<()> {
    const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
    let mut position = 0;
    loop {
        if let Ok(mut file) = File::open(path) {
            file.seek(SeekFrom::Start(position))?;
            let mut bytes = Vec::new();
            position += file.read_to_end(&mut bytes)? as u64;
            out.write_all(&bytes)?;
            out.flush()?;
        }
        if !follow {
            return Ok(());
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// Text without terminal control sequences (ECMA-48: ESC [ … letter).
fn plain(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\u{1b}' {
            result.push(character);
            continue;
        }
        if characters.next() == Some('[') {
            let _ = characters.find(|character| ('@'..='~').contains(character));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_no_text() {
        assert_eq!(plain("\u{1b}[2J\u{1b}[1;31mm1\u{1b}[0m ready"), "m1 ready");
    }

    #[test]
    fn the_last_word_and_line_are_found() {
        let console = "fingerprint sha256:aa\nfingerprint sha256:bb ok\n  waiting for etcd\n────\n";
        assert_eq!(last_word(console, "sha256:"), Some("sha256:bb"));
        assert_eq!(last_line(console), Some("waiting for etcd"));
        assert_eq!(last_line("\n──\n"), None);
    }
}
