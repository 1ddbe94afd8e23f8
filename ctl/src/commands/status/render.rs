//! Statuses as tables.

use std::fmt::Write as _;

use masthead_api::status::{
    Exit, Installation, InstallationState, Service, Status, VirtualAddress,
};
use masthead_api::{Reason, Timestamp};

use crate::Failure;
use crate::duration;
use crate::table::Table;
use crate::text::{cell, harmless, size};

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
    let mut addresses = Table::new(&["NODE", "ADDRESS", "STATE", "OWNER", "FOR", "HOLD", "MOVES"]);
    let mut disks = Table::new(&["NODE", "DISK", "DEVICE", "STATE", "USED", "SIZE"]);
    let mut boots = Table::new(&["NODE", "STARTS FROM", "SLOT", "GENERATION", "VERSION"]);
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
        for address in &status.virtual_addresses {
            addresses.row(about_address(name, address, now));
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
        if let Some(installation) = &status.installation {
            boots.row(about_installation(name, installation));
        }
        story(name, status, now, &mut stories);
    }
    let mut text = summary.to_string();
    for table in [services, addresses, disks, boots] {
        if !table.is_empty() {
            text.push('\n');
            text.push_str(&table.to_string());
        }
    }
    text.push_str(&stories);
    text
}

fn about_installation(name: &str, installation: &Installation) -> Vec<String> {
    let or_none = |told: Option<String>| cell(told.as_deref().unwrap_or("-"));
    let from = match installation.state {
        InstallationState::Installed if installation.on_trial => "disk, on trial",
        InstallationState::Installed => "disk",
        InstallationState::NotInstalled => "medium or network",
        InstallationState::Other(_) => installation.state.as_str(),
    };
    vec![
        name.to_owned(),
        cell(from),
        or_none(installation.slot.clone()),
        or_none(installation.generation.map(|number| number.to_string())),
        or_none(installation.version.clone()),
    ]
}

fn about_address(name: &str, address: &VirtualAddress, now: Timestamp) -> Vec<String> {
    let none = || "-".to_owned();
    let ago = |since: Timestamp| duration::format(since.seconds_until(now));
    vec![
        name.to_owned(),
        cell(&address.address),
        cell(address.state.as_str()),
        address.owner.as_deref().map_or_else(none, cell),
        address.since.map_or_else(none, ago),
        address.hold.map_or_else(none, |hold| format!("{hold}ms")),
        address.moves.to_string(),
    ]
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
            !known.into_iter().any(|known| known.tells_the_same(part))
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
    if status.services.is_empty() {
        let _ = write!(text, "\n{name}: no services yet\n");
        indent(&why_none(status), text);
    }
    for service in &status.services {
        about_service(name, service, now, text);
    }
}

