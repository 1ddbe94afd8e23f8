//! A service's story as the management API tells it.

use std::time::Duration;

use masthead_api::status::{Exit, Probe, ProbeKind, Service, ServiceState};
use masthead_api::{Reason, ReasonCode, Timestamp};
use masthead_lifecycle::{Answer, LastExit, Phase, ProbeStory, Story, WaitingFor};
use masthead_machine::BootTime;

use super::wall_time;

/// What the API says about a service; `last_lines` of its output are for one that is not well.
pub fn status(story: &Story, last_lines: Vec<String>) -> Service {
    let probes = [
        (ProbeKind::Readiness, &story.readiness),
        (ProbeKind::Liveness, &story.liveness),
    ];
    Service {
        name: story.name.to_string(),
        state: state(story.phase),
        since: timestamp(story.since),
        pid: story.process.map(|process| process.pid),
        restarts: u32::try_from(story.restarts).unwrap_or(u32::MAX),
        last_exit: story.last_exit.map(exit),
        crash_looping: story.crash_looping,
        probes: probes
            .into_iter()
            .filter_map(|(kind, story)| Some(probe(kind, story.as_ref()?)))
            .collect(),
        waiting: story
            .waiting_for
            .as_ref()
            .map(|waiting| reason(story, waiting)),
        last_lines,
    }
}

fn state(phase: Phase) -> ServiceState {
    match phase {
        Phase::Examining | Phase::Waiting => ServiceState::Waiting,
        Phase::Starting | Phase::Running => ServiceState::Starting,
        Phase::Ready => ServiceState::Ready,
        Phase::Unhealthy => ServiceState::Unready,
        Phase::Stopping | Phase::Killing => ServiceState::Stopping,
        Phase::BackingOff => ServiceState::BackingOff,
        Phase::Stopped => ServiceState::Stopped,
    }
}

fn exit(last: LastExit) -> Exit {
    use masthead_lifecycle::Exit as Ended;
    let (code, signal) = match last.exit {
        Ended::Code(code) => (Some(code), None),
        Ended::Signal(signal) => (None, Some(signal)),
        Ended::Unknown => (None, None),
    };
    Exit {
        code,
        signal,
        at: timestamp(last.at),
        ran_for: last.ran_for.map(milliseconds),
        ended_by: last.ended_by.map(|reason| reason.to_string()),
    }
}

fn probe(kind: ProbeKind, story: &ProbeStory) -> Probe {
    let (healthy, detail) = match &story.answer {
        Answer::Healthy => (true, String::new()),
        Answer::Unhealthy(said) => (false, said.clone()),
    };
    Probe {
        kind,
        healthy,
        detail,
        at: timestamp(story.at),
    }
}

fn reason(story: &Story, waiting: &WaitingFor) -> Reason {
    Reason::new(ReasonCode::from(waiting.code()), timestamp(story.since))
        .with_cause(format!("{}: {waiting}.", story.name))
}

fn timestamp(at: BootTime) -> Timestamp {
    Timestamp::from(wall_time(at))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use masthead_lifecycle::{EndedBy, Process};

    use super::*;

    fn story(phase: Phase, waiting_for: Option<WaitingFor>) -> Story {
        Story {
            name: "etcd".into(),
            phase,
            since: BootTime::default(),
            process: Some(Process {
                pid: 77,
                start_time: 1,
            }),
            started: Some(BootTime::default()),
            restarts: 4,
            crash_looping: true,
            last_exit: Some(LastExit {
                exit: masthead_lifecycle::Exit::Signal(9),
                at: BootTime::default(),
                ran_for: Some(Duration::from_millis(1500)),
                ended_by: Some(EndedBy::Liveness),
            }),
            start_error: None,
            readiness: Some(ProbeStory {
                answer: Answer::Unhealthy("503".to_owned()),
                at: BootTime::default(),
                failures: 1,
            }),
            liveness: None,
            waiting_for,
        }
    }

    #[test]
    fn tells_the_whole_story() {
        let waiting = WaitingFor::Readiness(Some("503".to_owned()));
        let told = status(
            &story(Phase::Running, Some(waiting)),
            vec!["last".to_owned()],
        );
        assert_eq!(
            (told.name.as_str(), told.pid, told.restarts),
            ("etcd", Some(77), 4)
        );
        assert_eq!(told.state, ServiceState::Starting);
        assert!(told.crash_looping);
        assert_eq!(told.last_lines, ["last"]);
        let exit = told.last_exit.unwrap();
        assert_eq!(
            (exit.code, exit.signal, exit.ran_for),
            (None, Some(9), Some(1500))
        );
        assert_eq!(exit.ended_by.as_deref(), Some("liveness probe failed"));
        assert_eq!(told.probes.len(), 1);
        assert_eq!(told.probes[0].kind, ProbeKind::Readiness);
        assert_eq!(
            (told.probes[0].healthy, told.probes[0].detail.as_str()),
            (false, "503")
        );
        let reason = told.waiting.unwrap();
        assert_eq!(reason.cause, "etcd: not ready yet: 503.");
    }

    #[test]
    fn every_reason_has_a_known_code_and_a_remedy() {
        let at = BootTime::default();
        let waits = [
            WaitingFor::Examination,
            WaitingFor::Services(vec!["etcd".into()]),
            WaitingFor::Execution,
            WaitingFor::Readiness(None),
            WaitingFor::ReadinessAgain(None),
            WaitingFor::Termination(at),
            WaitingFor::EmptyLeaf,
            WaitingFor::BackOff(at),
            WaitingFor::StartRetry(at, "no such file".to_owned()),
            WaitingFor::CrashLoop(at),
        ];
        for waiting in waits {
            let told = status(&story(Phase::BackingOff, Some(waiting)), Vec::new());
            let reason = told.waiting.unwrap();
            assert!(!reason.remedy.is_empty(), "{reason:?}");
            assert!(!matches!(reason.code, ReasonCode::Other(_)), "{reason:?}");
        }
    }
}
