//! The software bill of materials: every input of the image with version, SHA-256, licence and
//! supplier, as SPDX 2.3.

mod crates;
mod debian;
mod go;
mod spdx;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use self::spdx::{Package, UNKNOWN};
use crate::cache::Made;
use crate::digest::Inputs;
use crate::files;
use crate::manifest::Components as Source;
use crate::steps::components::{self, Components, MULTICALL};
use crate::steps::packages::{Packages, kept};
use crate::steps::{Build, rfc3339};

/// The step: a folder with `manifest.json`.
pub fn write(
    build: &Build<'_>,
    packages: &Packages,
    components: &Components,
    init: &Made,
    uki: &Made,
) -> Result<Made> {
    let memory = build.cache.memory();
    let inputs = Inputs::of_step("materials", 2)
        .text("tool", env!("CARGO_PKG_VERSION"))
        .text("time", &build.time.to_string())
        .value("manifest", build.manifest)
        .value("packages", &packages.lock.packages)
        .digest("components", components.made.digest)
        .digest("crates", memory.file(&build.root.join("Cargo.lock"))?)
        .digest("init", init.digest)
        .digest("uki", uki.digest);
    let line = build.progress.line("materials");
    build.cache.step("materials", inputs, line, |folder, line| {
        line.doing("gathering licences");
        let mut licenses = BTreeMap::new();
        let mut inputs = vec![
            Package::new("masthead", "init", &build.manifest.version)
                .supplier("Organization: Masthead")
                .license("Apache-2.0")
                .sha256(memory.file(&init.path.join("init"))?),
        ];
        let mut tools = Vec::new();
        for package in &packages.lock.packages {
            let is_tool = build.manifest.debian.tools.contains(&package.name);
            let role = if is_tool { &mut tools } else { &mut inputs };
            role.push(debian::describe(
                package,
                &packages.lock.suite,
                &kept(&build.cache.place("packages"), package),
                &packages.folder(package),
                &mut licenses,
            )?);
        }
        inputs.extend(component_inputs(build, components)?);
        inputs.extend(crates::describe(&build.root, "masthead-init")?);
        for file in &build.manifest.files {
            let digest = memory.file(&build.root.join(&file.source))?;
            inputs.push(Package::new("file", &file.target, UNKNOWN).sha256(digest));
        }
        let count = inputs.len() + tools.len();
        let uki = memory.file(&uki.path.join("masthead.efi"))?;
        let image = Package::new("image", "masthead", &build.manifest.version)
            .supplier("Organization: Masthead")
            .license("Apache-2.0")
            .sha256(uki);
        let created = rfc3339(build.time)?;
        let document = spdx::document(image, inputs, tools, licenses, &uki.uuid(), created);
        let text = serde_json::to_string_pretty(&document).context("writing the materials")?;
        files::put(
            folder,
            "/manifest.json",
            0o644,
            format!("{text}\n").as_bytes(),
        )?;
        Ok(format!("{count} inputs"))
    })
}

/// What the components are made of: modules where they were built here, else the programs.
fn component_inputs(build: &Build<'_>, components: &Components) -> Result<Vec<Package>> {
    let memory = build.cache.memory();
    let folder = &components.made.path;
    let versions = &components.versions;
    if let Source::Build { .. } = build.manifest.components {
        let program = folder.join(MULTICALL);
        let mut inputs = vec![
            Package::new("masthead", MULTICALL, &build.manifest.version)
                .supplier("Organization: Masthead")
                .license("Apache-2.0")
                .sha256(memory.file(&program)?),
        ];
        inputs.extend(go::describe(&program, memory)?);
        return Ok(inputs);
    }
    files::walk(folder)?
        .iter()
        .skip(1)
        .map(|name| {
            let name = name.to_string_lossy();
            let (version, owner) = if name.starts_with("etcd") {
                (&versions.etcd, "etcd")
            } else {
                (&versions.kubernetes, "Kubernetes")
            };
            let digest = components::digest_of(build, components, &name)?;
            Ok(Package::new("program", &name, version)
                .supplier(&format!("Organization: {owner}"))
                .license("Apache-2.0")
                .sha256(digest))
        })
        .collect()
}
