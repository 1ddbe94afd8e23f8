//! How the first cluster comes to be, exactly once, as a pure state machine.
//!
//! `docs/decisions/formation.md` has the protocol, why it is safe, and what it promises.

#![forbid(unsafe_code)]

mod event;
mod holdings;
mod identity;
mod message;
mod plan;
mod record;
mod status;

pub use event::{Action, EtcdStart, Event, Recipient, Setup};
pub use holdings::{EtcdHoldings, StateHoldings, Volume};
pub use identity::{
    ClusterId, InvalidDigits, KeyFingerprint, MachineId, Master, PlanHash, SeedHash, Sender,
};
pub use message::{InvalidMessage, MESSAGE_FORMAT, Message, PlanName, Report, Standing};
pub use plan::{InvalidPlan, Member, PLAN_FORMAT, Plan, PlanDocument, Sealed};
pub use record::{
    GO_FILE, MARKER_FILE, Marker, PLAN_FILE_PREFIX, Record, STARTED_FILE, Started, plan_file_name,
};
pub use status::{HeldPlan, InvalidOverride, PeerStatus, Phase, Reason, Status};
