//! What QEMU is told about a machine.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{BootPath, Firmware, MachineOptions, SeedPath, acceleration::Acceleration, medium};
use crate::{
    error::{Attempt, Result},
    plan::NodePlan,
};

/// Where a machine's sockets and files are, all in its own folder.
#[derive(Clone, Debug)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn of(plan: &NodePlan) -> Self {
        Self {
            directory: plan.directory.clone(),
        }
    }

    pub(super) fn seed(&self) -> PathBuf {
        self.directory.join("seed.toml")
    }

    pub(super) fn disk_socket(&self) -> PathBuf {
        self.directory.join("disk.sock")
    }

    pub(super) fn wire_socket(&self) -> PathBuf {
        self.directory.join("wire.sock")
    }

    pub(super) fn control_socket(&self) -> PathBuf {
        self.directory.join("qmp.sock")
    }

    /// What QEMU itself says, when it refuses to start.
    pub(super) fn complaints(&self) -> PathBuf {
        self.directory.join("qemu.log")
    }

    fn firmware_variables(&self) -> PathBuf {
        self.directory.join("ovmf-variables.fd")
    }

    /// An ISO image with the node's seed.
    pub(super) fn medium(&self) -> PathBuf {
        self.directory.join("medium.iso")
    }

    fn oem_string(&self) -> PathBuf {
        self.directory.join("oem-string")
    }

    fn seed_volume(&self) -> PathBuf {
        self.directory.join("cidata.img")
    }
}

/// The serial number of a machine's disk.
pub(super) fn disk_serial(plan: &NodePlan) -> String {
    format!("LAB-{}", plan.name)
}

/// OVMF as Debian's package `ovmf` has it: code, and a template of the variables.
const FIRMWARE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// iPXE for SeaBIOS, as Debian's package `ipxe-qemu` has it, on which QEMU's depends.
const IPXE: &str = "/usr/lib/ipxe/qemu/pxe-virtio.rom";
/// Of the card from whose network a machine is started, and which no seed names.
const BOOT_MAC: &str = "52:54:00:ee:00:01";

/// The arguments, after writing the files that they name.
pub(super) fn arguments(
    plan: &NodePlan,
    files: &Files,
    acceleration: Acceleration,
    options: MachineOptions,
) -> Result<Vec<OsString>> {
    let mut line = Line::default();
    let machine = match (options.firmware, options.boot) {
        // SeaBIOS and GRUB write to the serial port.
        (Firmware::Bios, BootPath::Disk) => "q35,graphics=off",
        _ => "q35",
    };
    line.words(&["-name", &plan.name, "-machine", machine, "-smp", "1"]);
    line.words(&["-m", &plan.memory_mib.to_string()]);
    line.words(&acceleration.arguments());
    line.words(&[
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-vga",
        "none",
    ]);
    line.words(&["-device", "virtio-rng-pci", "-device", "i6300esb"]);
    line.option(
        "-chardev",
        "file,id=console,append=on,path=",
        &plan.console(),
    );
    line.words(&["-serial", "chardev:console"]);
    line.option(
        "-qmp",
        "unix:server=on,wait=off,path=",
        &files.control_socket(),
    );
    line.option(
        "-netdev",
        "stream,id=wire,server=off,addr.type=unix,addr.path=",
        &files.wire_socket(),
    );
    line.words(&[
        "-device",
        &format!(
            "virtio-net-pci,netdev=wire,id=card,mac={},romfile=",
            plan.mac()
        ),
    ]);
    line.option(
        "-blockdev",
        "driver=nbd,node-name=disk,discard=unmap,server.type=unix,server.path=",
        &files.disk_socket(),
    );
    line.words(&[
        "-device",
        &format!(
            "virtio-blk-pci,drive=disk,write-cache=on,serial={},bootindex=2",
            disk_serial(plan)
        ),
    ]);
    let scale = acceleration.timing_scale();
    line.words(&[
        "-fw_cfg",
        &format!("name=opt/masthead/timing-scale,string={scale}"),
    ]);
    match options.seed {
        SeedPath::FirmwareConfiguration => {
            line.option("-fw_cfg", "name=opt/masthead/seed,file=", &files.seed());
        }
        SeedPath::OemString => {
            make_oem_string(files)?;
            line.option("-smbios", "type=11,path=", &files.oem_string());
        }
        SeedPath::Volume => {
            make_seed_volume(files)?;
            line.option(
                "-blockdev",
                "driver=file,node-name=cidata,read-only=on,filename=",
                &files.seed_volume(),
            );
            line.words(&["-device", "virtio-blk-pci,drive=cidata,serial=CIDATA"]);
        }
        // There already, or on the medium below.
        SeedPath::Installed | SeedPath::Medium | SeedPath::BesideImage => {}
    }
    match options.boot {
        BootPath::Direct => {
            let cmdline = plan.image.join("cmdline");
            let cmdline =
                fs::read_to_string(&cmdline).attempt(|| format!("read {}", cmdline.display()))?;
            line.option("-kernel", "", &plan.image.join("vmlinuz"));
            line.option("-initrd", "", &plan.image.join("initrd"));
            line.words(&["-append", cmdline.trim()]);
        }
        BootPath::Network => line.network_of("masthead.ipxe", IPXE, &plan.image),
        BootPath::UefiNetwork => line.network_of("network.efi", "", &plan.image),
        BootPath::Cd | BootPath::Stick | BootPath::UsbStick | BootPath::Disk => {}
    }
    let has_own = matches!(options.boot, BootPath::Direct | BootPath::Network);
    if options.firmware == Firmware::Uefi && !has_own {
        make_firmware_variables(files)?;
        line.option(
            "-drive",
            &format!("if=pflash,format=raw,readonly=on,file={FIRMWARE_CODE}"),
            Path::new(""),
        );
        line.option(
            "-drive",
            "if=pflash,format=raw,file=",
            &files.firmware_variables(),
        );
    }
    if let Some(words) = medium::devices(options.boot) {
        line.option(
            "-blockdev",
            "driver=file,node-name=medium,read-only=on,filename=",
            &medium::provide(plan, files, options)?,
        );
        line.words(words);
    }
    Ok(line.0)
}

