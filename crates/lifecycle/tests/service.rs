//! The life of one service, told step by step.

use std::time::Duration;

use masthead_lifecycle::{
    Action, Answer, BackOff, EndedBy, Event, Exit, Note, Phase, Policy, Probe, ProbePolicy,
    Process, Service, Story, WaitingFor,
};
use masthead_machine::{BootTime, Machine, Random, Wakes};

const FIRST: Process = Process {
    pid: 10,
    start_time: 1,
};
const SECOND: Process = Process {
    pid: 20,
    start_time: 2,
};
const PROBE: ProbePolicy = ProbePolicy {
    interval: Duration::from_secs(10),
    startup_interval: Duration::from_secs(1),
    timeout: Duration::from_secs(4),
    failures: 2,
};

fn at(seconds: u64) -> BootTime {
    BootTime::from_boot(Duration::from_secs(seconds))
}

fn policy() -> Policy {
    Policy {
        readiness: Some(PROBE),
        liveness: Some(PROBE),
        startup: Duration::from_secs(100),
        back_off: BackOff {
            first: Duration::from_secs(2),
            ceiling: Duration::from_secs(60),
            jitter_per_mille: 0,
            reset_after: Duration::from_secs(300),
            crash_loop_after: 3,
        },
        stop_grace: Duration::from_secs(30),
        hung_grace: Duration::from_secs(7),
        straggler_grace: Duration::from_secs(3),
        patience: Duration::from_secs(5),
        kill_attempts: 2,
        ..Policy::default()
    }
}

/// A service and the clock, which only goes on.
struct Told {
    service: Service,
    now: u64,
}

impl Told {
    fn new(policy: Policy) -> Self {
        Self {
            service: Service::new("etcd".into(), policy, Random::new(1)),
            now: 1000,
        }
    }

    /// Started at 1000, with its first probes asked.
    fn started() -> Self {
        let mut told = Self::new(policy());
        told.hears(0, Event::Woken);
        told.hears(0, Event::LeafEmpty);
        told.hears(0, Event::Started { process: FIRST });
        told
    }

    fn ready() -> Self {
        let mut told = Self::started();
        told.hears(0, answered(Probe::Readiness, true));
        told.hears(0, answered(Probe::Liveness, true));
        assert_eq!(told.phase(), Phase::Ready);
        told
    }

    /// Lets seconds pass and something happen; returns what is asked for, without the deadline.
    fn hears(&mut self, seconds: u64, event: Event) -> Vec<Action> {
        self.now += seconds;
        let mut actions = self.service.step(at(self.now), event);
        actions.retain(|action| action.wake_at().is_none());
        actions
    }

    fn woken(&mut self, seconds: u64) -> Vec<Action> {
        self.hears(seconds, Event::Woken)
    }

    /// The deadline, in seconds from now.
    fn wakes_in(&mut self) -> Option<u64> {
        let actions = self.service.step(
            at(self.now),
            Event::Released {
                by: "nobody".into(),
            },
        );
        let deadline = actions.iter().find_map(Wakes::wake_at)?;
        assert_eq!(actions.len(), 1, "{actions:?}");
        Some(deadline.since(at(self.now)).as_secs())
    }

    fn phase(&self) -> Phase {
        self.service.phase()
    }

    fn story(&self) -> Story {
        self.service.story()
    }

    fn waits_for(&self) -> WaitingFor {
        self.story().waiting_for.expect("it waits")
    }
}

fn answered(probe: Probe, is_well: bool) -> Event {
    let answer = if is_well {
        Answer::Healthy
    } else {
        Answer::Unhealthy("no".into())
    };
    Event::ProbeAnswered {
        process: FIRST,
        probe,
        answer,
    }
}

fn exited(process: Process) -> Event {
    Event::Exited {
        process,
        exit: Exit::Code(2),
    }
}

fn probes(process: Process, kinds: &[Probe]) -> Vec<Action> {
    kinds
        .iter()
        .map(|&probe| Action::Probe {
            process,
            probe,
            timeout: PROBE.timeout,
        })
        .collect()
}

fn notes(actions: &[Action]) -> Vec<Note> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Note(note) => Some(note.clone()),
            _ => None,
        })
        .collect()
}

const BOTH: [Probe; 2] = [Probe::Readiness, Probe::Liveness];

