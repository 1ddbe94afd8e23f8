//! Reads a manifest so that everything wrong with it is said at once.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use masthead_diagnostics::{Table, Value};

use super::{
    Components, Debian, ExtraFile, Fetch, Flavour, Kernel, Limits, Manifest, OPTIONAL_PROGRAMS,
    PROGRAMS, Versions,
};
use crate::digest::Digest;

/// Longest command line that the kernel takes (COMMAND_LINE_SIZE on x86), in bytes.
const LONGEST_COMMAND_LINE: usize = 2047;

pub(super) fn manifest(root: &Table<'_>) -> Option<Manifest> {
    // Each part is read before any is missed.
    let version = root
        .require("version", "version = \"0.1.0\"")
        .and_then(|value| word(&value, "0.1.0"));
    let kernel = part(
        root,
        "kernel",
        "kernel = { flavour = \"cloud\", command_line = […], modules = […] }",
        kernel,
    );
    let debian = part(
        root,
        "debian",
        "debian = { suite = \"trixie\", packages = […] }",
        debian,
    );
    let components = part(
        root,
        "components",
        "components = { source = \"build\", path = \"components\" }",
        components,
    );
    let files = match root.get("files") {
        Some(value) => value.array_of(|item| extra_file(&item.table()?)),
        None => Some(Vec::new()),
    };
    if let (Some(value), Some(files)) = (root.get("files"), &files) {
        once(&value, files.iter().map(|file| file.target.as_str()));
    }
    let limits = part(root, "limits", "limits = { uki = \"70 MB\" }", |table| {
        Some(Limits {
            uki: size(&table.require("uki", "uki = \"70 MB\"")?)?,
        })
    });
    Some(Manifest {
        version: version?,
        kernel: kernel?,
        debian: debian?,
        components: components?,
        files: files?,
        limits: limits?,
    })
}

fn part<T>(
    root: &Table<'_>,
    key: &str,
    example: &str,
    read: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Option<T> {
    read(&root.require(key, example)?.table()?)
}

fn kernel(table: &Table<'_>) -> Option<Kernel> {
    let flavour = table
        .require("flavour", "flavour = \"cloud\"")
        .and_then(|value| value.one_of(&[("cloud", Flavour::Cloud), ("full", Flavour::Full)]));
    let command_line = table
        .require("command_line", "command_line = [\"console=tty0\"]")
        .and_then(|value| command_line(&value));
    let modules = table
        .require("modules", "modules = [\"virtio_blk\"]")
        .and_then(|value| {
            let names = value.array_of(module)?;
            once(&value, names.iter().map(String::as_str));
            Some(names)
        });
    Some(Kernel {
        flavour: flavour?,
        command_line: command_line?,
        modules: modules?,
    })
}

fn command_line(value: &Value<'_>) -> Option<Vec<String>> {
    let words = value.array_of(|item| {
        let text = item.string()?;
        let word = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic());
        if !word {
            item.error(
                format!("`{}` is not one word of visible ASCII", item.path()),
                "write each kernel parameter as a string of its own, without spaces",
            );
        }
        word.then(|| text.to_owned())
    })?;
    let length = words.iter().map(|word| word.len() + 1).sum::<usize>();
    if length > LONGEST_COMMAND_LINE {
        value.error(
            format!("the command line has {length} bytes"),
            format!("the kernel takes at most {LONGEST_COMMAND_LINE}"),
        );
        return None;
    }
    Some(words)
}

fn module(item: &Value<'_>) -> Option<String> {
    let name = word(item, "virtio_blk")?;
    let canonical = crate::formats::module_info::canonical(&name);
    let bare = canonical.split('.').next().unwrap_or_default();
    if name != bare {
        item.error(
            format!(
                "`{}` is not how the kernel writes a module's name",
                item.path()
            ),
            format!("write \"{bare}\""),
        );
        return None;
    }
    Some(name)
}

fn debian(table: &Table<'_>) -> Option<Debian> {
    let suite = table
        .require("suite", "suite = \"trixie\"")
        .and_then(|value| suite(&value));
    let packages = table
        .require(
            "packages",
            "packages = [\"systemd-boot-efi\", \"e2fsprogs\"]",
        )
        .and_then(|value| {
            let names = value.array_of(|item| word(item, "e2fsprogs"))?;
            once(&value, names.iter().map(String::as_str));
            Some(names)
        });
    let list = |key: &str, example: &str| match table.get(key) {
        Some(value) => value.array_of(|item| absolute(item, example)),
        None => Some(Vec::new()),
    };
    let programs = list("programs", "/sbin/mke2fs");
    let files = list("files", "/etc/mke2fs.conf");
    Some(Debian {
        suite: suite?,
        packages: packages?,
        programs: programs?,
        files: files?,
    })
}

fn suite(value: &Value<'_>) -> Option<String> {
    let name = word(value, "trixie")?;
    // Names that move on would change the image without a change here.
    if ["stable", "testing", "unstable", "oldstable", "sid"].contains(&name.as_str()) {
        value.error(
            format!(
                "`{}` is \"{name}\", which is not always the same release",
                value.path()
            ),
            "write the release's code name, such as \"trixie\"",
        );
        return None;
    }
    Some(name)
}

#[derive(Clone, Copy)]
enum Source {
    Build,
    Directory,
    Urls,
}

