//! The EFI system partition of a master's disk: what is on it, and in which order it is written.
//!
//! Pure but for the storage that it is given, as `masthead-disk-layout` is: the partition is written without the kernel's
//! file system driver, so that the order of every write, and each wait for the disk, is ours, and a test can cut the power between any two.
//!
//! ```text
//! /EFI/BOOT/BOOTX64.EFI                     systemd-boot, which every firmware starts without having been told
//! /loader/loader.conf                       no menu, no editor
//! /loader/entries/masthead-000001.conf      a generation: which image to start; the highest is tried first
//! /masthead/a.efi  /masthead/b.efi          the slots: unified kernel images
//! /masthead/000001.parts  /masthead/grub.env   what GRUB needs of these on a machine without UEFI
//! ```
//!
//! What is started is decided by the small entries and not by the names of the images: systemd-boot renames what it counts, and a power cut while a FAT
//! directory is changed must not reach a file of 70 MB (`docs/decisions/entries-decide-what-starts.md`).
//!
//! - [`fat`]: the file system ([`Partition`]), and files that are there whole or not at all;
//! - [`bios`]: GRUB, by the same entries;
//! - [`entry`]: the names and the text of entries;
//! - [`install`]: from a blank partition to one that boots;
//! - [`upgrade`]: from one image to the next, and back;
//! - [`trial`]: whether the next one is good;
//! - [`meta`]: why one was not.
#![forbid(unsafe_code)]

pub mod bios;
pub mod entry;
mod fat;
#[cfg(test)]
mod grub_model;
pub mod install;
#[cfg(test)]
mod memory;
pub mod meta;
#[cfg(test)]
mod replay_tests;
pub mod trial;
pub mod upgrade;

pub use bios::{BiosError, Grub};
pub use entry::{Entry, Slot, Tries};
pub use fat::{File, Format, Partition, PartitionError};
pub use install::{InstallError, Source, install, installed};
