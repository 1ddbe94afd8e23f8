//! Statuses as tables.

use std::fmt::Write as _;

use masthead_api::status::{Exit, Service, Status};
use masthead_api::{Reason, Timestamp};

use crate::Failure;
use crate::duration;
use crate::table::Table;
use crate::text::{harmless, size};

/// How many of a failing service's last lines are shown.
const LAST_LINES: usize = 5;

/// Tables of nodes, services and disks, and then what they wait for and what is wrong.
pub(super) fn render<'a>(
    nodes: impl Iterator<Item = (&'a str, Result<&'a Status, &'a Failure>)>,
    now: Timestamp,
) -> String {
    let mut summary = Table::new(&[
        "NODE",
        "STATE",
        "CLUSTER",
        "VERSION",
        "KUBERNETES",
        "ETCD",
        "UP",
    ]);
    let mut services = Table::new(&["NODE", "SERVICE", "STATE", "FOR", "RESTARTS", "LAST EXIT"]);
    let mut disks = Table::new(&["NODE", "DISK", "DEVICE", "STATE", "USED", "SIZE"]);
    let mut stories = String::new();
    for (name, answer) in nodes {
        let status = match answer {
            Ok(status) => status,
            Err(failure) => {
                summary.row(vec![name.to_owned(), failure.code.clone()]);
                continue;
            }
        };
        let node = &status.node;
        let cluster = status.cluster.as_ref().map_or("", |cluster| &cluster.name);
        summary.row(vec![
            name.to_owned(),
            condition(status),
            cell(cluster),
            cell(&node.version),
            cell(&node.kubernetes),
            cell(&node.etcd),
            duration::format(i64::try_from(node.uptime).unwrap_or(i64::MAX)),
        ]);
        for service in &status.services {
            services.row(vec![
                name.to_owned(),
                cell(&service.name),
                cell(if service.crash_looping {
                    "crash-looping"
                } else {
                    service.state.as_str()
                }),
                duration::format(service.since.seconds_until(now)),
                service.restarts.to_string(),
                service
                    .last_exit
                    .as_ref()
                    .map_or_else(String::new, |exit| ending(exit, now)),
            ]);
        }
        for disk in &status.disks {
            disks.row(vec![
                name.to_owned(),
                cell(&disk.role),
                cell(disk.device.as_deref().unwrap_or("-")),
                cell(disk.state.as_str()),
                disk.used.map_or_else(|| "-".to_owned(), size),
                disk.size.map_or_else(|| "-".to_owned(), size),
            ]);
        }
        story(name, status, now, &mut stories);
    }
    let mut text = summary.to_string();
    for table in [services, disks] {
        if !table.is_empty() {
            text.push('\n');
            text.push_str(&table.to_string());
        }
    }
    text.push_str(&stories);
    text
}

/// A table's cell: one line without control characters.
fn cell(text: &str) -> String {
    harmless(text).replace(['\n', '\t'], " ")
}

fn condition(status: &Status) -> String {
    match (status.waiting.len(), status.degraded.len()) {
        (0, 0) => "ok".to_owned(),
        (0, wrong) => format!("degraded ({wrong})"),
        (waits, 0) => format!("waiting ({waits})"),
        (waits, wrong) => format!("waiting ({waits}), degraded ({wrong})"),
    }
}

fn ending(exit: &Exit, now: Timestamp) -> String {
    let mut text = match (exit.code, exit.signal) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let _ = write!(
        text,
        " {} ago",
        duration::format(exit.at.seconds_until(now))
    );
    if let Some(milliseconds) = exit.ran_for {
        let _ = write!(
            text,
            " after {}.{}s",
            milliseconds / 1000,
            milliseconds % 1000 / 100
        );
    }
    if let Some(reason) = &exit.ended_by {
        let _ = write!(text, " ({})", cell(reason));
    }
    text
}

/// What tables cannot say: reasons with remedies, failing probes, last lines.
fn story(name: &str, status: &Status, now: Timestamp, text: &mut String) {
    let parts = status
        .disks
        .iter()
        .filter_map(|disk| disk.reason.as_ref())
        .chain(&status.network.waiting)
        .filter(|part| {
            let known = status.waiting.iter().chain(&status.degraded);
            !known
                .into_iter()
                .any(|known| (&known.code, &known.cause) == (&part.code, &part.cause))
        });
    for (verb, reasons) in [
        (
            "waits",
            status.waiting.iter().chain(parts).collect::<Vec<_>>(),
        ),
        ("is degraded", status.degraded.iter().collect()),
    ] {
        for reason in reasons {
            explain(&format!("{name} {verb}"), reason, now, text);
        }
    }
    for warning in &status.seed.warnings {
        let _ = write!(text, "\n{name}: the seed's parser warns\n");
        indent(warning, text);
    }
    for service in &status.services {
        about_service(name, service, now, text);
    }
}

fn about_service(name: &str, service: &Service, now: Timestamp, text: &mut String) {
    let who = format!("{name} {}", cell(&service.name));
    if let Some(reason) = &service.waiting {
        explain(&format!("{who} waits"), reason, now, text);
    }
    for probe in service.probes.iter().filter(|probe| !probe.healthy) {
        let _ = write!(text, "\n{who}: {} probe fails\n", cell(probe.kind.as_str()));
        indent(&probe.detail, text);
    }
    if service.crash_looping && !service.last_lines.is_empty() {
        let _ = write!(text, "\n{who}: its last lines\n");
        let skipped = service.last_lines.len().saturating_sub(LAST_LINES);
        for line in &service.last_lines[skipped..] {
            let _ = writeln!(text, "  | {}", cell(line));
        }
    }
}

fn explain(who: &str, reason: &Reason, now: Timestamp, text: &mut String) {
    let since = duration::format(reason.since.seconds_until(now));
    let _ = write!(
        text,
        "\n{who}: {} for {since}\n",
        cell(reason.code.as_str())
    );
    indent(&reason.cause, text);
    if !reason.remedy.is_empty() {
        text.push_str("  next:\n");
        indent(&reason.remedy, text);
    }
}

fn indent(foreign: &str, text: &mut String) {
    for line in harmless(foreign).lines() {
        let _ = writeln!(text, "  {line}");
    }
}
