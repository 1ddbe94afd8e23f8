//! One master in namespaces: the real image, etcd and Kubernetes, at native speed.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use fixture::{Fixture, SERVICES, etcd_without_fsync};
use masthead_lab::{
    error::chain,
    patience::Look,
    plan::DiskRole,
    provider::{DiskCondition, Power, PowerChange, Signal},
    writers::Writers,
};
use support::console;

const SECONDS_10: Duration = Duration::from_secs(10);
/// Liveness probes must fail a few times before a hanging service is restarted.
const A_MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_deployment_gets_its_pods_and_they_wait_for_nodes() {
    let fixture = Fixture::ready();
    assert_eq!(
        fixture.expect(fixture.kubectl(&["get", "--raw=/readyz"])),
        "ok"
    );
    fixture.expect(fixture.kubectl(&[
        "create",
        "deployment",
        "web",
        "--image=nginx",
        "--replicas=2",
    ]));
    fixture.wait_until("two pending Pods", SECONDS_10, || {
        let phases =
            fixture.kubectl(&["get", "pods", "--output=jsonpath={.items[*].status.phase}"]);
        let phases = phases.unwrap_or_else(|error| chain(&error));
        Look::at(phases == "Pending Pending", || phases)
    });
    let sets = fixture.expect(fixture.kubectl(&["get", "replicasets", "--output=name"]));
    assert!(sets.starts_with("replicaset.apps/web-"), "{sets}");
}

#[test]
fn a_power_cut_keeps_every_acknowledged_write() {
    let fixture = Fixture::ready();
    let acknowledged = fixture.write_until_cut(100, || fixture.expect(fixture.m1().cut_power()));
    fixture.expect(fixture.m1().power_on());
    fixture.expect(fixture.cluster.wait_until_ready());
    let missing = fixture.expect(fixture.missing(&acknowledged));
    assert!(
        missing.is_empty(),
        "{} of {} lost: {missing:?}",
        missing.len(),
        acknowledged.len()
    );
}

/// The positive control: the test above can see a loss.
#[test]
fn a_power_cut_of_an_etcd_that_does_not_flush_loses_acknowledged_writes() {
    let fixture =
        Fixture::ready_with(|plan, folder| plan.root_changes = Some(etcd_without_fsync(folder)));
    let acknowledged = fixture.write_until_cut(100, || fixture.expect(fixture.m1().cut_power()));
    fixture.expect(fixture.m1().power_on());
    // An etcd that lost its very beginnings ends again and again, or waits for ever: it has lost
    // everything.
    let look = || {
        let nodes = fixture.cluster.look_at_all();
        let etcd = fixture.service("etcd").unwrap_or_default();
        match (nodes.iter().all(|node| node.ready), &etcd["crash_looping"]) {
            (true, _) => Look::Done(true),
            (false, looping) if looping == true => Look::Done(false),
            _ => Look::NotYet(etcd.to_string()),
        }
    };
    let patience = fixture.patience();
    let comes_back = patience.wait_until("etcd to be back", SECONDS_10 * 2, look);
    let missing = if let Ok(true) = comes_back {
        fixture.expect(fixture.missing(&acknowledged)).len()
    } else {
        acknowledged.len()
    };
    assert!(missing > 0, "a cut that loses nothing proves nothing");
}

