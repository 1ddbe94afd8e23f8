//! The ISO image in a machine: in a CD drive, or as a disk.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use gptman::GPT;
use masthead_disk_layout::{Part, Role};
use masthead_imagebuild::media::{
    self,
    iso::{Contents, make},
};
use masthead_slots::Partition;

use super::{BootPath, MachineOptions, SeedPath, command_line::Files};
use crate::{
    error::{Attempt, Error, Result, chain},
    image::iso,
    plan::NodePlan,
};

/// The devices that show the block node `medium`; none where a machine boots without one. The controller of SATA is the chipset's own.
pub(super) fn devices(boot: BootPath) -> Option<&'static [&'static str]> {
    match boot {
        BootPath::Direct | BootPath::Network | BootPath::UefiNetwork | BootPath::Disk => None,
        BootPath::Cd => Some(&["-device", "ide-cd,bus=ide.0,drive=medium,bootindex=1"]),
        BootPath::Stick => Some(&[
            "-device",
            "virtio-scsi-pci",
            "-device",
            "scsi-hd,drive=medium,serial=STICK,bootindex=1",
        ]),
        BootPath::UsbStick => Some(&[
            "-device",
            "qemu-xhci",
            "-device",
            "usb-storage,drive=medium,serial=STICK,removable=on,bootindex=1",
        ]),
    }
}

/// The file: the image's own, or one with the node's seed.
pub(super) fn provide(plan: &NodePlan, files: &Files, options: MachineOptions) -> Result<PathBuf> {
    let whole = iso(&plan.image)?;
    let path = match options.seed {
        SeedPath::Medium => "/seed.toml",
        SeedPath::BesideImage => "/masthead/seed.toml",
        _ => return Ok(whole),
    };
    let medium = files.medium();
    let seed = fs::read(files.seed()).attempt(|| format!("read {}", files.seed().display()))?;
    if (options.boot, options.seed) == (BootPath::Cd, SeedPath::Medium) {
        let made = media::Files::of_build(&plan.image)
            .and_then(|files| make(&Contents::of(&files, Some(&seed))?, &medium));
        made.map_err(|error| Error::Refused(format!("{error:#}")))?;
    } else {
        fs::copy(&whole, &medium).attempt(|| format!("copy {}", whole.display()))?;
        put_on_a_stick(&medium, path, &seed)?;
    }
    Ok(medium)
}

/// Copies a seed to the FAT volume of a stick.
fn put_on_a_stick(stick: &Path, path: &str, seed: &[u8]) -> Result<()> {
    let wrong = |error: &dyn std::error::Error| {
        Error::Refused(format!("{}: {}", stick.display(), chain(error)))
    };
    let file = File::options().read(true).write(true).open(stick);
    let mut file = file.attempt(|| format!("open {}", stick.display()))?;
    let table = GPT::find_from(&mut file).map_err(|error| wrong(&error))?;
    let mut systems = table.iter().map(|(_, entry)| entry);
    let system = systems.find(|entry| entry.partition_type_guid == Role::Esp.type_guid());
    let system = system.ok_or_else(|| Error::Refused("the stick starts nothing".to_owned()))?;
    let part = Part::within(
        file,
        system.starting_lba * table.sector_size,
        (system.ending_lba + 1 - system.starting_lba) * table.sector_size,
    );
    let mut volume = Partition::open(part).map_err(|error| wrong(&error))?;
    volume
        .write(path, &mut &*seed)
        .map_err(|error| wrong(&error))
}
