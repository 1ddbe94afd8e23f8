//! One history.

use std::fmt::Debug;

use masthead_machine::{Alarm, BootTime, Machine, Woken};

use crate::schedule::Occurrence;
use crate::{Node, Schedule};

/// Everything that machines act upon, and the properties that must hold.
pub trait Environment: Sized {
    /// The machine that every node runs.
    type Machine: Machine<Event: Debug, Action: Debug>;
    /// What happens outside of the machines.
    type Happening: Debug;

    /// The beginning of the history.
    fn begin(&mut self, schedule: &mut Schedule<Self>);

    /// Carries out an action of the machine on `node`. An error is a violated property.
    fn act(
        &mut self,
        schedule: &mut Schedule<Self>,
        node: Node,
        action: <Self::Machine as Machine>::Action,
    ) -> Result<(), String>;

    /// Lets something happen that [`Schedule::happen_after`] announced.
    fn happen(
        &mut self,
        schedule: &mut Schedule<Self>,
        happening: Self::Happening,
    ) -> Result<(), String>;

    /// Sees what a machine is told, just before it is.
    fn told(&mut self, now: BootTime, node: Node, event: &<Self::Machine as Machine>::Event);

    /// Checks a machine that has just made a step, and what it asks for, before that is carried
    /// out.
    fn check(
        &mut self,
        now: BootTime,
        node: Node,
        machine: &Self::Machine,
        actions: &[<Self::Machine as Machine>::Action],
    ) -> Result<(), String>;

    /// Checks what must be reached in the end, after a calm time.
    fn finish(&mut self, now: BootTime, machines: &[Option<&Self::Machine>]) -> Result<(), String>;
}

/// Machines, their environment, and the future.
pub struct Simulation<E: Environment> {
    environment: E,
    pub(crate) schedule: Schedule<E>,
}

impl<E: Environment> Simulation<E> {
    /// A history of `nodes` nodes (all down at first) that follows from `seed`. No mishap happens
    /// from `calm_from` on.
    pub fn new(environment: E, seed: u64, nodes: usize, calm_from: BootTime) -> Self {
        Self {
            environment,
            schedule: Schedule::new(seed, nodes, calm_from),
        }
    }

    /// What the machines act upon.
    pub fn environment(&self) -> &E {
        &self.environment
    }

    /// Runs to `end`. An error says which property was violated; the time is that of the
    /// schedule.
    pub fn run(&mut self, end: BootTime) -> Result<(), String> {
        self.environment.begin(&mut self.schedule);
        while let Some(occurrence) = self.schedule.next(end) {
            match occurrence {
                Occurrence::Event { node, event, .. } => self.step(node, event)?,
                Occurrence::Wake { node, .. } => self.step(node, Woken.into())?,
                Occurrence::Happening(happening) => {
                    self.schedule.note(|| format!("{happening:?}"));
                    self.environment.happen(&mut self.schedule, happening)?;
                }
            }
        }
        let machines: Vec<_> = self
            .schedule
            .nodes
            .iter()
            .map(|slot| slot.machine.as_ref())
            .collect();
        self.environment.finish(end, &machines)
    }

    fn step(&mut self, node: Node, event: <E::Machine as Machine>::Event) -> Result<(), String> {
        let now = self.schedule.now();
        self.schedule.note(|| format!("{node:?} hears {event:?}"));
        let Some(machine) = &mut self.schedule.nodes[node.0].machine else {
            return Ok(());
        };
        self.environment.told(now, node, &event);
        let actions = machine.step(now, event);
        self.environment.check(now, node, machine, &actions)?;
        let mut alarm = Alarm::default();
        alarm.set_by(&actions);
        self.schedule.set_alarm(node, alarm.at());
        let life = self.schedule.life(node);
        for action in actions {
            // An action can end the node; what it still had to do is not done then.
            if self.schedule.life(node) != life {
                break;
            }
            self.schedule.note(|| format!("{node:?} does {action:?}"));
            self.environment.act(&mut self.schedule, node, action)?;
        }
        Ok(())
    }
}
