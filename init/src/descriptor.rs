//! Descriptors that come by their number, and those that the executor watches.
#![expect(
    unsafe_code,
    reason = "an inherited descriptor has only its number, and tokio cannot know that one stays open; we do, by its type"
)]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Takes over a descriptor that PID 1 left open for this process, and closes it for the children. Call it once for
/// each number.
///
/// Fails when the descriptor is not open.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is only borrowed until fcntl(2) has said whether it is open.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(inherited, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: PID 1 made it for this process, it is open, and nothing else here knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Registers a descriptor with the executor. Must be called on the runtime.
pub fn watch(descriptor: impl Into<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = descriptor.into();
    // SAFETY: an `OwnedFd` is open and stays the same descriptor until it is dropped, and the `AsyncFd`
    // that owns it lets go of its registration before that.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}
