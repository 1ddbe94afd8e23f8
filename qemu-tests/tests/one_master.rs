//! One master in namespaces: the real image, etcd and Kubernetes, at native speed. Whatever happens to its services, to its
//! supervisor, and by the API.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{collections::BTreeSet, fs, time::Duration};

use fixture::{Fixture, SERVICES};
use masthead_lab::{
    patience::Look,
    provider::{Power, PowerChange, Signal},
    writers::{Pace, Writers},
};
use support::console;

const SECONDS_10: Duration = Duration::from_secs(10);
/// Liveness probes must fail a few times before a hanging service is restarted.
const A_MINUTE: Duration = Duration::from_secs(60);

/// One cluster for all: each story leaves it ready for the next one.
#[test]
fn a_master_outlives_what_happens_to_it() {
    let fixture = Fixture::ready();
    let stories = [
        an_etcd_that_has_served_is_to_find_its_data,
        a_deployment_gets_its_pods_and_they_wait_for_nodes,
        writers_go_on_after_the_death_of_an_apiserver,
        a_killed_service_comes_back,
        a_hanging_service_is_restarted,
        services_outlive_the_supervisor,
        a_hanging_supervisor_is_replaced_and_services_go_on,
        a_reboot_by_the_api_is_orderly,
        a_power_off_by_the_api_is_orderly,
        a_power_off_outlives_the_supervisor_that_was_asked,
    ];
    for story in stories {
        story(&fixture);
        fixture.expect(fixture.cluster.wait_until_ready());
    }
}

/// What was started `new` for the first time starts again with what it has, also under the same supervisor.
fn an_etcd_that_has_served_is_to_find_its_data(fixture: &Fixture) {
    let state = |processes: &[i32]| {
        let line = fs::read(format!("/proc/{}/cmdline", processes[0])).expect("etcd runs");
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut flags = line.split('\0');
        let state = flags.find_map(|flag| flag.strip_prefix("--initial-cluster-state="));
        state.expect("etcd is told").to_owned()
    };
    let before = fixture.expect(fixture.m1().processes("etcd"));
    assert_eq!(state(&before), "new");
    fixture.expect(fixture.m1().signal("etcd", Signal::Kill));
    fixture.wait_until_replaced("etcd", &before, SECONDS_10);
    let now = fixture.expect(fixture.m1().processes("etcd"));
    assert_eq!(state(&now), "existing");
}

fn a_deployment_gets_its_pods_and_they_wait_for_nodes(fixture: &Fixture) {
    assert_eq!(
        fixture.expect(fixture.kubectl(&["get", "--raw=/readyz"])),
        "ok"
    );
    fixture.makes_a_deployment();
    let sets = fixture.expect(fixture.kubectl(&["get", "replicasets", "--output=name"]));
    assert!(sets.starts_with("replicaset.apps/web-"), "{sets}");
}

/// Writers see the outage, and nothing that was acknowledged to them is lost; etcd says who leads.
fn writers_go_on_after_the_death_of_an_apiserver(fixture: &Fixture) {
    const TIMEOUT: Duration = Duration::from_millis(250);
    fixture.wait_until("a leader and a voter", SECONDS_10, || {
        fixture.cluster.look_at_voters(&["m1"], 1)
    });
    assert_eq!(fixture.expect(fixture.cluster.etcd_leader(&["m1"])), "m1");

    let writers = fixture.expect(Writers::start(
        &fixture.cluster,
        &["m1"],
        2,
        Pace::fast(TIMEOUT),
    ));
    let wait_for = |enough: usize| {
        fixture.wait_until("acknowledged writes", SECONDS_10 * 2, || {
            let acknowledged = writers.acknowledged_through("m1");
            Look::at(acknowledged >= enough, || {
                format!("{acknowledged} of {enough}")
            })
        });
    };
    wait_for(20);
    fixture.expect(fixture.m1().signal("kube-apiserver", Signal::Kill));
    wait_for(writers.acknowledged() + 20);
    let written = writers.stop();
    let missing = fixture.expect(written.missing(&fixture.cluster, "m1"));
    assert!(missing.is_empty(), "{missing:?} of {}", written.count());
    // No apiserver starts faster.
    let outage = written.longest_gap(None);
    assert!(outage > TIMEOUT * 2, "{outage:?}");
}

fn a_killed_service_comes_back(fixture: &Fixture) {
    for service in SERVICES {
        let restarts = restarts(fixture, service);
        let before = fixture.expect(fixture.m1().signal(service, Signal::Kill));
        fixture.wait_until_replaced(service, &before, SECONDS_10);
        let story = fixture.expect(fixture.service(service));
        assert_eq!(story["last_exit"]["signal"], 9, "{story}");
        assert!(restarts_of(&story) > restarts, "{story}");
    }
    fixture.expect(fixture.cluster.wait_until_ready());
}

/// All at once: each is noticed by itself, and a minute is waited once only.
fn a_hanging_service_is_restarted(fixture: &Fixture) {
    let stopped: Vec<_> = SERVICES
        .iter()
        .map(|service| fixture.expect(fixture.m1().signal(service, Signal::Stop)))
        .collect();
    // One that is back while the others still hang may end once more, by itself: each story is read
    // when it says what is waited for.
    let mut told = BTreeSet::new();
    fixture.wait_until("the four stories", A_MINUTE * 2, || {
        for service in SERVICES {
            let story = fixture.service(service).unwrap_or_default();
            let exit = &story["last_exit"];
            if exit["signal"] == 9 && exit["ended_by"] == "liveness probe failed" {
                told.insert(service);
            }
        }
        Look::at(told.len() == SERVICES.len(), || format!("{told:?}"))
    });
    for (service, before) in SERVICES.iter().zip(&stopped) {
        fixture.wait_until_replaced(service, before, A_MINUTE);
    }
    fixture.expect(fixture.cluster.wait_until_ready());
}

