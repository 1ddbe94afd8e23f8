//! The image that a node starts next, where that is another one: looked at before anything is taken out of service, and made the
//! next one at the last moment.

use masthead_api::cluster::ClusterStatus;
use masthead_api::upgrade::Image;
use masthead_api::{ApiError, ErrorCode};
use masthead_slots::upgrade::Staged;
use tokio::sync::OwnedMutexGuard;

use super::board::Board;
use super::staging::{self, Refusal, claim, image_of};
use super::trial::on;
use crate::disk::data_is_in_memory;
use crate::error_chain::with_sources;
use crate::etcd::snapshot;
use crate::management::PowerAction;
use crate::slots::{OwnDisk, OwnDiskError, step};

/// What a trial that an operator ends says of itself.
const SENT_BACK: &str = "an operator has sent the node back";

/// The image, and the disk that is to start it, which is nobody else's as long as this is held.
pub(super) struct NextImage {
    /// What it is.
    pub(super) image: Image,
    /// The present one is on trial, and is given up.
    gives_up: bool,
    disk: OwnDisk,
    _held: OwnedMutexGuard<Option<OwnDisk>>,
}

impl NextImage {
    /// What is asked for, or why it cannot be had. None where the node is to start what it started before.
    pub(super) async fn find(
        board: &Board,
        action: &PowerAction,
        cluster: &ClusterStatus,
    ) -> Result<Option<Self>, ApiError> {
        let (wanted, found, gives_up) = match action {
            PowerAction::Reboot | PowerAction::PowerOff => return Ok(None),
            PowerAction::Upgrade { image } => (Some(image), OwnDisk::staged as Look, false),
            PowerAction::Rollback => (None, OwnDisk::previous as Look, board.may_be_on_trial()),
        };
        let (disk, held) = claim(board)?;
        let there = on(&disk, found).await.map_err(|error| unfit(&error))?;
        let image = image_of(there.release);
        if let Some(wanted) = wanted.filter(|wanted| **wanted != image.image) {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!(
                    "the slot that does not run holds Masthead {} ({}), and {wanted} was meant",
                    image.version, image.image
                ),
                "Somebody else has sent another image meanwhile: send yours again.",
            ));
        }
        let node = board.status().node;
        let running = staging::running(&node);
        let others = staging::others(&node.name, cluster);
        // What ran until just now can still read everything.
        if !gives_up && let Some(why) = step::refusal(&running, &image, &others) {
            return Err(Refusal::Step(why).into());
        }
        // Also if it was asked when the image was sent: whoever sent it may have ignored the answer, and the image before this one was
        // never asked about the present seed. What ran with it until just now is not asked: nothing may keep it from coming back.
        if !gives_up {
            staging::takes_own_seed(board, &disk).await?;
        }
        Ok(Some(Self {
            image,
            gives_up,
            disk,
            _held: held,
        }))
    }

    /// From now on the next boot starts it.
    pub(super) async fn arm(&self) -> Result<(), ApiError> {
        let (image, gives_up) = (self.image.image.clone(), self.gives_up);
        let armed = on(&self.disk, move |disk| {
            if gives_up {
                disk.give_up(SENT_BACK)
            } else {
                disk.arm(&image).map(drop)
            }
        });
        armed.await.map_err(|error| unfit(&error))
    }

    /// The node goes on after all: the next boot starts what runs.
    pub(super) async fn disarm(&self) {
        if let Err(error) = on(&self.disk, OwnDisk::disarm).await {
            let error = with_sources(&error);
            tracing::error!(
                error,
                "the next boot tries another image, and nobody wants that any more"
            );
        }
    }
}

/// What etcd holds, before anything new writes to it.
pub(super) async fn take_snapshot(board: &Board, accept_outage: bool) -> Result<(), ApiError> {
    let Some(members) = board.members() else {
        return Ok(());
    };
    let taken = if data_is_in_memory() {
        Err("DATA is kept in memory at present, and would be gone with the reboot".to_owned())
    } else {
        let taken = snapshot::take(&members).await;
        taken.map_err(|error| with_sources(&error))
    };
    match taken {
        Ok(path) => {
            tracing::info!(path = %path.display(), "etcd's snapshot is taken");
            Ok(())
        }
        Err(why) if accept_outage => {
            tracing::warn!(why, "the node goes on without a snapshot of etcd");
            Ok(())
        }
        Err(why) => Err(ApiError::new(
            ErrorCode::Conflict,
            format!("no snapshot of etcd can be taken: {why}"),
            "See `mastctl status` for the node's disk and its etcd; --accept-outage goes without a snapshot.",
        )),
    }
}
type Look = fn(&OwnDisk) -> Result<Staged, OwnDiskError>;

fn unfit(error: &OwnDiskError) -> ApiError {
    let (code, next) = match error {
        OwnDiskError::Upgrade(_) => (
            ErrorCode::Conflict,
            "The node runs and boots as before; see `mastctl status` for what is on its disk.",
        ),
        _ => (
            ErrorCode::Internal,
            "The node runs and boots as before. Look at its disk: see `mastctl status`.",
        ),
    };
    ApiError::new(code, with_sources(error), next)
}
