//! The supervisor: everything on a node that takes decisions.
//!
//! One single-threaded tokio runtime. Each task owns one thing and publishes its state on a `watch`
//! channel; [`board`] makes the status of them whenever somebody asks, and [`answers`] what else the API asks for.
//!
//! | task | owns | publishes |
//! |---|---|---|
//! | [`pid1`] | the link | exits of adopted services, the word to stop |
//! | [`boot`] | the order: seed, network, disks, formation | what it waits for |
//! | `formation` (`founding`) | the machine of formation, its records, the port for peers and a connection to each | what the node is, how it stands with its peers, when etcd may start |
//! | [`control_plane`] | the services' configuration | certificates |
//! | [`api`] | which authority the API serves with | its fingerprint |
//! | `network::keep` | the interface | address, carrier |
//! | `disk::health::watch` | looking at the file systems | their state |
//! | `services` | the service group | each service's story |
//! | `etcd::Observer` | a client of the local member | what etcd says of itself and its members |
//! | [`addresses`] and `vip` | virtual addresses: each one's machine, its key in etcd, its gate in the kernel | how each stands |
//! | `operators::follow` | a watch of the local member | the operators who came in by tokens |
//! | `identity::Keeper` | the leaves | new certificates |
//! | `management` | API and metrics | |
//! | `console` | the status screen | |
//! | [`disruption`] | operators' words to go down, and this master's hold on the disruption lock | |
//! | [`leadership`] | keeping etcd's leader away from the owner of a virtual address | |
//! | [`staging`] | images that operators send | |
//! | [`trial`] | whether the image that runs is good, while it is on trial | that, and which one was not |
//! | [`ending`] | stopping in order | |
//!
//! It may be killed at any instant: services go on, and the next supervisor adopts them.

mod addresses;
mod answers;
mod api;
mod board;
mod boot;
mod cluster;
mod condition;
mod control_plane;
mod deployment;
mod disruption;
mod ending;
mod facts;
mod founding;
mod leadership;
mod log;
mod next_image;
mod pid1;
mod space;
mod staging;
mod trial;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use crate::console::{self, ScreenKind, Terminal};
use crate::link::SupervisorLink;
use crate::listeners::Listeners;
use crate::management::Commands;
use crate::node::{Facility, SupervisorOptions};
use crate::role::Release;

use board::Board;
use disruption::DisruptionTask;
use facts::Facts;
pub use log::abort_on_panic;
use trial::TrialTask;

/// Runs the supervisor until it has told PID 1 to end the node, which then kills it. Returns only when
/// it cannot work at all; PID 1 starts another one.
pub fn run(options: &SupervisorOptions, release: Release) -> ExitCode {
    log::start();
    abort_on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For blocking work on disks; one that stalls takes its thread with it.
        .max_blocking_threads(32)
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(supervise(options, release));
            // Dropping it would wait for blocking work that a stalled disk never gives back.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(anyhow::Error::new(error).context("start the supervisor's runtime")),
    };
    if let Err(error) = result {
        tracing::error!("the supervisor gives up: {error:#}");
        eprintln!("supervisor: {error:#}");
    }
    ExitCode::FAILURE
}

async fn supervise(options: &SupervisorOptions, release: Release) -> anyhow::Result<()> {
    let link = Arc::new(SupervisorLink::inherit(options.link)?);
    let listeners = Listeners::inherit(options.listeners)?;
    let scale = options.node.scale;
    let mut from_pid1 = pid1::listen(Arc::clone(&link), scale).await?;
    let facts = Facts::gather(options.node.kind, &from_pid1.welcome);
    tracing::info!(
        version = %facts.release.version,
        kind = %options.node.kind,
        starts = from_pid1.welcome.supervisor_starts,
        "the supervisor begins"
    );

    let (publishers, board) = Board::new(facts);
    let board = Arc::new(board);
    tokio::spawn(console::run(consoles(options), {
        let board = Arc::clone(&board);
        move || board.status()
    }));

    let (power_sender, power) = mpsc::channel(4);
    let (founding_sender, founding) = mpsc::channel(4);
    let (groups_sender, groups) = watch::channel(None);
    tokio::spawn(pid1::beat(Arc::clone(&link), scale, groups.clone()));
    let boot = boot::Boot {
        node: options.node.clone(),
        release,
        board: Arc::clone(&board),
        publishers: publishers.clone(),
        exits: from_pid1.exits,
        commands: Commands {
            power: power_sender,
            founding: founding_sender,
        },
        founding,
        groups: groups_sender,
        listeners,
    };
    let booting = tokio::spawn(boot.run());

    let disruption = DisruptionTask {
        board: Arc::clone(&board),
        publishers: publishers.clone(),
        link: Arc::clone(&link),
        ending: from_pid1.ending.clone(),
        scale,
    };
    tokio::spawn(disruption.run(power));
    let trial = TrialTask {
        kind: options.node.kind,
        board: Arc::clone(&board),
        publishers: publishers.clone(),
        link: Arc::clone(&link),
    };
    tokio::spawn(trial.run());

    let asked = ending::wanted(&mut from_pid1.ending).await;
    let asked = asked.context("PID 1 does not say any more how the node shall end")?;
    publishers.ending.send_replace(Some(ending::reason(asked)));
    if from_pid1.welcome.supervisor_starts > 1 {
        // Services of the one before are adopted first, or they could not be stopped in order.
        ending::await_services(groups.clone(), scale).await;
    }
    ending::end_boot(booting).await;
    // Before anything is stopped: clients go on with another master.
    ending::release_addresses(board.vip(), scale).await;
    ending::stop_services(groups).await;
    tracing::info!(ending = ?asked, "all services are stopped");
    ending::store_output(board.outputs(), scale).await;
    link.shutdown(asked).await?;
    // PID 1 ends this process now, and beats until then keep it from calling it hung.
    std::future::pending().await
}

/// The consoles that show the status screen.
fn consoles(options: &SupervisorOptions) -> Vec<Terminal> {
    if !options.node.kind.has(Facility::Console) {
        let output = rustix::io::dup(rustix::stdio::stdout());
        return output
            .map(|output| Terminal::on(output.into(), ScreenKind::Serial))
            .into_iter()
            .collect();
    }
    console::discover(std::path::Path::new("/sys"))
        .into_iter()
        .filter_map(|(path, kind)| match Terminal::open(&path, kind) {
            Ok(terminal) => Some(terminal),
            Err(error) => {
                tracing::warn!(console = %path.display(), %error, "a console cannot be opened");
                None
            }
        })
        .collect()
}
