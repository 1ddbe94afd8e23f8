//! Chooses kernel modules, with what they depend on, and makes their indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use masthead_policy::modules::Modules as Table;

use super::Build;
use super::packages::Packages;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::files;
use crate::formats::module_info::{self, ModuleInfo};

/// Chosen modules: `root/lib/modules/VERSION/…` for the root, `initramfs/*.ko` and
/// `initramfs/load` for the initramfs.
pub struct Modules {
    /// Where they are.
    pub made: Made,
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// The package's folder.
    pub kernel: PathBuf,
}

impl Modules {
    /// The kernel itself.
    pub fn image(&self) -> PathBuf {
        self.kernel.join(format!("boot/vmlinuz-{}", self.release))
    }
}

/// The step.
pub fn choose(build: &Build<'_>, packages: &Packages) -> Result<Modules> {
    let package = packages.package(build.manifest.kernel.flavour.package())?;
    let kernel = packages.folder(package);
    let release = release(&kernel)?;
    let table = Table::embedded()?;
    let required = table
        .lists
        .iter()
        .filter(|list| !list.optional)
        .flat_map(|list| &list.modules)
        .chain(&build.manifest.kernel.modules);
    let optional = table
        .lists
        .iter()
        .filter(|list| list.optional)
        .flat_map(|list| &list.modules);
    let wanted = Wanted {
        first: table.watchdogs.clone(),
        early: table.initramfs.clone(),
        required: required.cloned().collect(),
        optional: optional.cloned().collect(),
    };
    let inputs = Inputs::of_step("modules", 2)
        .digest("kernel", package.sha256)
        .value("first", &wanted.first)
        .value("early", &wanted.early)
        .value("required", &wanted.required)
        .value("optional", &wanted.optional);
    let line = build.progress.line("modules");
    let made = build.cache.step("modules", inputs, line, |folder, line| {
        line.doing("resolving");
        let tree = Tree::open(kernel.join("usr/lib/modules").join(&release))?;
        let chosen = tree.choose(&wanted)?;
        chosen.write(folder, &tree, &release)?;
        Ok(format!(
            "{} modules, {} of them in the initramfs",
            chosen.order.len(),
            chosen.early
        ))
    })?;
    Ok(Modules {
        made,
        release,
        kernel,
    })
}

/// A kernel package has the modules of one release.
fn release(kernel: &Path) -> Result<String> {
    let modules = kernel.join("usr/lib/modules");
    let mut names = fs::read_dir(&modules)
        .with_context(|| format!("listing {}", modules.display()))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        _ => bail!("{} has not exactly one release", modules.display()),
    }
}

struct Wanted {
    /// Loaded in the initramfs before the others, where they are there.
    first: Vec<String>,
    /// Loaded in the initramfs, in this order.
    early: Vec<String>,
    /// Must be there.
    required: BTreeSet<String>,
    /// May be absent.
    optional: BTreeSet<String>,
}

/// All modules of a kernel.
struct Tree {
    folder: PathBuf,
    /// Path below the folder by module name.
    files: BTreeMap<String, String>,
    built_in: BTreeSet<String>,
}

struct Module {
    name: String,
    /// Path below `/lib/modules/RELEASE`, ending in `.ko`.
    path: String,
    info: ModuleInfo,
    content: Vec<u8>,
}

/// Modules in an order in which they can be loaded.
#[derive(Default)]
struct Chosen {
    order: Vec<Module>,
    /// So many of the first are for the initramfs.
    early: usize,
}

impl Tree {
    fn open(folder: PathBuf) -> Result<Self> {
        let files = files::walk(&folder)?
            .into_iter()
            .filter_map(|path| {
                let path = path.to_str()?.to_owned();
                Some((module_info::name_of_file(&path)?, path))
            })
            .collect();
        let list = folder.join("modules.builtin");
        let built_in = fs::read_to_string(&list)
            .with_context(|| format!("reading {}", list.display()))?
            .lines()
            .filter_map(module_info::name_of_file)
            .collect();
        Ok(Self {
            folder,
            files,
            built_in,
        })
    }