#[test]
fn starts_only_after_it_looked() {
    let mut told = Told::new(policy());
    assert_eq!(
        (told.phase(), told.waits_for()),
        (Phase::Examining, WaitingFor::Examination)
    );
    assert_eq!(told.woken(0), [Action::Examine]);
    assert_eq!(told.wakes_in(), Some(5));
    assert_eq!(told.woken(4), []);
    assert_eq!(
        told.woken(1),
        [Action::Examine],
        "it asks again when no answer comes"
    );
    assert_eq!(told.hears(1, Event::LeafEmpty), [Action::Start]);
    assert_eq!(
        (told.phase(), told.waits_for()),
        (Phase::Starting, WaitingFor::Execution)
    );
    assert_eq!(told.wakes_in(), Some(5));
    let mut expected = vec![Action::Note(Note::Started(FIRST))];
    expected.extend(probes(FIRST, &BOTH));
    assert_eq!(told.hears(1, Event::Started { process: FIRST }), expected);
    assert_eq!(
        (told.phase(), told.waits_for()),
        (Phase::Running, WaitingFor::Readiness(None))
    );
    let story = told.story();
    assert_eq!((story.name.as_str(), story.since), ("etcd", at(1007)));
    assert_eq!(
        (story.process, story.started, story.restarts),
        (Some(FIRST), Some(at(1007)), 0)
    );
}

#[test]
fn is_ready_when_it_says_so_and_only_then() {
    let mut told = Told::started();
    assert_eq!(told.wakes_in(), Some(5), "the time-out and a quarter of it");
    assert_eq!(
        told.hears(1, answered(Probe::Readiness, false)),
        probes(FIRST, &BOTH[..1])
    );
    assert_eq!(told.waits_for(), WaitingFor::Readiness(Some("no".into())));
    assert_eq!(told.hears(0, answered(Probe::Liveness, true)), []);
    assert_eq!(told.phase(), Phase::Running);
    let stranger = Event::ProbeAnswered {
        process: SECOND,
        probe: Probe::Readiness,
        answer: Answer::Healthy,
    };
    assert_eq!(told.hears(0, stranger), []);
    assert_eq!(told.phase(), Phase::Running);
    let actions = told.hears(1, answered(Probe::Readiness, true));
    assert_eq!(actions, [Action::Note(Note::Ready(Duration::from_secs(2)))]);
    assert_eq!(
        (told.phase(), told.story().waiting_for),
        (Phase::Ready, None)
    );
    assert_eq!(told.story().since, at(1002));
    assert_eq!(told.story().readiness.map(|probe| probe.at), Some(at(1002)));
    assert_eq!(told.story().liveness.map(|probe| probe.at), Some(at(1001)));
}

#[test]
fn without_a_readiness_probe_it_is_ready_when_it_runs() {
    let mut told = Told::new(Policy {
        readiness: None,
        liveness: None,
        ..policy()
    });
    told.hears(0, Event::LeafEmpty);
    told.hears(0, Event::Started { process: FIRST });
    assert_eq!(told.phase(), Phase::Ready);
    assert_eq!(told.wakes_in(), None, "only an exit ends this");
}

#[test]
fn loses_readiness_after_failures_in_a_row_and_regains_it_at_once() {
    let mut told = Told::ready();
    told.woken(10);
    told.hears(0, answered(Probe::Liveness, true));
    assert_eq!(told.hears(0, answered(Probe::Readiness, false)), []);
    assert_eq!(told.phase(), Phase::Ready);
    told.woken(10);
    told.hears(0, answered(Probe::Liveness, true));
    let actions = told.hears(0, answered(Probe::Readiness, false));
    assert_eq!(notes(&actions), [Note::NotReady("no".into())]);
    assert_eq!(told.phase(), Phase::Unhealthy);
    assert_eq!(
        told.waits_for(),
        WaitingFor::ReadinessAgain(Some("no".into()))
    );
    told.woken(10);
    told.hears(0, answered(Probe::Liveness, true));
    let actions = told.hears(0, answered(Probe::Readiness, true));
    assert_eq!(notes(&actions), [Note::Ready(Duration::from_secs(30))]);
    assert_eq!(told.phase(), Phase::Ready);
}

