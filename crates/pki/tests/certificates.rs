//! Certificates as those see them who must decide whether to trust them: rustls' verifiers, at a time of our choice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;

use masthead_pki::{
    Authority, AuthorityKind, ClientKey, Description, Error, Leaves, MANAGEMENT_ROLE_ADMIN,
    OperatorPrivateKey, Purpose, Roots, Secret, SubjectNames, issue, issue_kubernetes_admin,
    issue_operator, server_key_hash,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

fn at(instant: OffsetDateTime) -> UnixTime {
    let seconds = u64::try_from(instant.unix_timestamp()).unwrap();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn trust(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(authority.certificate_der().to_vec()))
        .unwrap();
    roots.into()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn is_server(pem: &str, name: &str, authority: &Authority, now: OffsetDateTime) -> bool {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    WebPkiServerVerifier::builder_with_provider(trust(authority), provider())
        .build()
        .unwrap()
        .verify_server_cert(&der(pem), &[], &name, &[], at(now))
        .is_ok()
}

fn is_client(pem: &str, authority: &Authority, now: OffsetDateTime) -> bool {
    WebPkiClientVerifier::builder_with_provider(trust(authority), provider())
        .build()
        .unwrap()
        .verify_client_cert(&der(pem), &[], at(now))
        .is_ok()
}

fn names() -> SubjectNames {
    SubjectNames::loopback().with("10.20.0.11").with("m1")
}

#[test]
fn every_leaf_is_good_for_its_purpose_and_for_no_other() {
    use Purpose::{
        ApiserverServing, ControllerManagerServing, EtcdPeer, EtcdServer, ManagementServer,
        SchedulerServing,
    };
    let roots = Roots::generate("c0ffee", NOW).unwrap();
    let leaves = Leaves::issue(&roots, |_| names(), NOW).unwrap();
    let servers = [
        EtcdServer,
        EtcdPeer,
        ApiserverServing,
        ControllerManagerServing,
        SchedulerServing,
        ManagementServer,
    ];
    for purpose in Purpose::ALL {
        let pem = &leaves.get(purpose).certificate_pem;
        leaves.get(purpose).check(purpose.name()).unwrap();
        for kind in AuthorityKind::ALL {
            let authority = roots.authority(kind);
            let own = kind == purpose.authority();
            let server = own && servers.contains(&purpose);
            let client = own && (!servers.contains(&purpose) || purpose == EtcdPeer);
            assert_eq!(
                is_server(pem, "10.20.0.11", authority, NOW),
                server,
                "{purpose:?} {kind:?}"
            );
            assert_eq!(
                is_client(pem, authority, NOW),
                client,
                "{purpose:?} {kind:?}"
            );
        }
    }
    let serving = &leaves.get(ApiserverServing).certificate_pem;
    let kubernetes = roots.authority(AuthorityKind::Kubernetes);
    for name in ["localhost", "m1", "127.0.0.1", "::1"] {
        assert!(is_server(serving, name, kubernetes, NOW), "{name}");
    }
    assert!(!is_server(serving, "m2", kubernetes, NOW));
}

#[test]
fn validity_begins_an_hour_ago() {
    let authority = Authority::generate(AuthorityKind::Etcd, "c0ffee", NOW).unwrap();
    let leaf = issue(Purpose::EtcdServer, &names(), &authority, NOW).unwrap();
    let good = |now| is_server(&leaf.certificate_pem, "m1", &authority, now);
    assert!(good(NOW - Duration::minutes(59)));
    assert!(!good(NOW - Duration::minutes(61)));
    assert!(good(NOW + Duration::days(364)));
    assert!(!good(NOW + Duration::days(366)));

    let late = NOW + Duration::days(3640);
    let leaf = issue(Purpose::EtcdServer, &names(), &authority, late).unwrap();
    assert!(is_server(&leaf.certificate_pem, "m1", &authority, late));
    assert!(!is_server(
        &leaf.certificate_pem,
        "m1",
        &authority,
        late + Duration::days(20)
    ));
}

#[test]
fn an_authority_read_back_issues_what_the_first_one_vouches_for() {
    let first = Authority::generate(AuthorityKind::Kubernetes, "c0ffee", NOW).unwrap();
    let again = Authority::parse(first.kind(), first.certificate_pem(), &first.key_pem()).unwrap();
    let leaf = issue(Purpose::ApiserverServing, &names(), &again, NOW).unwrap();
    assert!(is_server(&leaf.certificate_pem, "m1", &first, NOW));

    let other = Authority::generate(AuthorityKind::Kubernetes, "c0ffee", NOW).unwrap();
    let mixed = Authority::parse(first.kind(), first.certificate_pem(), &other.key_pem());
    assert!(matches!(mixed, Err(Error::Mismatch { .. })));
    assert!(!is_server(&leaf.certificate_pem, "m1", &other, NOW));
}

#[test]
fn damaged_pem_is_refused() {
    let authority = Authority::generate(AuthorityKind::Etcd, "c0ffee", NOW).unwrap();
    let key = authority.key_pem();
    let cut = Secret::new(&key.expose()[..key.expose().len() / 2]);
    let parse =
        |certificate: &str, key: &Secret| Authority::parse(AuthorityKind::Etcd, certificate, key);
    assert!(matches!(
        parse(authority.certificate_pem(), &cut),
        Err(Error::PrivateKey { .. })
    ));
    assert!(matches!(parse("", &key), Err(Error::Certificate { .. })));
}

#[test]
fn an_operator_gets_a_certificate_for_the_key_of_the_seed() {
    let authority = Authority::generate(AuthorityKind::Operators, "c0ffee", NOW).unwrap();
    let key = OperatorPrivateKey::generate().unwrap();
    let pem = issue_operator(key.public(), &authority, NOW).unwrap();
    assert!(is_client(&pem, &authority, NOW + Duration::hours(7)));
    assert!(!is_client(&pem, &authority, NOW + Duration::hours(9)));
    let description = Description::of_pem(&pem).unwrap();
    assert_eq!(description.common_name, key.public().to_string());
    assert_eq!(description.organizations, [MANAGEMENT_ROLE_ADMIN]);
    // TLS takes certificate and key together.
    let pair = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.pem().expose()).unwrap();
    rustls::sign::CertifiedKey::from_der(vec![der(&pem)], pair, &provider()).unwrap();
}

#[test]
fn an_administrator_s_certificate_lives_as_long_as_asked_and_seven_days_at_most() {
    let authority = Authority::generate(AuthorityKind::Kubernetes, "c0ffee", NOW).unwrap();
    let key = ClientKey::generate().unwrap();
    let issue = |lifetime| {
        issue_kubernetes_admin(
            "someone",
            "masthead:admins",
            lifetime,
            &key.public_pem(),
            &authority,
            NOW,
        )
    };
    let pem = issue(Duration::hours(8)).unwrap();
    assert!(is_client(&pem, &authority, NOW + Duration::hours(7)));
    assert!(!is_client(&pem, &authority, NOW + Duration::hours(9)));
    let description = Description::of_pem(&pem).unwrap();
    assert_eq!(description.common_name, "someone");
    assert_eq!(description.organizations, ["masthead:admins"]);
    assert!(issue(Duration::days(7)).is_ok());
    for refused in [
        Duration::days(7) + Duration::SECOND,
        Duration::ZERO,
        Duration::HOUR * -1,
    ] {
        assert!(
            matches!(issue(refused), Err(Error::Lifetime { .. })),
            "{refused}"
        );
    }
}

#[test]
fn names_and_dates_are_read_back() {
    let authority = Authority::generate(AuthorityKind::Etcd, "c0ffee", NOW).unwrap();
    let leaf = issue(Purpose::EtcdPeer, &names(), &authority, NOW).unwrap();
    let description = Description::of_pem(&leaf.certificate_pem).unwrap();
    assert_eq!(description.names, names());
    assert_eq!(description.common_name, Purpose::ETCD_PEER_NAME);
    assert_eq!(description.not_before, NOW - Duration::HOUR);
    assert_eq!(description.not_after, NOW + Duration::days(365));
}

#[test]
fn nothing_secret_is_shown() {
    let roots = Roots::generate("c0ffee", NOW).unwrap();
    let leaves = Leaves::issue(&roots, |_| names(), NOW).unwrap();
    let key = OperatorPrivateKey::generate().unwrap();
    let shown = format!("{roots:?} {leaves:?} {key:?}");
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    let encryption = roots.encryption.base64();
    assert!(!shown.contains(encryption.text().unwrap()));
    let pem = key.pem();
    let body = pem.text().unwrap().lines().nth(1).unwrap();
    assert!(!shown.contains(body));
}

#[test]
fn a_leaf_is_of_the_group_of_its_purpose_and_no_two_have_a_name_in_common() {
    let roots = Roots::generate("c0ffee", NOW).unwrap();
    let mut purposes = BTreeSet::new();
    for purpose in Purpose::ALL {
        let leaf = issue(purpose, &names(), roots.authority(purpose.authority()), NOW).unwrap();
        let der = der(&leaf.certificate_pem);
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let groups: Vec<_> = certificate.subject().iter_organization().collect();
        let groups: Vec<_> = groups.iter().map(|group| group.as_str().unwrap()).collect();
        // The probes are the only ones whose rights come from a group of Kubernetes'.
        let expected: &[&str] = match purpose {
            Purpose::ProbeClient => &["system:monitoring"],
            _ => &[],
        };
        assert_eq!(groups, expected, "{purpose:?}");
        assert!(purposes.insert(purpose.name()), "{purpose:?}");
        assert!(!purpose.name().is_empty());
    }
    let authorities: BTreeSet<_> = AuthorityKind::ALL.map(AuthorityKind::name).into();
    assert_eq!(authorities.len(), AuthorityKind::ALL.len());
    assert!(authorities.iter().all(|name| !name.is_empty()));
}

#[test]
fn an_authority_is_valid_from_an_hour_before_it_was_made_and_that_of_peers_always() {
    for kind in AuthorityKind::ALL {
        let authority = Authority::generate(kind, "c0ffee", NOW).unwrap();
        let (_, certificate) =
            x509_parser::parse_x509_certificate(authority.certificate_der()).unwrap();
        let begin = certificate.validity().not_before.to_datetime();
        let end = certificate.validity().not_after.to_datetime();
        if kind == AuthorityKind::Peers {
            assert_eq!((begin.year(), end.year()), (1970, 9999));
        } else {
            assert_eq!(begin, NOW - Duration::HOUR, "{kind:?}");
            assert!(end > NOW + Duration::days(9 * 365), "{kind:?}");
        }
    }
}

#[test]
fn a_server_is_known_by_the_hash_of_its_public_key() {
    let roots = Roots::generate("c0ffee", NOW).unwrap();
    let leaves = Leaves::issue(&roots, |_| names(), NOW).unwrap();
    let mut hashes = BTreeSet::new();
    for purpose in Purpose::ALL {
        let certificate = der(&leaves.get(purpose).certificate_pem);
        let hash = server_key_hash(&certificate).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        let expected = ring::digest::digest(&ring::digest::SHA256, parsed.public_key().raw);
        assert_eq!(hash, expected.as_ref());
        assert!(hashes.insert(hash), "{purpose:?}");
    }
    assert!(server_key_hash(b"no certificate").is_err());
}
