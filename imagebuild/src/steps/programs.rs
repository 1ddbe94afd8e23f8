//! Takes programs from Debian's packages with the libraries that they need, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, bail};

use super::Build;
use super::packages::Packages;
use crate::cache::Made;
use crate::digest::Inputs;
use crate::files;
use crate::formats::elf;

/// Where the loader looks for libraries without being told.
const LIBRARIES: &str = "/lib/x86_64-linux-gnu";

/// The step: a folder that is laid over the root.
pub fn gather(build: &Build<'_>, packages: &Packages) -> Result<Made> {
    let debian = &build.manifest.debian;
    let inputs = Inputs::of_step("programs", 1)
        .digest("packages", packages.made.digest)
        .value("programs", &debian.programs)
        .value("files", &debian.files);
    let line = build.progress.line("programs");
    build.cache.step("programs", inputs, line, |folder, line| {
        line.doing("following libraries");
        let mut gathered = Gathered {
            packages,
            tools: &debian.tools,
            missing: BTreeSet::new(),
            libraries: BTreeMap::new(),
        };
        for program in &debian.programs {
            if let Some(content) = gathered.read(program, "the manifest")? {
                gathered.follow(&content, program)?;
                files::put(folder, program, 0o755, &content)?;
            }
        }
        for file in &debian.files {
            if let Some(content) = gathered.read(file, "the manifest")? {
                files::put(folder, file, 0o644, &content)?;
            }
        }
        if !gathered.missing.is_empty() {
            let list: Vec<_> = gathered.missing.into_iter().collect();
            bail!(
                "not in any package of the manifest ([debian] packages), add the one that has it:\n  {}",
                list.join("\n  ")
            );
        }
        for (target, content) in &gathered.libraries {
            files::put(folder, target, 0o755, content)?;
            let name = target.rsplit('/').next().unwrap_or_default();
            if name.starts_with("ld-linux") {
                // The loader's fixed place, written in every program.
                let there = format!("..{target}");
                files::link(&there, folder, &format!("/lib64/{name}"))?;
            }
        }
        Ok(format!(
            "{} programs, {} libraries",
            debian.programs.len(),
            gathered.libraries.len()
        ))
    })
}

struct Gathered<'a> {
    packages: &'a Packages,
    /// Packages of which nothing is in the image.
    tools: &'a [String],
    /// What was looked for in vain, and for whom.
    missing: BTreeSet<String>,
    /// Libraries by their place.
    libraries: BTreeMap<String, Vec<u8>>,
}

impl Gathered<'_> {
    fn read(&mut self, path: &str, wanted_by: &str) -> Result<Option<Vec<u8>>> {
        let found = self.packages.find(path);
        let found = found.filter(|(package, _)| !self.tools.contains(&package.name));
        let Some((_, file)) = found else {
            self.missing.insert(format!("{path}, for {wanted_by}"));
            return Ok(None);
        };
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(Some(content))
    }

    fn follow(&mut self, content: &[u8], of: &str) -> Result<()> {
        let needs = elf::needs(content).with_context(|| format!("reading the ELF file {of}"))?;
        for library in needs.libraries {
            let target = format!("{LIBRARIES}/{library}");
            if self.libraries.contains_key(&target) {
                continue;
            }
            if let Some(content) = self.read(&target, of)? {
                self.libraries.insert(target.clone(), content.clone());
                self.follow(&content, &target)?;
            }
        }
        Ok(())
    }
}