#[test]
fn the_first_restart_is_immediate_and_the_next_ones_wait() {
    let mut told = Told::ready();
    let actions = told.hears(5, exited(FIRST));
    assert_eq!(
        actions,
        [Action::Note(Note::Exited(Exit::Code(2))), Action::Examine]
    );
    assert_eq!(
        (told.phase(), told.waits_for()),
        (Phase::Stopping, WaitingFor::EmptyLeaf)
    );
    assert_eq!(told.story().process, None);
    assert_eq!(told.hears(0, Event::LeafEmpty), [Action::Start]);
    told.hears(0, Event::Started { process: SECOND });
    let story = told.story();
    assert_eq!(story.restarts, 1);
    let last = story.last_exit.unwrap();
    assert_eq!(
        (last.exit, last.at, last.ended_by),
        (Exit::Code(2), at(1005), None)
    );
    assert_eq!(last.ran_for, Some(Duration::from_secs(5)));

    told.hears(1, exited(SECOND));
    let actions = told.hears(0, Event::LeafEmpty);
    assert_eq!(
        actions,
        [Action::Note(Note::BackingOff(Duration::from_secs(2)))]
    );
    assert_eq!(
        (told.phase(), told.waits_for()),
        (Phase::BackingOff, WaitingFor::BackOff(at(1008)))
    );
    assert_eq!(told.wakes_in(), Some(2));
    assert_eq!(told.woken(1), []);
    assert_eq!(told.woken(1), [Action::Start]);
    assert!(!told.story().crash_looping);

    let actions = told.hears(
        0,
        Event::StartFailed {
            error: "no such file".into(),
        },
    );
    let failed = Note::StartFailed("no such file".into());
    assert_eq!(notes(&actions), [failed, Note::CrashLooping(3)]);
    told.hears(0, Event::LeafEmpty);
    assert!(told.story().crash_looping);
    assert_eq!(told.waits_for(), WaitingFor::CrashLoop(at(1012)));
    assert_eq!(told.story().start_error.as_deref(), Some("no such file"));
    assert_eq!(told.woken(4), [Action::Start]);
    told.hears(0, Event::Started { process: FIRST });
    assert_eq!((told.story().start_error, told.story().restarts), (None, 2));
}

#[test]
fn a_start_that_fails_is_told_with_its_reason() {
    let mut told = Told::new(policy());
    for _ in 0..2 {
        told.hears(0, Event::LeafEmpty);
        told.woken(2);
        told.hears(0, Event::StartFailed { error: "no".into() });
    }
    told.hears(0, Event::LeafEmpty);
    assert_eq!(
        told.waits_for(),
        WaitingFor::StartRetry(at(1006), "no".into())
    );
}

#[test]
fn is_forgiven_after_a_long_time_in_order() {
    let mut told = Told::new(Policy {
        liveness: None,
        readiness: None,
        ..policy()
    });
    told.hears(0, Event::LeafEmpty);
    for _ in 0..3 {
        told.hears(0, Event::Started { process: FIRST });
        told.hears(0, exited(FIRST));
        told.hears(0, Event::LeafEmpty);
        told.woken(60);
    }
    told.hears(0, Event::Started { process: FIRST });
    assert!(told.story().crash_looping);
    assert_eq!(told.wakes_in(), Some(300));
    told.woken(299);
    assert!(told.story().crash_looping);
    told.woken(1);
    assert!(!told.story().crash_looping);
    assert_eq!(told.wakes_in(), None);
    told.hears(1, exited(FIRST));
    assert_eq!(
        told.hears(0, Event::LeafEmpty),
        [Action::Start],
        "at once again"
    );
    told.hears(0, Event::Started { process: FIRST });
    // Also if the deadline and the death fall together.
    told.hears(300, exited(FIRST));
    assert_eq!(told.hears(0, Event::LeafEmpty), [Action::Start]);
}

