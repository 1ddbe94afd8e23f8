//! A service's life, and the order among services, as pure state machines.
//!
//! - [`Service`] is one service: started, probed, restarted with back-off when it dies or hangs,
//!   stopped with a grace. It is steered by its [`Policy`].
//! - [`Group`] is all services of a node: who waits for whom at the first start, and who is
//!   stopped before whom.
//! - [`Story`] is what people are told about a service; it is derived from the machine's state.
//!
//! ```text
//!             ┌────────────────────────── LeafEmpty ◄──────────────────────────────┐
//!             ▼                                                                    │
//! Examining ─► Waiting ─► Starting ─► Running ⇄ Ready ⇄ Unhealthy ─► Terminating ─► Killing
//!                ▲            │                  │ exit                │ exit         ▲
//!                │            ▼                  ▼                     ▼              │ grace over
//!            BackingOff ◄─────┴──── LeafEmpty ── Clearing ◄────────────┘──────────────┘
//! ```
//! A stop that was asked for ends in `Stopped` from any state. Nothing is ever started before the
//! control group leaf is known to be empty, for *a populated leaf is the record of a running
//! service*.

#![forbid(unsafe_code)]

mod back_off;
mod event;
mod group;
mod policy;
mod prober;
mod service;
mod story;

pub use event::{Action, Answer, Event, Exit, GroupAction, GroupEvent, Note, Probe, Process};
pub use group::{Group, GroupError};
pub use policy::{BackOff, Forgiveness, Policy, ProbePolicy, ServiceName};
pub use service::Service;
pub use story::{EndedBy, LastExit, Phase, ProbeStory, Story, WaitingFor};
