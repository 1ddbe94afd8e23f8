//! Comparing the tables with what a running node has: the supervisor shows the differences, and a
//! cluster test asks that there are none.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;

use crate::filesystems::FileSystems;
use crate::kernel::KernelSettings;
use crate::mounts::{MountFlag, Mounts};

/// A line of a table that the node does not follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting's name, or the mount's target.
    pub what: String,
    /// What the table says.
    pub wanted: String,
    /// What the node has.
    pub found: Found,
}

/// What a node has in the place of what the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Something else.
    Other(String),
    /// Nothing, which the table allows: a kernel without the setting or the file system.
    AbsentAsAllowed,
    /// Nothing.
    Absent,
    /// It could not be read.
    Unreadable(String),
}

impl Difference {
    /// Whether the node is not as it must be; the others are only worth a line.
    pub fn is_fault(&self) -> bool {
        self.found != Found::AbsentAsAllowed
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            wanted,
            found,
        } = self;
        match found {
            Found::Other(found) => write!(formatter, "{what} is `{found}`, not `{wanted}`"),
            Found::AbsentAsAllowed => {
                write!(formatter, "{what} does not exist here, which is allowed")
            }
            Found::Absent => write!(formatter, "{what} does not exist; it should be `{wanted}`"),
            Found::Unreadable(why) => write!(formatter, "{what} cannot be read: {why}"),
        }
    }
}

/// Compares kernel settings. `read` gives the text of a file relative to `/proc/sys`.
///
/// Blanks count as one: the kernel puts tabs between the parts of a value.
pub fn kernel_settings(
    table: &KernelSettings,
    machine: bool,
    mut read: impl FnMut(&Path) -> io::Result<String>,
) -> Vec<Difference> {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    table
        .on(machine)
        .filter_map(|setting| {
            let found = match read(&setting.path()) {
                Ok(text) if words(&text) == words(&setting.value) => return None,
                Ok(text) => Found::Other(words(&text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => absent(setting.optional),
                Err(error) => Found::Unreadable(error.to_string()),
            };
            Some(Difference {
                what: setting.name.clone(),
                wanted: setting.value.clone(),
                found,
            })
        })
        .collect()
}

/// Compares mounts with the text of `/proc/self/mounts`: type and flags of the topmost mount on each
/// target. More flags than the table's are no difference, except `ro`.
pub fn mounts(table: &Mounts, machine: bool, proc_mounts: &str) -> Vec<Difference> {
    table
        .on(machine)
        .filter_map(|mount| {
            compare(
                &mount.target,
                &mount.kind,
                &mount.flags,
                mount.optional,
                proc_mounts,
            )
        })
        .collect()
}

/// Compares the persistent file systems that are mounted with the text of `/proc/self/mounts`. One that
/// is not mounted, or has memory in its place, is no difference here: a node without a disk says so by itself. The
/// flags hold for memory too.
pub fn filesystems(table: &FileSystems, proc_mounts: &str) -> Vec<Difference> {
    let difference = |filesystem: &crate::FileSystem| {
        let target = filesystem.target.as_str();
        let kind = match topmost(proc_mounts, target) {
            Some(("tmpfs", _)) => "tmpfs",
            _ => &filesystem.kind,
        };
        compare(target, kind, &filesystem.flags, true, proc_mounts)
    };
    table
        .filesystems
        .iter()
        .filter_map(difference)
        .filter(Difference::is_fault)
        .collect()
}

fn compare(
    target: &str,
    kind: &str,
    flags: &[MountFlag],
    optional: bool,
    proc_mounts: &str,
) -> Option<Difference> {
    let flags: BTreeSet<&str> = flags.iter().map(|flag| flag.name()).collect();
    let found = match topmost(proc_mounts, target) {
        None => absent(optional),
        Some((found, options)) => {
            let options: BTreeSet<&str> = options.split(',').collect();
            let read_only = flags.contains("ro") == options.contains("ro");
            if found == kind && flags.is_subset(&options) && read_only {
                return None;
            }
            let options: Vec<&str> = options.into_iter().collect();
            Found::Other(format!("{found} {}", options.join(",")))
        }
    };
    let flags: Vec<&str> = flags.into_iter().collect();
    Some(Difference {
        what: target.to_owned(),
        wanted: format!("{kind} {}", flags.join(",")),
        found,
    })
}

/// Type and options of the topmost mount on a target.
fn topmost<'a>(proc_mounts: &'a str, target: &str) -> Option<(&'a str, &'a str)> {
    proc_mounts
        .lines()
        .rev()
        .find_map(|line| mounted_on(line, target))
}

/// Type and options of the line, if it is about this target. No target of ours has a blank.
fn mounted_on<'a>(line: &'a str, target: &str) -> Option<(&'a str, &'a str)> {
    let mut fields = line.split(' ').skip(1);
    (fields.next()? == target).then_some(())?;
    Some((fields.next()?, fields.next()?))
}