/// Those of a machine that was never switched on, unless there are any.
fn make_firmware_variables(files: &Files) -> Result<()> {
    if !files.firmware_variables().exists() {
        fs::copy(FIRMWARE_VARIABLES, files.firmware_variables())
            .attempt(|| format!("copy {FIRMWARE_VARIABLES} (package ovmf)"))?;
    }
    Ok(())
}

/// The seed as an OEM string of the firmware.
fn make_oem_string(files: &Files) -> Result<()> {
    let seed = fs::read(files.seed()).attempt(|| format!("read {}", files.seed().display()))?;
    let text = format!("masthead.seed.base64={}", STANDARD.encode(seed));
    let file = files.oem_string();
    fs::write(&file, text).attempt(|| format!("write {}", file.display()))
}

/// A FAT volume labelled CIDATA with `user-data` and `meta-data` (cloud-init's NoCloud layout).
fn make_seed_volume(files: &Files) -> Result<()> {
    let volume = files.seed_volume();
    let meta_data = volume.with_file_name("meta-data");
    fs::write(&meta_data, "").attempt(|| format!("write {}", meta_data.display()))?;
    let _ = fs::remove_file(&volume);
    crate::tools::run(
        std::process::Command::new("mkfs.vfat")
            .args(["-C", "-n", "CIDATA"])
            .arg(&volume)
            .arg("2048"),
    )?;
    for (file, name) in [(files.seed(), "::user-data"), (meta_data, "::meta-data")] {
        crate::tools::run(
            std::process::Command::new("mcopy")
                .arg("-i")
                .arg(&volume)
                .arg(file)
                .arg(name),
        )?;
    }
    Ok(())
}

/// A command line that grows.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    /// A card from whose network the machine is started: QEMU's own DHCP and TFTP servers name and serve this file of a folder, and the card's ROM
    /// asks for it, or the firmware where there is none.
    fn network_of(&mut self, file: &str, rom: &str, folder: &Path) {
        self.option(
            "-netdev",
            &format!("user,id=boot,restrict=on,ipv6=off,bootfile={file},tftp="),
            folder,
        );
        // iPXE's ROM is for the card without the legacy interface.
        let card = "virtio-net-pci,disable-legacy=on,netdev=boot,bootindex=1";
        self.words(&["-device", &format!("{card},mac={BOOT_MAC},romfile={rom}")]);
    }

    /// An option whose value ends in a path.
    fn option(&mut self, option: &str, value: &str, path: &Path) {
        self.0.push(option.into());
        let mut value = OsString::from(value);
        // A comma ends a value of QEMU's; doubled it is one.
        value.push(path.to_string_lossy().replace(',', ",,"));
        self.0.push(value);
    }
}
