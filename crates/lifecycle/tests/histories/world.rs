//! The kernel, the services, PID 1 and the operator.

use std::time::Duration;

use masthead_lifecycle::{
    Action, Answer, Event, Exit, Group, GroupAction, GroupEvent, Probe, Process,
};
use masthead_machine::BootTime;
use masthead_simulator::{Environment, Node, Schedule};

use crate::faults::{Fault, Faulty};
use crate::properties::Properties;
use crate::scenario::{CONTROLLER_MANAGER, LEASE_LOST, NAMES, Scenario};

const SUPERVISOR: Node = Node(0);
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) struct World {
    scenario: Scenario,
    fault: Option<Fault>,
    pub(crate) leaves: [Leaf; NAMES.len()],
    /// Exits that no supervisor has heard of yet.
    unheard: Vec<(usize, Process, Exit)>,
    pids: u32,
    pub(crate) node_stops: bool,
    properties: Properties,
}

/// The control group of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) main: Option<Main>,
    pub(crate) children: u32,
    pub(crate) unkillable_until: BootTime,
    /// The operator wants it stopped (a new supervisor does not know).
    pub(crate) stopped_by_hand: bool,
}

/// The main process of a service.
#[derive(Clone, Debug)]
pub(crate) struct Main {
    pub(crate) process: Process,
    started: BootTime,
    ready_at: BootTime,
    hung: bool,
    deaf: bool,
    /// It gave the supervisor a reason to end it.
    pub(crate) is_suspect: bool,
}

#[derive(Debug)]
pub(crate) enum Happening {
    /// The kernel executes a program, or does not; it was asked to in this life of the supervisor.
    Execute {
        service: usize,
        life: u64,
        late: bool,
    },
    Dies {
        service: usize,
        process: Process,
        exit: Exit,
    },
    Hangs {
        service: usize,
        process: Process,
    },
    ChildDies {
        service: usize,
    },
    Killed {
        service: usize,
    },
    Heard {
        service: usize,
        process: Process,
    },
    Looked {
        service: usize,
        life: u64,
    },
    Emptied {
        service: usize,
    },
    Answers {
        service: usize,
        life: u64,
        process: Process,
        probe: Probe,
    },
    SupervisorMayDie,
    SupervisorBoots,
    OperatorMayAct,
}

impl Leaf {
    pub(crate) fn is_populated(&self) -> bool {
        self.main.is_some() || self.children > 0
    }

    fn main_is(&mut self, process: Process) -> Option<&mut Main> {
        self.main.as_mut().filter(|main| main.process == process)
    }
}

impl World {
    pub(crate) fn new(scenario: Scenario, fault: Option<Fault>) -> Self {
        let properties = Properties::new(scenario.policies());
        Self {
            scenario,
            fault,
            leaves: Default::default(),
            unheard: Vec::new(),
            pids: 100,
            node_stops: false,
            properties,
        }
    }

    fn boot(&mut self, schedule: &mut Schedule<Self>) {
        self.properties.supervisor_began();
        for leaf in &mut self.leaves {
            leaf.stopped_by_hand = false;
        }
        let mut policies = self.scenario.policies();
        if let Some(fault) = self.fault {
            fault.alter(&mut policies);
        }
        let group = Group::new(policies, schedule.random().bits()).expect("they fit together");
        schedule.boot(SUPERVISOR, Faulty::new(group, self.fault));
        for (service, process, _) in self.unheard.clone() {
            let delay = schedule.random().up_to(MILLISECOND * 100);
            schedule.happen_after(delay, Happening::Heard { service, process });
        }
        if self.node_stops {
            let delay = schedule.random().up_to(MILLISECOND * 100);
            schedule.tell_after(delay, SUPERVISOR, GroupEvent::StopAll);
        }
    }

    fn tell(schedule: &mut Schedule<Self>, service: usize, event: Event) {
        schedule.tell(
            SUPERVISOR,
            GroupEvent::Service(NAMES[service].into(), event),
        );
    }

