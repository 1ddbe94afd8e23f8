//! How it stands with each peer.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use masthead_api::{Reason, Timestamp};
use masthead_peer_protocol::{Standing, Version};
use masthead_pki::{PeerFingerprint, PeerSubject, Trust};
use tokio::sync::watch;

use super::settings::Listed;

/// At most so many callers in vain are remembered.
const CALLERS: usize = 8;

/// How long one is remembered who does not call again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// How it stands with each listed peer, and who called in vain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The listed peers, in the seed's order.
    pub peers: Vec<PeerReport>,
    /// Why calls from addresses that the seed does not list were refused.
    pub callers: Vec<CallerReport>,
}

/// How it stands with a listed peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// Its name in the seed.
    pub name: String,
    /// Its address in the seed.
    pub address: IpAddr,
    /// Who answers there, while somebody does whose certificate is what it shall be.
    pub connected: Option<Connected>,
    /// What is the matter, and since when.
    pub reason: Option<Reason>,
}

/// A peer that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Machine id and name, by its certificate.
    pub subject: PeerSubject,
    /// Its key.
    pub key: PeerFingerprint,
    /// What its certificate proves.
    pub trust: Trust,
    /// The version of the protocol that both speak.
    pub version: Version,
    /// What it is to its cluster, by its own word.
    pub standing: Standing,
    /// Since when.
    pub since: Timestamp,
}

/// A call that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerReport {
    /// From where.
    pub address: IpAddr,
    /// Why.
    pub reason: Reason,
    /// When it last happened.
    last: Instant,
}

/// The one place where the report is written.
#[derive(Debug)]
pub(super) struct Reports(watch::Sender<Report>);

impl Reports {
    pub(super) fn new(listed: &[Listed]) -> Self {
        let peers = listed.iter().map(|listed| PeerReport {
            name: listed.name.clone(),
            address: listed.address,
            connected: None,
            reason: None,
        });
        let report = Report {
            peers: peers.collect(),
            callers: Vec::new(),
        };
        Self(watch::channel(report).0)
    }

    pub(super) fn watch(&self) -> watch::Receiver<Report> {
        self.0.subscribe()
    }

    /// Says how it stands with a listed peer. A reason that is the same as before keeps its beginning.
    pub(super) fn peer(
        &self,
        address: IpAddr,
        connected: Option<Connected>,
        reason: Option<Reason>,
    ) {
        self.0.send_if_modified(|report| {
            let Some(peer) = report.peers.iter_mut().find(|peer| peer.address == address) else {
                return false;
            };
            let reason = reason.map(|reason| reason.continuing(peer.reason.as_ref()));
            let changed = peer.connected != connected || peer.reason != reason;
            if let Some(reason) = reason.as_ref().filter(|_| peer.reason != reason) {
                tracing::warn!(peer = %peer.name, code = %reason.code, "{}", reason.cause);
            } else if peer.connected.is_none() && connected.is_some() {
                tracing::info!(peer = %peer.name, "the peer answers");
            }
            peer.connected = connected;
            peer.reason = reason;
            changed
        });
    }

    /// Remembers a call that was refused, from an address that is not listed: what is the matter with a listed one, this
    /// node finds out when it calls there itself.
    pub(super) fn caller(&self, now: Instant, address: IpAddr, reason: Reason) {
        self.0.send_if_modified(|report| {
            if report.peers.iter().any(|peer| peer.address == address) {
                return false;
            }
            let before = report
                .callers
                .iter()
                .position(|caller| caller.address == address)
                .map(|place| report.callers.remove(place));
            let reason = reason.continuing(before.as_ref().map(|caller| &caller.reason));
            let new = before.is_none_or(|caller| caller.reason != reason);
            if new {
                tracing::warn!(%address, code = %reason.code, "{}", reason.cause);
            }
            if report.callers.len() == CALLERS {
                report.callers.remove(0);
            }
            report.callers.push(CallerReport {
                address,
                reason,
                last: now,
            });
            new
        });
    }

    /// Forgets callers that have not called again.
    pub(super) fn forget(&self, now: Instant) {
        self.0.send_if_modified(|report| {
            let before = report.callers.len();
            report
                .callers
                .retain(|caller| now.duration_since(caller.last) < FORGOTTEN_AFTER);
            report.callers.len() != before
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use masthead_api::ReasonCode;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn reason(cause: &str, since: i64) -> Reason {
        Reason::new(
            ReasonCode::PeerUntrusted,
            Timestamp::from_unix_millis(since),
        )
        .with_cause(cause)
    }

    #[test]
    fn a_reason_keeps_its_beginning_until_it_is_another_one() {
        let listed = Listed {
            name: "m2".to_owned(),
            address: address(2),
        };
        let reports = Reports::new(&[listed]);
        let since = |reports: &Reports| {
            let report = reports.watch().borrow().clone();
            report.peers[0].reason.as_ref().map(|reason| reason.since)
        };
        for (cause, at, expected) in [("a", 1, 1), ("a", 2, 1), ("b", 3, 3)] {
            reports.peer(address(2), None, Some(reason(cause, at)));
            assert_eq!(since(&reports), Some(Timestamp::from_unix_millis(expected)));
        }
        reports.peer(address(2), None, None);
        assert_eq!(since(&reports), None);
    }

    #[test]
    fn callers_in_vain_are_few_and_forgotten() {
        let (reports, now) = (Reports::new(&[]), Instant::now());
        for number in 0..20 {
            reports.caller(now, address(number), reason("x", 0));
        }
        reports.caller(now + FORGOTTEN_AFTER / 2, address(19), reason("x", 5));
        let addresses = |reports: &Reports| -> Vec<_> {
            let report = reports.watch().borrow().clone();
            report.callers.iter().map(|caller| caller.address).collect()
        };
        let last: Vec<_> = (12..20).map(address).collect();
        assert_eq!(addresses(&reports), last);
        reports.forget(now + FORGOTTEN_AFTER);
        assert_eq!(addresses(&reports), [address(19)]);
    }
}