/// Writers see the outage, and nothing that was acknowledged to them is lost; etcd says who leads.
#[test]
fn writers_go_on_after_the_death_of_an_apiserver() {
    const TIMEOUT: Duration = Duration::from_millis(250);
    let fixture = Fixture::ready();
    fixture.wait_until("a leader and a voter", SECONDS_10, || {
        fixture.cluster.look_at_voters(&["m1"], 1)
    });
    assert_eq!(fixture.expect(fixture.cluster.etcd_leader(&["m1"])), "m1");

    let writers = fixture.expect(Writers::start(&fixture.cluster, &["m1"], 2, TIMEOUT));
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

#[test]
fn a_killed_service_comes_back() {
    let fixture = Fixture::ready();
    for service in SERVICES {
        let restarts = restarts(&fixture, service);
        let before = fixture.expect(fixture.m1().signal(service, Signal::Kill));
        fixture.wait_until_replaced(service, &before, SECONDS_10);
        let story = fixture.expect(fixture.service(service));
        assert_eq!(story["last_exit"]["signal"], 9, "{story}");
        assert!(restarts_of(&story) > restarts, "{story}");
    }
    fixture.expect(fixture.cluster.wait_until_ready());
}

/// All at once: each is noticed by itself, and a minute is waited once only.
#[test]
fn a_hanging_service_is_restarted() {
    let fixture = Fixture::ready();
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

#[test]
fn services_outlive_the_supervisor() {
    let fixture = Fixture::ready();
    let scheduler = fixture.expect(fixture.m1().signal("kube-scheduler", Signal::Kill));
    fixture.wait_until_replaced("kube-scheduler", &scheduler, SECONDS_10);
    let services = fixture.processes();
    let killed = fixture.expect(fixture.m1().signal("supervisor", Signal::Kill));
    fixture.wait_until("another supervisor that answers", SECONDS_10, || {
        let now = fixture.m1().processes("supervisor").unwrap_or_default();
        let restarts = fixture
            .status()
            .map(|status| status["node"]["supervisor"]["restarts"].clone());
        let restarts = restarts
            .ok()
            .and_then(|restarts| restarts.as_u64())
            .unwrap_or_default();
        Look::at(now != killed && restarts == 1, || {
            format!("{now:?}, {restarts} restarts")
        })
    });
    assert_eq!(fixture.processes(), services);
    fixture.wait_until("the story since boot", SECONDS_10, || {
        let story = fixture.service("kube-scheduler").unwrap_or_default();
        Look::at(story["restarts"] == 1, || story.to_string())
    });
}

#[test]
fn a_hanging_supervisor_is_replaced_and_services_go_on() {
    let fixture = Fixture::ready();
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

#[test]
fn a_service_with_a_wrong_flag_crash_loops_and_the_others_do_not() {
    let fixture = Fixture::ready_with(|plan, _| {
        plan.seed_extra =
            "[kubernetes.flags]\nkube-scheduler = { no-such-flag = \"1\" }\n".to_owned();
    });
    let story = fixture.wait_until("the crash loop to be seen", A_MINUTE, || {
        match fixture.service("kube-scheduler") {
            Ok(story) if story["crash_looping"] == true => Look::Done(story),
            Ok(story) => Look::NotYet(story.to_string()),
            Err(error) => Look::NotYet(chain(&error)),
        }
    });
    let lines = story["last_lines"].to_string();
    assert!(lines.contains("no-such-flag"), "its last lines: {lines}");
    for service in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        let story = fixture.expect(fixture.service(service));
        assert_eq!(story["state"], "ready", "{story}");
    }
}

#[test]
fn a_reboot_by_the_api_is_orderly() {
    let fixture = Fixture::ready();
    fixture.expect(fixture.kubectl(&["create", "configmap", "kept"]));
    fixture.expect(fixture.mastctl(&["reboot", "m1", "--accept-outage"]));
    fixture.wait_until("the reboot", A_MINUTE, || {
        let changes = changes(&fixture);
        Look::at(
            changes == [PowerChange::PoweredOn, PowerChange::Rebooted],
            || format!("{changes:?}"),
        )
    });
    fixture.expect(fixture.cluster.wait_until_ready());
    fixture.expect(fixture.kubectl(&["get", "configmap", "kept"]));
    assert_etcd_closed(&fixture);
}

#[test]
fn a_power_off_by_the_api_is_orderly() {
    let fixture = Fixture::ready();
    fixture.expect(fixture.mastctl(&["poweroff", "m1", "--accept-outage"]));
    fixture.wait_for_power(Power::Off, A_MINUTE);
    assert_eq!(
        changes(&fixture),
        [PowerChange::PoweredOn, PowerChange::PoweredOff]
    );
    fixture.expect(fixture.m1().power_on());
    fixture.expect(fixture.cluster.wait_until_ready());
    assert_etcd_closed(&fixture);
}

#[test]
fn status_answers_when_a_disk_is_read_only_or_gone() {
    for (role, condition, state) in [
        (DiskRole::Data, DiskCondition::ReadOnly, "read-only"),
        (DiskRole::Etcd, DiskCondition::ReadOnly, "read-only"),
        (DiskRole::State, DiskCondition::ReadOnly, "read-only"),
        (DiskRole::Etcd, DiskCondition::Removed, "lost"),
        (DiskRole::State, DiskCondition::Removed, "lost"),
    ] {
        let fixture = Fixture::ready();
        fixture.expect(fixture.m1().set_disk(role, condition));
        fixture.wait_until(
            &format!("{role} to be {state}"),
            A_MINUTE,
            || match fixture.status() {
                Ok(status) => {
                    let disks = status["disks"].as_array().cloned().unwrap_or_default();
                    let seen = disks
                        .iter()
                        .find(|disk| disk["role"] == role.label())
                        .map(|disk| disk["state"].clone());
                    Look::at(seen.as_ref().is_some_and(|seen| seen == state), || {
                        format!("{disks:?}")
                    })
                }
                Err(error) => Look::NotYet(chain(&error)),
            },
        );
        assert_eq!(
            fixture.m1().power(),
            Power::On,
            "the operating system stays up"
        );
    }
}

/// The disk is bad and the supervisor dies: its successor takes over what runs, and restarts what dies.
#[test]
fn a_new_supervisor_works_beside_a_read_only_disk() {
    let fixture = Fixture::ready();
    fixture.expect(
        fixture
            .m1()
            .set_disk(DiskRole::Data, DiskCondition::ReadOnly),
    );
    let before = fixture.expect(fixture.m1().signal("supervisor", Signal::Kill));
    fixture.wait_until("another supervisor", SECONDS_10, || {
        let now = fixture.expect(fixture.m1().processes("supervisor"));
        Look::at(!now.is_empty() && now != before, || format!("{now:?}"))
    });
    let scheduler = fixture.expect(fixture.m1().signal("kube-scheduler", Signal::Kill));
    fixture.wait_until_replaced("kube-scheduler", &scheduler, A_MINUTE);
    fixture.expect(fixture.cluster.wait_until_ready());
}

/// Threads that wait in the kernel for a stalled disk outlive their killed supervisor, and so does what it had open:
/// another one works beside it.
#[test]
fn a_supervisor_that_is_killed_while_its_disks_stall_is_replaced() {
    let fixture = Fixture::ready();
    let services = fixture.processes();
    let root = PathBuf::from(format!("/proc/{}/root", services[0].1[0]));
    let stalled = [DiskRole::Data, DiskRole::State];
    for role in stalled {
        fixture.expect(fixture.m1().set_disk(role, DiskCondition::Stalled));
    }
    let [before] = fixture.expect(fixture.m1().processes("supervisor"))[..] else {
        panic!("one supervisor");
    };
    fixture.wait_until("threads that hang in both disks", A_MINUTE, || {
        let hanging = threads_in_disks(before);
        Look::at(hanging >= stalled.len(), || format!("{hanging}"))
    });
    fixture.expect(fixture.m1().signal("supervisor", Signal::Kill));
    wait_for_another_supervisor(&fixture, SECONDS_10 * 2);
    assert!(threads_in_disks(before) > 0, "the dead one is still there");
    assert_eq!(fixture.processes(), services);
    let scheduler = fixture.expect(fixture.m1().signal("kube-scheduler", Signal::Kill));
    fixture.wait_until_replaced("kube-scheduler", &scheduler, SECONDS_10 * 2);

    for role in stalled {
        fixture.expect(fixture.m1().set_disk(role, DiskCondition::Healthy));
    }
    fixture.wait_until("the dead one to be gone", SECONDS_10, || {
        let is_gone = !Path::new(&format!("/proc/{before}")).exists();
        Look::at(is_gone, || "it is there".to_owned())
    });
    fixture.expect(fixture.cluster.wait_until_ready());
    for service in SERVICES.into_iter().chain(["supervisor"]) {
        fixture.wait_until(
            "every line on the disk, once",
            SECONDS_10 * 2,
            || match compare_output(&root, service) {
                Ok(()) => Look::Done(()),
                Err(difference) => Look::NotYet(difference),
            },
        );
    }
    for (before, now) in services.iter().zip(&fixture.processes()) {
        assert!(before == now || before.0 == "kube-scheduler", "{now:?}");
    }
}

/// STATE is gone, and then the supervisor: its successor has what it needs in memory.
#[test]
fn a_new_supervisor_works_without_state() {
    let fixture = Fixture::ready();
    let services = fixture.processes();
    fixture.expect(
        fixture
            .m1()
            .set_disk(DiskRole::State, DiskCondition::Removed),
    );
    fixture.expect(fixture.m1().signal("supervisor", Signal::Kill));
    wait_for_another_supervisor(&fixture, SECONDS_10);
    assert_eq!(fixture.processes(), services);
    for service in SERVICES {
        let before = fixture.expect(fixture.m1().signal(service, Signal::Kill));
        fixture.wait_until_replaced(service, &before, SECONDS_10 * 2);
    }
    fixture.expect(fixture.cluster.wait_until_ready());
}

/// What was started `new` for the first time starts again with what it has, also under the same supervisor.
#[test]
fn an_etcd_that_has_served_is_to_find_its_data() {
    let fixture = Fixture::ready();
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

/// PID 1 has the operator's word, not only the supervisor that took it.
#[test]
fn a_power_off_outlives_the_supervisor_that_was_asked() {
    let fixture = Fixture::ready();
    fixture.expect(fixture.mastctl(&["poweroff", "m1", "--accept-outage"]));
    fixture.expect(fixture.m1().signal("supervisor", Signal::Kill));
    fixture.wait_for_power(Power::Off, A_MINUTE);
    assert_eq!(changes(&fixture).last(), Some(&PowerChange::PoweredOff));
    fixture.expect(fixture.m1().power_on());
    fixture.expect(fixture.cluster.wait_until_ready());
    assert_etcd_closed(&fixture);
}

/// Waits until the second supervisor of this boot answers.
fn wait_for_another_supervisor(fixture: &Fixture, nominal: Duration) {
    let look = || match fixture.status() {
        Ok(status) => {
            let supervisor = &status["node"]["supervisor"];
            Look::at(supervisor["restarts"] == 1, || supervisor.to_string())
        }
        Err(error) => Look::NotYet(chain(&error)),
    };
    fixture.wait_until("another supervisor that answers", nominal, look);
}

/// Threads of a process that wait for a disk, where no signal reaches them.
fn threads_in_disks(process: i32) -> usize {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let stats = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(") D ")).count()
}

/// Compares what a service has written in this boot with what is on the disk: as long as the stream, without a
/// loss or an overlap, and with the same end as what is still in memory.
fn compare_output(root: &Path, service: &str) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let folder = root.join("data/log").join(service);
    let stream = fs::read(root.join("run/masthead/output").join(service)).map_err(failed)?;
    let mut names: Vec<_> = fs::read_dir(&folder)
        .map_err(failed)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut stored = Vec::new();
    for name in &names {
        // BOOT-OFFSET.log; a name of another form stands for a loss.
        let number = |name: &str| name.strip_suffix(".log")?.split_once('-')?.1.parse().ok();
        if number(name) != Some(stored.len()) {
            return Err(format!("{service}: {names:?}"));
        }
        stored.extend(fs::read(folder.join(name)).map_err(failed)?);
    }
    // Memory keeps at least this much of what is on the disk.
    let in_memory = stream.len().saturating_sub(64 << 10);
    if stored.len() == stream.len() && stored[in_memory..] == stream[in_memory..] {
        return Ok(());
    }
    let (written, stored) = (stream.len(), stored.len());
    Err(format!(
        "{service}: {written} bytes written, {stored} stored in {names:?}"
    ))
}

fn restarts(fixture: &Fixture, service: &str) -> u64 {
    restarts_of(&fixture.expect(fixture.service(service)))
}

fn restarts_of(story: &serde_json::Value) -> u64 {
    story["restarts"].as_u64().unwrap_or_default()
}

fn changes(fixture: &Fixture) -> Vec<PowerChange> {
    fixture
        .m1()
        .history()
        .into_iter()
        .map(|event| event.change)
        .collect()
}

/// What etcd writes last when it ends in order.
fn assert_etcd_closed(fixture: &Fixture) {
    let log =
        fixture.expect(fixture.mastctl(&["--nodes", "m1", "logs", "etcd", "--lines", "10000"]));
    assert!(
        log.contains("closed etcd server"),
        "etcd did not close in order\nconsole:\n{}\netcd:\n{log}",
        console(fixture.m1())
    );
}