    fn choose(&self, wanted: &Wanted) -> Result<Chosen> {
        let here = |name: &&String| self.files.contains_key(*name) || self.built_in.contains(*name);
        let missing: Vec<_> = wanted
            .early
            .iter()
            .chain(&wanted.required)
            .filter(|name| !here(name))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            bail!(
                "this kernel has no module {}; \
                 another flavour may have it, or take it off the list",
                missing.join(", ")
            );
        }
        let mut chosen = Chosen::default();
        for name in wanted.first.iter().filter(here).chain(&wanted.early) {
            self.add(name, &mut chosen, &mut Vec::new())?;
        }
        chosen.early = chosen.order.len();
        for name in wanted
            .required
            .iter()
            .chain(wanted.optional.iter().filter(here))
        {
            self.add(name, &mut chosen, &mut Vec::new())?;
        }
        Ok(chosen)
    }

    /// Adds a module after everything that it depends on.
    fn add(&self, name: &str, chosen: &mut Chosen, path: &mut Vec<String>) -> Result<()> {
        let Some(file) = self.files.get(name) else {
            // Built in; or a soft dependency on an algorithm, which this kernel may do without.
            return match self.algorithm(name)? {
                Some(module) => self.add(&module, chosen, path),
                None => Ok(()),
            };
        };
        if path.iter().any(|before| before == name) || chosen.has(name) {
            return Ok(());
        }
        let content = self.read(file)?;
        let info = module_info::read(&content)
            .with_context(|| format!("reading the .modinfo of {file}"))?;
        path.push(name.to_owned());
        for dependency in info.soft_before.iter().chain(&info.depends) {
            self.add(dependency, chosen, path)?;
        }
        path.pop();
        let stem = file.split(".ko").next().unwrap_or(file);
        chosen.order.push(Module {
            name: name.to_owned(),
            path: format!("{stem}.ko"),
            info,
            content,
        });
        Ok(())
    }

    /// The module that brings an algorithm to any processor. Modules ask the kernel for algorithms by name, which is an
    /// alias of those in `kernel/crypto`; without it they cannot be loaded (libcrc32c, which erofs needs).
    fn algorithm(&self, name: &str) -> Result<Option<String>> {
        if self.built_in.contains(name) {
            return Ok(None);
        }
        for (module, file) in &self.files {
            if file.starts_with("kernel/crypto/") {
                let info = module_info::read(&self.read(file)?)
                    .with_context(|| format!("reading the .modinfo of {file}"))?;
                if info.aliases.iter().any(|alias| alias == name) {
                    return Ok(Some(module.clone()));
                }
            }
        }
        Ok(None)
    }

    fn read(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(file);
        let reading = || format!("reading {}", path.display());
        let stored = fs::read(&path).with_context(reading)?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("ko") => return Ok(stored),
            Some("xz") => {}
            _ => bail!(
                "{}: compressed in a way unknown here (not xz)",
                path.display()
            ),
        }
        let mut content = Vec::new();
        lzma_rust2::XzReader::new(stored.as_slice(), true)
            .read_to_end(&mut content)
            .with_context(reading)?;
        Ok(content)
    }
}

impl Chosen {
    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&Module> {
        self.order.iter().find(|module| module.name == name)
    }

    fn write(&self, folder: &Path, tree: &Tree, release: &str) -> Result<()> {
        let home = format!("/root/lib/modules/{release}");
        for module in &self.order {
            files::put(
                folder,
                &format!("{home}/{}", module.path),
                0o644,
                &module.content,
            )?;
        }
        let put = |name: &str, text: &str| {
            files::put(folder, &format!("{home}/{name}"), 0o644, text.as_bytes())
        };
        put("modules.dep", &self.dependencies())?;
        put("modules.alias", &self.aliases())?;
        put("modules.softdep", &self.soft_dependencies())?;
        // By these a node tells a module that is built in from one that is missing.
        for name in ["modules.builtin", "modules.builtin.modinfo"] {
            files::copy(
                &tree.folder.join(name),
                folder,
                &format!("{home}/{name}"),
                0o644,
            )?;
        }
        let mut load = String::new();
        for module in &self.order[..self.early] {
            files::put(
                folder,
                &format!("/initramfs/{}.ko", module.name),
                0o644,
                &module.content,
            )?;
            let _ = writeln!(load, "{}.ko", module.name);
        }
        files::put(folder, "/initramfs/load", 0o644, load.as_bytes())
    }

