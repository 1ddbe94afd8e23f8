//! All services of a node: who waits for whom.

use masthead_machine::{Alarm, BootTime, Machine, Random, Woken};
use thiserror::Error;

use crate::{Action, Event, GroupAction, GroupEvent, Policy, Service, ServiceName, Story};

/// The machine of all services of a node.
///
/// It holds one [`Service`] for each and adds only what concerns several: a service's first start
/// waits for the first readiness of those in [`Policy::after`], and [`GroupEvent::StopAll`] stops
/// each before those that it needs. Nothing else leads from one to another: above all, the
/// restart of one never restarts another.
#[derive(Clone, Debug)]
pub struct Group {
    members: Vec<Member>,
    stopping: bool,
    told_stopped: bool,
}

#[derive(Clone, Debug)]
struct Member {
    service: Service,
    alarm: Alarm,
    /// The services that need this one while they run.
    needed_by: Vec<usize>,
    begun: bool,
    told_ready: bool,
    told_to_stop: bool,
}

/// The services of a group do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// Two have one name.
    #[error("two services are named `{0}`; rename one")]
    Duplicate(ServiceName),
    /// One needs another that is not there.
    #[error("service `{service}` needs `{needs}`, which does not exist; add or correct it")]
    Unknown {
        /// The service that needs another.
        service: ServiceName,
        /// The other's name.
        needs: ServiceName,
    },
    /// They need each other in a circle, so that none could be stopped first.
    #[error("services need each other in a circle, `{0}` among them; remove one of the needs")]
    Circle(ServiceName),
}

impl Group {
    /// Takes services with their policies; `seed` is for the jitter of their back-off.
    pub fn new(
        services: impl IntoIterator<Item = (ServiceName, Policy)>,
        seed: u64,
    ) -> Result<Self, GroupError> {
        let mut random = Random::new(seed);
        let mut members: Vec<Member> = Vec::new();
        for (name, policy) in services {
            if members.iter().any(|member| member.service.name == name) {
                return Err(GroupError::Duplicate(name));
            }
            members.push(Member {
                service: Service::new(name, policy, random.split()),
                alarm: Alarm::default(),
                needed_by: Vec::new(),
                begun: false,
                told_ready: false,
                told_to_stop: false,
            });
        }
        for index in 0..members.len() {
            let Policy { after, needs, .. } = members[index].service.policy.clone();
            for needed in after.into_iter().chain(needs) {
                let service = members[index].service.name.clone();
                match members
                    .iter_mut()
                    .find(|member| member.service.name == needed)
                {
                    Some(member) => member.needed_by.push(index),
                    None => {
                        return Err(GroupError::Unknown {
                            service,
                            needs: needed,
                        });
                    }
                }
            }
        }
        refuse_circles(&members)?;
        Ok(Self {
            members,
            stopping: false,
            told_stopped: false,
        })
    }

    /// Takes over that a service was started before, and `restarts` times again.
    pub fn remember(&mut self, name: &ServiceName, restarts: u64) {
        let services = self.members.iter_mut().map(|member| &mut member.service);
        if let Some(service) = services.into_iter().find(|service| service.name == *name) {
            service.remember(restarts);
        }
    }

    /// The services, in the order in which they were given.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Service> {
        self.members.iter().map(|member| &member.service)
    }

    /// What there is to tell about each, in the same order.
    pub fn stories(&self) -> Vec<Story> {
        self.services().map(Service::story).collect()
    }

    /// Whether all are to be stopped.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn step_service(
        &mut self,
        index: usize,
        now: BootTime,
        event: Event,
        actions: &mut Vec<GroupAction>,
    ) {
        let Member { service, alarm, .. } = &mut self.members[index];
        let asked = service.step(now, event);
        alarm.set_by(&asked);
        actions.extend(
            asked
                .into_iter()
                .filter(|action| !matches!(action, Action::WakeAt(_)))
                .map(|action| GroupAction::Service(service.name.clone(), action)),
        );
    }

    /// Passes on what concerns others: first readiness, and the turn to stop.
    fn pass_on(&mut self, now: BootTime, actions: &mut Vec<GroupAction>) {
        for index in 0..self.members.len() {
            let Member {
                service,
                told_ready,
                ..
            } = &mut self.members[index];
            if !*told_ready && service.is_ready() {
                *told_ready = true;
                let by = service.name.clone();
                for other in 0..self.members.len() {
                    if self.members[other].service.awaited.contains(&by) {
                        let released = Event::Released { by: by.clone() };
                        self.step_service(other, now, released, actions);
                    }
                }
            }
        }
        if self.stopping {
            // One that had nothing to stop lets the next one go in the same step.
            while let Some(index) = self.next_to_stop() {
                self.members[index].told_to_stop = true;
                self.step_service(index, now, Event::StopRequested, actions);
            }
            if !self.told_stopped && self.services().all(Service::is_stopped) {
                self.told_stopped = true;
                actions.push(GroupAction::AllStopped);
            }
        }
    }

    fn next_to_stop(&self) -> Option<usize> {
        self.members.iter().position(|member| {
            let is_stopped = |&index: &usize| self.members[index].service.is_stopped();
            !member.told_to_stop && member.needed_by.iter().all(is_stopped)
        })
    }
}

impl Machine for Group {
    type Event = GroupEvent;
    type Action = GroupAction;

    fn step(&mut self, now: BootTime, event: GroupEvent) -> Vec<GroupAction> {
        let mut actions = Vec::new();
        match event {
            GroupEvent::Woken => {
                for index in 0..self.members.len() {
                    let Member { alarm, begun, .. } = &mut self.members[index];
                    if !std::mem::replace(begun, true) || alarm.is_due(now) {
                        self.step_service(index, now, Woken.into(), &mut actions);
                    }
                }
            }
            // A stop of the whole is final: the node is about to end.
            GroupEvent::Service(_, Event::RunRequested | Event::RestartRequested)
                if self.stopping => {}
            GroupEvent::Service(name, event) => {
                let index = self
                    .members
                    .iter()
                    .position(|member| member.service.name == name);
                if let Some(index) = index {
                    self.step_service(index, now, event, &mut actions);
                }
            }
            GroupEvent::StopAll => self.stopping = true,
        }
        self.pass_on(now, &mut actions);
        let deadline = self
            .members
            .iter()
            .filter_map(|member| member.alarm.at())
            .min();
        actions.extend(deadline.map(GroupAction::WakeAt));
        actions
    }
}

/// Stops the services in thought, each before those that it needs, and fails if that cannot be.
fn refuse_circles(members: &[Member]) -> Result<(), GroupError> {
    let mut stopped = vec![false; members.len()];
    while let Some(stuck) = stopped.iter().position(|stopped| !stopped) {
        let next = (0..members.len()).find(|&index| {
            !stopped[index] && members[index].needed_by.iter().all(|&other| stopped[other])
        });
        match next {
            Some(index) => stopped[index] = true,
            None => return Err(GroupError::Circle(members[stuck].service.name.clone())),
        }
    }
    Ok(())
}
