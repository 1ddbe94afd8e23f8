//! What masters know each other by, as TLS sees it, at times of our choice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use masthead_pki::{
    Authority, AuthorityKind, ClaimedIssuer, PeerAuthority, PeerDescription, PeerFingerprint,
    PeerKey, PeerSubject,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use time::macros::datetime;

const CLUSTER_ID: &str = "0123456789abcdef0123456789abcdef";

fn secret(number: u8) -> masthead_seed::Secret {
    let mut bytes = [0; 32];
    for (index, byte) in (0u8..).zip(&mut bytes) {
        *byte = index.wrapping_mul(index).wrapping_mul(113) ^ index.wrapping_mul(41) ^ number;
    }
    masthead_seed::Secret::generate(bytes).unwrap()
}

fn join(number: u8, cluster: &str) -> PeerAuthority {
    PeerAuthority::join(&secret(number), cluster).unwrap()
}

fn member() -> PeerAuthority {
    let founded = datetime!(2050-05-05 05:05 UTC);
    let authority = Authority::generate(AuthorityKind::Peers, CLUSTER_ID, founded).unwrap();
    PeerAuthority::member(&authority)
}

fn subject() -> PeerSubject {
    PeerSubject {
        machine_id: "00112233445566778899aabbccddeeff".to_owned(),
        name: "m1".to_owned(),
    }
}

fn accepts(authority: &PeerAuthority, certificate: &[u8], at: u64) -> bool {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(authority.certificate_der().to_vec()))
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .unwrap()
        .verify_client_cert(
            &CertificateDer::from(certificate.to_vec()),
            &[],
            UnixTime::since_unix_epoch(Duration::from_secs(at)),
        )
        .is_ok()
}

const YEAR: u64 = 365 * 86_400;

#[test]
fn every_node_derives_the_same_join_authority_from_the_same_seed() {
    let authority = join(0, "lab");
    assert_eq!(
        authority.certificate_der(),
        join(0, "lab").certificate_der(),
        "another node, at another time"
    );
    for other in [join(1, "lab"), join(0, "laboratory")] {
        assert_ne!(authority.certificate_der(), other.certificate_der());
    }
    // Releases of one cluster must derive the same: whoever changes this changes the label's number.
    let key = PeerDescription::of_der(authority.certificate_der())
        .unwrap()
        .key;
    assert_eq!(
        key.to_string(),
        "689657ccc27241c5e7908d788c775370db22f1d056c980ac282820a762ceece4"
    );
}

#[test]
fn a_certificate_is_good_whatever_the_clock_says_and_for_no_other_secret_or_name() {
    let key = PeerKey::generate().unwrap();
    for authority in [join(0, "lab"), member()] {
        let certificate = authority.certify(&key, &subject()).unwrap();
        for years in [0, 36, 56, 76, 500, 8000] {
            assert!(accepts(&authority, &certificate, years * YEAR), "{years}");
            for other in [join(1, "lab"), join(0, "kitchen"), member()] {
                assert!(!accepts(&other, &certificate, years * YEAR), "{years}");
            }
        }
    }
}

#[test]
fn a_certificate_says_who_it_is_for_and_who_issued_it() {
    let key = PeerKey::generate().unwrap();
    let describe = |authority: &PeerAuthority| {
        PeerDescription::of_der(&authority.certify(&key, &subject()).unwrap()).unwrap()
    };
    let description = describe(&join(0, "lab"));
    assert_eq!(description.subject, Some(subject()));
    assert_eq!(description.key, key.fingerprint());
    let cluster = "lab".to_owned();
    assert_eq!(description.issuer, ClaimedIssuer::Join { cluster });
    let cluster_id = CLUSTER_ID.to_owned();
    assert_eq!(
        describe(&member()).issuer,
        ClaimedIssuer::Member { cluster_id }
    );
}

#[test]
fn what_a_stranger_writes_into_a_certificate_does_not_reach_a_console() {
    let key = PeerKey::generate().unwrap();
    let hostile = join(0, "lab\u{1b}[2J");
    let name = "m1\nm2".to_owned();
    let certificate = hostile.certify(&key, &PeerSubject { name, ..subject() });
    let description = PeerDescription::of_der(&certificate.unwrap()).unwrap();
    assert_eq!(description.issuer, ClaimedIssuer::Other);
    assert_eq!(description.subject, None);
}

#[test]
fn a_key_is_read_back_as_it_was_written() {
    let key = PeerKey::generate().unwrap();
    let again = PeerKey::parse(&key.pem()).unwrap();
    assert_eq!(key.fingerprint(), again.fingerprint());
    assert_ne!(
        key.fingerprint(),
        PeerKey::generate().unwrap().fingerprint()
    );
    let text = key.fingerprint().to_string();
    assert_eq!(text.parse(), Ok(key.fingerprint()));
    for wrong in [
        "",
        &text[1..],
        &text.to_uppercase(),
        &text.replace(&text[..1], "x"),
    ] {
        assert!(wrong.parse::<PeerFingerprint>().is_err(), "{wrong}");
    }
}

/// Anybody may have written it: what is no id of a machine names none.
#[test]
fn a_machine_is_named_by_an_id_and_nothing_else() {
    let key = PeerKey::generate().unwrap();
    let named = |machine_id: &str| {
        let subject = PeerSubject {
            machine_id: machine_id.to_owned(),
            ..subject()
        };
        let certificate = member().certify(&key, &subject).unwrap();
        PeerDescription::of_der(&certificate).unwrap().subject
    };
    assert_eq!(named(&subject().machine_id), Some(subject()));
    for wrong in [
        "00112233445566778899aabbccddeef",
        "00112233445566778899AABBCCDDEEFF",
        "0011223344556677 899aabbccddeef.",
        "00112233445566778899aabbccddeeff0",
    ] {
        assert_eq!(named(wrong), None, "{wrong}");
    }
}

#[test]
fn peers_and_their_authorities_are_told_apart_in_logs() {
    let fingerprint = PeerKey::generate().unwrap().fingerprint();
    assert_eq!(
        format!("{fingerprint:?}"),
        format!("PeerFingerprint({fingerprint})")
    );
    let [join, member] = [join(0, "lab"), member()].map(|authority| format!("{authority:?}"));
    assert!(
        join.starts_with("PeerAuthority(") && join != member,
        "{join} {member}"
    );
}
