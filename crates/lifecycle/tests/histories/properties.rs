//! What must hold, checked against books of its own.

use std::time::Duration;

use masthead_lifecycle::{
    Action, Answer, Event, Exit, Group, GroupAction, Note, Phase, Policy, Probe, Process,
    ServiceName, Story,
};
use masthead_machine::{BootTime, Wakes};

use crate::scenario::NAMES;
use crate::world::Leaf;

pub(crate) struct Properties {
    policies: Vec<(ServiceName, Policy)>,
    accounts: Vec<Account>,
    node_stops: bool,
    all_stopped: bool,
}

/// What this supervisor has lived through with one service.
#[derive(Clone, Debug, Default)]
struct Account {
    story: Option<Story>,
    /// The process that answered its readiness probe well.
    proven: Option<Process>,
    ready_since: Option<BootTime>,
    was_ready: bool,
    ran: bool,
    deaths: u32,
    forgiven: u32,
    last_death: BootTime,
    /// The next start need not wait: it was asked for, or the death is forgiven.
    at_once: bool,
}

impl Account {
    /// All deaths are forgotten once the service was ready for long enough.
    fn forget(&mut self, now: BootTime, reset_after: Duration) {
        if self
            .ready_since
            .is_some_and(|since| since + reset_after <= now)
        {
            self.deaths = 0;
            self.forgiven = 0;
        }
    }
}

impl Properties {
    pub(crate) fn new(policies: Vec<(ServiceName, Policy)>) -> Self {
        let accounts = vec![Account::default(); policies.len()];
        Self {
            policies,
            accounts,
            node_stops: false,
            all_stopped: false,
        }
    }

    pub(crate) fn supervisor_began(&mut self) {
        self.accounts.fill(Account::default());
        self.all_stopped = false;
    }

    pub(crate) fn node_stops(&mut self) {
        self.node_stops = true;
    }

    pub(crate) fn all_stopped(&mut self) {
        self.all_stopped = true;
    }

    /// The books follow what the machine is told.
    pub(crate) fn told(&mut self, now: BootTime, service: usize, event: &Event) {
        let policy = &self.policies[service].1;
        let account = &mut self.accounts[service];
        let reset_after = policy.back_off.reset_after;
        if account
            .ready_since
            .is_some_and(|since| since + reset_after <= now)
        {
            account.deaths = 0;
            account.forgiven = 0;
        }
        let story = account.story.as_ref();
        let process = story.and_then(|story| story.process);
        match event {
            Event::Started { process } | Event::Adopted { process, .. } => {
                account.ran = true;
                if account.proven.is_some_and(|proven| proven != *process) {
                    account.proven = None;
                }
            }
            Event::ProbeAnswered {
                process,
                probe: Probe::Readiness,
                answer: Answer::Healthy,
            } => account.proven = Some(*process),
            Event::Exited {
                process: ended,
                exit,
            } if process == Some(*ended) => {
                let was_wanted = story.is_some_and(|story| {
                    matches!(
                        story.phase,
                        Phase::Running | Phase::Ready | Phase::Unhealthy
                    )
                });
                if was_wanted {
                    account.ready_since = None;
                    account.last_death = now;
                    account.at_once = policy.forgiveness.as_ref().is_some_and(|forgiveness| {
                        matches!(exit, Exit::Code(code) if forgiveness.codes.contains(code))
                            && account.forgiven < forgiveness.at_most
                    });
                    if account.at_once {
                        account.forgiven += 1;
                    } else {
                        account.deaths += 1;
                    }
                }
            }
            Event::RestartRequested => account.at_once = true,
            _ => {}
        }
    }

    /// Checks an action before the world carries it out.
    pub(crate) fn acts(
        &mut self,
        now: BootTime,
        service: usize,
        action: &Action,
        leaves: &[Leaf],
    ) -> Result<(), String> {
        let name = NAMES[service];
        let leaf = &leaves[service];
        self.check_isolation(service, action, leaves)?;
        let policy = &self.policies[service].1;
        let account = &mut self.accounts[service];
        let longest = policy.back_off.longest_wait(account.deaths);
        match action {
            Action::Start if leaf.is_populated() => {
                return Err(format!("start into a populated leaf: {name}"));
            }
            Action::Start if leaf.stopped_by_hand => {
                return Err(format!("start of what is to be stopped: {name}"));
            }
            Action::Start => {
                let jitter = longest * u32::from(policy.back_off.jitter_per_mille) / 1000;
                let waited = now.since(account.last_death);
                if !account.at_once && account.deaths > 0 && waited + jitter < longest {
                    return Err(format!(
                        "start too early: {name} after {waited:?} instead of {longest:?}"
                    ));
                }
                let mut awaited = policy.after.iter().map(|name| index_of(name.as_str()));
                if !self.accounts[service].ran
                    && let Some(unready) = awaited.find(|&other| !self.accounts[other].was_ready)
                {
                    let unready = NAMES[unready];
                    return Err(format!(
                        "start out of order: {name} before {unready} was ready"
                    ));
                }
            }
            Action::Note(Note::BackingOff(wait)) => {
                if *wait > longest {
                    return Err(format!(
                        "wait too long: {name} {wait:?} instead of {longest:?}"
                    ));
                }
                if *wait > policy.back_off.ceiling {
                    return Err(format!("wait beyond the ceiling: {name} {wait:?}"));
                }
            }
            Action::Note(Note::StartFailed(_) | Note::Hung(_)) => {
                account.deaths += 1;
                account.last_death = now;
                account.at_once = false;
            }
            _ => {}
        }
        Ok(())
    }

