//! Certificates of three masters: for the name of a load balancer, and renewed while clients use them.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;
#[path = "support/tls.rs"]
mod tls;

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fixture::Fixture;
use load::{Load, nothing_is_lost};
use masters::{A_MINUTE, THREE, bring_back, file, formed, node, off, read_seed, wait_for_voters};
use masthead_lab::{patience::Look, plan::ETCD_PORT, provider::Signal};
use masthead_pki::{Authority, AuthorityKind, Description, Purpose, Secret, issue, renewed_at};
use serde_json::Value;
use time::OffsetDateTime;
use tls::Client;

/// How long an answer may take on a real machine.
const AN_ANSWER: Duration = Duration::from_secs(5);
/// By so much a certificate's times may be off those that were asked for.
const WHOLE_SECONDS: Duration = Duration::from_secs(2);

/// It asks each apiserver for its health, by the name in the seed, and is nobody. It sees when one is not ready.
#[test]
fn a_load_balancer_checks_each_apiserver_by_the_name_in_the_seed() {
    const NAME: &str = "api.example.net";
    let fixture = off(3);
    let endpoint = |line: &&str| line.starts_with("endpoint");
    let seed = read_seed(&fixture);
    let virtual_address = seed.lines().find(endpoint).expect("an endpoint");
    let seed = seed.replace(virtual_address, &format!("endpoint = \"{NAME}:6443\""));
    for name in THREE {
        fixture.expect(node(&fixture, name).set_seed(&seed));
    }
    bring_back(&fixture);

    let authority = founded(&fixture);
    let authority = authority.certificate(AuthorityKind::Kubernetes);
    let client = Client::of(authority.as_bytes(), fixture.patience().of(AN_ANSWER));
    let apiserver = |name: &str| fixture.expect(fixture.cluster.apiserver(name));
    for name in THREE {
        for path in ["/readyz", "/livez", "/healthz"] {
            let status = client.get(apiserver(name), NAME, path).expect("an answer");
            assert_eq!(status, 200, "{path} of {name}");
        }
        let api = client.get(apiserver(name), NAME, "/api");
        assert_eq!(api.expect("an answer"), 401, "health is all that is open");
        let other = client.get(apiserver(name), "other.example.net", "/readyz");
        let other = other.expect_err("not in the certificate").to_string();
        assert!(other.contains("not valid for name"), "{other}");
    }

    let m3_becomes = |ready: bool| {
        fixture.wait_until(&format!("m3 to be ready: {ready}"), A_MINUTE, || {
            let status = client.get(apiserver("m3"), NAME, "/readyz");
            let is_ready = status.as_ref().is_ok_and(|status| *status == 200);
            Look::at(is_ready == ready, || format!("{status:?}"))
        });
    };
    fixture.expect(node(&fixture, "m3").signal("etcd", Signal::Stop));
    m3_becomes(false);
    fixture.expect(node(&fixture, "m3").signal("etcd", Signal::Continue));
    m3_becomes(true);
}

/// The supervisor is killed when they are due, so that another looks at once: the next look of one that lives may be
/// ten minutes away.
#[test]
fn certificates_are_renewed_by_the_next_supervisor_without_a_gap() {
    certificates_are_renewed(|fixture| {
        fixture.expect(node(fixture, "m1").signal("supervisor", Signal::Kill));
        A_MINUTE
    });
}

#[test]
#[ignore = "ten minutes; make soak runs it"]
fn certificates_are_renewed_in_time_without_a_gap() {
    certificates_are_renewed(|_| Duration::from_secs(660));
}

