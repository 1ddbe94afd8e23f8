//! Loading kernel modules without udev: by name, in the order of `configs/node/modules.toml`, and by
//! the alias of each device in `/sys`, as `/lib/modules/VERSION` tells them apart.

mod glob;
mod index;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use masthead_policy::Modules;
use rustix::io::Errno;
use rustix::system::finit_module;
use thiserror::Error;

pub use self::glob::matches;
pub use self::index::Index;
use super::log::say;

/// Loading one module makes devices appear that need others: so often `/sys` is walked at most.
const MOST_PASSES: usize = 8;

/// A module could not be loaded.
#[derive(Debug, Error)]
#[error("cannot load the kernel module {}", path.display())]
pub struct LoadError {
    path: PathBuf,
    source: io::Error,
}

impl LoadError {
    /// The module says that there is nothing for it to drive.
    pub fn is_without_device(&self) -> bool {
        self.source.raw_os_error() == Some(Errno::NODEV.raw_os_error())
    }
}

/// Loads one module from its file. One that is there already is no fault.
pub fn load_file(path: &Path) -> Result<(), LoadError> {
    let failed = |source: io::Error| LoadError {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    match finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

/// What came of a module that was asked for by name.
#[derive(Debug)]
pub enum Outcome {
    /// It is there now, or was before.
    Present,
    /// This kernel has no such module.
    Unknown,
    /// The kernel refused it, or one that it depends on.
    Refused(LoadError),
}

/// The modules of one kernel, and which of them were asked for already.
#[derive(Debug)]
pub struct Loader {
    directory: PathBuf,
    index: Index,
    asked: BTreeSet<String>,
}

impl Loader {
    /// Reads the index of the modules below `directory`, which is `/lib/modules/VERSION`.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let read = |name: &str| fs::read_to_string(directory.join(name));
        Ok(Self {
            directory: directory.to_owned(),
            index: Index::parse(
                &read("modules.dep")?,
                &read("modules.alias")?,
                // Only names to tell a module that is built in from one that is missing.
                &read("modules.builtin").unwrap_or_default(),
            ),
            asked: BTreeSet::new(),
        })
    }

    /// Loads a module after all that it depends on.
    pub fn load(&mut self, name: &str) -> Outcome {
        self.asked.insert(index::canonical(name));
        let Some(files) = self.index.load_order(name) else {
            let known = self.index.is_builtin(name)
                || Path::new("/sys/module")
                    .join(index::canonical(name))
                    .exists();
            return if known {
                Outcome::Present
            } else {
                Outcome::Unknown
            };
        };
        for file in files {
            if let Err(error) = load_file(&self.directory.join(file)) {
                return Outcome::Refused(error);
            }
        }
        Outcome::Present
    }

    /// Loads the lists of the table, in order, and says in one line what was not to be had. An optional
    /// one that this kernel's flavour lacks is no news.
    pub fn load_lists(&mut self, table: &Modules) {
        let (mut unknown, mut refused) = (Vec::new(), Vec::new());
        for list in &table.lists {
            for name in &list.modules {
                match self.load(name) {
                    Outcome::Present => {}
                    Outcome::Unknown if list.optional => {}
                    Outcome::Unknown => unknown.push(name.as_str()),
                    Outcome::Refused(error) => refused.push(format!("{name} ({})", error.source)),
                }
            }
        }
        if !unknown.is_empty() {
            say!(
                "modules that this kernel does not have: {}",
                unknown.join(", ")
            );
        }
        if !refused.is_empty() {
            say!("modules that did not load: {}", refused.join(", "));
        }
    }

    /// Loads the drivers of every device below `sys`, which is `/sys/devices`, until no new device
    /// appears. Returns how many were loaded.
    pub fn load_for_devices(&mut self, sys: &Path, table: &Modules) -> usize {
        let mut loaded = 0;
        for _ in 0..MOST_PASSES {
            let aliases = device_aliases(sys);
            let wanted: BTreeSet<String> = aliases
                .iter()
                .flat_map(|alias| self.index.matching(alias))
                .filter(|name| !self.asked.contains(*name) && !table.refuses(name))
                .map(str::to_owned)
                .collect();
            if wanted.is_empty() {
                break;
            }
            for name in wanted {
                match self.load(&name) {
                    Outcome::Present => loaded += 1,
                    Outcome::Unknown => {}
                    Outcome::Refused(error) => {
                        say!("the driver {name} did not load: {}", error.source);
                    }
                }
            }
        }
        loaded
    }
}

/// The alias of every device below `directory`, each once.
fn device_aliases(directory: &Path) -> BTreeSet<String> {
    let mut aliases = BTreeSet::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            // The links in sysfs lead to devices that the walk meets anyhow.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            } else if entry.file_name() == "modalias" {
                // A device that goes away meanwhile needs no driver.
                let alias = fs::read_to_string(entry.path()).unwrap_or_default();
                if !alias.trim().is_empty() {
                    aliases.insert(alias.trim().to_owned());
                }
            }
        }
    }
    aliases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_alias_of_each_device_once_and_follows_no_link() {
        let root = std::env::temp_dir().join(format!("modalias-{}", std::process::id()));
        let slot = root.join("pci0000:00/0000:00:01.0");
        fs::create_dir_all(slot.join("virtio0")).expect("directories");
        fs::write(slot.join("modalias"), "pci:v00001AF4d00001041\n").expect("written");
        fs::write(slot.join("virtio0/modalias"), "virtio:d00000001v00001AF4\n").expect("written");
        fs::write(root.join("modalias"), "\n").expect("written");
        std::os::unix::fs::symlink(&root, slot.join("subsystem")).expect("a link");
        let aliases = device_aliases(&root);
        fs::remove_dir_all(&root).expect("removed");
        let expected = ["pci:v00001AF4d00001041", "virtio:d00000001v00001AF4"];
        assert_eq!(aliases, expected.map(str::to_owned).into());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load_file(Path::new("/modules/none.ko")).expect_err("no such file");
        assert_eq!(
            error.to_string(),
            "cannot load the kernel module /modules/none.ko"
        );
    }
}
