//! The kinds of values in a manifest: names, paths, sizes, and lists without repetition.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use masthead_diagnostics::Value;

/// A text of letters, digits and `.+-_~`, as names and versions are.
pub(super) fn word(value: &Value<'_>, example: &str) -> Option<String> {
    let text = value.string()?;
    let good = text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || ".+-_~".contains(letter));
    if !good {
        value.error(
            format!("`{}` is {text:?}, which is not a name", value.path()),
            format!("write something like \"{example}\""),
        );
    }
    good.then(|| text.to_owned())
}

/// A path from the root, without `.`, `..` and double slashes.
pub(super) fn absolute(value: &Value<'_>, example: &str) -> Option<String> {
    let text = value.string()?;
    let good = text.strip_prefix('/').is_some_and(|rest| {
        rest.split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
    });
    if !good {
        value.error(
            format!(
                "`{}` is {text:?}, which is not a path from the root",
                value.path()
            ),
            format!("write something like \"{example}\""),
        );
    }
    good.then(|| text.to_owned())
}

/// A path of this machine, within the repository or absolute.
pub(super) fn here(value: &Value<'_>) -> Option<PathBuf> {
    let path = Path::new(value.string()?);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if climbs || path.as_os_str().is_empty() {
        value.error(
            format!(
                "`{}` is empty or leads out of the repository by \"..\"",
                value.path()
            ),
            "write a path below the repository's root, or an absolute one",
        );
        return None;
    }
    Some(path.to_owned())
}

/// A number of bytes, such as `"70 MB"`.
pub(super) fn size(value: &Value<'_>) -> Option<u64> {
    value.parse(
        |text| {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at(digits);
            let factor = match unit.trim() {
                "MB" => 1_000_000,
                "MiB" => 1 << 20,
                _ => return Err("not a size in MB or MiB"),
            };
            number
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(factor))
                .ok_or("not a size in MB or MiB")
        },
        "write \"70 MB\"",
    )
}

/// Reports a list in which something is twice.
pub(super) fn once<'a>(list: &Value<'_>, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            list.error(
                format!("`{}` has {name:?} more than once", list.path()),
                "remove one of them",
            );
        }
    }
}
