//! Words and numbers that people and programs rely on.

use std::collections::BTreeSet;
use std::time::Duration;

use masthead_lifecycle::{
    Action, BackOff, EndedBy, Exit, Note, Phase, Policy, Probe, ProbePolicy, Process, ServiceName,
    WaitingFor,
};
use masthead_machine::{BootTime, Scale, Wakes};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_exit_is_read_from_a_wait_status() {
    assert_eq!(Exit::from_wait_status(0), Exit::Code(0));
    assert_eq!(Exit::from_wait_status(3 << 8), Exit::Code(3));
    assert_eq!(Exit::from_wait_status(255 << 8), Exit::Code(255));
    assert_eq!(Exit::from_wait_status(9), Exit::Signal(9));
    assert_eq!(
        Exit::from_wait_status(6 | 0x80),
        Exit::Signal(6),
        "with a core"
    );
    let words = [Exit::Code(3), Exit::Signal(9), Exit::Unknown].map(|exit| exit.to_string());
    assert_eq!(
        words,
        [
            "exited with code 3",
            "killed by signal 9",
            "ended, nobody knows how"
        ]
    );
}

#[test]
fn every_duration_is_scaled_and_nothing_else() {
    let probe = |factor: u32| ProbePolicy {
        interval: SECOND * factor,
        startup_interval: SECOND * 2 * factor,
        timeout: SECOND * 3 * factor,
        failures: 4,
    };
    let policy = |factor: u32| Policy {
        after: vec!["a".into()],
        needs: vec!["b".into()],
        readiness: Some(probe(factor)),
        liveness: Some(probe(factor)),
        startup: SECOND * 5 * factor,
        back_off: BackOff {
            first: SECOND * 6 * factor,
            ceiling: SECOND * 7 * factor,
            jitter_per_mille: 8,
            reset_after: SECOND * 9 * factor,
            crash_loop_after: 10,
        },
        forgiveness: None,
        stop_grace: SECOND * 11 * factor,
        hung_grace: SECOND * 12 * factor,
        straggler_grace: SECOND * 13 * factor,
        patience: SECOND * 14 * factor,
        kill_attempts: 15,
    };
    let scale = Scale::new(16.0).expect("a good scale");
    assert_eq!(policy(1).scaled(scale), policy(16));
    let bare = Policy {
        readiness: None,
        liveness: None,
        ..policy(1)
    };
    assert_eq!(
        bare.scaled(scale),
        Policy {
            readiness: None,
            liveness: None,
            ..policy(16)
        }
    );
}

#[test]
fn every_phase_has_a_word_of_its_own() {
    let phases = [
        Phase::Examining,
        Phase::Waiting,
        Phase::Starting,
        Phase::Running,
        Phase::Ready,
        Phase::Unhealthy,
        Phase::Stopping,
        Phase::Killing,
        Phase::BackingOff,
        Phase::Stopped,
    ];
    let words: BTreeSet<String> = phases.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), phases.len());
    assert!(words.iter().all(|word| word.len() > 3));
    assert_eq!(
        format!("{:>12}|", Phase::BackingOff),
        " backing-off|",
        "fits into a table"
    );
    assert_eq!(
        format!("{:6}|", ServiceName::from("etcd".to_owned())),
        "etcd  |"
    );
}

#[test]
fn every_reason_says_cause_and_code() {
    let at = BootTime::default();
    let told = |waiting: WaitingFor| format!("{}: {waiting}", waiting.code());
    let expected = [
        (
            WaitingFor::Examination,
            "service-starting: looking for processes of it that run already",
        ),
        (
            WaitingFor::Services(vec!["a".into(), "b".into()]),
            "service-dependency: starts when these are ready: a, b",
        ),
        (WaitingFor::Execution, "service-starting: being executed"),
        (
            WaitingFor::Readiness(None),
            "service-starting: did not answer yet whether it is ready",
        ),
        (
            WaitingFor::Readiness(Some("x".into())),
            "service-starting: not ready yet: x",
        ),
        (
            WaitingFor::ReadinessAgain(Some("x".into())),
            "service-unready: no longer ready: x",
        ),
        (
            WaitingFor::Termination(at),
            "service-stopping: was told to end",
        ),
        (
            WaitingFor::EmptyLeaf,
            "service-stopping: its processes are not gone yet",
        ),
        (
            WaitingFor::BackOff(at),
            "service-backing-off: it ended and is started again after a pause",
        ),
        (
            WaitingFor::StartRetry(at, "x".into()),
            "service-start-failed: it cannot be started: x",
        ),
        (
            WaitingFor::CrashLoop(at),
            "service-crash-looping: it keeps ending soon after its start",
        ),
    ];
    for (waiting, text) in expected {
        assert_eq!(told(waiting), text);
    }
}

#[test]
fn notes_are_read_by_people() {
    let process = Process {
        pid: 7,
        start_time: 1,
    };
    let expected = [
        (Note::Adopted(process), false, "found running as process 7"),
        (Note::Started(process), false, "started as process 7"),
        (Note::StartFailed("x".into()), true, "cannot be started: x"),
        (
            Note::StartStuck(2),
            true,
            "takes too long to be executed, killed 2 times",
        ),
        (Note::Ready(SECOND), false, "ready after 1.0s"),
        (Note::NotReady("x".into()), true, "no longer ready: x"),
        (Note::Hung("x".into()), true, "hangs and is restarted: x"),
        (Note::Exited(Exit::Code(1)), true, "exited with code 1"),
        (Note::BackingOff(SECOND), false, "restarted in 1.0s"),
        (
            Note::CrashLooping(3),
            true,
            "keeps dying (3 times), is still retried",
        ),
        (
            Note::GraceOver(SECOND),
            true,
            "did not end within 1.0s after TERM, killed",
        ),
        (
            Note::StragglersKilled,
            true,
            "left processes behind, killed",
        ),
        (
            Note::KillFailed(2),
            true,
            "does not die, even killed 2 times; is a disk stuck?",
        ),
        (Note::Stopped, false, "stopped"),
        (
            Note::Abandoned,
            true,
            "could not be stopped, left to the final kill",
        ),
    ];
    for (note, is_warning, text) in expected {
        assert_eq!(
            (note.to_string().as_str(), note.is_warning()),
            (text, is_warning)
        );
        assert_eq!(Action::Note(note).wake_at(), None);
    }
    let words = [EndedBy::Stop, EndedBy::Restart, EndedBy::Liveness].map(|by| by.to_string());
    assert_eq!(
        words,
        [
            "stop requested",
            "restart requested",
            "liveness probe failed"
        ]
    );
    assert_eq!(
        [Probe::Readiness, Probe::Liveness].map(|probe| probe.to_string()),
        ["readiness", "liveness"]
    );
}
