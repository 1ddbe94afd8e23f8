//! Histories that are written down: what happens at which time, or as soon as something is the case.

use std::collections::BTreeSet;
use std::time::Duration;

use masthead_simulator::Schedule;

use crate::host::{Wipe, name};
use crate::world::World;

/// What a script can do. Hosts count from 0.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Cut the power, and keep it off.
    Off(usize),
    On(usize),
    /// Of a host that is off.
    Wipe(usize, Wipe),
    /// Put in the disks of a former cluster of these hosts, in service.
    FormerDisk(usize, BTreeSet<usize>),
    /// These on one side, all others on the other.
    Split(BTreeSet<usize>),
    Heal,
    FoundWithout(usize, BTreeSet<usize>),
    /// What must be the case now.
    Expect(&'static str, fn(&World) -> bool),
}

/// A written history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) timed: Vec<(Duration, Vec<Command>)>,
    /// Each is sprung once, as soon as its condition holds.
    pub(crate) traps: Vec<(Condition, Vec<Command>)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition {
    /// That many actions were carried out, by all together.
    Actions(usize),
    Holds(fn(&World) -> bool),
}

impl Script {
    /// Adds what happens at a time, in milliseconds.
    pub(crate) fn at(mut self, milliseconds: u64, commands: impl Into<Vec<Command>>) -> Self {
        let at = Duration::from_millis(milliseconds);
        self.timed.push((at, commands.into()));
        self
    }

    /// Adds what happens as soon as something holds.
    pub(crate) fn when(mut self, condition: Condition, commands: impl Into<Vec<Command>>) -> Self {
        self.traps.push((condition, commands.into()));
        self
    }
}

impl World {
    pub(crate) fn obey(
        &mut self,
        schedule: &mut Schedule<Self>,
        commands: &[Command],
    ) -> Result<(), String> {
        for command in commands {
            match command {
                Command::Off(host) => {
                    self.cut(schedule, *host);
                    self.hosts[*host].held_off = true;
                }
                Command::On(host) => {
                    self.hosts[*host].held_off = false;
                    self.boot(schedule, *host);
                }
                Command::Wipe(host, wipe) => self.wipe(schedule, *host, *wipe),
                Command::FormerDisk(host, cluster) => {
                    self.wipe(schedule, *host, Wipe::Both);
                    self.place_former_disk(schedule, *host, cluster, 4);
                }
                Command::Split(side) => {
                    for (host, disks) in self.hosts.iter_mut().enumerate() {
                        disks.side = u64::from(side.contains(&host));
                    }
                }
                Command::Heal => self.hosts.iter_mut().for_each(|host| host.side = 0),
                Command::FoundWithout(host, others) => {
                    let names = others.iter().map(|other| name(*other)).collect();
                    self.found_without(schedule, *host, names);
                }
                Command::Expect(what, holds) => {
                    if !holds(self) {
                        return Err(format!("expected: {what}; statuses: {:#?}", self.statuses));
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn spring_traps(&mut self, schedule: &mut Schedule<Self>) -> Result<(), String> {
        let sprung = self
            .script
            .traps
            .iter()
            .position(|(condition, _)| match condition {
                Condition::Actions(number) => self.actions >= *number,
                Condition::Holds(holds) => holds(self),
            });
        match sprung {
            Some(index) => {
                let (_, commands) = self.script.traps.remove(index);
                self.obey(schedule, &commands)
            }
            None => Ok(()),
        }
    }
}
