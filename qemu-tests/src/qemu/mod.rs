//! Nodes as virtual machines in QEMU: the real kernel, firmware, boot chain and disks.
//!
//! | module | what it is |
//! |---|---|
//! | [`acceleration`] | whether KVM works here, and how slow emulation is |
//! | `machine` | the lab's side of a machine: [`crate::provider::Node`] |
//! | `command_line` | what QEMU is told |
//! | `medium` | the ISO image in a machine, with a seed or without |
//! | `saving`, [`ground`] | a machine's state in a file; what it can be restored on |
//! | `qmp` | QEMU's control socket |
//! | `wipe` | blank disks and partitions |
//! | `child` | a QEMU that dies with the lab |
//!
//! Disks are served by [`crate::block`], with a write cache that a power cut loses; the wire is
//! [`crate::switch`]. Nothing of this needs root.

pub mod acceleration;
mod child;
mod command_line;
pub mod ground;
mod machine;
mod medium;
mod qmp;
mod saving;
mod wipe;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddrV4,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Attempt, Error, Result},
    partition::Cut,
    plan::{GATEWAY, NodePlan, PREFIX},
    provider::{Forward, Node, Provider, ProviderKind},
    switch::{
        PortNumber, Switch,
        forward::{FIRST_PORT, Gateway},
    },
    tap::Tap,
};
use acceleration::Acceleration;
use ground::Ground;
use machine::Machine;

/// How a machine gets at its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPath {
    /// QEMU loads kernel and initrd by itself.
    #[default]
    Direct,
    /// The firmware starts the ISO image in a CD drive.
    Cd,
    /// The firmware starts the ISO image as a disk, as it is on a stick. It is a SCSI disk, for kernels without USB.
    Stick,
    /// The firmware starts the ISO image on a USB stick.
    UsbStick,
    /// SeaBIOS starts iPXE, which fetches kernel and initramfs by TFTP.
    Network,
    /// OVMF fetches the image for the network by TFTP.
    UefiNetwork,
    /// The firmware starts what an earlier boot has put on the node's own disk.
    Disk,
}

/// What a machine has for firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// OVMF.
    #[default]
    Uefi,
    /// SeaBIOS.
    Bios,
}

/// How a machine gets its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeedPath {
    /// QEMU's fw_cfg, `opt/masthead/seed`.
    #[default]
    FirmwareConfiguration,
    /// An OEM string of the firmware (SMBIOS type 11).
    OemString,
    /// `masthead/seed.toml` on the FAT volume of the stick that it boots.
    BesideImage,
    /// A volume labelled `CIDATA` with `user-data`, as cloud-init's NoCloud has it.
    Volume,
    /// On the ISO image that it boots: made with it for a CD, and copied to the FAT volume of a stick, as an operator does.
    Medium,
    /// Nowhere but on the node's own disk, where an earlier boot has installed it.
    Installed,
}

/// What is different from boot to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineOptions {
    /// Who boots it.
    pub firmware: Firmware,
    /// How it boots.
    pub boot: BootPath,
    /// Where its seed is.
    pub seed: SeedPath,
}

/// Runs the nodes of one cluster in QEMU.
pub struct VmProvider {
    acceleration: Acceleration,
    options: MachineOptions,
    switch: Switch,
    gateway: Gateway,
    /// The nodes' ports, by name.
    ports: Mutex<BTreeMap<String, PortNumber>>,
}

impl VmProvider {
    /// Prepares the wire of a cluster. Probes once a process how fast machines are here.
    pub fn new(image: &std::path::Path, options: MachineOptions) -> Result<Self> {
        let acceleration = acceleration::probe(&image.join("vmlinuz"))?;
        Self::with(acceleration, options, FIRST_PORT)
    }

    /// Prepares the wire of a cluster that was saved; `node` is one of its nodes. Refuses one that was saved with
    /// something else than what is here now. Its machines run as they did: nothing is probed.
    pub fn restored(saved: &SavedWire, node: &NodePlan) -> Result<Self> {
        saved
            .ground
            .must_be(&Ground::of(node, saved.acceleration)?)?;
        Self::with(
            saved.acceleration,
            MachineOptions::default(),
            saved.next_port,
        )
    }

    fn with(acceleration: Acceleration, options: MachineOptions, first_port: u16) -> Result<Self> {
        let switch = Switch::default();
        let gateway = Gateway::start(&switch, GATEWAY, PREFIX, first_port)
            .attempt(|| "start the wire's gateway")?;
        Ok(Self {
            acceleration,
            options,
            switch,
            gateway,
            ports: Mutex::default(),
        })
    }
}

/// What a saved cluster's machines have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedWire {
    ground: Ground,
    /// With the scale that the nodes have read.
    acceleration: Acceleration,
    /// Of the gateway: nodes may still hold connections from earlier ones.
    next_port: u16,
}

impl Provider for VmProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Vm
    }

    fn timing_scale(&self) -> f64 {
        self.acceleration.timing_scale()
    }

    fn add_node(&self, plan: &NodePlan, seed: &str) -> Result<Arc<dyn Node>> {
        for file in ["vmlinuz", "initrd", "cmdline"] {
            let file = plan.image.join(file);
            if !file.exists() {
                return Err(Error::Refused(format!(
                    "there is no {}: build the image first (make image)",
                    file.display()
                )));
            }
        }
        fs::create_dir_all(&plan.directory)
            .attempt(|| format!("make {}", plan.directory.display()))?;
        let machine = Machine::new(
            plan.clone(),
            seed,
            &self.switch,
            self.acceleration,
            self.options,
        )?;
        self.ports().insert(plan.name.clone(), machine.port());
        Ok(Arc::new(machine))
    }

    fn forward(&self, to: SocketAddrV4) -> Result<Forward> {
        let (local, guard) = self
            .gateway
            .forward(to)
            .attempt(|| format!("forward a loopback port to {to}"))?;
        Ok(Forward::new(local, guard))
    }

    fn tap(&self) -> Result<Box<dyn Tap>> {
        Ok(Box::new(self.switch.tap()))
    }

    fn partition(&self, cuts: &BTreeSet<Cut>) -> Result<()> {
        let ports = self.ports();
        let of = |cut: &Cut| Some((*ports.get(&cut.from)?, *ports.get(&cut.to)?));
        self.switch.cut(cuts.iter().filter_map(of).collect());
        Ok(())
    }

    fn save(&self, node: &NodePlan) -> Result<SavedWire> {
        Ok(SavedWire {
            ground: Ground::of(node, self.acceleration)?,
            acceleration: self.acceleration,
            next_port: self.gateway.next_port(),
        })
    }
}

impl VmProvider {
    fn ports(&self) -> MutexGuard<'_, BTreeMap<String, PortNumber>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