fn components(table: &Table<'_>) -> Option<Components> {
    let source = table.require("source", "source = \"build\"")?.one_of(&[
        ("build", Source::Build),
        ("directory", Source::Directory),
        ("urls", Source::Urls),
    ]);
    let path = |example: &str| {
        table
            .require("path", example)
            .and_then(|value| here(&value))
    };
    match source {
        Some(Source::Build) => Some(Components::Build {
            path: path("path = \"components\"")?,
        }),
        Some(Source::Directory) => {
            let (path, versions) = (path("path = \"build/official\""), versions(table));
            Some(Components::Directory {
                path: path?,
                versions: versions?,
            })
        }
        Some(Source::Urls) => {
            let (fetch, versions) = (fetches(table), versions(table));
            Some(Components::Urls {
                fetch: fetch?,
                versions: versions?,
            })
        }
        None => {
            // What else is there can only be judged when the source is known.
            for key in ["path", "versions", "fetch"] {
                table.get(key);
            }
            None
        }
    }
}

fn versions(table: &Table<'_>) -> Option<Versions> {
    let example = "versions = { kubernetes = \"v1.36.3\", etcd = \"3.6.16\" }";
    let table = table.require("versions", example)?.table()?;
    let kubernetes = table
        .require("kubernetes", "kubernetes = \"v1.36.3\"")
        .and_then(|value| word(&value, "v1.36.3"));
    let etcd = table
        .require("etcd", "etcd = \"3.6.16\"")
        .and_then(|value| word(&value, "3.6.16"));
    Some(Versions {
        kubernetes: kubernetes?,
        etcd: etcd?,
    })
}

fn fetches(table: &Table<'_>) -> Option<Vec<Fetch>> {
    let value = table.require(
        "fetch",
        "a table [[components.fetch]] with name, url and sha256 for each program",
    )?;
    let fetches = value.array_of(|item| fetch(&item.table()?))?;
    once(&value, fetches.iter().map(|fetch| fetch.name.as_str()));
    let names: BTreeSet<_> = fetches.iter().map(|fetch| fetch.name.as_str()).collect();
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|name| !names.contains(**name))
        .copied()
        .collect();
    if !missing.is_empty() {
        value.error(
            format!("nothing brings {}", missing.join(", ")),
            "add a [[components.fetch]] for each: a node cannot do without it",
        );
        return None;
    }
    Some(fetches)
}

fn fetch(table: &Table<'_>) -> Option<Fetch> {
    let programs: Vec<_> = PROGRAMS
        .iter()
        .chain(OPTIONAL_PROGRAMS)
        .map(|name| (*name, *name))
        .collect();
    let name = table
        .require("name", "name = \"etcd\"")
        .and_then(|value| value.one_of(&programs));
    let url = table
        .require("url", "url = \"https://downloads.example.net/etcd\"")
        .and_then(|value| {
            let text = value.string()?;
            let known = text.starts_with("https://") || text.starts_with("http://");
            if !known {
                value.error(
                    format!("`{}` is not a web address", value.path()),
                    "begin it with https:// (or http://, as its SHA-256 is checked)",
                );
            }
            known.then(|| text.to_owned())
        });
    let sha256 = table
        .require(
            "sha256",
            "sha256 = \"the 64 digits that its publisher gives\"",
        )
        .and_then(|value| {
            value.parse(
                str::parse::<Digest>,
                "copy the 64 hexadecimal digits that its publisher gives",
            )
        });
    let member = match table.get("member") {
        Some(value) => value.string().map(|text| Some(text.to_owned())),
        None => Some(None),
    };
    Some(Fetch {
        name: name?.to_owned(),
        url: url?,
        sha256: sha256?,
        member: member?,
    })
}

fn extra_file(table: &Table<'_>) -> Option<ExtraFile> {
    let source = table
        .require("source", "source = \"configs/motd\"")
        .and_then(|value| here(&value));
    let target = table
        .require("target", "target = \"/etc/motd\"")
        .and_then(|value| {
            let path = absolute(&value, "/etc/motd")?;
            let ours = [
                "/init",
                "/bin/",
                "/lib/modules/",
                "/etc/masthead/",
                "/etc/passwd",
                "/etc/group",
            ]
            .iter()
            .any(|taken| path == *taken || taken.ends_with('/') && path.starts_with(taken));
            if ours {
                value.error(
                    format!("`{}` is a place that the build itself fills", value.path()),
                    "choose another place",
                );
            }
            (!ours).then_some(path)
        });
    let mode = match table.get("mode") {
        Some(value) => value.parse(
            |text| {
                u32::from_str_radix(text, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o777)
                    .ok_or("not permissions in octal, at most 0777")
            },
            "write mode = \"0644\"",
        ),
        None => Some(0o644),
    };
    Some(ExtraFile {
        source: source?,
        target: target?,
        mode: mode?,
    })
}

/// A text of letters, digits and `.+-_~`, as names and versions are.
fn word(value: &Value<'_>, example: &str) -> Option<String> {
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
fn absolute(value: &Value<'_>, example: &str) -> Option<String> {
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
fn here(value: &Value<'_>) -> Option<PathBuf> {
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
fn size(value: &Value<'_>) -> Option<u64> {
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
fn once<'a>(list: &Value<'_>, names: impl Iterator<Item = &'a str>) {
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