    fn execute(&mut self, schedule: &mut Schedule<Self>, service: usize, life: u64, late: bool) {
        let mine = schedule.is_up(SUPERVISOR) && schedule.life(SUPERVISOR) == life;
        if !mine {
            // Killed before it called clone3(2); what it called before is what it left behind.
            return;
        }
        let fails = schedule.mishap(self.scenario.start_fails, "start fails");
        if fails || self.leaves[service].is_populated() {
            Self::tell(schedule, service, Event::StartFailed { error: "no".into() });
            return;
        }
        let now = schedule.now();
        self.pids += 1;
        let process = Process {
            pid: self.pids,
            start_time: u64::from(self.pids),
        };
        let slow = schedule.mishap(self.scenario.slow_to_ready, "slow to be ready");
        let ready_in = schedule
            .random()
            .up_to(if slow { SECOND * 20 } else { SECOND });
        let deaf = schedule.mishap(self.scenario.deaf, "ignores TERM");
        let lifetime = schedule.random().up_to(SECOND * 20);
        let exit = match (service, schedule.random().below(3)) {
            (CONTROLLER_MANAGER, 0 | 1) => Exit::Code(LEASE_LOST),
            (_, 2) => Exit::Signal(9),
            _ => Exit::Code(2),
        };
        if schedule.mishap(self.scenario.dies_at_once, "dies at once") {
            schedule.happen_after(
                lifetime / 100,
                Happening::Dies {
                    service,
                    process,
                    exit,
                },
            );
        } else if schedule.mishap(self.scenario.dies, "dies") {
            schedule.happen_after(
                lifetime,
                Happening::Dies {
                    service,
                    process,
                    exit,
                },
            );
        } else if schedule.mishap(self.scenario.hangs, "hangs") {
            schedule.happen_after(lifetime, Happening::Hangs { service, process });
        }
        let leaf = &mut self.leaves[service];
        leaf.main = Some(Main {
            process,
            started: now,
            ready_at: now + ready_in,
            hung: false,
            deaf,
            is_suspect: late || leaf.stopped_by_hand,
        });
        if schedule.mishap(self.scenario.leaves_children, "has children that stay") {
            leaf.children += 1;
        }
        if schedule.mishap(self.scenario.unkillable, "cannot be killed") {
            leaf.unkillable_until = now + SECOND * 20;
        }
        Self::tell(schedule, service, Event::Started { process });
    }

    fn ended(&mut self, schedule: &mut Schedule<Self>, service: usize, exit: Exit) {
        let leaf = &mut self.leaves[service];
        let Some(main) = leaf.main.take() else {
            return;
        };
        for _ in 0..leaf.children {
            let delay = schedule.random().up_to(SECOND * 3);
            schedule.happen_after(delay, Happening::ChildDies { service });
        }
        let process = main.process;
        self.unheard.push((service, process, exit));
        if !schedule.mishap(self.scenario.report_lost, "exit is not reported") {
            let delay = schedule.random().up_to(MILLISECOND * 5);
            schedule.happen_after(delay, Happening::Heard { service, process });
        }
        self.may_be_empty(schedule, service);
    }

    fn may_be_empty(&mut self, schedule: &mut Schedule<Self>, service: usize) {
        if !self.leaves[service].is_populated()
            && !schedule.mishap(self.scenario.notice_lost, "empty leaf is not noticed")
        {
            let delay = schedule.random().up_to(MILLISECOND * 5);
            schedule.happen_after(delay, Happening::Emptied { service });
        }
    }

    fn answer(&mut self, now: BootTime, service: usize, process: Process, probe: Probe) -> Answer {
        let no = |said: &str| Answer::Unhealthy(said.into());
        match self.leaves[service].main_is(process) {
            None => no("connection refused"),
            Some(main) if main.hung => no("timed out"),
            Some(main) if probe == Probe::Readiness && now < main.ready_at => no("starting"),
            // Alive answers only a little after the start.
            Some(main) if now < main.started + MILLISECOND * 200 => no("connection refused"),
            Some(_) => Answer::Healthy,
        }
    }

