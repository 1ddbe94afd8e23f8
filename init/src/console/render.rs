//! A status as text.

use std::fmt::Write as _;

use masthead_api::status::{
    Disk, DiskState, Exit, FailedImage, Installation, InstallationState, Service, ServiceState,
    Status,
};
use masthead_api::{Reason, Timestamp};

use super::wrap::{harmless, wrap};

/// How many of a failing service's last lines are shown; `mastctl logs` has the others.
const LAST_LINES: usize = 3;

/// Columns for a field's name: a fingerprint (71 characters) behind it fits into 80.
const LABEL: usize = 8;

/// Digits of the seed's hash: enough to compare by eye.
const HASH_DIGITS: usize = 12;

/// The status as lines of at most `width` characters (40 or more), most important first. It names
/// instants, never durations up to now, so that the text changes only when the node does.
pub fn render(status: &Status, width: usize) -> String {
    let width = width.max(40);
    let mut lines = Vec::new();
    head(status, width, &mut lines);
    for (title, reasons) in [
        ("WAITING FOR", waiting(status)),
        ("DEGRADED", status.degraded.iter().collect()),
    ] {
        if !reasons.is_empty() {
            lines.push(String::new());
            lines.push(title.to_owned());
            for reason in reasons {
                explain(reason, width, &mut lines);
            }
        }
    }
    services(&status.services, width, &mut lines);
    lines.push(String::new());
    for line in &mut lines {
        *line = harmless(line.trim_end(), width);
    }
    lines.join("\n")
}

fn head(status: &Status, width: usize, lines: &mut Vec<String>) {
    let node = &status.node;
    let who = match (&node.name[..], &status.cluster) {
        ("", _) => "a node without a name yet".to_owned(),
        (name, Some(cluster)) => format!("{name} of {}", cluster.name),
        (name, None) => name.to_owned(),
    };
    lines.extend(wrap(
        &format!("Masthead {} - {who}", node.version),
        0,
        width,
    ));
    let mut field = |name: &str, text: String| {
        let mut wrapped = wrap(&text, LABEL, width);
        if let Some(first) = wrapped.first_mut() {
            first.replace_range(..LABEL, &format!("{name:<LABEL$}"));
        }
        lines.extend(wrapped);
    };
    if !node.kubernetes.is_empty() {
        field(
            "runs",
            format!("Kubernetes {}, etcd {}", node.kubernetes, node.etcd),
        );
    }
    match (&status.seed.source, &status.seed.hash) {
        (Some(source), Some(hash)) => {
            let hash: String = hash.chars().take(HASH_DIGITS).collect();
            field("seed", format!("{source}, sha256:{hash}"));
        }
        (Some(source), None) => field("seed", source.clone()),
        (None, _) if status.seed.attempts.is_empty() => {
            field("seed", "none yet, looking for it".to_owned());
        }
        (None, _) => {
            field("seed", "none; looked at:".to_owned());
            for attempt in &status.seed.attempts {
                let outcome = attempt.outcome.lines().next().unwrap_or_default();
                field(
                    "",
                    harmless(&format!("{}: {outcome}", attempt.source), usize::MAX),
                );
            }
        }
    }
    let network = &status.network;
    match (&network.interface, network.addresses.is_empty()) {
        (Some(interface), false) => {
            field(
                "address",
                format!("{} on {interface}", network.addresses.join(", ")),
            );
        }
        (Some(interface), true) => field("address", format!("none yet on {interface}")),
        (None, _) => field("address", "none".to_owned()),
    }
    if let Some(cluster) = &status.cluster
        && let Some(endpoint) = &cluster.endpoint
    {
        field("cluster", format!("https://{endpoint}"));
    }
    for address in &status.virtual_addresses {
        let owner = address.owner.as_deref().unwrap_or("nobody");
        field("vip", format!("{}, owned by {owner}", address.address));
    }
    for disk in &status.disks {
        field("disk", describe_disk(disk));
    }
    if let Some(installation) = &status.installation {
        field("boots", describe_installation(installation));
        if let Some(failed) = &installation.failed {
            let FailedImage { version, why, .. } = failed;
            let why = harmless(&why.replace('\n', " "), usize::MAX);
            field(
                "",
                format!("(Masthead {version} was tried, and is not good: {why})"),
            );
        }
    }
    if let Some(fingerprint) = &status.api_fingerprint {
        field("login", fingerprint.to_string());
        if status.api_provisional {
            field("", "(provisional: until the cluster is founded)".to_owned());
        }
    }
}

