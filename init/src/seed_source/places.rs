//! The places, in their order.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::command_line::{Named, named, nocloud, place};
use super::fetch::{Order, shown};
use super::file::{read_beneath, read_limited};
use super::{AttemptResult, Means, Roots, SourceKind};
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
type Look = fn(&Roots, &Means<'_>) -> Vec<Candidate>;

/// A machine's places in their order, by the names that `docs/seed.md` has for them.
pub(super) const PLACES: [(&str, Look); 7] = [
    ("kernel command line", from_command_line),
    ("NoCloud", from_nocloud),
    ("fw_cfg", |roots, _| vec![from_firmware(roots)]),
    ("SMBIOS", |roots, _| vec![from_smbios(roots)]),
    ("volume", |roots, means| from_volumes(roots, means.mounts)),
    ("beside the image", |roots, means| {
        beside_image::candidates(roots, means.mounts)
    }),
    ("installed", |roots, means| {
        vec![installed::candidate(roots, means.mounts)]
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
    pub(super) fn new(kind: &'p SourceKind, means: &'p Means<'p>) -> Self {
        let places: Vec<Place<'p>> = match kind {
            SourceKind::Machine(roots) => PLACES
                .into_iter()
                .map(|(_, look)| Box::new(move || look(roots, means)) as Place<'p>)
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

const COMMAND_LINE: &str = "kernel command line";

fn command_line(roots: &Roots) -> io::Result<String> {
    fs::read_to_string(roots.proc.join("cmdline"))
}

fn from_command_line(roots: &Roots, means: &Means<'_>) -> Vec<Candidate> {
    let command_line = match command_line(roots) {
        Ok(text) => text,
        Err(error) => return vec![unreadable(COMMAND_LINE, error)],
    };
    match named(&command_line) {
        None => vec![absent(format!("{COMMAND_LINE} masthead.seed="))],
        Some(Named::Address(address)) => {
            let source = format!("{COMMAND_LINE} masthead.seed={}", shown(&address));
            vec![fetched(source, &address, &command_line, roots, means)]
        }
        Some(Named::Wrong(value)) => vec![unreadable(
            format!("{COMMAND_LINE} masthead.seed={value}"),
            "write masthead.seed=/PATH, masthead.seed=LABEL:/PATH or masthead.seed=https://HOST/PATH",
        )],
        Some(file) => {
            let source = format!("{COMMAND_LINE} masthead.seed={file}");
            from_file(&file, &source, roots, means.mounts)
        }
    }
}

fn from_nocloud(roots: &Roots, means: &Means<'_>) -> Vec<Candidate> {
    const SOURCE: &str = "kernel command line ds=nocloud;s=";
    // That it cannot be read was said before.
    let command_line = command_line(roots).unwrap_or_default();
    let Some(address) = nocloud(&command_line) else {
        return vec![absent(SOURCE)];
    };
    let source = format!("{SOURCE}{}", shown(&address));
    vec![fetched(source, &address, &command_line, roots, means)]
}

fn fetched(
    source: String,
    address: &str,
    command_line: &str,
    roots: &Roots,
    means: &Means<'_>,
) -> Candidate {
    let authority = |value: &str| authority(value, roots, means.mounts);
    let fetched = Order::read(address, command_line, authority)
        .and_then(|order| order.carry_out(&roots.sys, means.uplinks, means.scale));
    Candidate {
        source,
        content: fetched.map_err(AttemptResult::Unfetched),
    }
}

/// What `masthead.seed-ca=` says: certificates in a file (PEM), or one in base64 (DER).
fn authority(
    value: &str,
    roots: &Roots,
    mounts: &dyn Mounts,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let file = place(value);
    let source = format!("masthead.seed-ca={value}");
    if !matches!(file, Named::Path(_) | Named::Volume { .. }) {
        let certificate = STANDARD.decode(value).map_err(|error| {
            format!("{source} is neither /PATH nor LABEL:/PATH nor base64 ({error})")
        })?;
        return Ok(vec![certificate.into()]);
    }
    let mut why = AttemptResult::Absent;
    for found in from_file(&file, &source, roots, mounts) {
        match found.content {
            Ok(text) => {
                let certificates: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(&text).collect();
                return match certificates {
                    Ok(certificates) if !certificates.is_empty() => Ok(certificates),
                    Ok(_) => Err(format!("{source} has no certificate in PEM")),
                    Err(error) => Err(format!("{source}: {error}")),
                };
            }
            Err(result) => why = result,
        }
    }
    Err(format!("{source}: {why}"))
}

/// What is in a file of the root, or of each volume with that label.
fn from_file(file: &Named, source: &str, roots: &Roots, mounts: &dyn Mounts) -> Vec<Candidate> {
    match file {
        Named::Path(path) => {
            vec![self::file(
                source,
                &roots.root.join(path.trim_start_matches('/')),
            )]
        }
        Named::Volume { label, path } => {
            let all = devices(&roots.sys, &roots.dev);
            let found: Vec<Candidate> = labelled(&all, label)
                .map(|device| on_device(mounts, device, source, path))
                .collect();
            if found.is_empty() {
                vec![absent(source)]
            } else {
                found
            }
        }
        Named::Address(_) | Named::Wrong(_) => Vec::new(),
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
