//! The simulator itself, with two nodes that play ping-pong over a lossy network.

use std::collections::BTreeSet;
use std::time::Duration;

use masthead_machine::{BootTime, Machine, Wakes, Woken};
use masthead_simulator::{Environment, Node, Schedule, Simulation, check, replay};

const SECOND: Duration = Duration::from_secs(1);

/// Sends a number until the same number comes back, and then the next one.
#[derive(Default)]
struct Pinger {
    sent: u32,
    answered: u32,
    /// The fault: to send only once.
    impatient: bool,
}

#[derive(Debug)]
enum Event {
    Woken,
    Pong(u32),
}

#[derive(Debug)]
enum Action {
    Ping(u32),
    WakeAt(BootTime),
}

impl From<Woken> for Event {
    fn from(Woken: Woken) -> Self {
        Self::Woken
    }
}

impl Wakes for Action {
    fn wake_at(&self) -> Option<BootTime> {
        match self {
            Self::WakeAt(at) => Some(*at),
            Self::Ping(_) => None,
        }
    }
}

impl Machine for Pinger {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: BootTime, event: Event) -> Vec<Action> {
        if let Event::Pong(number) = event {
            self.answered = self.answered.max(number);
        }
        if self.impatient && self.sent > self.answered {
            return vec![];
        }
        self.sent = self.answered + 1;
        vec![Action::Ping(self.sent), Action::WakeAt(now + SECOND)]
    }
}

struct Network {
    loss_per_mille: u16,
    impatient: bool,
    furthest: [u32; 2],
}

#[derive(Debug)]
enum Happening {
    Arrives(Node, u32),
    Crash(Node),
    Boot(Node),
}

impl Environment for Network {
    type Machine = Pinger;
    type Happening = Happening;

    fn begin(&mut self, schedule: &mut Schedule<Self>) {
        for node in [Node(0), Node(1)] {
            schedule.boot(
                node,
                Pinger {
                    impatient: self.impatient,
                    ..Pinger::default()
                },
            );
            schedule.happen_after(SECOND * 5, Happening::Crash(node));
        }
    }

    fn act(
        &mut self,
        schedule: &mut Schedule<Self>,
        node: Node,
        action: Action,
    ) -> Result<(), String> {
        if let Action::Ping(number) = action {
            let delay = schedule.random().up_to(SECOND / 10);
            if !schedule.mishap(self.loss_per_mille, "lost") {
                schedule.happen_after(delay, Happening::Arrives(node, number));
            }
        }
        Ok(())
    }

    fn happen(
        &mut self,
        schedule: &mut Schedule<Self>,
        happening: Happening,
    ) -> Result<(), String> {
        match happening {
            Happening::Arrives(node, number) => {
                let furthest = &mut self.furthest[node.0];
                *furthest = number.max(*furthest);
                schedule.tell_after(SECOND / 100, node, Event::Pong(number));
            }
            Happening::Crash(node) => {
                assert!(schedule.is_up(node));
                if schedule.mishap(500, "crash") {
                    schedule.crash(node);
                    assert!(!schedule.is_up(node));
                    schedule.happen_after(SECOND, Happening::Boot(node));
                }
            }
            Happening::Boot(node) => {
                assert_eq!(schedule.life(node), 1);
                schedule.boot(
                    node,
                    Pinger {
                        impatient: self.impatient,
                        ..Pinger::default()
                    },
                );
            }
        }
        Ok(())
    }

    fn told(&mut self, _: BootTime, _: Node, _: &Event) {}

    fn check(
        &mut self,
        _: BootTime,
        _: Node,
        machine: &Pinger,
        actions: &[Action],
    ) -> Result<(), String> {
        if !machine.impatient && !actions.iter().any(|action| action.wake_at().is_some()) {
            return Err("no deadline".into());
        }
        Ok(())
    }

    fn finish(&mut self, _: BootTime, machines: &[Option<&Pinger>]) -> Result<(), String> {
        let arrived = |machine: &&Pinger| machine.answered >= 100;
        if machines
            .iter()
            .flatten()
            .filter(|machine| arrived(machine))
            .count()
            < 2
        {
            return Err(format!("stuck at {:?}", self.furthest));
        }
        Ok(())
    }
}

fn at(seconds: u32) -> BootTime {
    BootTime::from_boot(SECOND * seconds)
}

fn build(impatient: bool) -> impl Fn(u64) -> Simulation<Network> {
    move |seed| {
        let network = Network {
            loss_per_mille: 200,
            impatient,
            furthest: [0; 2],
        };
        Simulation::new(network, seed, 2, at(10))
    }
}

#[test]
fn a_patient_pinger_passes() {
    check(0..200, at(40), build(false)).unwrap();
}

#[test]
fn an_impatient_one_fails_with_a_single_mishap() {
    let failure = check(0..200, at(40), build(true)).unwrap_err();
    assert!(failure.violation.starts_with("stuck at"), "{failure}");
    assert_eq!(failure.mishaps.len(), 1, "{failure}");
    assert!(
        failure.trace.iter().any(|line| line.contains("mishap")),
        "{failure}"
    );
    let text = failure.to_string();
    assert!(text.contains(&format!("seed {}", failure.seed)), "{text}");
}

#[test]
fn a_seed_is_a_history() {
    let trace = |seed| {
        replay(seed, at(20), BTreeSet::new(), build(true))
            .unwrap_err()
            .trace
    };
    let failing = check(0..200, at(20), build(true)).unwrap_err().seed;
    assert_eq!(trace(failing), trace(failing));
    assert!(trace(failing).len() > 5);
}
