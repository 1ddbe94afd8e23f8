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

/// The fingerprint of the cluster's authority for operators, if the status screen shows it last. A node that belongs to no
/// cluster shows a provisional one, and says so. The screen shows the seed's hash too, cut short.
pub fn fingerprint(console: &str) -> Option<&str> {
    let is_fingerprint = |word: &str| {
        word.strip_prefix("sha256:").is_some_and(|hash| {
            hash.len() == 64 && hash.chars().all(|digit| digit.is_ascii_hexdigit())
        })
    };
    let mut later = "";
    for word in console.split_whitespace().rev() {
        if is_fingerprint(word) {
            return (later != "(provisional:").then_some(word);
        }
        later = word;
    }
    None
}

/// What the last status screen says that the node waits for: codes with their causes; `None` if nothing is said.
pub fn waiting(console: &str) -> Option<String> {
    let (_, screen) = console.rsplit_once("\nWAITING FOR\n")?;
    let mut reasons: Vec<String> = Vec::new();
    let mut in_remedy = false;
    for line in screen.lines() {
        let text = line.trim_start();
        match line.len() - text.len() {
            2 => {
                let code = text.split(' ').next().unwrap_or_default();
                reasons.push(format!("{code}:"));
                in_remedy = false;
            }
            4 if text.starts_with("-> ") => in_remedy = true,
            4 if !in_remedy => {
                if let Some(reason) = reasons.last_mut() {
                    reason.push(' ');
                    reason.push_str(text);
                }
            }
            4 => {}
            _ => break,
        }
    }
    // A screen after it, that says nothing of the kind.
    let later = screen.contains("\nMasthead ");
    (!reasons.is_empty() && !later).then(|| reasons.join("; "))
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
            // A serial line's ends of lines have a carriage return before them.
            if character != '\r' {
                result.push(character);
            }
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
    fn the_last_line_that_says_something_is_found() {
        assert_eq!(
            last_line("login now\n  waiting for etcd\n────\n"),
            Some("waiting for etcd")
        );
        assert_eq!(last_line("\n──\n"), None);
    }

    #[test]
    fn what_a_node_waits_for_is_read_from_its_last_screen() {
        let screen = "\nMasthead 0.1.0 - m1 of lab\nseed    here\n\nWAITING FOR\n\
                      \x20 peer-silent since 14:55:15Z\n    m3 does not\n    answer.\n\
                      \x20   -> Power it on,\n    all of it.\n  disk-missing since 14:55:16Z\n    No disk.\n\n";
        assert_eq!(
            waiting(screen).as_deref(),
            Some("peer-silent: m3 does not answer.; disk-missing: No disk.")
        );
        let later = format!("{screen}\nMasthead 0.1.0 - m1 of lab\nseed    here\n");
        assert_eq!(waiting(&later), None);
    }

    #[test]
    fn the_fingerprint_is_not_the_hash_of_the_seed() {
        let login = format!("sha256:{}", "8f".repeat(32));
        let console = format!("login   {login}\nseed    fw_cfg, sha256:abababababab\n");
        assert_eq!(fingerprint(&console), Some(&*login));
        assert_eq!(fingerprint("seed sha256:abababababab\n"), None);
    }
}
