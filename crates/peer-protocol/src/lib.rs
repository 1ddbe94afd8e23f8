//! What masters say to each other, HTTP/1.1 over mutual TLS 1.3 on port 9442.
//!
//! A connection begins with a [`Greeting`] each way, whose path and form stay the same in all versions. Both sides
//! then speak the highest [`Version`] that both know, and the paths of everything else begin with it
//! ([`Route::path`]). What the messages behind those paths are is not this crate's business: it carries bytes.
//!
//! Pure: no socket, no clock. The transport is `init/src/peer`.
#![forbid(unsafe_code)]

mod greeting;
mod route;
mod version;

pub use greeting::{Greeting, Refusal, RefusalCode, Standing};
pub use route::{GREETING, Route};
pub use version::{NoCommonVersion, SPOKEN, Version, Versions};

/// The TCP port.
pub const PORT: u16 = 9442;

/// By this server name a caller asks for the certificate of the join authority, and shows one of it.
pub const JOIN_SERVER_NAME: &str = "join.masthead.internal";

/// By this server name a caller asks for the certificate of the founded cluster's peer authority, and shows one of it.
pub const MEMBER_SERVER_NAME: &str = "member.masthead.internal";

/// The longest greeting or refusal, in bytes.
pub const MAX_GREETING: usize = 16 * 1024;

/// The longest message or question, in bytes. A formation plan with all authorities has some 10 KiB.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// The longest answer to a question, in bytes.
pub const MAX_ANSWER: usize = 1024 * 1024;
