//! Where the running image is to be had: in memory, if the node was started over the network with the image's frame, or on the medium from which it
//! was started.
//!
//! The kernel keeps nothing of the file that firmware has started. So every volume is looked at for an image that was built from the same as the root
//! that runs; its digest says whether the copy is whole.

use std::io::{self, Read, Seek};
use std::path::Path;

use masthead_uki::{ImageError, Release};
use thiserror::Error;

use super::{Place, memory};
use crate::pid1::INITRAMFS;
use crate::volume::{Filesystem, Mounts, devices, open_beneath};

/// Where an image is on a medium that boots.
const PATHS: [&str; 2] = ["/EFI/BOOT/BOOTX64.EFI", "/masthead.efi"];

/// What people call the place.
const IN_MEMORY: &str = "the initramfs";

/// What an image is read from.
pub(super) trait Image: Read + Seek {}

impl<R: Read + Seek> Image for R {}

/// The running image.
pub(super) struct Medium {
    /// Its bytes.
    pub(super) image: Box<dyn Image>,
    /// What it says of itself.
    pub(super) release: Release,
    /// Device and path, for people.
    pub(super) place: String,
}

/// Neither memory nor a volume holds it.
#[derive(Debug, Error)]
#[error("neither the initramfs nor a volume holds the image that runs ({running}), so that it cannot be put on the disk{}", seen(.looked))]
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
    fn of(mut image: impl Image + 'static, place: String) -> Result<Self, ImageError> {
        Ok(Self {
            release: masthead_uki::release::read(&mut image)?,
            image: Box::new(image),
            place,
        })
    }

    fn in_memory() -> Result<Option<Self>, ImageError> {
        let image = memory::image(Path::new(INITRAMFS))?;
        let own = image.map(|image| Self::of(image, IN_MEMORY.to_owned()));
        own.transpose()
    }

    fn told(&self) -> String {
        let Release { version, image, .. } = &self.release;
        format!("{}, which is {version} ({image})", self.place)
    }

    /// The one that holds the image whose root has this UUID.
    pub(super) fn with(
        running: &str,
        place: &Place,
        mounts: &dyn Mounts,
    ) -> Result<Self, NotFound> {
        let mut looked = Vec::new();
        match Self::in_memory() {
            Ok(Some(own)) if own.release.image == running => return Ok(own),
            Ok(Some(other)) => looked.push(other.told()),
            Ok(None) => {}
            Err(error) => looked.push(format!("{IN_MEMORY}: {error}")),
        }
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
                match Self::of(image, name.clone()) {
                    Ok(own) if own.release.image == running => return Ok(own),
                    Ok(other) => looked.push(other.told()),
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