#[test]
fn a_hung_service_gets_a_short_grace() {
    let mut told = Told::ready();
    told.woken(10);
    told.hears(0, answered(Probe::Liveness, false));
    told.hears(0, answered(Probe::Readiness, true));
    told.woken(10);
    // Nobody answers at all this time.
    told.hears(0, answered(Probe::Readiness, true));
    let actions = told.woken(5);
    assert_eq!(
        notes(&actions),
        [Note::Hung("no answer within 4.0s".into())]
    );
    assert_eq!(actions.last(), Some(&Action::Terminate { process: FIRST }));
    assert_eq!(
        (told.phase(), told.waits_for()),
        (Phase::Stopping, WaitingFor::Termination(at(1032)))
    );
    assert_eq!(told.woken(6), []);
    let actions = told.woken(1);
    let grace = Action::Note(Note::GraceOver(Duration::from_secs(7)));
    assert_eq!(actions, [grace, Action::KillGroup, Action::Examine]);
    assert_eq!(
        (told.phase(), told.waits_for()),
        (Phase::Killing, WaitingFor::EmptyLeaf)
    );
    assert_eq!(told.hears(0, Event::LeafPopulated), []);
    let exit = Event::Exited {
        process: FIRST,
        exit: Exit::Signal(9),
    };
    assert_eq!(
        told.hears(0, exit),
        [Action::Note(Note::Exited(Exit::Signal(9))), Action::Examine]
    );
    assert_eq!(told.hears(0, Event::LeafEmpty), [Action::Start]);
    assert_eq!(
        told.story().last_exit.unwrap().ended_by,
        Some(EndedBy::Liveness)
    );
}

#[test]
fn liveness_may_fail_during_the_startup() {
    let mut told = Told::started();
    for _ in 0..20 {
        told.hears(0, answered(Probe::Liveness, false));
        told.woken(4);
    }
    assert_eq!(told.phase(), Phase::Running);
    told.woken(20);
    told.hears(0, answered(Probe::Liveness, false));
    assert_eq!(told.phase(), Phase::Running);
    told.woken(1);
    told.hears(0, answered(Probe::Liveness, false));
    assert_eq!(told.phase(), Phase::Stopping, "it had a hundred seconds");
}

/// A service that hangs right after it was ready, before its liveness was ever asked with success.
#[test]
fn who_was_ready_has_started_and_hangs_for_no_longer_than_others() {
    let mut told = Told::started();
    told.hears(0, answered(Probe::Readiness, true));
    assert_eq!(told.phase(), Phase::Ready);
    for _ in 0..20 {
        told.hears(0, answered(Probe::Liveness, false));
        told.woken(4);
    }
    assert!(
        matches!(told.phase(), Phase::Stopping | Phase::Killing),
        "{:?}, and not only after the startup's hundred seconds",
        told.phase()
    );
}

#[test]
fn children_get_a_grace_and_are_killed() {
    let mut told = Told::ready();
    told.hears(0, exited(FIRST));
    assert_eq!(told.hears(0, Event::LeafPopulated), []);
    assert_eq!(told.wakes_in(), Some(3));
    let actions = told.woken(3);
    let killed = Action::Note(Note::StragglersKilled);
    assert_eq!(actions, [killed, Action::KillGroup, Action::Examine]);
    assert_eq!(told.wakes_in(), Some(5));
    let actions = told.woken(5);
    assert_eq!(
        actions,
        [
            Action::Note(Note::KillFailed(1)),
            Action::KillGroup,
            Action::Examine
        ]
    );
    assert_eq!(notes(&told.woken(5)), [Note::KillFailed(2)]);
    assert_eq!(
        told.woken(5),
        [Action::KillGroup, Action::Examine],
        "told less and less often"
    );
    assert_eq!(notes(&told.woken(5)), [Note::KillFailed(4)]);
    assert_eq!(told.hears(0, Event::LeafEmpty), [Action::Start]);
}

#[test]
fn does_not_start_before_it_knows_how_the_last_one_ended() {
    let mut told = Told::ready();
    told.hears(0, Event::StopRequested);
    told.woken(30);
    assert_eq!(told.hears(0, Event::LeafEmpty), []);
    assert_eq!(
        (told.phase(), told.waits_for()),
        (Phase::Stopping, WaitingFor::EmptyLeaf)
    );
    assert_eq!(told.wakes_in(), Some(5));
    assert_eq!(told.woken(5), [Action::Note(Note::Stopped)]);
    let last = told.story().last_exit.unwrap();
    assert_eq!(
        (last.exit, last.ended_by),
        (Exit::Unknown, Some(EndedBy::Stop))
    );
    // The report comes after all.
    told.hears(0, exited(FIRST));
    let last = told.story().last_exit.unwrap();
    assert_eq!(
        (last.exit, last.ran_for, last.ended_by),
        (Exit::Code(2), None, None)
    );
}