fn absent(allowed: bool) -> Found {
    if allowed {
        Found::AbsentAsAllowed
    } else {
        Found::Absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Where;
    use crate::kernel::Setting;
    use crate::mounts::Mount;

    fn setting(name: &str, value: &str, optional: bool, on: Where) -> Setting {
        Setting {
            name: name.into(),
            value: value.into(),
            why: "a test".into(),
            on,
            optional,
        }
    }

    #[test]
    fn settings_differ_by_value_by_absence_and_by_access() {
        let table = KernelSettings {
            settings: vec![
                setting("kernel.panic", "10", false, Where::Machine),
                setting("net.range", "1 2", false, Where::Everywhere),
                setting("net.other", "1", false, Where::Everywhere),
                setting("net.allowed", "1", true, Where::Everywhere),
                setting("net.absent", "1", false, Where::Everywhere),
                setting("net.secret", "1", true, Where::Everywhere),
            ],
        };
        let read = |path: &Path| match path.to_str().expect("text") {
            "net/range" => Ok("1\t2\n".into()),
            "net/secret" => Err(io::ErrorKind::PermissionDenied.into()),
            "net/other" | "kernel/panic" => Ok("0\n".into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let differences = kernel_settings(&table, false, read);
        let text: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "net.other is `0`, not `1`",
                "net.allowed does not exist here, which is allowed",
                "net.absent does not exist; it should be `1`",
                "net.secret cannot be read: permission denied",
            ]
        );
        let faults: Vec<bool> = differences.iter().map(Difference::is_fault).collect();
        assert_eq!(faults, [true, false, true, true]);
        assert_eq!(kernel_settings(&table, true, read)[0].what, "kernel.panic");
    }

    fn one_mount(target: &str, flags: &[MountFlag]) -> Mounts {
        Mounts {
            mounts: vec![Mount {
                source: "tmp".into(),
                target: target.into(),
                kind: "tmpfs".into(),
                flags: flags.to_vec(),
                data: None,
                on: Where::Everywhere,
                optional: false,
            }],
        }
    }

    #[test]
    fn mounts_differ_by_type_by_flags_and_by_absence() {
        let table = one_mount("/tmp", &[MountFlag::Nosuid, MountFlag::Noexec]);
        let differs = |text: &str| mounts(&table, true, text).first().map(ToString::to_string);
        assert_eq!(differs("tmp /tmp tmpfs rw,nosuid,noexec,size=4k 0 0"), None);
        let expected = "/tmp is `tmpfs nosuid,rw`, not `tmpfs noexec,nosuid`";
        assert_eq!(
            differs("tmp /tmp tmpfs rw,nosuid 0 0").as_deref(),
            Some(expected)
        );
        assert!(differs("tmp /tmp ext4 rw,nosuid,noexec 0 0").is_some());
        assert!(
            differs("tmp /tmp tmpfs ro,nosuid,noexec 0 0").is_some(),
            "read-only by itself"
        );
        assert!(
            differs("tmp /tmpx tmpfs rw,nosuid,noexec 0 0").is_some(),
            "not there"
        );
        let covered = "a /tmp tmpfs rw,nosuid,noexec 0 0\nb /tmp tmpfs rw 0 0\n";
        assert!(differs(covered).is_some(), "the topmost mount counts");
    }

    #[test]
    fn a_file_system_that_is_mounted_must_be_as_the_table_says() {
        let table = FileSystems::embedded().expect("a table");
        assert_eq!(filesystems(&table, ""), []);
        let found = filesystems(&table, "/dev/vda5 /etcd ext4 rw,nosuid,nodev,noatime 0 0\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "/etcd");
        let memory =
            "DATA /data tmpfs rw,nosuid,nodev,noexec,noatime,nosymfollow,size=65536k 0 0\n";
        assert_eq!(filesystems(&table, memory), []);
        let found = filesystems(&table, &memory.replace("noexec,", ""));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
