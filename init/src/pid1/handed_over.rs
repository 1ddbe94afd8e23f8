//! What the initramfs hands over to `/init` of the root: open files, by the numbers of their descriptors.

#![expect(unsafe_code, reason = "a descriptor becomes a file by its number")]

use std::ffi::OsString;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd};

use rustix::io::{Errno, FdFlags, fcntl_setfd};

use super::log::say;

/// The watchdog, which runs already.
pub(super) const WATCHDOG: &str = "--watchdog=";
/// The initramfs' own root, where that holds something to be put on the disk.
pub(super) const INITRAMFS: &str = "--initramfs=";

/// Keeps a file open in the program that is executed next, and returns the argument that tells it.
pub(super) fn hand_over(what: &str, file: OwnedFd) -> Result<OsString, Errno> {
    fcntl_setfd(&file, FdFlags::empty())?;
    Ok(format!("{what}{}", file.into_raw_fd()).into())
}

/// Takes what was handed over, if it was. None of the children has it.
pub(super) fn inherit(arguments: &[OsString], what: &str) -> Option<OwnedFd> {
    let mut its = arguments.iter().filter_map(|argument| {
        let number = argument.to_str()?.strip_prefix(what)?;
        number.parse().ok()
    });
    // SAFETY: the first stage passes nothing else, and has opened it for this program alone.
    let file = unsafe { OwnedFd::from_raw_fd(its.next()?) };
    if let Err(error) = fcntl_setfd(&file, FdFlags::CLOEXEC) {
        say!("the initramfs has handed over nothing as {what}: {error}");
        // Nobody else's descriptor is closed.
        let _ = file.into_raw_fd();
        return None;
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn what_is_handed_over_is_kept_from_children() {
        let file = OwnedFd::from(File::open("/dev/null").unwrap());
        let number = file.as_raw_fd();
        let argument = hand_over(WATCHDOG, file).unwrap();
        assert_eq!(argument, *format!("--watchdog={number}"));
        assert!(inherit(std::slice::from_ref(&argument), INITRAMFS).is_none());
        let file = inherit(&["quiet".into(), argument], WATCHDOG).unwrap();
        assert_eq!(file.as_raw_fd(), number);
        let flags = rustix::io::fcntl_getfd(&file).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC));
        for other in ["--watchdog=", "--watchdog=x", "--watchdog=1000000", "quiet"] {
            assert!(inherit(&[other.into()], WATCHDOG).is_none(), "{other}");
        }
        assert!(inherit(&[], WATCHDOG).is_none());
    }
}
