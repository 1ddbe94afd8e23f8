//! Random bytes of the kernel, for answers to requests.

use masthead_api::{ApiError, ErrorCode};
use rustix::rand::{GetRandomFlags, getrandom};

/// So many. A machine that has just started may have none yet, and does not wait for them.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    match getrandom(&mut bytes, GetRandomFlags::NONBLOCK) {
        Ok(length) if length == N => Ok(bytes),
        _ => Err(ApiError::new(
            ErrorCode::NotReady,
            "the kernel has no random numbers yet",
            "Wait some seconds and try again.",
        )),
    }
}
