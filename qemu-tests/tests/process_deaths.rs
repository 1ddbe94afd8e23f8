//! Every process of a master dies, or hangs, while clients write through the two other masters: nothing that was
//! acknowledged is lost, they go on, the process is back by itself, and the status tells what happened.

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/load.rs"]
mod load;
#[path = "support/masters.rs"]
mod masters;
mod support;

use std::collections::BTreeMap;

use fixture::{Fixture, SERVICES};
use load::{Load, nothing_is_lost};
use masters::{A_MINUTE, THREE, formed, node, others, wait_for_leader, wait_for_voters};
use masthead_lab::{
    error::{Result, chain},
    patience::Look,
    provider::Signal,
};
use serde_json::Value;

const SUPERVISOR: &str = "supervisor";

/// First all that are killed, then all that hang, on one cluster.
#[test]
fn processes_that_die_or_hang_are_replaced_and_nothing_is_lost() {
    let fixture = formed(3);
    each_is_killed(&fixture);
    all_hang(&fixture);
}

/// One after the other, on a master that follows and on the one that leads etcd.
fn each_is_killed(fixture: &Fixture) {
    for victim in a_follower_and_the_leader(fixture) {
        let load = Load::through(fixture, &others(&victim));
        for service in SERVICES {
            strike(fixture, &load, &victim, &[service], Signal::Kill);
        }
        strike_supervisor(fixture, &load, &victim, Signal::Kill);
        wait_for_voters(fixture, &THREE, 3);
        nothing_is_lost(fixture, &load.stop());
    }
}

/// All services of the leader at once: each is noticed by itself, and a minute is waited once only. A supervisor that
/// hangs is noticed by PID 1, and sooner.
fn all_hang(fixture: &Fixture) {
    let [follower, leader] = a_follower_and_the_leader(fixture);
    let load = Load::through(fixture, &others(&follower));
    strike_supervisor(fixture, &load, &follower, Signal::Stop);
    let written = load.stop();
    let load = Load::through(fixture, &others(&leader));
    strike_supervisor(fixture, &load, &leader, Signal::Stop);
    strike(fixture, &load, &leader, &SERVICES, Signal::Stop);
    wait_for_voters(fixture, &THREE, 3);
    nothing_is_lost(fixture, &written);
    nothing_is_lost(fixture, &load.stop());
}

/// A minute for each.
#[test]
#[ignore = "some ten minutes; make soak runs it"]
fn each_service_that_hangs_is_replaced_and_nothing_is_lost() {
    let fixture = formed(3);
    for victim in a_follower_and_the_leader(&fixture) {
        let load = Load::through(&fixture, &others(&victim));
        for service in SERVICES {
            strike(&fixture, &load, &victim, &[service], Signal::Stop);
        }
        wait_for_voters(&fixture, &THREE, 3);
        nothing_is_lost(&fixture, &load.stop());
    }
}

fn a_follower_and_the_leader(fixture: &Fixture) -> [String; 2] {
    wait_for_voters(fixture, &THREE, 3);
    let leader = wait_for_leader(fixture);
    [others(&leader)[0].to_owned(), leader]
}

/// Sends a signal to services of the victim, and waits for all that must follow.
fn strike(fixture: &Fixture, load: &Load<'_>, victim: &str, services: &[&str], signal: Signal) {
    let target = node(fixture, victim);
    let told = |service: &str| fixture.expect(stories(fixture, victim))[service].clone();
    let mut before = BTreeMap::new();
    for service in services {
        let restarts = told(service)["restarts"].as_u64().unwrap_or_default();
        let struck = fixture.expect(target.signal(service, signal));
        before.insert(*service, (struck, restarts));
    }
    load.goes_on();
    let ended_by = match signal {
        Signal::Stop => Value::from("liveness probe failed"),
        _ => Value::Null,
    };
    let what = format!("{} of {victim} to be back", services.join(", "));
    let mut restarted = BTreeMap::new();
    fixture.wait_until(&what, A_MINUTE * 2, || {
        let stories = match stories(fixture, victim) {
            Ok(stories) => stories,
            Err(error) => return Look::NotYet(chain(&error)),
        };
        let back = before.iter().filter(|(service, (struck, restarts))| {
            let story = &stories[**service];
            // One that is back while another still hangs may end once more, by itself.
            let exit = &story["last_exit"];
            if exit["signal"] == 9 && exit["ended_by"] == ended_by {
                restarted.insert(**service, story["restarts"].as_u64());
            }
            let now = target.processes(service).unwrap_or_default();
            let replaced = !now.is_empty() && now.iter().all(|pid| !struck.contains(pid));
            let counted = restarted
                .get(**service)
                .is_some_and(|told| *told > Some(*restarts));
            replaced && counted && story["state"] == "ready"
        });
        let back: Vec<&str> = back.map(|(service, _)| *service).collect();
        Look::at(back.len() == services.len(), || {
            let stories = services.iter().map(|service| stories[*service].to_string());
            format!("{back:?} are; {}", stories.collect::<Vec<_>>().join("\n"))
        })
    });
    load.goes_on();
}

/// Sends a signal to the supervisor of the victim, and waits for another. Nothing else ends meanwhile.
fn strike_supervisor(fixture: &Fixture, load: &Load<'_>, victim: &str, signal: Signal) {
    let target = node(fixture, victim);
    let services = || SERVICES.map(|service| fixture.expect(target.processes(service)));
    let before = services();
    let supervisor = |status: &Value| status["node"]["supervisor"].clone();
    let restarts = |supervisor: &Value| supervisor["restarts"].as_u64();
    let earlier = restarts(&supervisor(&fixture.expect(fixture.status_of(victim))));
    let struck = fixture.expect(target.signal(SUPERVISOR, signal));
    load.goes_on();
    fixture.wait_until(&format!("a supervisor of {victim}"), A_MINUTE, || {
        let now = target.processes(SUPERVISOR).unwrap_or_default();
        let replaced = !now.is_empty() && now.iter().all(|pid| !struck.contains(pid));
        let told = match fixture.status_of(victim) {
            Ok(status) => supervisor(&status),
            Err(error) => return Look::NotYet(chain(&error)),
        };
        let counted = restarts(&told) > earlier && told["last_death"]["signal"] == 9;
        Look::at(replaced && counted, || format!("processes {now:?}, {told}"))
    });
    assert_eq!(services(), before, "services outlive their supervisor");
    load.goes_on();
}

/// What a master says about each of its services, by their names.
fn stories(fixture: &Fixture, name: &str) -> Result<BTreeMap<String, Value>> {
    let services = fixture.status_of(name)?["services"].as_array().cloned();
    let named = services.unwrap_or_default().into_iter().map(|story| {
        let name = story["name"].as_str().unwrap_or_default().to_owned();
        (name, story)
    });
    Ok(named.collect())
}
