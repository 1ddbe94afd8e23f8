//! The index that depmod(8) writes: `modules.dep`, `modules.alias`, `modules.builtin`.

use std::collections::{BTreeMap, BTreeSet};

use super::glob::matches;

/// Which modules there are, what each needs, and which device each is for.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// By canonical name: its file, and the files that it needs, all below the index's directory.
    modules: BTreeMap<String, (String, Vec<String>)>,
    /// Pattern and canonical name.
    aliases: Vec<(String, String)>,
    builtin: BTreeSet<String>,
}

/// A module's name as the kernel shows it: the file's name without directory and ending, and with
/// underscores.
pub(super) fn canonical(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.split_once(".ko").map_or(name, |(name, _)| name);
    name.replace('-', "_")
}

impl Index {
    /// Reads the three files' texts. Lines that say nothing are skipped: the files are depmod's, and
    /// part of the image.
    pub fn parse(dep: &str, alias: &str, builtin: &str) -> Self {
        let module = |line: &str| {
            let (file, needs) = line.split_once(':')?;
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            Some((canonical(file), (file.trim().to_owned(), needs)))
        };
        let alias_of = |line: &str| {
            let mut words = line.split_whitespace();
            (words.next()? == "alias").then_some(())?;
            Some((words.next()?.to_owned(), canonical(words.next()?)))
        };
        Self {
            modules: dep.lines().filter_map(module).collect(),
            aliases: alias.lines().filter_map(alias_of).collect(),
            builtin: builtin.lines().map(canonical).collect(),
        }
    }

    /// The files to load for a module, those that it needs first; `None` if there is no such module.
    ///
    /// A line of `modules.dep` holds everything that a module needs, directly or not, the deepest
    /// last.
    pub fn load_order(&self, name: &str) -> Option<Vec<&str>> {
        let (file, needs) = self.modules.get(&canonical(name))?;
        Some(
            needs
                .iter()
                .rev()
                .chain([file])
                .map(String::as_str)
                .collect(),
        )
    }

    /// The modules for a device's alias.
    pub fn matching(&self, alias: &str) -> impl Iterator<Item = &str> {
        let fitting = self
            .aliases
            .iter()
            .filter(move |(pattern, _)| matches(pattern, alias));
        fitting.map(|(_, name)| name.as_str())
    }

    /// Whether the kernel has it built in.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&canonical(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/fs/nls/nls_iso8859-1.ko.xz:
";
    const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000001v* virtio_net
alias nls-x nls_iso8859-1
alias broken
";

    fn index() -> Index {
        Index::parse(
            DEP,
            ALIAS,
            "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio-pci.ko\n",
        )
    }

    #[test]
    fn what_is_needed_comes_first() {
        let expected = [
            "kernel/net/core/failover.ko",
            "kernel/drivers/net/net_failover.ko",
            "kernel/drivers/net/virtio_net.ko",
        ];
        assert_eq!(index().load_order("virtio-net"), Some(expected.to_vec()));
        assert_eq!(
            index().load_order("failover"),
            Some(vec!["kernel/net/core/failover.ko"])
        );
        assert_eq!(index().load_order("none"), None);
    }

    #[test]
    fn names_are_the_same_with_hyphens_and_underscores() {
        assert!(index().load_order("nls_iso8859_1").is_some());
        assert!(index().load_order("nls_iso8859-1").is_some());
        assert_eq!(
            index().matching("nls-x").collect::<Vec<_>>(),
            ["nls_iso8859_1"]
        );
        assert!(index().is_builtin("virtio_pci") && index().is_builtin("ext4"));
        assert!(!index().is_builtin("virtio_net"));
    }

    #[test]
    fn a_device_finds_its_module() {
        let alias = "virtio:d00000001v00001AF4";
        assert_eq!(index().matching(alias).collect::<Vec<_>>(), ["virtio_net"]);
        assert_eq!(index().matching("virtio:d00000002v00001AF4").count(), 0);
    }
}