    fn operator_acts(&mut self, schedule: &mut Schedule<Self>) {
        let service = usize::try_from(schedule.random().below(4)).expect("one of four");
        if schedule.is_calm() && !self.node_stops {
            for (service, leaf) in self.leaves.iter_mut().enumerate() {
                if std::mem::take(&mut leaf.stopped_by_hand) {
                    Self::tell(schedule, service, Event::RunRequested);
                }
            }
        }
        if schedule.mishap(self.scenario.node_stops, "the node is stopped") {
            self.node_stops = true;
            self.properties.node_stops();
            schedule.tell(SUPERVISOR, GroupEvent::StopAll);
        }
        if !schedule.mishap(self.scenario.operator_acts, "the operator acts") {
            return;
        }
        let leaf = &mut self.leaves[service];
        if let Some(main) = &mut leaf.main {
            main.is_suspect = true;
        }
        let event = match schedule.random().below(3) {
            0 => {
                leaf.stopped_by_hand = true;
                Event::StopRequested
            }
            1 => Event::RestartRequested,
            _ => {
                // A node that stops does not start anything again.
                leaf.stopped_by_hand &= self.node_stops;
                Event::RunRequested
            }
        };
        Self::tell(schedule, service, event);
    }
}

impl Environment for World {
    type Machine = Faulty;
    type Happening = Happening;

    fn begin(&mut self, schedule: &mut Schedule<Self>) {
        self.boot(schedule);
        schedule.happen_after(SECOND, Happening::SupervisorMayDie);
        schedule.happen_after(SECOND, Happening::OperatorMayAct);
    }

    fn act(
        &mut self,
        schedule: &mut Schedule<Self>,
        _: Node,
        action: GroupAction,
    ) -> Result<(), String> {
        let now = schedule.now();
        let GroupAction::Service(name, action) = action else {
            if action == GroupAction::AllStopped {
                self.properties.all_stopped();
            }
            return Ok(());
        };
        let service = index_of(name.as_str());
        self.properties.acts(now, service, &action, &self.leaves)?;
        let life = schedule.life(SUPERVISOR);
        let soon = schedule.random().up_to(MILLISECOND * 20);
        match action {
            Action::Start => {
                let late = schedule.mishap(self.scenario.start_slow, "start takes long");
                let delay = if late {
                    schedule.random().up_to(SECOND * 6)
                } else {
                    soon
                };
                schedule.happen_after(
                    delay,
                    Happening::Execute {
                        service,
                        life,
                        late,
                    },
                );
            }
            Action::Terminate { process } => {
                if let Some(main) = self.leaves[service].main_is(process)
                    && !main.hung
                    && !main.deaf
                {
                    let delay = schedule.random().up_to(SECOND);
                    let exit = Exit::Code(0);
                    schedule.happen_after(
                        delay,
                        Happening::Dies {
                            service,
                            process,
                            exit,
                        },
                    );
                }
            }
            Action::KillGroup => {
                // The signal waits for a process that is stuck in the kernel.
                let stuck = self.leaves[service].unkillable_until.since(now);
                schedule.happen_after(soon + stuck, Happening::Killed { service });
            }
            Action::Examine => {
                schedule.happen_after(soon / 20, Happening::Looked { service, life });
            }
            Action::Probe {
                process,
                probe,
                timeout,
            } => {
                let silent = schedule.mishap(self.scenario.probe_fails, "probe gets no answer");
                let hung = self.leaves[service]
                    .main_is(process)
                    .is_none_or(|main| main.hung);
                if (silent || hung)
                    && let Some(main) = self.leaves[service].main_is(process)
                {
                    main.is_suspect = true;
                }
                if !silent {
                    let delay = if hung { timeout } else { soon };
                    let answer = Happening::Answers {
                        service,
                        life,
                        process,
                        probe,
                    };
                    schedule.happen_after(delay, answer);
                }
            }
            Action::WakeAt(_) | Action::Note(_) => {}
        }
        Ok(())
    }

