//! `mastctl upgrade` and `mastctl rollback`.
//!
//! - `bundle`: what is sent;
//! - `master`: one master, asked and waited for;
//! - `stage`: how far it has come, by its status;
//! - `progress`: what a person sees meanwhile.

mod bundle;
mod master;
mod progress;
mod stage;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use masthead_api::Status;
use masthead_api::power::PowerAnswer;
use masthead_api::upgrade::Image;
use serde_json::{Value, json};

use super::power::plan as power_plan;
use super::say;
use super::session::{Session, Target, targets};
use super::statuses::{Seen, ask_all, outcome};
use crate::Failure;
use crate::cli::{Output, Rollback, Upgrade, UpgradeOptions};
use crate::table::Table;
use crate::text::{cell, harmless, size};
use bundle::Source;
use master::Master;
use progress::Progress;
use stage::Awaited;

/// Upgrades masters, one after the other, and stops at the first one whose image is not good.
pub(super) async fn run(session: &Session, arguments: Upgrade) -> Result<(), Failure> {
    let Upgrade {
        options,
        mut words,
        all,
        again,
        ..
    } = arguments;
    // There is one at least.
    let bundle = words.pop().unwrap_or_default();
    let source = Source::open(&bundle, &Progress::of("the bundle", session.output()))?;
    let targets = chosen(session, &words, all).await?;
    let masters = clients(session, targets)?;
    let wish = Wish {
        source: &source,
        options: &options,
        again,
        output: session.output(),
    };
    let wanted = in_order(masters).await?;
    // Nobody is upgraded where one of them is known to refuse.
    for (master, status) in &wanted {
        if wish.stand(status) == Stand::Elsewhere {
            master.would_take(&source).await?;
        }
    }
    if options.plan {
        return plan(session, &wanted, &wish).await;
    }
    let image = &source.image;
    let mut done = Vec::new();
    for (master, status) in &wanted {
        let result = one(master, status, &wish).await;
        let outcome = result.map_err(|failure| {
            if done.is_empty() {
                failure
            } else {
                failure.stopped()
            }
        })?;
        done.push(json!({ "node": master.name, "version": image.version, "image": image.image, "outcome": outcome }));
    }
    let names: Vec<_> = wanted.iter().map(|(master, _)| &*master.name).collect();
    let Image {
        version,
        kubernetes,
        ..
    } = image;
    let text = format!(
        "{}: Masthead {version} with Kubernetes {kubernetes}\n",
        names.join(", ")
    );
    say(
        session.output(),
        &harmless(&text),
        || json!({ "nodes": done }),
    )
}

/// What is wanted of each.
struct Wish<'a> {
    source: &'a Source,
    options: &'a UpgradeOptions,
    again: bool,
    output: Output,
}

/// How a master stands to the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It runs it, and it is good.
    There,
    /// It runs it, on trial.
    OnTrial,
    /// It runs another one, or is to be given this one again.
    Elsewhere,
}

impl Wish<'_> {
    fn stand(&self, status: &Status) -> Stand {
        let installation = status.installation.as_ref();
        let on_trial = installation.is_some_and(|installation| installation.on_trial);
        let runs_it = status.node.image == self.source.image.image;
        match (runs_it, on_trial, self.again) {
            (true, false, false) => Stand::There,
            (true, true, false) => Stand::OnTrial,
            _ => Stand::Elsewhere,
        }
    }
}

/// One master, wherever it stands: an upgrade that another `mastctl` has begun is waited for.
async fn one(master: &Master, before: &Status, wish: &Wish<'_>) -> Result<&'static str, Failure> {
    let progress = Progress::of(&master.name, wish.output);
    let patience = patience(wish.options, before);
    let image = &wish.source.image.image;
    match wish.stand(before) {
        Stand::There => {
            progress.done("runs this image already");
            return Ok("unchanged");
        }
        Stand::OnTrial => {
            let awaited = Awaited {
                boot_id: None,
                image: image.clone(),
            };
            master.wait(&awaited, patience, &progress).await?;
            progress.done("is good");
            return Ok("upgraded");
        }
        Stand::Elsewhere => {}
    }
    let staged = master.send(wish.source, &progress).await?;
    progress.note(&format!(
        "has the image in slot {}, and takes the disruption lock",
        staged.slot.as_deref().unwrap_or("?")
    ));
    let answer = master.upgrade(image, wish.options).await?;
    await_good(master, answer, image, patience, &progress).await?;
    Ok("upgraded")
}

async fn await_good(
    master: &Master,
    answer: PowerAnswer,
    image: &str,
    patience: Duration,
    progress: &Progress,
) -> Result<(), Failure> {
    let awaited = Awaited {
        boot_id: Some(answer.boot_id),
        image: image.to_owned(),
    };
    master.wait(&awaited, patience, progress).await?;
    progress.done("is good");
    Ok(())
}

/// Has a master go back.
pub(super) async fn back(session: &Session, arguments: Rollback) -> Result<(), Failure> {
    let Rollback { master, options } = arguments;
    let targets = chosen(session, &[master], false).await?;
    let mut masters = clients(session, targets)?;
    let Some(master) = masters.pop() else {
        unreachable!("one was named");
    };
    let before = master.status().await?;
    let answer = master.back(&options).await?;
    if options.plan {
        return power_plan::show(session, &[answer]);
    }
    let progress = Progress::of(&master.name, session.output());
    let image = answer.plan.image.clone().unwrap_or_default();
    await_good(
        &master,
        answer,
        &image.image,
        patience(&options, &before),
        &progress,
    )
    .await?;
    let text = format!("{}: back to Masthead {}\n", master.name, image.version);
    say(
        session.output(),
        &harmless(&text),
        || json!({ "nodes": [{ "node": master.name, "version": image.version, "image": image.image }] }),
    )
}

/// Says what would be done.
async fn plan(
    session: &Session,
    wanted: &[(Master, Status)],
    wish: &Wish<'_>,
) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut text = String::new();
    let image = &wish.source.image;
    for (master, status) in wanted {
        let (name, node) = (&master.name, &status.node);
        // Writing to a string does not fail.
        let _ = match wish.stand(status) {
            Stand::There => writeln!(text, "{name} runs this image already: left alone"),
            Stand::OnTrial => writeln!(text, "{name} runs this image, on trial: waited for"),
            Stand::Elsewhere => {
                answers.push(master.upgrade(&image.image, wish.options).await?);
                writeln!(
                    text,
                    "{name}: from Masthead {} with Kubernetes {} to {} with {}; {} are sent to the slot that does not run",
                    node.version,
                    node.kubernetes,
                    image.version,
                    image.kubernetes,
                    size(wish.source.size)
                )
            }
        };
    }
    power_plan::show_after(session, &text, &answers)
}

