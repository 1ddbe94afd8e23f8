//! A status as Prometheus text (exposition format 0.0.4), and its listener on port 9441.
//!
//! Plain HTTP, as the monitoring of a network expects: it holds names, numbers and reason codes only.

use std::convert::Infallible;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use masthead_api::etcd::EtcdRole;
use masthead_api::status::{
    ClockState, DiskState, Service, ServiceState, Status, VirtualAddress, VirtualState,
};
use masthead_api::{Timestamp, routes};
use masthead_machine::Scale;
use tokio::net::TcpListener;

use super::body::{AnswerBody, whole};
use super::node::Node;
use crate::serving::{Places, accept};

/// Scrapers at a time, and those of one source.
const CONNECTIONS: (usize, usize) = (32, 16);

/// How long a scraper may stay without asking, and in all, on a real machine.
const IDLE: Duration = Duration::from_secs(10);
const STAY: Duration = Duration::from_secs(60);

/// Writes metrics one family after the other, as the format demands.
struct Writer(String);

impl Writer {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let opening = if place == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{opening}{label}=\"{text}\"");
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{closing} {value}");
    }
}

/// A status as Prometheus text.
pub fn render(status: &Status) -> String {
    let mut out = Writer(String::new());
    node(status, &mut out);
    services(status, &mut out);
    disks(status, &mut out);
    clock(status, &mut out);

    let name = "masthead_certificate_expiry_timestamp_seconds";
    out.family(
        name,
        "gauge",
        "When a certificate of the node expires, in Unix time.",
    );
    for certificate in &status.certificates {
        if let Some(expires_at) = certificate.expires_at {
            out.sample(
                name,
                &[("certificate", &certificate.name)],
                seconds(expires_at),
            );
        }
    }
    etcd(status, &mut out);
    addresses(status, &mut out);
    for (name, help, reasons) in [
        (
            "masthead_waiting",
            "1 for each reason that the node waits for.",
            &status.waiting,
        ),
        (
            "masthead_degraded",
            "1 for each reason why the node is degraded.",
            &status.degraded,
        ),
    ] {
        out.family(name, "gauge", help);
        let mut codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        for code in codes {
            out.sample(name, &[("code", code)], 1);
        }
    }
    out.0
}

/// None of them while the node's member does not answer, but the first.
fn etcd(status: &Status, out: &mut Writer) {
    let name = "masthead_etcd_has_leader";
    let help = "Whether the node's member of etcd answers and knows a leader.";
    let leader = status.etcd.as_ref().and_then(|etcd| etcd.leader.as_ref());
    out.family(name, "gauge", help);
    out.sample(name, &[], u8::from(leader.is_some()));
    let Some(etcd) = &status.etcd else {
        return;
    };
    for (name, help, value) in [
        (
            "masthead_etcd_is_leader",
            "Whether the node's member of etcd leads.",
            u64::from(etcd.role == EtcdRole::Leader),
        ),
        (
            "masthead_etcd_voters",
            "Members of etcd with a vote, by the word of the node's own.",
            u64::try_from(etcd.members.iter().filter(|member| !member.learner).count())
                .unwrap_or(u64::MAX),
        ),
        (
            "masthead_etcd_raft_index",
            "How far etcd's log is known to be committed on the node.",
            etcd.raft_index,
        ),
        (
            "masthead_etcd_database_bytes",
            "The size of etcd's database file.",
            etcd.db_size,
        ),
        (
            "masthead_etcd_database_in_use_bytes",
            "What of etcd's database file is in use.",
            etcd.db_in_use,
        ),
        (
            "masthead_etcd_database_quota_bytes",
            "What etcd's database file may take; 0 when the node's member does not say.",
            etcd.db_quota,
        ),
    ] {
        out.family(name, "gauge", help);
        out.sample(name, &[], value);
    }
}

