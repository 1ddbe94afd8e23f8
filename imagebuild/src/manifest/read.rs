//! Reads a manifest so that everything wrong with it is said at once.

mod components;
mod values;

use masthead_diagnostics::{Table, Value};

use self::values::{absolute, here, once, size, word};
use super::{Debian, ExtraFile, Flavour, Kernel, Limits, Manifest};

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
        components::components,
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
    let tools = match table.get("tools") {
        Some(value) => value
            .array_of(|item| word(item, "grub-common"))
            .inspect(|names| {
                let all = packages.iter().flatten().chain(names);
                once(&value, all.map(String::as_str));
            }),
        None => Some(Vec::new()),
    };
    let list = |key: &str, example: &str| match table.get(key) {
        Some(value) => value.array_of(|item| absolute(item, example)),
        None => Some(Vec::new()),
    };
    let programs = list("programs", "/sbin/mke2fs");
    let files = list("files", "/etc/mke2fs.conf");
    Some(Debian {
        suite: suite?,
        packages: packages?,
        tools: tools?,
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
