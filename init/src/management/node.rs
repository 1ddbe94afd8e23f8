//! What the server asks of the rest of the supervisor.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use masthead_api::cluster::ClusterStatus;
use masthead_api::disruption::{UnlockAnswer, UnlockRequest};
use masthead_api::etcd::{LeaderAnswer, LeaderRequest};
use masthead_api::operators::{EnrolledOperator, OpenToken};
use masthead_api::power::PowerAnswer;
use masthead_api::upgrade::StageAnswer;
use masthead_api::vip::{MoveAnswer, MoveRequest};
use masthead_api::{ApiError, Status};
use masthead_seed::{ImageKey, OperatorKey};
use tokio::sync::{mpsc, oneshot};

use crate::operators::token::Token;
use crate::operators::{Enrolled, Registered};

/// An answer under way.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The node as the management API sees it.
pub trait Node: Send + Sync + 'static {
    /// What the node is and does now.
    fn status(&self) -> Status;

    /// The status of every master that the seed lists: this one's, and what the others answer.
    fn cluster(&self) -> Answering<'_, ClusterStatus>;

    /// Has etcd's leader hand over to another member, or says why not.
    fn move_leader(&self, request: LeaderRequest) -> Answering<'_, Result<LeaderAnswer, ApiError>>;

    /// Has the owner of virtual addresses let go of them, to another master, or says why not.
    fn move_address(&self, request: MoveRequest) -> Answering<'_, Result<MoveAnswer, ApiError>>;

    /// Writes the image of a bundle into the slot that does not run, or says why not.
    fn stage(&self, bundle: Bundle) -> Answering<'_, Result<StageAnswer, ApiError>>;

    /// Takes the disruption lock away from a master, or says why not.
    fn unlock(&self, request: UnlockRequest) -> Answering<'_, Result<UnlockAnswer, ApiError>>;

    /// The operators who came in by tokens, as far as this node knows.
    fn enrolled(&self) -> Enrolled;

    /// The same by the word of a majority, if that can be had soon.
    fn confirmed(&self) -> Answering<'_, Enrolled>;

    /// The same with all about them, and the tokens that are open, by the word of a majority.
    fn operators(&self) -> Answering<'_, Result<Registered, ApiError>>;

    /// A new token of that operator's. `admins` are those that the seed names.
    fn make_token<'a>(
        &'a self,
        by: OperatorKey,
        admins: &'a [OperatorKey],
        ttl: Duration,
    ) -> Answering<'a, Result<(Token, OpenToken), ApiError>>;

    /// Uses up a token for a key, which is an operator's from then on.
    fn enroll<'a>(
        &'a self,
        token: &'a Token,
        key: OperatorKey,
        admins: &'a [OperatorKey],
    ) -> Answering<'a, Result<EnrolledOperator, ApiError>>;

    /// Takes out an operator by the key, or a token by its id, and says which tokens are gone.
    fn remove_operator<'a>(&'a self, whom: &'a str)
    -> Answering<'a, Result<Vec<String>, ApiError>>;

    /// The output of a service, if there is one of that name, in pieces as large as it likes; it ends when the
    /// receiver is dropped. [`stream`](super::stream) makes one of an [`output::Handle`](crate::output::Handle).
    fn log(&self, service: &str, wanted: LogRequest) -> Option<mpsc::Receiver<Bytes>>;
}

/// A bundle that comes in.
#[derive(Debug)]
pub struct Bundle {
    /// Its bytes, in pieces, until the first error.
    pub pieces: mpsc::Receiver<io::Result<Bytes>>,
    /// Only say whether it would be taken: what comes behind its signature is not read.
    pub plan: bool,
    /// Those who may have signed it, according to the seed.
    pub keys: Vec<ImageKey>,
}

/// Which part of a service's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRequest {
    /// How many past lines.
    pub lines: usize,
    /// Whether to go on with what is written from now on.
    pub follow: bool,
}

/// Where operators' words go.
#[derive(Clone, Debug)]
pub struct Commands {
    /// To go down.
    pub power: mpsc::Sender<PowerCommand>,
    /// To found the cluster without somebody.
    pub founding: mpsc::Sender<FoundCommand>,
}

/// An operator's word to found the cluster without some of the listed masters.
#[derive(Debug)]
pub struct FoundCommand {
    /// The names of those to leave out.
    pub without: Vec<String>,
    /// The cluster's name, as the operator typed it.
    pub cluster: String,
    /// Takes whether the founding begins, or why not.
    pub reply: oneshot::Sender<Result<(), ApiError>>,
}

/// How a node goes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PowerAction {
    /// And comes back.
    Reboot,
    /// And stays down.
    PowerOff,
    /// And comes back with the image that was sent to it before, on trial.
    Upgrade {
        /// UUID of that image's root.
        image: String,
    },
    /// And comes back with the image that it had before this one.
    Rollback,
}

/// An operator's word to go down.
#[derive(Debug)]
pub struct PowerCommand {
    /// How.
    pub action: PowerAction,
    /// Only say what would be done.
    pub plan: bool,
    /// Whether the operator accepts that nothing may be written meanwhile.
    pub accept_outage: bool,
    /// Who said so, for the log.
    pub by: String,
    /// Takes what is done, when the node begins, or why not (`conflict` when it is refused).
    pub reply: oneshot::Sender<Result<PowerAnswer, ApiError>>,
}
