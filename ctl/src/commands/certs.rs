//! `mastctl certs`.

use masthead_api::Timestamp;
use masthead_api::status::Certificate;
use serde_json::json;

use super::say;
use super::session::Session;
use super::statuses::{Seen, ask_all, outcome};
use crate::Failure;
use crate::duration;
use crate::table::Table;
use crate::text::cell;

/// Lists the certificates of all nodes that were asked for.
pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let seen = ask_all(session).await?;
    say(session.output(), &render(&seen, Timestamp::now()), || {
        let nodes = seen
            .iter()
            .map(|seen| seen.json("certificates", |_, status| json!(status.certificates)));
        json!({ "nodes": nodes.collect::<Vec<_>>() })
    })?;
    outcome(seen)
}

fn render(seen: &[Seen], now: Timestamp) -> String {
    let mut table = Table::new(&[
        "NODE",
        "CERTIFICATE",
        "ISSUED BY",
        "EXPIRES",
        "IN",
        "RENEWED IN",
    ]);
    for node in seen {
        match &node.answer {
            Err(failure) => table.row(vec![node.name.clone(), failure.code.clone()]),
            Ok((_, status)) if status.certificates.is_empty() => {
                table.row(vec![node.name.clone(), "none yet".to_owned()]);
            }
            Ok((_, status)) => {
                for certificate in &status.certificates {
                    table.row(row(&node.name, certificate, now));
                }
            }
        }
    }
    table.to_string()
}

fn row(node: &str, certificate: &Certificate, now: Timestamp) -> Vec<String> {
    let left = |moment: Timestamp, over: &str| match now.seconds_until(moment) {
        seconds if seconds > 0 => duration::format(seconds),
        _ => over.to_owned(),
    };
    vec![
        node.to_owned(),
        cell(&certificate.name),
        cell(certificate.issued_by.as_deref().unwrap_or("itself")),
        certificate
            .expires_at
            .map_or_else(|| "never".to_owned(), |moment| moment.to_string()),
        certificate
            .expires_at
            .map_or_else(|| "-".to_owned(), |moment| left(moment, "EXPIRED")),
        certificate
            .renewed_at
            .map_or_else(|| "-".to_owned(), |moment| left(moment, "due")),
    ]
}

#[cfg(test)]
mod tests {
    use masthead_api::Status;

    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_millis((NOW + seconds) * 1000)
    }

    fn certificate(name: &str, expires: Option<i64>, renewed: Option<i64>) -> Certificate {
        Certificate {
            name: name.to_owned(),
            issued_by: renewed.map(|_| "etcd-ca".to_owned()),
            expires_at: expires.map(at),
            renewed_at: renewed.map(at),
        }
    }

    fn node(name: &str, certificates: Vec<Certificate>) -> Seen {
        let status = json!({
            "node": {
                "name": name, "kind": "machine", "version": "0.1.0", "boot_time": at(0), "uptime": 1, "boot_id": "b",
                "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
            },
        });
        let mut status: Status = serde_json::from_value(status).unwrap();
        status.certificates = certificates;
        Seen {
            name: name.to_owned(),
            answer: Ok((json!({}), Box::new(status))),
        }
    }

    #[test]
    fn each_is_listed_with_what_is_left_of_it() {
        let day = 86_400;
        let silent = Seen {
            name: "m3".to_owned(),
            answer: Err(Failure::refused("connect", "no", "Look.").with_code("timeout")),
        };
        let seen = [
            node(
                "m1",
                vec![
                    certificate("etcd-peer", Some(-5), Some(-9 * day)),
                    certificate("etcd-server", Some(90 * day), Some(30 * day)),
                    certificate("etcd-ca", Some(3650 * day), None),
                    certificate("peers-ca", None, None),
                ],
            ),
            node("m2", Vec::new()),
            silent,
        ];
        assert_eq!(
            render(&seen, at(0)),
            "\
NODE  CERTIFICATE  ISSUED BY  EXPIRES               IN       RENEWED IN
m1    etcd-peer    etcd-ca    2026-09-21T14:13:15Z  EXPIRED  due
m1    etcd-server  etcd-ca    2026-12-20T14:13:20Z  90d      30d
m1    etcd-ca      itself     2036-09-18T14:13:20Z  3650d    -
m1    peers-ca     itself     never                 -        -
m2    none yet
m3    timeout
"
        );
    }
}
