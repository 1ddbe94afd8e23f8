//! Descriptors that the executor watches.
#![expect(
    unsafe_code,
    reason = "tokio cannot know that a descriptor stays open; we do, by its type"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the executor. Must be called on the runtime.
pub fn watch(descriptor: impl Into<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = descriptor.into();
    // SAFETY: an `OwnedFd` is open and stays the same descriptor until it is dropped, and the `AsyncFd`
    // that owns it lets go of its registration before that.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}
