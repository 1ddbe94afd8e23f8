//! Crates that init is compiled from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::spdx::{Package, UNKNOWN};
use crate::digest::Digest;
use crate::process;

/// What is used of `cargo metadata --format-version 1`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<CrateInfo>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct CrateInfo {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// Absent for our own.
    source: Option<String>,
    repository: Option<String>,
    authors: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `null`: needed by the program itself, not by its build or its tests.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct CargoLock {
    #[serde(rename = "package")]
    packages: Vec<LockedCrate>,
}

#[derive(Deserialize)]
struct LockedCrate {
    name: String,
    version: String,
    checksum: Option<Digest>,
}

/// Describes every foreign crate that `program` (a package of this workspace) is made of.
pub(super) fn describe(root: &Path, program: &str) -> Result<Vec<Package>> {
    let metadata = process::output(
        Command::new("cargo")
            .args(["metadata", "--format-version=1", "--locked"])
            .arg("--filter-platform=x86_64-unknown-linux-gnu")
            .current_dir(root),
    )?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).context("reading the output of cargo metadata")?;
    let lock = root.join("Cargo.lock");
    let lock =
        std::fs::read_to_string(&lock).with_context(|| format!("reading {}", lock.display()))?;
    let lock: CargoLock = toml::from_str(&lock).context("reading Cargo.lock")?;
    let checksums: BTreeMap<_, _> = lock
        .packages
        .iter()
        .filter_map(|one| Some(((one.name.as_str(), one.version.as_str()), one.checksum?)))
        .collect();
    let reached = reach(&metadata, program)?;
    let mut packages = Vec::new();
    for one in metadata
        .packages
        .iter()
        .filter(|one| one.source.is_some() && reached.contains(one.id.as_str()))
    {
        let license = one
            .license
            .as_deref()
            .unwrap_or(UNKNOWN)
            .replace('/', " OR ");
        let mut package = Package::new("crate", &one.name, &one.version)
            .supplier(&supplier(one))
            .license(&license)
            .purl(format!("pkg:cargo/{}@{}", one.name, one.version));
        if let Some(checksum) = checksums.get(&(one.name.as_str(), one.version.as_str())) {
            package = package.sha256(*checksum);
        }
        packages.push(package);
    }
    Ok(packages)
}

/// Identifiers of the crates that are linked into a program.
fn reach<'a>(metadata: &'a Metadata, program: &str) -> Result<BTreeSet<&'a str>> {
    let nodes: BTreeMap<_, _> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let start = metadata
        .packages
        .iter()
        .find(|one| one.name == program && one.source.is_none())
        .with_context(|| format!("this workspace has no package {program}"))?;
    let mut reached = BTreeSet::new();
    let mut waiting = vec![start.id.as_str()];
    while let Some(id) = waiting.pop() {
        if !reached.insert(id) {
            continue;
        }
        let dependencies = nodes.get(id).map_or(&[][..], |node| &node.deps);
        waiting.extend(
            dependencies
                .iter()
                .filter(|one| one.dep_kinds.iter().any(|kind| kind.kind.is_none()))
                .map(|one| one.pkg.as_str()),
        );
    }
    Ok(reached)
}

/// The owner of the repository, or else the first author.
fn supplier(one: &CrateInfo) -> String {
    let owner = one.repository.as_deref().and_then(|address| {
        let mut parts = address.split_once("://")?.1.split('/');
        Some(format!("Organization: {}/{}", parts.next()?, parts.next()?))
    });
    let author = || Some(format!("Person: {}", one.authors.first()?));
    owner.or_else(author).unwrap_or_else(|| UNKNOWN.to_owned())
}
