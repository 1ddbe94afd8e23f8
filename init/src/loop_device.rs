//! A loop device over a file, loop(4). The lab has its namespaces' disks by it, too.

#![expect(unsafe_code, reason = "the loop driver speaks ioctl(2)")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// `LO_FLAGS_READ_ONLY` and `LO_FLAGS_AUTOCLEAR` of <linux/loop.h>.
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
/// How often another process may take the free device first.
const ATTEMPTS: usize = 8;

mod request {
    nix::ioctl_none_bad!(get_free, 0x4c82);
    nix::ioctl_write_ptr_bad!(configure, 0x4c0a, super::LoopConfig);
}

/// `struct loop_config` of <linux/loop.h>.
#[repr(C)]
pub(crate) struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// `struct loop_info64` of <linux/loop.h>.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// What a device may do to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read, by blocks of 4 KiB.
    ReadOnly,
    /// Read and write, by sectors of 512 bytes.
    ReadWrite,
}

/// A loop device, which the kernel frees when nobody holds or mounts it any more.
#[derive(Debug)]
pub struct LoopDevice {
    /// Its path, `/dev/loop0`.
    pub path: String,
    /// Held so that it is not freed before it is mounted.
    _device: File,
}

/// Attaches `file` to a free loop device.
pub fn attach(file: &File, access: Access) -> io::Result<LoopDevice> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    let read_only = access == Access::ReadOnly;
    for _ in 0..ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let number = unsafe { request::get_free(control.as_raw_fd()) }?;
        let path = format!("/dev/loop{number}");
        let device = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .custom_flags(libc::O_CLOEXEC)
            .open(&path)?;
        let config = LoopConfig {
            fd: file.as_raw_fd().cast_unsigned(),
            block_size: if read_only { 4096 } else { 512 },
            info: LoopInfo64 {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                sizelimit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: AUTOCLEAR | if read_only { READ_ONLY } else { 0 },
                file_name: [0; 64],
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        };
        // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, which this is, field by field.
        match unsafe { request::configure(device.as_raw_fd(), &raw const config) } {
            Ok(_) => {
                return Ok(LoopDevice {
                    path,
                    _device: device,
                });
            }
            Err(nix::errno::Errno::EBUSY) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other(
        "other processes take every free loop device first",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_size() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