    /// A service is only ended for a reason of its own, and in its turn.
    fn check_isolation(
        &self,
        service: usize,
        action: &Action,
        leaves: &[Leaf],
    ) -> Result<(), String> {
        let ends = matches!(action, Action::Terminate { .. } | Action::KillGroup);
        let healthy = leaves[service]
            .main
            .as_ref()
            .is_some_and(|main| !main.is_suspect);
        if !ends || !healthy {
            return Ok(());
        }
        let name = NAMES[service];
        if !self.node_stops {
            return Err(format!("ended without a reason: {name} by {action:?}"));
        }
        match self.outlived_by(service, leaves) {
            Some(other) => Err(format!("stop out of order: {name} before {other}")),
            None => Ok(()),
        }
    }

    /// A service that still runs although it needs this one.
    fn outlived_by(&self, service: usize, leaves: &[Leaf]) -> Option<&'static str> {
        let needs = |other: usize| {
            let policy = &self.policies[other].1;
            policy
                .after
                .iter()
                .chain(&policy.needs)
                .any(|name| name.as_str() == NAMES[service])
        };
        let runs = |other: usize| {
            let leaf = &leaves[other];
            leaf.main.is_some() && leaf.unkillable_until == BootTime::default()
        };
        (0..NAMES.len())
            .find(|&other| needs(other) && runs(other))
            .map(|other| NAMES[other])
    }

    /// Checks the machine after a step.
    pub(crate) fn check(
        &mut self,
        now: BootTime,
        group: &Group,
        actions: &[GroupAction],
        leaves: &[Leaf],
    ) -> Result<(), String> {
        let wakes = actions.iter().any(|action| action.wake_at().is_some());
        for (service, machine) in group.services().enumerate() {
            let name = NAMES[service];
            let story = machine.story();
            let account = &self.accounts[service];
            let is_new = account
                .story
                .as_ref()
                .is_none_or(|known| known.since != story.since);
            match story.phase {
                Phase::Waiting => self.check_waiting(service)?,
                Phase::Stopped if is_new => {
                    if let Some(other) = self
                        .outlived_by(service, leaves)
                        .filter(|_| group.is_stopping() && !leaves[service].stopped_by_hand)
                    {
                        return Err(format!("stop out of order: {name} before {other}"));
                    }
                }
                Phase::Stopped => {}
                _ if !wakes => return Err(format!("stuck: {name} is {} for ever", story.phase)),
                Phase::Ready if account.proven != story.process => {
                    return Err(format!("ready without proof: {name}"));
                }
                _ => {}
            }
            let reset_after = self.policies[service].1.back_off.reset_after;
            // At the very instant the machine may not have been woken for it yet.
            if account
                .ready_since
                .is_none_or(|since| since + reset_after != now)
            {
                self.accounts[service].forget(now, reset_after);
                self.check_crash_loop(service, &story, actions)?;
            }
            let account = &mut self.accounts[service];
            account.ready_since = (story.phase == Phase::Ready).then_some(story.since);
            account.was_ready |= story.phase == Phase::Ready;
            if account.ready_since.is_some_and(|since| since > now) {
                return Err(format!("ready in the future: {name}"));
            }
            account.story = Some(story);
        }
        Ok(())
    }

    /// Waiting is left when another service becomes ready: so one has to be missing.
    fn check_waiting(&self, service: usize) -> Result<(), String> {
        let after = self.policies[service].1.after.iter();
        let mut awaited = after.map(|name| &self.accounts[index_of(name.as_str())]);
        if awaited.all(|account| account.was_ready) {
            return Err(format!("stuck: {} waits for nobody", NAMES[service]));
        }
        Ok(())
    }

    fn check_crash_loop(
        &self,
        service: usize,
        story: &Story,
        actions: &[GroupAction],
    ) -> Result<(), String> {
        let account = &self.accounts[service];
        let fresh = actions.iter().filter(|action| {
            matches!(action, GroupAction::Service(name, Action::Note(note))
                if name.as_str() == NAMES[service]
                    && matches!(note, Note::StartFailed(_) | Note::Hung(_)))
        });
        let deaths = account.deaths + u32::try_from(fresh.count()).expect("few");
        let expected = deaths >= self.policies[service].1.back_off.crash_loop_after;
        if story.crash_looping != expected {
            let name = NAMES[service];
            return Err(format!(
                "crash loop shown wrongly: {name} after {deaths} deaths"
            ));
        }
        Ok(())
    }

    /// Checks what must be reached in the end.
    pub(crate) fn finish(&self, group: &Group, leaves: &[Leaf]) -> Result<(), String> {
        for (service, machine) in group.services().enumerate() {
            let name = NAMES[service];
            let leaf = &leaves[service];
            let phase = machine.phase();
            if self.node_stops {
                if phase != Phase::Stopped || leaf.is_populated() {
                    return Err(format!("never stopped: {name} is {phase}, {leaf:?}"));
                }
            } else if phase != Phase::Ready || leaf.main.is_none() {
                return Err(format!("never restarted: {name} is {phase}, {leaf:?}"));
            }
        }
        if self.node_stops && !self.all_stopped {
            return Err("never said that all are stopped".into());
        }
        Ok(())
    }
}

fn index_of(name: &str) -> usize {
    NAMES
        .iter()
        .position(|known| *known == name)
        .expect("policies name only known services")
}
