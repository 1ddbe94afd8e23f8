//! An image that an operator sends: checked as it comes in, and written into the slot that does not run.
//!
//! Nothing starts it yet; that is for the [`disruption`](super::disruption) task. Whatever goes wrong here leaves a node that runs and boots as before.

use std::fs;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use masthead_api::cluster::ClusterStatus;
use masthead_api::status::Node;
use masthead_api::upgrade::{Image, StageAnswer};
use masthead_api::{ApiError, ErrorCode, FORMAT};
use masthead_bundle::{BundleError, Reader};
use masthead_slots::Slot;
use masthead_uki::Release;
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::task::spawn_blocking;

use super::board::Board;
use super::boot::SEED_IN_USE;
use crate::error_chain::with_sources;
use crate::management::Bundle;
use crate::slots::{NextInitError, OwnDisk, OwnDiskError, TrustError, step, takes_seed, trusted};

/// How long the new image's `/init` may look at the seed, on a real machine.
const TO_CHECK_A_SEED: Duration = Duration::from_secs(30);

/// Why an image is not taken.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    #[error("another image is just being written to the disk, or tried")]
    Busy,
    #[error(
        "this boot did not come from a disk of this node's own, on which there would be a slot"
    )]
    NoDisk,
    #[error(
        "the image that runs is on trial itself: the other slot is its way back until it is good"
    )]
    OnTrial,
    #[error("this node trusts nobody's signature: neither its image nor its seed names a key")]
    NoKeys,
    #[error("this node's own keys cannot be read")]
    Keys(#[from] TrustError),
    #[error("the bundle is refused")]
    Bundle(#[from] BundleError),
    #[error("the image may not follow the one that runs: {0}")]
    Step(String),
    #[error("the image was not written")]
    Disk(#[from] OwnDiskError),
    #[error("this node's seed cannot be read any more")]
    Seed(#[source] io::Error),
    #[error(transparent)]
    Init(#[from] NextInitError),
    #[error("the image says that it is {}, and its bundle that it is {}", told(&.0[0]), told(&.0[1]))]
    Differs(Box<[Image; 2]>),
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (code, next) = match &refusal {
            Refusal::Busy => (
                ErrorCode::Conflict,
                "Wait until it is done; see `mastctl status`.",
            ),
            Refusal::NoDisk => (
                ErrorCode::Conflict,
                "Let it install itself and boot from its disk; see `mastctl status` for its installation.",
            ),
            Refusal::OnTrial => (
                ErrorCode::Conflict,
                "Wait until it is; see `mastctl status`.",
            ),
            Refusal::NoKeys => (
                ErrorCode::Conflict,
                "Put the key that `imagebuild keygen` showed into the seed's `image-keys`, or build images that hold it.",
            ),
            Refusal::Keys(_) | Refusal::Seed(_) => {
                (ErrorCode::Internal, "The image is damaged: report it.")
            }
            Refusal::Bundle(BundleError::Io(_) | BundleError::CutOff { .. }) => (
                ErrorCode::BadRequest,
                "The node runs and boots as before. Send it again, whole.",
            ),
            Refusal::Bundle(_) | Refusal::Differs(_) => (
                ErrorCode::BadRequest,
                "The node runs and boots as before. Use a bundle that is whole, and signed by a key of the seed's `image-keys` or of the image that runs.",
            ),
            Refusal::Step(_) => (
                ErrorCode::Conflict,
                "Use an image in between, or bring the other masters up first.",
            ),
            Refusal::Init(_) => (
                ErrorCode::Conflict,
                "The node runs and boots as before. Write the seed as the new image wants it, or use another image.",
            ),
            Refusal::Disk(_) => (
                ErrorCode::Internal,
                "The node runs and boots as before. Look at its disk: see `mastctl status`.",
            ),
        };
        Self::new(code, with_sources(&refusal), next)
    }
}

fn told(image: &Image) -> String {
    let Image {
        version,
        image,
        kubernetes,
        etcd,
    } = image;
    format!("{version} ({image}) with Kubernetes {kubernetes} and etcd {etcd}")
}

/// Takes a bundle, or says why not.
pub(super) async fn stage(board: &Board, bundle: Bundle) -> Result<StageAnswer, ApiError> {
    let running = running(&board.status().node);
    let (disk, held) = claim(board)?;
    if board.may_be_on_trial() {
        return Err(Refusal::OnTrial.into());
    }
    let others = others(&board.status().node.name, &board.cluster().await);
    let own = running.clone();
    let patience = to_check_a_seed(board);
    let taking = spawn_blocking(move || {
        // Also after the client has gone: nobody else may write there before this ends.
        let _held = held;
        let taken = take(&disk, bundle, &own, &others)?;
        if let (Some(patience), (_, Some(_))) = (patience, &taken) {
            ask_about_seed(&disk, patience)?;
            tracing::info!("the image that was sent takes this node's seed");
        }
        Ok::<_, Refusal>(taken)
    });
    let Ok(taken) = taking.await else {
        // A panic aborts the supervisor.
        return std::future::pending().await;
    };
    let (image, slot) = taken?;
    Ok(StageAnswer {
        format: FORMAT,
        image,
        running,
        slot: slot.map(|slot| slot.to_string()),
    })
}

/// Whether the image in the other slot takes the seed that this node runs with.
pub(super) async fn takes_own_seed(board: &Board, disk: &OwnDisk) -> Result<(), Refusal> {
    let Some(patience) = to_check_a_seed(board) else {
        return Ok(());
    };
    let disk = disk.clone();
    match spawn_blocking(move || ask_about_seed(&disk, patience)).await {
        Ok(answer) => answer,
        // A panic aborts the supervisor.
        Err(_) => std::future::pending().await,
    }
}

/// None where this kind of node cannot mount what it would have to ask.
fn to_check_a_seed(board: &Board) -> Option<Duration> {
    board
        .can_mount_a_root()
        .then(|| board.scale() * TO_CHECK_A_SEED)
}

fn ask_about_seed(disk: &OwnDisk, patience: Duration) -> Result<(), Refusal> {
    let seed = fs::read(SEED_IN_USE).map_err(Refusal::Seed)?;
    Ok(takes_seed(disk, &seed, patience)?)
}

/// The disk, for this one alone.
pub(super) fn claim(board: &Board) -> Result<(OwnDisk, OwnedMutexGuard<Option<OwnDisk>>), Refusal> {
    let held = Arc::clone(&board.boot_disk)
        .try_lock_owned()
        .map_err(|_| Refusal::Busy)?;
    let disk = held.clone().ok_or(Refusal::NoDisk)?;
    Ok((disk, held))
}

/// What a node says that it runs.
pub(super) fn running(node: &Node) -> Image {
    Image {
        version: node.version.clone(),
        image: node.image.clone(),
        kubernetes: node.kubernetes.clone(),
        etcd: node.etcd.clone(),
    }
}

/// What an image says of itself.
pub(super) fn image_of(release: Release) -> Image {
    Image {
        version: release.version,
        image: release.image,
        kubernetes: release.kubernetes,
        etcd: release.etcd,
    }
}

/// What the other masters say that they run.
pub(super) fn others(own: &str, cluster: &ClusterStatus) -> Vec<(String, Image)> {
    let others = cluster.statuses().filter(|(name, _)| *name != own);
    others
        .map(|(name, status)| (name.to_owned(), running(&status.node)))
        .collect()
}

fn take(
    disk: &OwnDisk,
    bundle: Bundle,
    running: &Image,
    others: &[(String, Image)],
) -> Result<(Image, Option<Slot>), Refusal> {
    let keys = trusted(&bundle.keys)?;
    if keys.is_empty() {
        return Err(Refusal::NoKeys);
    }
    let mut reader = Reader::open(Incoming::of(bundle.pieces), &keys)?;
    let header = reader.header();
    let signed = Image {
        version: header.version.clone(),
        image: header.image.clone(),
        kubernetes: header.kubernetes.clone(),
        etcd: header.etcd.clone(),
    };
    if let Some(why) = step::refusal(running, &signed, others) {
        return Err(Refusal::Step(why));
    }
    if bundle.plan {
        return Ok((signed, None));
    }
    let staged = disk.stage(&mut reader).map_err(blame)?;
    let found = image_of(staged.release);
    if found != signed {
        return Err(Refusal::Differs(Box::new([found, signed])));
    }
    Ok((found, Some(staged.slot)))
}

/// A bundle that ends early or is damaged comes out of the writing.
fn blame(error: OwnDiskError) -> Refusal {
    match error.of_the_bundle() {
        Ok(bundle) => Refusal::Bundle(bundle),
        Err(error) => Refusal::Disk(error),
    }
}

/// What comes in, for a thread that may wait for it.
struct Incoming {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Incoming {
    fn of(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            pieces,
            current: Bytes::new(),
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.current = piece?,
            }
        }
        let bytes = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..bytes]);
        Ok(bytes)
    }
}
