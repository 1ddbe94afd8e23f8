//! The places, in their order.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::vec;

use super::command_line::{Named, named};
use super::file::{read_beneath, read_limited};
use super::{AttemptResult, Roots, SourceKind};
use super::{beside_image, installed, smbios};
use crate::volume::{Device, Mounts, devices};

const FIRMWARE_NAME: &str = "opt/masthead/seed";
/// Labels, and the file that holds the seed on such a volume. `user-data` is NoCloud's.
const VOLUMES: [(&str, &str); 2] = [("CIDATA", "user-data"), ("MASTHEAD", "seed.toml")];

/// A place and what is there.
pub(super) struct Candidate {
    pub(super) source: String,
    pub(super) content: Result<Vec<u8>, AttemptResult>,
}

/// What one of the places of a machine holds.
type Look = fn(&Roots, &dyn Mounts) -> Vec<Candidate>;

/// A machine's places in their order, by the names that `docs/seed.md` has for them.
pub(super) const PLACES: [(&str, Look); 6] = [
    ("kernel command line", from_command_line),
    ("fw_cfg", |roots, _| vec![from_firmware(roots)]),
    ("SMBIOS", |roots, _| vec![from_smbios(roots)]),
    ("volume", from_volumes),
    ("beside the image", beside_image::candidates),
    ("installed", |roots, mounts| {
        vec![installed::candidate(roots, mounts)]
    }),
];

/// A place that has not been looked at yet.
type Place<'p> = Box<dyn FnOnce() -> Vec<Candidate> + 'p>;

/// All places of a kind of node; each is read only when those before it held no seed.
pub(super) struct Places<'p> {
    places: vec::IntoIter<Place<'p>>,
    candidates: vec::IntoIter<Candidate>,
}

impl<'p> Places<'p> {
    pub(super) fn new(kind: &'p SourceKind, mounts: &'p dyn Mounts) -> Self {
        let places: Vec<Place<'p>> = match kind {
            SourceKind::Machine(roots) => PLACES
                .into_iter()
                .map(|(_, look)| Box::new(move || look(roots, mounts)) as Place<'p>)
                .collect(),
            SourceKind::Namespace { seed, .. } => {
                vec![Box::new(|| vec![from_lab(seed.as_deref())])]
            }
        };
        Self {
            places: places.into_iter(),
            candidates: Vec::new().into_iter(),
        }
    }
}

impl Iterator for Places<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        loop {
            if let Some(candidate) = self.candidates.next() {
                return Some(candidate);
            }
            self.candidates = self.places.next()?().into_iter();
        }
    }
}

pub(super) fn absent(source: impl Into<String>) -> Candidate {
    Candidate {
        source: source.into(),
        content: Err(AttemptResult::Absent),
    }
}

pub(super) fn unreadable(source: impl Into<String>, reason: impl ToString) -> Candidate {
    Candidate {
        source: source.into(),
        content: Err(AttemptResult::Unreadable(reason.to_string())),
    }
}

pub(super) fn content_of(source: String, content: io::Result<Option<Vec<u8>>>) -> Candidate {
    match content {
        Ok(Some(bytes)) => Candidate {
            source,
            content: Ok(bytes),
        },
        Ok(None) => absent(source),
        Err(error) => unreadable(source, error),
    }
}

fn file(source: &str, path: &Path) -> Candidate {
    let content = match File::open(path) {
        Ok(file) => read_limited(file).map(Some),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    };
    content_of(source.to_owned(), content)
}

fn from_lab(seed: Option<&Path>) -> Candidate {
    match seed {
        Some(path) => file(&format!("--seed={}", path.display()), path),
        None => absent("--seed=PATH"),
    }
}

fn from_firmware(roots: &Roots) -> Candidate {
    let path = roots
        .sys
        .join("firmware/qemu_fw_cfg/by_name")
        .join(FIRMWARE_NAME)
        .join("raw");
    file(&format!("QEMU fw_cfg {FIRMWARE_NAME}"), &path)
}

fn from_smbios(roots: &Roots) -> Candidate {
    const SOURCE: &str = "SMBIOS type 11";
    let table = match fs::read(roots.sys.join("firmware/dmi/tables/DMI")) {
        Ok(table) => table,
        // Not every machine has one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return absent(SOURCE),
        Err(error) => return unreadable(SOURCE, error),
    };
    match smbios::seed(&table) {
        None => absent(SOURCE),
        Some(content) => Candidate {
            source: SOURCE.to_owned(),
            content: content.map_err(AttemptResult::Broken),
        },
    }
}

fn from_command_line(roots: &Roots, mounts: &dyn Mounts) -> Vec<Candidate> {
    const SOURCE: &str = "kernel command line";
    let command_line = match fs::read_to_string(roots.proc.join("cmdline")) {
        Ok(text) => text,
        Err(error) => return vec![unreadable(SOURCE, error)],
    };
    match named(&command_line) {
        None => vec![absent(format!("{SOURCE} masthead.seed="))],
        Some(Named::Path(path)) => {
            let source = format!("{SOURCE} masthead.seed={path}");
            vec![file(
                &source,
                &roots.root.join(path.trim_start_matches('/')),
            )]
        }
        Some(Named::Volume { label, path }) => {
            let source = format!("{SOURCE} masthead.seed={label}:{path}");
            let all = devices(&roots.sys, &roots.dev);
            let found: Vec<Candidate> = labelled(&all, &label)
                .map(|device| on_device(mounts, device, &source, &path))
                .collect();
            if found.is_empty() {
                vec![absent(source)]
            } else {
                found
            }
        }
        Some(Named::Wrong(value)) => vec![unreadable(
            format!("{SOURCE} masthead.seed={value}"),
            "write masthead.seed=/PATH or masthead.seed=LABEL:/PATH",
        )],
    }
}

fn from_volumes(roots: &Roots, mounts: &dyn Mounts) -> Vec<Candidate> {
    let all = devices(&roots.sys, &roots.dev);
    let mut candidates = Vec::new();
    for device in &all {
        if let Err(error) = &device.label {
            candidates.push(unreadable(format!("device {}", device.name), error));
        }
    }
    for (label, path) in VOLUMES {
        let before = candidates.len();
        candidates.extend(labelled(&all, label).map(|device| {
            let source = format!("volume {label} ({}) {path}", device.name);
            on_device(mounts, device, &source, path)
        }));
        if candidates.len() == before {
            candidates.push(absent(format!("volume {label}")));
        }
    }
    candidates
}

/// Labels are compared without regard to case: FAT tools write capitals, NoCloud has small letters.
fn labelled<'d>(devices: &'d [Device], label: &str) -> impl Iterator<Item = &'d Device> {
    devices.iter().filter(move |device| {
        matches!(&device.label, Ok(Some(found)) if found.text.eq_ignore_ascii_case(label))
    })
}

fn on_device(mounts: &dyn Mounts, device: &Device, source: &str, path: &str) -> Candidate {
    let Ok(Some(label)) = &device.label else {
        return absent(source);
    };
    let content = mounts
        .open(&device.path, label.filesystem)
        .and_then(|folder| read_beneath(&folder, path));
    content_of(source.to_owned(), content)
}
