//! Disks for virtual machines, served to QEMU over NBD on a unix socket.
//!
//! The lab serves them itself because killing a QEMU loses nothing that the guest submitted: the
//! host's page cache keeps it. [`VolatileDisk`] has the write cache of a real disk, which a cut
//! empties; [`server`] speaks the protocol; a [`Fault`] makes the disk fail while the guest runs.

pub mod disk;
pub mod server;

pub use disk::{Cut, Fault, VolatileDisk};
pub use server::DiskServer;