    /// As depmod writes it: `PATH: PATH…`, all that must be loaded before, the first to be
    /// loaded last.
    fn dependencies(&self) -> String {
        let mut lines: Vec<_> = self
            .order
            .iter()
            .map(|module| {
                let mut needed = Vec::new();
                self.collect(module, &mut needed);
                // `order` has every module after its dependencies.
                let mut paths: Vec<_> = self
                    .order
                    .iter()
                    .filter(|other| needed.contains(&other.name.as_str()))
                    .map(|other| other.path.as_str())
                    .collect();
                paths.reverse();
                let line = format!("{}: {}", module.path, paths.join(" "));
                format!("{}\n", line.trim_end())
            })
            .collect();
        lines.sort();
        lines.concat()
    }

    fn collect<'a>(&'a self, module: &'a Module, needed: &mut Vec<&'a str>) {
        for name in &module.info.depends {
            if let Some(dependency) = self.get(name).filter(|_| !needed.contains(&name.as_str())) {
                needed.push(name);
                self.collect(dependency, needed);
            }
        }
    }

    fn aliases(&self) -> String {
        let mut lines: Vec<_> = self
            .order
            .iter()
            .flat_map(|module| {
                let line = |alias: &String| format!("alias {alias} {}\n", module.name);
                module.info.aliases.iter().map(line)
            })
            .collect();
        lines.sort();
        format!(
            "# Aliases extracted from modules themselves.\n{}",
            lines.concat()
        )
    }

    fn soft_dependencies(&self) -> String {
        let mut lines: Vec<_> = self
            .order
            .iter()
            .flat_map(|module| {
                let line = |text: &String| format!("softdep {} {text}\n", module.name);
                module.info.soft_dependencies.iter().map(line)
            })
            .collect();
        lines.sort();
        format!(
            "# Soft dependencies extracted from modules themselves.\n{}",
            lines.concat()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, depends: &[&str]) -> Module {
        Module {
            name: name.to_owned(),
            path: format!("kernel/{name}.ko"),
            info: ModuleInfo {
                depends: depends.iter().map(ToString::to_string).collect(),
                aliases: vec![format!("pci:{name}*")],
                ..ModuleInfo::default()
            },
            content: Vec::new(),
        }
    }

    #[test]
    fn the_first_to_load_is_the_last_in_the_index() {
        let chosen = Chosen {
            order: vec![
                module("fat", &[]),
                module("vfat", &["fat"]),
                module("top", &["vfat"]),
            ],
            early: 0,
        };
        assert_eq!(
            chosen.dependencies(),
            "kernel/fat.ko:\nkernel/top.ko: kernel/vfat.ko kernel/fat.ko\nkernel/vfat.ko: kernel/fat.ko\n"
        );
        assert!(chosen.aliases().contains("alias pci:vfat* vfat\n"));
    }

    #[test]
    fn all_missing_modules_are_named() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        files::put(
            folder.path(),
            "/modules.builtin",
            0o644,
            b"kernel/fs/ext4/ext4.ko\n",
        )
        .expect("writing");
        let tree = Tree::open(folder.path().to_owned()).expect("opening");
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let error = tree
            .choose(&Wanted {
                first: vec!["hpwdt".to_owned()],
                early: vec!["erofs".to_owned(), "ext4".to_owned()],
                required: names(&["iTCO_wdt"]),
                optional: names(&["elsewhere"]),
            })
            .map(|chosen| chosen.order.len())
            .expect_err("missing modules");
        assert!(
            error
                .to_string()
                .starts_with("this kernel has no module erofs, iTCO_wdt;")
        );
    }
}
