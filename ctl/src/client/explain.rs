//! What a failed request means, and what to do next.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::time::Duration;

use masthead_api::Fingerprint;
use rustls::{AlertDescription, CertificateError};

use super::Client;
use crate::failure::Failure;

impl Client {
    /// Nothing was heard for so long: the caller's `--timeout`, or longer where a node has much to do.
    pub(super) fn silent(&self, what: String, patience: Duration) -> Failure {
        let wait = if patience == self.timeout {
            "; --timeout waits longer"
        } else {
            ""
        };
        Failure {
            exit: crate::Exit::Failed,
            what,
            why: format!("no answer within {} s", patience.as_secs()),
            next: format!(
                "Check that the node is up (its console shows its address), the address, and the firewalls in between{wait}."
            ),
            code: "timeout".to_owned(),
        }
    }

    pub(super) fn explain(&self, what: String, error: &(dyn StdError + 'static)) -> Failure {
        let (code, next) = match (find::<rustls::Error>(error), find::<io::Error>(error)) {
            (Some(error), _) => self.explain_tls(error),
            (None, Some(error)) => explain_io(error),
            (None, None) => (
                "failed",
                "Try again; if it stays, look at the node's console.".into(),
            ),
        };
        Failure::new(what, error, next).with_code(code)
    }

    fn explain_tls(&self, error: &rustls::Error) -> (&'static str, String) {
        use CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
                let shown = |fingerprint: Option<Fingerprint>| {
                    fingerprint.map_or_else(|| "none".to_owned(), |text| text.to_string())
                };
                (
                    "authority-differs",
                    format!(
                        "The node's authority is {}, the pinned one is {}. If the cluster was founded since you logged in, or the node had none and restarted, that is why: compare with the node's console and run `mastctl login NODE --fingerprint …`. If not, this is another machine, or somebody is in between.",
                        shown(self.presented()),
                        shown(self.verifier.trust().fingerprint()),
                    ),
                )
            }
            rustls::Error::InvalidCertificate(
                Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. },
            ) => (
                "clock-skew",
                "Compare this machine's clock with the node's: the certificate is renewed long before it expires, so one of the two is wrong.".into(),
            ),
            rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => (
                "name-differs",
                "Connect to an address or name of the seed, or say which one its certificate has: `name` in the configuration, `mastctl login --name`.".into(),
            ),
            rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => (
                "certificate-expired",
                "Run `mastctl login NODE`; if it was just done, compare the clocks.".into(),
            ),
            rustls::Error::AlertReceived(_) => (
                "certificate-refused",
                "The node does not take this certificate: run `mastctl login NODE`.".into(),
            ),
            _ => ("tls", "Check that this is a node's management port (9440).".into()),
        }
    }
}

fn explain_io(error: &io::Error) -> (&'static str, String) {
    match error.kind() {
        ErrorKind::ConnectionRefused => (
            "connection-refused",
            "The machine is there and nothing listens: check address and port, and on the console whether the node is still waiting for its seed or disk.".into(),
        ),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => (
            "unreachable",
            "Check the address, this machine's routes, and that the node is up.".into(),
        ),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => (
            "connection-lost",
            "The node closed the connection: it may be stopping, or have refused the certificate. Try again, then `mastctl login NODE`.".into(),
        ),
        _ => ("failed", "Check the address and the network.".into()),
    }
}

/// The first error of that type among an error, its sources, and what `io::Error` wraps.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if let Some(wrapped) = wrapped {
            let wrapped: &(dyn StdError + 'static) = wrapped;
            if let Some(found) = find::<E>(wrapped) {
                return Some(found);
            }
        }
        next = error.source();
    }
    None
}