#[test]
fn stops_and_stays_stopped_until_it_is_wanted_again() {
    let mut told = Told::ready();
    assert_eq!(
        told.hears(1, Event::StopRequested),
        [Action::Terminate { process: FIRST }]
    );
    assert_eq!(told.waits_for(), WaitingFor::Termination(at(1031)));
    told.hears(0, exited(FIRST));
    assert_eq!(
        told.hears(0, Event::LeafEmpty),
        [Action::Note(Note::Stopped)]
    );
    assert_eq!(
        (told.phase(), told.story().waiting_for),
        (Phase::Stopped, None)
    );
    assert!(told.service.is_stopped());
    assert_eq!((told.wakes_in(), told.woken(1000)), (None, vec![]));
    assert_eq!(
        told.hears(0, Event::RestartRequested),
        [],
        "it is not wanted"
    );
    assert_eq!(told.hears(0, Event::RunRequested), [Action::Examine]);
    assert_eq!(
        told.hears(0, Event::LeafEmpty),
        [Action::Start],
        "nobody is to blame"
    );
}

#[test]
fn a_stop_reaches_it_in_every_state() {
    let mut waiting = Told::new(Policy {
        after: vec!["other".into()],
        ..policy()
    });
    waiting.hears(0, Event::LeafEmpty);
    assert_eq!(waiting.phase(), Phase::Waiting);
    let mut backing_off = Told::ready();
    backing_off.hears(0, exited(FIRST));
    backing_off.hears(0, Event::LeafEmpty);
    backing_off.hears(0, Event::StartFailed { error: "no".into() });
    backing_off.hears(0, Event::LeafEmpty);
    assert_eq!(backing_off.phase(), Phase::BackingOff);
    for mut told in [waiting, backing_off] {
        assert_eq!(
            told.hears(0, Event::StopRequested),
            [Action::Note(Note::Stopped)]
        );
    }
    let mut examining = Told::new(policy());
    assert_eq!(examining.hears(0, Event::StopRequested), [Action::Examine]);
    let adopted = Event::Adopted {
        process: FIRST,
        since: at(500),
    };
    let actions = examining.hears(0, adopted);
    assert_eq!(
        actions,
        [
            Action::Note(Note::Adopted(FIRST)),
            Action::Terminate { process: FIRST }
        ]
    );
    let mut starting = Told::new(policy());
    starting.hears(0, Event::LeafEmpty);
    assert_eq!(starting.hears(0, Event::StopRequested), []);
    let actions = starting.hears(0, Event::Started { process: FIRST });
    assert_eq!(actions.last(), Some(&Action::Terminate { process: FIRST }));
}

#[test]
fn a_stop_goes_on_without_one_that_cannot_be_killed() {
    let mut told = Told::ready();
    told.hears(0, Event::StopRequested);
    told.woken(30);
    assert_eq!(told.woken(5).len(), 3);
    assert_eq!(
        notes(&told.woken(5)),
        [Note::KillFailed(2), Note::Abandoned]
    );
    assert!(told.service.is_stopped());
    assert_eq!(told.waits_for(), WaitingFor::EmptyLeaf);
    assert_eq!(told.hears(0, Event::LeafPopulated), []);
    assert!(told.service.is_stopped());
    told.hears(0, Event::LeafEmpty);
    assert_eq!(told.story().waiting_for, None);
    // From now on nobody belongs there.
    let actions = told.hears(0, Event::LeafPopulated);
    assert_eq!(actions[0], Action::Note(Note::StragglersKilled));
}

#[test]
fn one_that_was_given_up_can_be_adopted_again() {
    let mut told = Told::ready();
    told.hears(0, Event::StopRequested);
    for seconds in [30, 5, 5] {
        told.woken(seconds);
    }
    assert_eq!(told.hears(0, Event::RunRequested), [Action::Examine]);
    let actions = told.hears(
        0,
        Event::Adopted {
            process: FIRST,
            since: at(1000),
        },
    );
    assert_eq!(notes(&actions), [Note::Adopted(FIRST)]);
    assert_eq!(told.phase(), Phase::Running);
}