fn addresses(status: &Status, out: &mut Writer) {
    let mut each = |name: &str, kind: &str, help: &str, value: fn(&VirtualAddress) -> u64| {
        out.family(name, kind, help);
        for address in &status.virtual_addresses {
            out.sample(name, &[("address", &address.address)], value(address));
        }
    };
    each(
        "masthead_vip_owner",
        "gauge",
        "1 while this node owns the virtual address.",
        |address| (address.state == VirtualState::Owner).into(),
    );
    each(
        "masthead_vip_owned",
        "gauge",
        "1 while somebody owns the virtual address, as far as this node knows.",
        |address| address.owner.is_some().into(),
    );
    each(
        "masthead_vip_owners_total",
        "counter",
        "How often the virtual address has had another owner since the cluster was founded.",
        |address| address.epoch,
    );
}

fn node(status: &Status, out: &mut Writer) {
    let (node, supervisor) = (&status.node, &status.node.supervisor);
    let cluster = status.cluster.as_ref().map_or("", |cluster| &cluster.name);
    out.family(
        "masthead_info",
        "gauge",
        "What the node is and runs; always 1.",
    );
    out.sample(
        "masthead_info",
        &[
            ("cluster", cluster),
            ("node", &node.name),
            ("kind", node.kind.as_str()),
            ("version", &node.version),
            ("kernel", &node.kernel),
            ("kubernetes", &node.kubernetes),
            ("etcd", &node.etcd),
        ],
        1,
    );
    let name = "masthead_boot_timestamp_seconds";
    out.family(name, "gauge", "When the node booted, in Unix time.");
    out.sample(name, &[], seconds(node.boot_time));
    let name = "masthead_supervisor_restarts_total";
    out.family(
        name,
        "counter",
        "How often PID 1 started the supervisor again since boot.",
    );
    out.sample(name, &[], supervisor.restarts);
    if let Some(resident) = supervisor.resident {
        let name = "masthead_supervisor_resident_bytes";
        out.family(name, "gauge", "Resident memory of the supervisor.");
        out.sample(name, &[], resident);
    }
    if let Some(milliseconds) = supervisor.processor {
        let name = "masthead_supervisor_cpu_seconds_total";
        out.family(name, "counter", "Processor time of the supervisor.");
        out.sample(name, &[], fraction(milliseconds));
    }
}

fn services(status: &Status, out: &mut Writer) {
    let mut each = |name: &str, kind: &str, help: &str, value: fn(&_) -> u32| {
        out.family(name, kind, help);
        for service in &status.services {
            out.sample(name, &[("service", &service.name)], value(service));
        }
    };
    each(
        "masthead_service_up",
        "gauge",
        "1 while the service's process runs.",
        |s: &Service| s.pid.is_some().into(),
    );
    each(
        "masthead_service_ready",
        "gauge",
        "1 while the service is ready.",
        |s: &Service| (s.state == ServiceState::Ready).into(),
    );
    each(
        "masthead_service_crash_looping",
        "gauge",
        "1 while the service keeps dying.",
        |s: &Service| s.crash_looping.into(),
    );
    each(
        "masthead_service_restarts_total",
        "counter",
        "How often the service was started again since boot.",
        |s: &Service| s.restarts,
    );
    let name = "masthead_probe_healthy";
    out.family(name, "gauge", "1 when the probe succeeded last time.");
    for service in &status.services {
        for probe in &service.probes {
            let labels = [
                ("service", &service.name[..]),
                ("probe", probe.kind.as_str()),
            ];
            out.sample(name, &labels, u32::from(probe.healthy));
        }
    }
}

fn clock(status: &Status, out: &mut Writer) {
    let Some(clock) = &status.clock else {
        return;
    };
    let name = "masthead_clock_synchronized";
    out.family(
        name,
        "gauge",
        "1 while the clock goes by a time server; absent where the seed names none.",
    );
    let is_right = clock.state == ClockState::Synchronized;
    out.sample(name, &[], u8::from(is_right));
    if let Some(offset) = clock.offset_us {
        let name = "masthead_clock_offset_microseconds";
        let help = "The time server's clock less this one, when it was asked last.";
        out.family(name, "gauge", help);
        out.sample(name, &[], offset);
    }
}

