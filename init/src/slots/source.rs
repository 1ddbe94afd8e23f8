//! Where the running image is to be had: on the medium from which it was started.
//!
//! The kernel keeps nothing of the file that firmware has started. So every volume is looked at for an image that was built from the same as the root
//! that runs; its digest says whether the copy is whole.

use std::fs::File;
use std::io;

use masthead_uki::{ImageError, Release};
use thiserror::Error;

use super::Place;
use crate::volume::{Filesystem, Mounts, devices, open_beneath};

/// Where an image is on a medium that boots.
const PATHS: [&str; 2] = ["/EFI/BOOT/BOOTX64.EFI", "/masthead.efi"];

/// The running image.
#[derive(Debug)]
pub(super) struct Medium {
    /// Its file.
    pub(super) image: File,
    /// What it says of itself.
    pub(super) release: Release,
    /// Device and path, for people.
    pub(super) place: String,
}

/// No volume holds it.
#[derive(Debug, Error)]
#[error("no volume holds the image that runs ({running}), so that it cannot be put on the disk{}", seen(.looked))]
pub(super) struct NotFound {
    running: String,
    looked: Vec<String>,
}

fn seen(looked: &[String]) -> String {
    if looked.is_empty() {
        return "; there is no volume with an image".to_owned();
    }
    format!("; found: {}", looked.join(", "))
}

impl Medium {
    /// The one that holds the image whose root has this UUID.
    pub(super) fn with(
        running: &str,
        place: &Place,
        mounts: &dyn Mounts,
    ) -> Result<Self, NotFound> {
        let mut looked = Vec::new();
        for device in devices(&place.sys, &place.dev) {
            let Ok(Some(label)) = &device.label else {
                continue;
            };
            let carries = matches!(label.filesystem, Filesystem::Vfat | Filesystem::Iso9660);
            if !carries || device.path == place.device {
                continue;
            }
            let opened = mounts.open(&device.path, label.filesystem);
            for path in PATHS {
                let name = format!("{} {path}", device.name);
                let found = opened.as_ref().map(|root| open_beneath(root, path));
                let image = match found {
                    Ok(Ok(Some(image))) => image,
                    Ok(Ok(None)) => continue,
                    Ok(Err(error)) => {
                        looked.push(unread(&name, &error));
                        continue;
                    }
                    Err(error) => {
                        looked.push(unread(&name, error));
                        break;
                    }
                };
                match masthead_uki::release::read(&mut &image) {
                    Ok(release) if release.image == running => {
                        return Ok(Self {
                            image,
                            release,
                            place: name,
                        });
                    }
                    Ok(release) => looked.push(format!(
                        "{name}, which is {} ({})",
                        release.version, release.image
                    )),
                    // The boot loader of somebody else.
                    Err(ImageError::Foreign | ImageError::Parse(_)) => {}
                    Err(error) => looked.push(format!("{name}: {error}")),
                }
            }
        }
        Err(NotFound {
            running: running.to_owned(),
            looked,
        })
    }
}

fn unread(name: &str, error: &io::Error) -> String {
    format!("{name}, which cannot be read: {error}")
}
