//! What the kernel command line says about the seed.

use std::fmt;

/// Where `masthead.seed=` says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// A file of the root file system.
    Path(String),
    /// A file of the volume with this label.
    Volume { label: String, path: String },
    /// An address, with places to be filled in.
    Address(String),
    /// None of them.
    Wrong(String),
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume { label, path } => write!(formatter, "{label}:{path}"),
            Self::Path(value) | Self::Address(value) | Self::Wrong(value) => {
                formatter.write_str(value)
            }
        }
    }
}

const PARAMETER: &str = "masthead.seed=";

/// The value of the last word that begins with this, as the kernel too lets the last one win.
pub(super) fn last<'l>(command_line: &'l str, parameter: &str) -> Option<&'l str> {
    let value = words(command_line)
        .filter_map(|word| word.strip_prefix(parameter))
        .next_back();
    value.map(|value| value.trim_matches('"'))
}

/// Quotes are for what has blanks or semicolons in it.
fn words(command_line: &str) -> impl DoubleEndedIterator<Item = &str> {
    command_line
        .split_ascii_whitespace()
        .map(|word| word.trim_matches('"'))
}

/// Where the seed is.
pub(super) fn named(command_line: &str) -> Option<Named> {
    last(command_line, PARAMETER).map(place)
}

/// The place that a value names.
pub(super) fn place(value: &str) -> Named {
    if value.starts_with('/') {
        return Named::Path(value.to_owned());
    }
    if value.contains("://") {
        return Named::Address(value.to_owned());
    }
    match value.split_once(':') {
        Some((label, path)) if !label.is_empty() && path.starts_with('/') => Named::Volume {
            label: label.to_owned(),
            path: path.to_owned(),
        },
        _ => Named::Wrong(value.to_owned()),
    }
}

/// The address of NoCloud's `user-data`: `ds=nocloud;s=ADDRESS/` (cloud-init's documentation, "NoCloud").
pub(super) fn nocloud(command_line: &str) -> Option<String> {
    let mut source = last(command_line, "ds=")?.split(';');
    if !["nocloud", "nocloud-net"].contains(&source.next()?) {
        return None;
    }
    let folder = source.find_map(|field| {
        let (name, value) = field.split_once('=')?;
        ["s", "seedfrom"].contains(&name).then_some(value)
    })?;
    let slash = if folder.ends_with('/') { "" } else { "/" };
    folder
        .contains("://")
        .then(|| format!("{folder}{slash}user-data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nocloud_names_a_folder() {
        let address = "http://h/user-data".to_owned();
        for line in [
            "ds=nocloud;s=http://h/",
            "ds=\"nocloud;s=http://h\"",
            "\"ds=nocloud-net;i=7;seedfrom=http://h/\" quiet",
        ] {
            assert_eq!(nocloud(line), Some(address.clone()), "{line}");
        }
        for line in [
            "ds=nocloud",
            "ds=nocloud;i=7",
            "ds=ec2;s=http://h/",
            "ds=nocloud;s=/a/",
        ] {
            assert_eq!(nocloud(line), None, "{line}");
        }
    }

    #[test]
    fn paths_and_volumes_are_told_apart() {
        assert_eq!(named("quiet console=ttyS0"), None);
        assert_eq!(
            named("masthead.seed=/seed.toml"),
            Some(Named::Path("/seed.toml".to_owned()))
        );
        let volume = Named::Volume {
            label: "USB".to_owned(),
            path: "/a/seed.toml".to_owned(),
        };
        assert_eq!(
            named("quiet masthead.seed=USB:/a/seed.toml\n"),
            Some(volume)
        );
        assert_eq!(
            named("masthead.seed=/a masthead.seed=/b"),
            Some(Named::Path("/b".to_owned()))
        );
        let address = "https://h/${mac}.toml";
        assert_eq!(
            named(&format!("masthead.seed={address}")),
            Some(Named::Address(address.to_owned()))
        );
        for wrong in ["seed.toml", ":/seed.toml", "USB:seed.toml", ""] {
            assert_eq!(
                named(&format!("masthead.seed={wrong}")),
                Some(Named::Wrong(wrong.to_owned()))
            );
        }
    }
}