/// Gives m1 certificates that will soon have lived two thirds of their lives. When these are over, calls `due`, which
/// says how long the renewal may take. Clients connect anew all the while, and others write.
fn certificates_are_renewed(due: impl FnOnce(&Fixture) -> Duration) {
    let started = Instant::now();
    let fixture = formed(3);
    wait_for_voters(&fixture, &THREE, 3);
    let formation = started.elapsed();
    let founded = founded(&fixture);

    let patience = fixture.patience().of(AN_ANSWER);
    let client = |kind| Client::of(founded.certificate(kind).as_bytes(), patience);
    let (users, members) = (
        client(AuthorityKind::Kubernetes),
        client(AuthorityKind::Etcd),
    );
    let apiserver = fixture.expect(fixture.cluster.apiserver("m1"));
    let shown = || {
        // Anew: after a power cut the inside is another one.
        let etcd = fixture.expect(node(&fixture, "m1").forward_inside(ETCD_PORT));
        let [apiserver, etcd] = [
            users.certificate(apiserver, "m1"),
            members.certificate(etcd.local, "m1"),
        ]
        .map(|shown| Description::of_der(&shown.expect("a certificate")).expect("a certificate"));
        [renewed_at(&apiserver), renewed_at(&etcd)]
    };
    // A boot that has taken longer than it should has renewed them already.
    let aged_by_a_boot_within = |time: Duration| {
        let due = OffsetDateTime::now_utc() + time;
        age_certificates(&fixture, "m1", &founded, due);
        fixture.expect(node(&fixture, "m1").cut_power());
        bring_back(&fixture);
        let aged = shown().iter().all(|renewed| is_about(*renewed, due));
        aged.then_some(due)
    };
    let mut times = [2, 4, 8].map(|times| formation * times).into_iter();
    let soon = times.find_map(aged_by_a_boot_within);
    let soon = soon.expect("certificates of STATE, which are not due yet");
    let aged = told(&fixture, "m1");

    let load = Load::gentle(&fixture, &THREE);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also when the test fails, or it would be waited for for ever.
        let end = Ending(&over);
        let asking = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                for name in THREE {
                    let apiserver = fixture.expect(fixture.cluster.apiserver(name));
                    let answer = users.get(apiserver, name, "/livez");
                    assert!(answer.is_ok(), "{name}: {answer:?}");
                }
            }
        });
        // Certificates know whole seconds only: some are due a moment later.
        let surely = soon + WHOLE_SECONDS;
        let left = Duration::try_from(surely - OffsetDateTime::now_utc()).unwrap_or_default();
        fixture.wait_until("two thirds of a life", left, || {
            let now = OffsetDateTime::now_utc();
            Look::at(now >= surely, || now.to_string())
        });
        let patience = due(&fixture);
        fixture.wait_until("other certificates", patience, || {
            let told = told(&fixture, "m1");
            let is_new = |(name, old): (&String, &String)| told.get(name) > Some(old);
            let served = shown().iter().all(|renewed| !is_about(*renewed, soon));
            Look::at(served && aged.iter().all(is_new), || {
                format!("served: {served}; {told:?}")
            })
        });
        load.goes_on();
        drop(end);
        asking.join().expect("no request has failed");
    });
    wait_for_voters(&fixture, &THREE, 3);
    nothing_is_lost(&fixture, &load.stop());
}

/// Sets it when dropped.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn is_about(one: OffsetDateTime, other: OffsetDateTime) -> bool {
    (one - other).abs() < WHOLE_SECONDS
}

/// When a master says that it will renew each of its certificates; as text, which sorts as the times do.
fn told(fixture: &Fixture, name: &str) -> BTreeMap<String, String> {
    let told = fixture.mastctl(&["--nodes", name, "certs", "--output", "json"]);
    let told: Value = serde_json::from_str(&fixture.expect(told)).expect("mastctl prints JSON");
    let listed = told["nodes"][0]["certificates"].as_array().cloned();
    let renewed = listed.unwrap_or_default().into_iter().filter_map(|one| {
        let text = |name: &str| Some(one[name].as_str()?.to_owned());
        Some((text("name")?, text("renewed_at")?))
    });
    let renewed: BTreeMap<String, String> = renewed.collect();
    assert_eq!(renewed.len(), Purpose::ALL.len(), "{told}");
    renewed
}

/// The authorities of a cluster, as its plan has them.
struct Founded(Value);

impl Founded {
    fn certificate(&self, kind: AuthorityKind) -> &str {
        self.text(kind, "certificate")
    }

    fn authority(&self, kind: AuthorityKind) -> Authority {
        let key = Secret::new(self.text(kind, "key"));
        Authority::parse(kind, self.certificate(kind), &key).expect("an authority")
    }

    fn text(&self, kind: AuthorityKind, what: &str) -> &str {
        let document = &self.0["authorities"][kind.name()];
        document[what].as_str().expect("PEM")
    }
}

/// Reads them as root outside of the node can.
fn founded(fixture: &Fixture) -> Founded {
    let plan = file(fixture, "m1", "/state/formation/plan-1").expect("m1 runs");
    let plan = fs::read_to_string(plan).expect("the plan");
    // A line with a checksum comes first.
    let (_, plan) = plan.split_once('\n').expect("two lines");
    let plan: Value = serde_json::from_str(plan).expect("JSON");
    let sealed = STANDARD.decode(plan["sealed"].as_str().expect("text"));
    Founded(serde_json::from_slice(&sealed.expect("base64")).expect("JSON"))
}

/// Replaces a master's certificates on STATE, for its next boot, by such as are due at that time.
fn age_certificates(fixture: &Fixture, name: &str, founded: &Founded, due: OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    for purpose in Purpose::ALL {
        let path = format!("/state/leaves/{}.pem", purpose.name());
        let path = file(fixture, name, &path).expect("it runs");
        let old = fs::read_to_string(&path).expect("a certificate");
        let names = Description::of_pem(&old).expect("a certificate").names;
        let authority = founded.authority(purpose.authority());
        let issued = |at| issue(purpose, &names, &authority, at).expect("a certificate");
        let fresh = Description::of_pem(&issued(now).certificate_pem).expect("a certificate");
        let aged = issued(now - (renewed_at(&fresh) - due));
        let text = [aged.certificate_pem.as_bytes(), aged.key_pem.expose()].concat();
        fs::write(&path, text).expect("write");
        let file = fs::File::open(&path).expect("a file");
        file.sync_all().expect("flush");
    }
}