fn describe_installation(installation: &Installation) -> String {
    match (
        &installation.state,
        &installation.slot,
        installation.generation,
    ) {
        (InstallationState::Installed, Some(slot), Some(generation)) => {
            let trial = if installation.on_trial {
                ", which is on trial"
            } else {
                ""
            };
            format!("from slot {slot} of its disk, image number {generation}{trial}")
        }
        (InstallationState::Installed, ..) => "from its disk".to_owned(),
        _ => "from a medium or the network: the disk starts nothing".to_owned(),
    }
}

fn describe_disk(disk: &Disk) -> String {
    let mut text = disk.role.clone();
    if let Some(device) = &disk.device {
        let _ = write!(text, " on {device}");
    }
    if let Some(serial) = &disk.serial {
        let _ = write!(text, " (serial {})", harmless(serial, 40));
    }
    let _ = write!(text, ": {}", disk.state);
    if let (DiskState::Full, Some(size)) = (&disk.state, disk.size) {
        let _ = write!(text, ", {} MiB", size >> 20);
    }
    text
}

/// The node's reasons, and those of its parts that the node's do not repeat.
fn waiting(status: &Status) -> Vec<&Reason> {
    let mut reasons: Vec<&Reason> = status.waiting.iter().collect();
    let of_parts = status
        .network
        .waiting
        .iter()
        .chain(status.disks.iter().filter_map(|disk| disk.reason.as_ref()));
    for reason in of_parts {
        let known = reasons
            .iter()
            .copied()
            .chain(&status.degraded)
            .any(|other| (&other.code, &other.cause) == (&reason.code, &reason.cause));
        if !known {
            reasons.push(reason);
        }
    }
    reasons
}

fn explain(reason: &Reason, width: usize, lines: &mut Vec<String>) {
    lines.push(format!("  {} since {}", reason.code, clock(reason.since)));
    // A cause may be a report of several lines with carets below columns: those keep their form.
    for line in reason.cause.lines() {
        if reason.cause.contains('\n') {
            lines.push(format!("    {}", harmless(line, width - 4)));
        } else {
            lines.extend(wrap(&harmless(line, usize::MAX), 4, width));
        }
    }
    if !reason.remedy.is_empty() {
        let remedy = harmless(&reason.remedy.replace('\n', " "), usize::MAX);
        lines.extend(wrap(&format!("-> {remedy}"), 4, width));
    }
}

fn services(services: &[Service], width: usize, lines: &mut Vec<String>) {
    if services.is_empty() {
        return;
    }
    let name_width = services
        .iter()
        .map(|service| service.name.len())
        .max()
        .unwrap_or(0)
        .max(7);
    lines.push(String::new());
    lines.push(format!(
        "{:<name_width$}  {:<14}  {:<9}  RESTARTS",
        "SERVICE", "STATE", "SINCE"
    ));
    for service in services {
        let state = if service.crash_looping {
            "crash-looping"
        } else {
            service.state.as_str()
        };
        lines.push(format!(
            "{:<name_width$}  {state:<14}  {:<9}  {}",
            service.name,
            clock(service.since),
            service.restarts
        ));
        if let Some(reason) = &service.waiting {
            lines.extend(wrap(&harmless(&reason.cause, usize::MAX), 4, width));
        }
        if service.crash_looping || service.state == ServiceState::BackingOff {
            if let Some(exit) = &service.last_exit {
                lines.push(format!("    {}", describe_exit(exit)));
            }
            let skipped = service.last_lines.len().saturating_sub(LAST_LINES);
            for line in &service.last_lines[skipped..] {
                lines.push(format!("    | {}", harmless(line, width - 6)));
            }
        }
        for probe in service.probes.iter().filter(|probe| !probe.healthy) {
            if service.state == ServiceState::Unready && !probe.detail.is_empty() {
                let detail = harmless(&format!("{}: {}", probe.kind, probe.detail), usize::MAX);
                lines.extend(wrap(&detail, 4, width));
            }
        }
    }
}

fn describe_exit(exit: &Exit) -> String {
    let mut text = match (exit.code, exit.signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let _ = write!(text, " at {}", clock(exit.at));
    if let Some(reason) = &exit.ended_by {
        let _ = write!(text, ": {reason}");
    }
    text
}

/// The time of day in UTC, `14:13:20Z`; the date would not fit and is seldom asked for.
fn clock(instant: Timestamp) -> String {
    let text = instant.to_string();
    text.get(11..19)
        .map_or(text.clone(), |time| format!("{time}Z"))
}

#[cfg(test)]
mod tests;