/// How every master stands.
pub(super) async fn status(session: &Session) -> Result<(), Failure> {
    let seen = ask_all(session).await?;
    say(session.output(), &render(&seen), || {
        let nodes = seen.iter().map(|seen| {
            seen.json("upgrade", |answer, _| {
                json!({ "node": answer["node"], "installation": answer["installation"] })
            })
        });
        json!({ "nodes": nodes.collect::<Vec<Value>>() })
    })?;
    outcome(seen)
}

fn render(seen: &[Seen]) -> String {
    let mut table = Table::new(&["NODE", "RUNS", "KUBERNETES", "IMAGE", "SLOT", "STATE"]);
    let mut failed = String::new();
    for node in seen {
        let status = match &node.answer {
            Ok((_, status)) => status,
            Err(failure) => {
                table.row(vec![node.name.clone(), failure.code.clone()]);
                continue;
            }
        };
        let installation = status.installation.as_ref();
        let state = match installation {
            None => "not known yet",
            Some(installation) if installation.on_trial => "on trial",
            Some(installation) if installation.slot.is_some() => "good",
            Some(_) => "not installed",
        };
        let slot = installation.and_then(|installation| installation.slot.clone());
        table.row(vec![
            node.name.clone(),
            cell(&status.node.version),
            cell(&status.node.kubernetes),
            cell(&status.node.image),
            cell(&slot.unwrap_or_else(|| "-".to_owned())),
            state.to_owned(),
        ]);
        if let Some(last) = installation.and_then(|installation| installation.failed.as_ref()) {
            let _ = writeln!(
                failed,
                "{}: Masthead {} was tried and was not good ({}): {}",
                node.name, last.version, last.at, last.why
            );
        }
    }
    harmless(&format!("{table}{failed}"))
}

/// The masters that were named, or all of the cluster.
async fn chosen(session: &Session, named: &[String], all: bool) -> Result<Vec<Target>, Failure> {
    let what = "choose the masters";
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let unclear = |why: &str, next: &str| Failure::refused(what, why, next);
    match (named.is_empty(), session.names_no_node(), all) {
        (false, true, false) => targets(named, context),
        (true, false, false) => session.targets(context),
        (true, true, true) => {
            let known = targets(&[], context)?;
            let mut listed = BTreeSet::new();
            for seen in ask_all(session).await? {
                let (_, status) = seen.answer?;
                let formation = status.formation.map(|formation| formation.peers);
                let peers = formation.unwrap_or_default();
                listed.extend(peers.into_iter().map(|peer| peer.name));
            }
            let missing = listed
                .iter()
                .find(|name| known.iter().all(|target| target.name != **name));
            match missing {
                Some(name) => Err(unclear(
                    &format!("the cluster has a master {name}, and the context has not"),
                    &format!("Run `mastctl login {name}`, or name those that you mean."),
                )),
                None => Ok(known),
            }
        }
        (true, true, false) => Err(unclear(
            "no master was named",
            "Name those that you mean, or write --all.",
        )),
        _ => Err(unclear(
            "masters are named twice",
            "Name them as arguments, with --nodes (-n), or write --all.",
        )),
    }
}

fn clients(session: &Session, targets: Vec<Target>) -> Result<Vec<Master>, Failure> {
    let config = session.load()?;
    let (_, context) = config.context(session.context_name(), session.path())?;
    let master = |target: Target| {
        Ok(Master {
            client: session.client(context, &target.node)?,
            name: target.name,
        })
    };
    targets.into_iter().map(master).collect()
}

/// With what each says of itself. The address and etcd's leader move as seldom as they can.
async fn in_order(masters: Vec<Master>) -> Result<Vec<(Master, Status)>, Failure> {
    let mut seen = Vec::new();
    for master in masters {
        let status = master.status().await?;
        seen.push((master, status));
    }
    seen.sort_by_key(|(master, status)| {
        let leads = status
            .etcd
            .as_ref()
            .is_some_and(|etcd| etcd.leader.as_ref() == Some(&status.node.name));
        (status.owns_an_address(), leads, master.name.clone())
    });
    Ok(seen)
}

/// A slow machine's deadlines are longer.
fn patience(options: &UpgradeOptions, status: &Status) -> Duration {
    options
        .wait_timeout
        .mul_f64(status.node.timing_scale.max(1.0))
}