#[test]
fn a_stuck_start_is_killed_but_awaited() {
    let mut told = Told::new(policy());
    told.hears(0, Event::LeafEmpty);
    let stuck = |times| vec![Action::Note(Note::StartStuck(times)), Action::KillGroup];
    assert_eq!(told.woken(4), []);
    assert_eq!(told.woken(1), stuck(1));
    assert_eq!(told.wakes_in(), Some(5));
    assert_eq!(told.woken(5), stuck(2));
    assert_eq!(
        told.hears(0, Event::LeafEmpty),
        [],
        "the start may still happen"
    );
    told.hears(0, Event::StopRequested);
    assert_eq!(told.woken(5), [Action::Note(Note::Abandoned)]);
    let actions = told.hears(0, Event::Started { process: FIRST });
    assert_eq!(actions, [Action::KillGroup, Action::Examine]);
    assert_eq!(told.hears(0, exited(FIRST)).last(), Some(&Action::Examine));
    assert_eq!(
        told.hears(0, Event::LeafEmpty),
        [Action::Note(Note::Stopped)]
    );
}

#[test]
fn what_should_not_be_there_is_killed() {
    let mut told = Told::new(policy());
    told.woken(0);
    let killed = [
        Action::Note(Note::StragglersKilled),
        Action::KillGroup,
        Action::Examine,
    ];
    assert_eq!(told.hears(0, Event::LeafPopulated), killed);
    assert_eq!(told.hears(0, Event::LeafEmpty), [Action::Start]);
    told.hears(0, Event::StartFailed { error: "no".into() });
    told.hears(0, Event::LeafEmpty);
    told.hears(0, Event::StartFailed { error: "no".into() });
    told.hears(0, Event::LeafEmpty);
    assert_eq!(told.phase(), Phase::BackingOff);
    assert_eq!(
        told.hears(
            0,
            Event::Adopted {
                process: SECOND,
                since: at(1)
            }
        ),
        killed
    );
}

#[test]
fn adopts_what_runs_and_asks_it_at_once() {
    let mut told = Told::new(policy());
    told.woken(0);
    let mut expected = vec![Action::Note(Note::Adopted(FIRST))];
    expected.extend(probes(FIRST, &BOTH));
    assert_eq!(
        told.hears(
            0,
            Event::Adopted {
                process: FIRST,
                since: at(400)
            }
        ),
        expected
    );
    assert_eq!(
        (told.phase(), told.story().started),
        (Phase::Running, Some(at(400)))
    );
    told.hears(0, exited(FIRST));
    assert_eq!(told.hears(0, Event::LeafEmpty), [Action::Start]);
    told.hears(0, Event::Started { process: SECOND });
    assert_eq!(
        told.story().restarts,
        1,
        "the adopted one counts as a start"
    );
}

#[test]
fn a_restart_on_request_blames_nobody() {
    let mut told = Told::ready();
    assert_eq!(
        told.hears(0, Event::RestartRequested),
        [Action::Terminate { process: FIRST }]
    );
    told.hears(0, exited(FIRST));
    assert_eq!(told.hears(0, Event::LeafEmpty), [Action::Start]);
    assert_eq!(
        told.story().last_exit.unwrap().ended_by,
        Some(EndedBy::Restart)
    );
    told.hears(0, Event::StartFailed { error: "no".into() });
    told.hears(0, Event::LeafEmpty);
    told.hears(0, Event::StartFailed { error: "no".into() });
    told.hears(0, Event::LeafEmpty);
    assert_eq!(told.phase(), Phase::BackingOff);
    assert_eq!(
        told.hears(0, Event::RestartRequested),
        [Action::Start],
        "it waits no longer"
    );
}

#[test]
fn waits_for_others_before_its_first_start_only() {
    let mut told = Told::new(Policy {
        after: vec!["a".into(), "b".into()],
        ..policy()
    });
    told.hears(0, Event::LeafEmpty);
    assert_eq!(
        told.waits_for(),
        WaitingFor::Services(vec!["a".into(), "b".into()])
    );
    assert_eq!((told.phase(), told.wakes_in()), (Phase::Waiting, None));
    assert_eq!(told.hears(5, Event::Released { by: "b".into() }), []);
    assert_eq!(told.waits_for(), WaitingFor::Services(vec!["a".into()]));
    assert_eq!(told.story().since, at(1000));
    assert_eq!(
        told.hears(0, Event::Released { by: "a".into() }),
        [Action::Start]
    );

    let mut told = Told::new(Policy {
        after: vec!["a".into()],
        ..policy()
    });
    told.hears(
        0,
        Event::Adopted {
            process: FIRST,
            since: at(1),
        },
    );
    told.hears(0, exited(FIRST));
    assert_eq!(
        told.hears(0, Event::LeafEmpty),
        [Action::Start],
        "it ran already"
    );
}