/// Why a node runs no services.
fn why_none(status: &Status) -> String {
    let codes: Vec<&str> = status
        .waiting
        .iter()
        .map(|reason| reason.code.as_str())
        .collect();
    if codes.is_empty() {
        "It has not come so far: ask again.".to_owned()
    } else {
        format!(
            "It waits for something first, see above: {}.",
            codes.join(", ")
        )
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

#[cfg(test)]
mod tests {
    use masthead_api::status::{Disk, DiskState, Service, ServiceState};
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis(1_790_000_000_000 + seconds * 1000)
    }

    fn service(name: &str, state: ServiceState) -> Service {
        serde_json::from_value(json!({ "name": name, "state": state, "since": at(0) })).unwrap()
    }

    fn status() -> Status {
        let mut status: Status = serde_json::from_value(json!({
            "node": {
                "name": "m1", "kind": "machine", "version": "0.1.0", "kubernetes": "v1.36.0",
                "etcd": "3.6.5", "boot_time": at(0), "uptime": 3700, "boot_id": "b",
                "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
            },
            "cluster": { "name": "ams-prod" },
        }))
        .unwrap();
        status.services = vec![service("etcd", ServiceState::Ready)];
        let disk = json!({ "role": "ETCD", "device": "/dev/vda5", "state": "ready", "used": 3 << 20, "size": 20u64 << 30 });
        status.disks = vec![serde_json::from_value::<Disk>(disk).unwrap()];
        let installation =
            json!({ "state": "installed", "generation": 3, "slot": "A", "version": "0.1.0" });
        status.installation = serde_json::from_value(installation).unwrap();
        status
    }

    #[test]
    fn a_node_that_works_and_one_that_does_not_answer() {
        let silent = Failure::refused("connect", "no", "Look.").with_code("timeout");
        let text = render(
            [("m1", Ok(&status())), ("m2", Err(&silent))].into_iter(),
            at(3700),
        );
        assert_eq!(
            text,
            "\
NODE  STATE    CLUSTER   VERSION  KUBERNETES  ETCD   UP
m1    ok       ams-prod  0.1.0    v1.36.0     3.6.5  1h1m
m2    timeout

NODE  SERVICE  STATE  FOR   RESTARTS  LAST EXIT
m1    etcd     ready  1h1m  0

NODE  DISK  DEVICE     STATE  USED  SIZE
m1    ETCD  /dev/vda5  ready  3MiB  20GiB

NODE  STARTS FROM  SLOT  GENERATION  VERSION
m1    disk         A     3           0.1.0
"
        );
    }

    #[test]
    fn a_node_without_services_says_why() {
        let mut status = status();
        status.services.clear();
        status.disks.clear();
        status.installation = None;
        let reason = json!({ "code": "disk-missing", "cause": "No disk.", "since": at(60) });
        let reason: Reason = serde_json::from_value(reason).unwrap();
        status.waiting = vec![reason];
        let text = render([("m1", Ok(&status))].into_iter(), at(120));
        assert_eq!(
            text.split_once("\n\n").unwrap().1,
            "\
m1 waits: disk-missing for 1m
  No disk.

m1: no services yet
  It waits for something first, see above: disk-missing.
"
        );
    }

    #[test]
    fn what_fails_is_told_with_its_remedy() {
        let mut status = status();
        status.disks[0].state = DiskState::ReadOnly;
        status.installation.as_mut().unwrap().state = InstallationState::NotInstalled;
        let reason = json!({ "code": "disk-read-only", "cause": "ETCD is read-only.", "remedy": "Look at the disk.", "since": at(60) });
        let reason: Reason = serde_json::from_value(reason).unwrap();
        status.disks[0].reason = Some(reason.clone());
        status.degraded = vec![reason];
        let mut broken = service("kube-apiserver", ServiceState::BackingOff);
        broken.crash_looping = true;
        broken.restarts = 7;
        let exit = json!({ "code": 1, "at": at(110), "ran_for": 2340 });
        broken.last_exit = Some(serde_json::from_value(exit).unwrap());
        broken.last_lines = vec!["unknown flag\x1b[2J".into()];
        status.services.push(broken);
        let text = render([("m1", Ok(&status))].into_iter(), at(120));
        assert_eq!(
            text,
            "\
NODE  STATE         CLUSTER   VERSION  KUBERNETES  ETCD   UP
m1    degraded (1)  ams-prod  0.1.0    v1.36.0     3.6.5  1h1m

NODE  SERVICE         STATE          FOR  RESTARTS  LAST EXIT
m1    etcd            ready          2m   0
m1    kube-apiserver  crash-looping  2m   7         code 1 10s ago after 2.3s

NODE  DISK  DEVICE     STATE      USED  SIZE
m1    ETCD  /dev/vda5  read-only  3MiB  20GiB

NODE  STARTS FROM        SLOT  GENERATION  VERSION
m1    medium or network  A     3           0.1.0

m1 is degraded: disk-read-only for 1m
  ETCD is read-only.
  next:
  Look at the disk.

m1 kube-apiserver: its last lines
  | unknown flag\u{fffd}[2J
"
        );
    }
}
