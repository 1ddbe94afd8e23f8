//! Operators who came in by a one-time token, beyond those that the seed names.
//!
//! - [`token`]: what an operator hands to the next one, and what etcd keeps of it; pure;
//! - [`registry`]: both kinds of records, which change by compare-and-swap only;
//! - [`follow`]: this master's knowledge of who is in, for each request to the management API.
//!
//! The registry is etcd, so that one word is true on all masters. Operators of the seed need none of it: they get in when
//! there is no quorum, and no etcd.

pub mod follow;
pub mod registry;
pub mod token;

pub use follow::{Enrolled, follow};
pub use registry::{Registered, Registry};
