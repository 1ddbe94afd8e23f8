//! Who owns a virtual IP address, as a pure state machine: one of these for each address on each master.
//!
//! etcd keeps one key for the address. Its owner renews the key by compare-and-swap, and may own the address until the time at
//! which it *sent* the last acknowledged renewal, plus the hold that stands in it. Everybody else waits, after having *seen* a
//! renewal, for the hold and a gap. A renewal is sent before anybody sees it; so the owner's time is over before anybody else's
//! begins, whatever the network delays and whichever answer it loses. That the owner's time is over is the kernel's business:
//! a gate that closes by itself ([`Action::SetGate`]).
//!
//! An etcd that has run out of space takes no renewal. Then ownership goes on in another way (`frozen`).
//!
//! - [`Ownership`]: the machine: `contending`, `owning`, `releasing`;
//! - [`Record`]: the value of the key;
//! - [`Terms`]: hold and gap, chosen by what etcd takes for a renewal.

#![forbid(unsafe_code)]

mod contending;
mod event;
mod frozen;
mod gate;
mod ownership;
mod owning;
mod record;
mod releasing;
mod sent;
mod standing;
mod terms;

pub use event::{Action, Change, Decision, Event, Note, Raft, Setup};
pub use frozen::ROUNDS;
pub use ownership::Ownership;
pub use record::{Free, Held, Identity, Nonce, Record, Seen, Terms, Version};
pub use standing::Standing;
