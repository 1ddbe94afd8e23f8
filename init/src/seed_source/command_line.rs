//! `masthead.seed=` on the kernel command line.

/// Where the kernel command line says that the seed is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// A file of the root file system.
    Path(String),
    /// A file of the volume with this label.
    Volume { label: String, path: String },
    /// Neither.
    Wrong(String),
}

const PARAMETER: &str = "masthead.seed=";

/// The last `masthead.seed=`, as the kernel too lets the last one win.
pub(super) fn named(command_line: &str) -> Option<Named> {
    let value = command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(PARAMETER))
        .next_back()?;
    if value.starts_with('/') {
        return Some(Named::Path(value.to_owned()));
    }
    Some(match value.split_once(':') {
        Some((label, path)) if !label.is_empty() && path.starts_with('/') => Named::Volume {
            label: label.to_owned(),
            path: path.to_owned(),
        },
        _ => Named::Wrong(value.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for wrong in ["seed.toml", ":/seed.toml", "USB:seed.toml", ""] {
            assert_eq!(
                named(&format!("masthead.seed={wrong}")),
                Some(Named::Wrong(wrong.to_owned()))
            );
        }
    }
}
