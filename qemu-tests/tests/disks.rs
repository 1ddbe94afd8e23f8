//! One master in namespaces whose disks are read-only, gone, or do not answer: the operating system goes on.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use fixture::{Fixture, SERVICES};
use masthead_lab::{
    error::chain,
    patience::Look,
    plan::DiskRole,
    provider::{DiskCondition, Power, Signal},
};

const SECONDS_10: Duration = Duration::from_secs(10);
const A_MINUTE: Duration = Duration::from_secs(60);

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
