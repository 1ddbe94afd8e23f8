//! Formation among the supervisor's tasks: what it is told, and by whom.

use std::sync::Arc;

use masthead_api::status::DiskState;
use masthead_api::{ApiError, ErrorCode};
use masthead_formation::Volume;
use masthead_machine::Scale;
use masthead_peer_protocol::{Route, Versions};
use masthead_seed::{Master, Seed};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::addresses;
use super::board::{Publishers, Shared};
use super::boot::any_address;
use crate::formation::{self, Config, Handle, Places};
use crate::identity::Handover;
use crate::listeners::Listeners;
use crate::management::FoundCommand;
use crate::peer::Question;
use crate::{disk, vip};

/// Locked by the supervisor that may write records of formation.
const LOCK: &str = "/run/masthead/formation.lock";

/// What it takes.
pub(super) struct Founding {
    pub(super) seed: Arc<Seed>,
    pub(super) master: Arc<Master>,
    pub(super) versions: Versions,
    pub(super) scale: Scale,
    pub(super) board: Shared,
    pub(super) publishers: Publishers,
    pub(super) listeners: Listeners,
}

impl Founding {
    /// Founds the cluster, or comes back to it. Hands operators' words over, and tells when a disk dies.
    pub(super) fn spawn(self, commands: mpsc::Receiver<FoundCommand>) -> Handle {
        let address = any_address(&self.master, masthead_peer_protocol::PORT);
        let config = Config::new(
            self.seed,
            self.master,
            self.scale,
            Places::of_node(),
            Handover::of_this_boot(),
            LOCK,
        )
        .speaking(self.versions);
        let (listeners, scale) = (self.listeners, self.scale);
        let listener = async move { listeners.listen(address, scale).await };
        let board = self.board;
        let peers = move |peers, questions| {
            board.set_peers(peers);
            tokio::spawn(answer(questions, board));
        };
        let publisher = self.publishers.formation;
        let handle = formation::spawn(config, listener, publisher, peers);
        let disks = self.publishers.disks.subscribe();
        tokio::spawn(tell_lost_volumes(disks, handle.clone()));
        tokio::spawn(carry_out(commands, handle.clone()));
        handle
    }
}

/// Answers members' questions.
async fn answer(mut questions: mpsc::Receiver<Question>, board: Shared) {
    while let Some(question) = questions.recv().await {
        match question.route {
            Route::Address => {
                // Before this node may own an address it has nothing to say.
                let said = board
                    .vip()
                    .map(|vip| vip.answer(&question.from.subject.name, &question.bytes));
                reply(question, &said.unwrap_or(vip::Answer { ready: false }));
            }
            Route::Move => {
                let board = Arc::clone(&board);
                tokio::spawn(async move {
                    let moved = addresses::carry_out(&board, &question.bytes).await;
                    reply(question, &moved);
                });
            }
            Route::Status | Route::Formation => reply(question, &board.status()),
        }
    }
}

fn reply(question: Question, answer: &impl Serialize) {
    match serde_json::to_vec(answer) {
        Ok(answer) => {
            // A member that is gone needs no answer.
            let _ = question.answer.send(answer.into());
        }
        Err(error) => tracing::error!(%error, "an answer cannot be written as JSON"),
    }
}

/// Tells formation of the volumes that are lost, once each.
async fn tell_lost_volumes(mut disks: watch::Receiver<disk::Report>, formation: Handle) {
    let mut told = Vec::new();
    loop {
        let lost: Vec<(Volume, String)> = disks
            .borrow_and_update()
            .disks
            .iter()
            .filter(|disk| disk.state == DiskState::Lost)
            .filter_map(|disk| {
                let volume = match disk.role.as_str() {
                    "STATE" => Volume::State,
                    "ETCD" => Volume::Etcd,
                    _ => return None,
                };
                let reason = disk.reason.as_ref();
                let cause = reason.map(|reason| reason.cause.trim_end_matches('.').to_owned());
                Some((volume, cause.unwrap_or_default()))
            })
            .collect();
        for (volume, error) in lost {
            if !told.contains(&volume) {
                told.push(volume);
                formation.volume_lost(volume, error).await;
            }
        }
        if disks.changed().await.is_err() {
            return;
        }
    }
}

/// Carries out operators' words to found without some of the listed masters.
async fn carry_out(mut commands: mpsc::Receiver<FoundCommand>, formation: Handle) {
    while let Some(command) = commands.recv().await {
        let names = command.without.into_iter().collect();
        let answer = formation.found_without(names, command.cluster).await;
        // Without an answer the one who asked is told so by the dropped sender.
        if let Some(answer) = answer {
            let refused = answer.map_err(|refusal| {
                ApiError::new(
                    ErrorCode::Conflict,
                    refusal.to_string(),
                    "See `mastctl status` of all masters; docs/formation.md says when this is refused.",
                )
            });
            let _ = command.reply.send(refused);
        }
    }
}