    fn happen(
        &mut self,
        schedule: &mut Schedule<Self>,
        happening: Happening,
    ) -> Result<(), String> {
        let now = schedule.now();
        match happening {
            Happening::Execute {
                service,
                life,
                late,
            } => {
                self.execute(schedule, service, life, late);
            }
            Happening::Dies {
                service,
                process,
                exit,
            } => {
                if self.leaves[service]
                    .main_is(process)
                    .is_some_and(|main| !main.hung)
                {
                    self.ended(schedule, service, exit);
                }
            }
            Happening::Hangs { service, process } => {
                if let Some(main) = self.leaves[service].main_is(process) {
                    main.hung = true;
                }
            }
            Happening::ChildDies { service } => {
                let leaf = &mut self.leaves[service];
                // Those that are left belong to the next process, or were killed meanwhile.
                if leaf.main.is_none() && leaf.children > 0 {
                    leaf.children -= 1;
                    self.may_be_empty(schedule, service);
                }
            }
            Happening::Killed { service } => {
                self.leaves[service].children = 0;
                if self.leaves[service].main.is_some() {
                    self.ended(schedule, service, Exit::Signal(9));
                } else {
                    self.may_be_empty(schedule, service);
                }
            }
            Happening::Heard { service, process } => {
                let unheard = self
                    .unheard
                    .iter()
                    .position(|(_, unheard, _)| *unheard == process);
                if let Some(index) = unheard.filter(|_| schedule.is_up(SUPERVISOR)) {
                    let (_, _, exit) = self.unheard.remove(index);
                    Self::tell(schedule, service, Event::Exited { process, exit });
                }
            }
            Happening::Looked { service, life } => {
                if schedule.is_up(SUPERVISOR) && schedule.life(SUPERVISOR) == life {
                    let leaf = &self.leaves[service];
                    let found = match &leaf.main {
                        Some(main) => Event::Adopted {
                            process: main.process,
                            since: main.started,
                        },
                        None if leaf.children > 0 => Event::LeafPopulated,
                        None => Event::LeafEmpty,
                    };
                    Self::tell(schedule, service, found);
                }
            }
            Happening::Emptied { service } => {
                if schedule.is_up(SUPERVISOR) && !self.leaves[service].is_populated() {
                    Self::tell(schedule, service, Event::LeafEmpty);
                }
            }
            Happening::Answers {
                service,
                life,
                process,
                probe,
            } => {
                if schedule.is_up(SUPERVISOR) && schedule.life(SUPERVISOR) == life {
                    let answer = self.answer(now, service, process, probe);
                    let answered = Event::ProbeAnswered {
                        process,
                        probe,
                        answer,
                    };
                    Self::tell(schedule, service, answered);
                }
            }
            Happening::SupervisorMayDie => {
                schedule.happen_after(SECOND, Happening::SupervisorMayDie);
                if schedule.is_up(SUPERVISOR)
                    && schedule.mishap(self.scenario.supervisor_dies, "supervisor dies")
                {
                    schedule.crash(SUPERVISOR);
                    let delay = schedule.random().up_to(SECOND * 3);
                    schedule.happen_after(delay, Happening::SupervisorBoots);
                }
            }
            Happening::SupervisorBoots => self.boot(schedule),
            Happening::OperatorMayAct => {
                let delay = schedule.random().up_to(SECOND * 2);
                schedule.happen_after(delay, Happening::OperatorMayAct);
                if schedule.is_up(SUPERVISOR) {
                    self.operator_acts(schedule);
                }
            }
        }
        Ok(())
    }

    fn told(&mut self, now: BootTime, _: Node, event: &GroupEvent) {
        if let GroupEvent::Service(name, event) = event {
            self.properties.told(now, index_of(name.as_str()), event);
        }
    }

    fn check(
        &mut self,
        now: BootTime,
        _: Node,
        machine: &Faulty,
        actions: &[GroupAction],
    ) -> Result<(), String> {
        self.properties
            .check(now, machine.group(), actions, &self.leaves)
    }

    fn finish(&mut self, _: BootTime, machines: &[Option<&Faulty>]) -> Result<(), String> {
        let machine = machines[SUPERVISOR.0].ok_or("the supervisor is down in the end")?;
        self.properties.finish(machine.group(), &self.leaves)
    }
}

fn index_of(name: &str) -> usize {
    NAMES
        .iter()
        .position(|known| *known == name)
        .expect("the group names only its own services")
}
