//! Where a manifest has its components from.

use std::collections::BTreeSet;

use masthead_diagnostics::Table;

use super::super::{Components, Fetch, OPTIONAL_PROGRAMS, PROGRAMS, Versions};
use super::values::{here, once, word};
use crate::digest::Digest;

#[derive(Clone, Copy)]
enum Source {
    Build,
    Directory,
    Urls,
}

pub(super) fn components(table: &Table<'_>) -> Option<Components> {
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
