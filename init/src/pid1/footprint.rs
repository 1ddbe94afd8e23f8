//! Gives back the memory that only the start-up needed.
//!
//! The kernel maps the pages around each one that a program touches (fault-around), and a start-up touches much of a
//! program that is also the supervisor. None of it is needed again but what the loop runs, which comes back by itself.

#![expect(unsafe_code, reason = "madvise(2) works on raw addresses")]

use std::ffi::c_void;
use std::fs;
use std::io;

/// Unmaps the program's code, whose pages stay in the kernel's cache for whoever executes them next.
pub(super) fn forget_start_up() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let here = forget_start_up as *const () as usize;
    let (start, end) = code_around(&maps, here)
        .ok_or_else(|| io::Error::other("the program's code is not in /proc/self/maps"))?;
    // SAFETY: the range is one mapping of a file, readable and executable and never writable, so that each of its pages
    // is the file's: one that is touched again, be it by the next instruction, is mapped again with the same contents.
    let result = unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The mapping that holds an address, if it is executable and can never have been written to.
fn code_around(maps: &str, address: usize) -> Option<(usize, usize)> {
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        ((start..end).contains(&address) && rest.starts_with("r-xp ")).then_some((start, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "1000-2000 r--p 00000000 00:1 7 /init\n2000-5000 r-xp 00001000 00:1 7 /init\n5000-6000 rw-p 00004000 00:1 7 /init\n";

    #[test]
    fn only_code_is_found() {
        assert_eq!(code_around(MAPS, 0x4fff), Some((0x2000, 0x5000)));
        assert_eq!(
            code_around(MAPS, 0x1000),
            None,
            "constants, which may have been relocated"
        );
        assert_eq!(code_around(MAPS, 0x5000), None, "variables");
    }

    #[test]
    fn what_was_forgotten_comes_back() {
        forget_start_up().expect("forgotten");
        assert_eq!(code_around(MAPS, 0x2000), Some((0x2000, 0x5000)));
    }
}
