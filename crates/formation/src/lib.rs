//! How the first cluster comes to be, exactly once, as a pure state machine.
//!
//! - [`Formation`] is one node's part in it. Its [`Setup`] says what the seed lists and what the disks hold.
//! - [`Plan`] is what a cluster is founded from; [`Record`] is what is kept, [`Message`] what peers tell each other.
//! - [`Status`] is what people are told, with a [`Reason`] for every wait.
//!
//! ```text
//! Fresh ─ plan persisted ─► Founding ─ go persisted ─► Founding with go ─ started persisted ─► Member
//!                            │    ▲                                                            │
//!                            └────┘ a newer plan                                a disk lost    ▼
//!                                                                                          Amnesiac
//! ```
//! `docs/decisions/formation.md` has the protocol, why it is safe, and what it promises.

#![forbid(unsafe_code)]

mod disks;
mod event;
mod following;
mod formation;
mod holdings;
mod identity;
mod message;
mod peers;
mod plan;
mod planning;
mod record;
mod starting;
mod status;
mod telling;

pub use event::{Action, EtcdStart, Event, Recipient, Setup};
pub use formation::Formation;
pub use holdings::{EtcdHoldings, StateHoldings, Volume};
pub use identity::{
    ClusterId, InvalidDigits, KeyFingerprint, MachineId, Master, PlanHash, SeedHash, Sender,
};
pub use message::{InvalidMessage, MESSAGE_FORMAT, Message, PlanName, Report, Standing};
pub use plan::{InvalidPlan, Member, PLAN_FORMAT, Plan, PlanDocument, Sealed};
pub use record::{
    GO_FILE, InvalidRecord, MARKER_FILE, Marker, PLAN_FILE_PREFIX, RECORD_FORMAT, Record,
    STARTED_FILE, Started, plan_file_name,
};
pub use status::{HeldPlan, InvalidOverride, PeerStatus, Phase, Reason, Status};