fn disks(status: &Status, out: &mut Writer) {
    let kept = || status.disks.iter().filter(|disk| disk.role != "candidate");
    let name = "masthead_disk_ready";
    out.family(
        name,
        "gauge",
        "1 while the file system is mounted, writable and not full.",
    );
    for disk in kept() {
        let ready = matches!(disk.state, DiskState::Ready | DiskState::Memory);
        out.sample(name, &[("role", &disk.role)], u32::from(ready));
    }
    let name = "masthead_disk_used_bytes";
    out.family(name, "gauge", "Bytes in use on the file system.");
    for disk in kept() {
        if let Some(used) = disk.used {
            out.sample(name, &[("role", &disk.role)], used);
        }
    }
    let name = "masthead_disk_size_bytes";
    out.family(name, "gauge", "Bytes of the file system in all.");
    for disk in kept() {
        if let Some(size) = disk.size {
            out.sample(name, &[("role", &disk.role)], size);
        }
    }
}

fn seconds(instant: Timestamp) -> String {
    u64::try_from(instant.unix_millis()).map_or_else(|_| "0".to_owned(), fraction)
}

/// Milliseconds as decimal seconds, exactly.
fn fraction(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

/// Serves `/metrics` on `listener` until the future is dropped. All deadlines are multiplied by `scale`.
pub async fn serve(listener: TcpListener, node: Arc<dyn Node>, scale: Scale) {
    let places = Places::new(CONNECTIONS.0, CONNECTIONS.1);
    loop {
        let (socket, address) = accept(&listener, "/metrics").await;
        let place = places.take(address.ip());
        let node = node.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &*node);
                async { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(scale * IDLE)
                .max_buf_size(8 * 1024)
                .serve_connection(TokioIo::new(socket), service);
            place
                .hold(tokio::time::timeout(scale * STAY, connection))
                .await;
        });
    }
}

fn answer(request: &Request<Incoming>, node: &dyn Node) -> Response<AnswerBody> {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    match (request.method(), request.uri().path()) {
        (&Method::GET, routes::METRICS) => whole(StatusCode::OK, text, render(&node.status())),
        (_, routes::METRICS) => whole(StatusCode::METHOD_NOT_ALLOWED, text, "GET only\n"),
        _ => whole(StatusCode::NOT_FOUND, text, "only /metrics is here\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::examples;

    #[test]
    fn a_running_node_as_prometheus_text() {
        assert_eq!(render(&examples::running()), include_str!("metrics.golden"));
    }

    #[test]
    fn every_metric_is_documented_with_its_help() {
        let document = include_str!("../../../docs/api.md");
        for line in render(&examples::running()).lines() {
            let Some((name, help)) = line
                .strip_prefix("# HELP ")
                .and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            let documented = document.lines().any(|row| {
                row.starts_with(&format!("| `{name}` |")) && row.ends_with(&format!("| {help} |"))
            });
            assert!(documented, "{line}");
        }
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let mut out = Writer(String::new());
        out.sample("metric", &[("a", "x\"} 1\nother \\"), ("b", "")], 1);
        assert_eq!(out.0, "metric{a=\"x\\\"} 1\\nother \\\\\",b=\"\"} 1\n");
    }

    #[test]
    fn reasons_of_one_code_are_one_sample() {
        let mut status = examples::running();
        status.degraded = vec![examples::reason(), examples::reason()];
        let code = examples::reason().code;
        let line = format!("masthead_degraded{{code=\"{code}\"}} 1\n");
        assert_eq!(render(&status).matches(&line).count(), 1);
    }
}