fn services_outlive_the_supervisor(fixture: &Fixture) {
    let supervisor_restarts = || {
        let status = fixture.status().ok()?;
        status["node"]["supervisor"]["restarts"].as_u64()
    };
    let [before, scheduler_before] = [
        supervisor_restarts().unwrap_or_default(),
        restarts(fixture, "kube-scheduler"),
    ];
    let scheduler = fixture.expect(fixture.m1().signal("kube-scheduler", Signal::Kill));
    fixture.wait_until_replaced("kube-scheduler", &scheduler, SECONDS_10);
    let services = fixture.processes();
    let killed = fixture.expect(fixture.m1().signal("supervisor", Signal::Kill));
    fixture.wait_until("another supervisor that answers", SECONDS_10, || {
        let now = fixture.m1().processes("supervisor").unwrap_or_default();
        let restarts = supervisor_restarts();
        Look::at(now != killed && restarts == Some(before + 1), || {
            format!("{now:?}, {restarts:?} restarts")
        })
    });
    assert_eq!(fixture.processes(), services);
    fixture.wait_until("the story since boot", SECONDS_10, || {
        let story = fixture.service("kube-scheduler").unwrap_or_default();
        Look::at(restarts_of(&story) == scheduler_before + 1, || {
            story.to_string()
        })
    });
}

fn a_hanging_supervisor_is_replaced_and_services_go_on(fixture: &Fixture) {
    let services = fixture.processes();
    let stopped = fixture.expect(fixture.m1().signal("supervisor", Signal::Stop));
    fixture.wait_until("another supervisor that answers", A_MINUTE, || {
        let now = fixture.m1().processes("supervisor").unwrap_or_default();
        let answers = fixture.status().is_ok();
        Look::at(!now.is_empty() && now != stopped && answers, || {
            format!("{now:?}, {answers}")
        })
    });
    assert_eq!(fixture.processes(), services);
}

fn a_reboot_by_the_api_is_orderly(fixture: &Fixture) {
    fixture.expect(fixture.kubectl(&["create", "configmap", "kept"]));
    let before = Before::of(fixture);
    fixture.expect(fixture.mastctl(&["reboot", "m1", "--accept-outage"]));
    fixture.wait_until("the reboot", A_MINUTE, || {
        let changes = before.changes_since(fixture);
        Look::at(changes == [PowerChange::Rebooted], || {
            format!("{changes:?}")
        })
    });
    fixture.expect(fixture.cluster.wait_until_ready());
    fixture.expect(fixture.kubectl(&["get", "configmap", "kept"]));
    before.assert_etcd_closed_since(fixture);
}

fn a_power_off_by_the_api_is_orderly(fixture: &Fixture) {
    let before = Before::of(fixture);
    fixture.expect(fixture.mastctl(&["poweroff", "m1", "--accept-outage"]));
    fixture.wait_for_power(Power::Off, A_MINUTE);
    assert_eq!(before.changes_since(fixture), [PowerChange::PoweredOff]);
    fixture.expect(fixture.m1().power_on());
    fixture.expect(fixture.cluster.wait_until_ready());
    before.assert_etcd_closed_since(fixture);
}

/// PID 1 has the operator's word, not only the supervisor that took it.
fn a_power_off_outlives_the_supervisor_that_was_asked(fixture: &Fixture) {
    let before = Before::of(fixture);
    fixture.expect(fixture.mastctl(&["poweroff", "m1", "--accept-outage"]));
    fixture.expect(fixture.m1().signal("supervisor", Signal::Kill));
    fixture.wait_for_power(Power::Off, A_MINUTE);
    assert_eq!(before.changes_since(fixture), [PowerChange::PoweredOff]);
    fixture.expect(fixture.m1().power_on());
    fixture.expect(fixture.cluster.wait_until_ready());
    before.assert_etcd_closed_since(fixture);
}

fn restarts(fixture: &Fixture, service: &str) -> u64 {
    restarts_of(&fixture.expect(fixture.service(service)))
}

fn restarts_of(story: &serde_json::Value) -> u64 {
    story["restarts"].as_u64().unwrap_or_default()
}

/// What m1's power and etcd's log had told before an operator's word: an earlier story may have ended etcd in order, too.
struct Before {
    changes: usize,
    closings: usize,
}

impl Before {
    fn of(fixture: &Fixture) -> Self {
        Self {
            changes: fixture.m1().history().len(),
            closings: closings(&etcd_log(fixture)),
        }
    }

    fn changes_since(&self, fixture: &Fixture) -> Vec<PowerChange> {
        let history = fixture.m1().history().into_iter().skip(self.changes);
        history.map(|event| event.change).collect()
    }

    fn assert_etcd_closed_since(&self, fixture: &Fixture) {
        let log = etcd_log(fixture);
        assert_eq!(
            closings(&log),
            self.closings + 1,
            "etcd did not close in order\nconsole:\n{}\netcd:\n{log}",
            console(fixture.m1())
        );
    }
}

fn etcd_log(fixture: &Fixture) -> String {
    fixture.expect(fixture.mastctl(&["--nodes", "m1", "logs", "etcd", "--lines", "10000"]))
}

/// How often etcd has said what it says last when it ends in order.
fn closings(log: &str) -> usize {
    log.matches("closed etcd server").count()
}
