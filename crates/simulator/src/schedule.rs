//! What is going to happen, and when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use masthead_machine::{BootTime, Machine, Random};

use crate::Environment;

/// One of the nodes of a simulation, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub usize);

/// The future, as an [`Environment`] sees and shapes it.
pub struct Schedule<E: Environment> {
    now: BootTime,
    random: Random,
    calm_from: BootTime,
    queue: BTreeMap<Place, Occurrence<E>>,
    queued: u64,
    told: VecDeque<Occurrence<E>>,
    pub(crate) nodes: Vec<Slot<E::Machine>>,
    mishaps: Mishaps,
    trace: Option<Vec<String>>,
}

/// Ordered by time; what falls on one instant happens in random order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    at: BootTime,
    tie_break: u64,
    number: u64,
}

pub(crate) enum Occurrence<E: Environment> {
    Event {
        node: Node,
        life: u64,
        event: <E::Machine as Machine>::Event,
    },
    Wake {
        node: Node,
        alarm: u64,
    },
    Happening(E::Happening),
}

/// A node, and the machine on it while it is up.
pub(crate) struct Slot<M> {
    pub(crate) machine: Option<M>,
    /// Counts crashes: what was meant for an earlier life is lost.
    life: u64,
    /// Counts deadlines: only the newest one wakes.
    alarm: u64,
}

#[derive(Default)]
struct Mishaps {
    drawn: usize,
    happened: Vec<(usize, String)>,
    suppressed: BTreeSet<usize>,
}

impl<E: Environment> Schedule<E> {
    pub(crate) fn new(seed: u64, nodes: usize, calm_from: BootTime) -> Self {
        let slot = || Slot {
            machine: None,
            life: 0,
            alarm: 0,
        };
        Self {
            now: BootTime::default(),
            random: Random::new(seed),
            calm_from,
            queue: BTreeMap::new(),
            queued: 0,
            told: VecDeque::new(),
            nodes: std::iter::repeat_with(slot).take(nodes).collect(),
            mishaps: Mishaps::default(),
            trace: None,
        }
    }

    /// The present.
    pub fn now(&self) -> BootTime {
        self.now
    }

    /// The source of every delay and choice.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Whether nothing goes wrong any more.
    pub fn is_calm(&self) -> bool {
        self.now >= self.calm_from
    }

    /// Whether something goes wrong here, this many times in a thousand; `what` names it for a
    /// report.
    pub fn mishap(&mut self, per_mille: u16, what: &str) -> bool {
        // Drawn always, so that suppressing a mishap shifts no other draw.
        let drawn = self.random.per_mille(per_mille);
        let number = self.mishaps.drawn;
        self.mishaps.drawn += 1;
        let happens = drawn && !self.is_calm() && !self.mishaps.suppressed.contains(&number);
        if happens {
            self.mishaps.happened.push((number, what.to_owned()));
            self.note(|| format!("mishap {number}: {what}"));
        }
        happens
    }

    /// Tells the machine of a node something at this very instant, before anything else happens.
    pub fn tell(&mut self, node: Node, event: <E::Machine as Machine>::Event) {
        let life = self.nodes[node.0].life;
        self.told.push_back(Occurrence::Event { node, life, event });
    }

    /// Tells it after a while, unless its node crashes before.
    pub fn tell_after(
        &mut self,
        delay: Duration,
        node: Node,
        event: <E::Machine as Machine>::Event,
    ) {
        let life = self.nodes[node.0].life;
        self.push(self.now + delay, Occurrence::Event { node, life, event });
    }

    /// Lets something happen in the environment after a while.
    pub fn happen_after(&mut self, delay: Duration, happening: E::Happening) {
        self.push(self.now + delay, Occurrence::Happening(happening));
    }

    /// Whether a machine runs on a node.
    pub fn is_up(&self, node: Node) -> bool {
        self.nodes[node.0].machine.is_some()
    }

    /// How many machines have run on a node before the present one.
    pub fn life(&self, node: Node) -> u64 {
        self.nodes[node.0].life
    }

    /// Ends the machine of a node and all that was on its way to it.
    pub fn crash(&mut self, node: Node) {
        self.note(|| format!("{node:?} crashes"));
        let slot = &mut self.nodes[node.0];
        slot.machine = None;
        slot.life += 1;
        slot.alarm += 1;
    }

    /// Starts a machine on a node that is down, and wakes it.
    pub fn boot(&mut self, node: Node, machine: E::Machine) {
        self.note(|| format!("{node:?} boots"));
        self.nodes[node.0].machine = Some(machine);
        self.tell(node, masthead_machine::Woken.into());
    }

    /// Replaces the deadline of a node.
    pub(crate) fn set_alarm(&mut self, node: Node, at: Option<BootTime>) {
        let slot = &mut self.nodes[node.0];
        slot.alarm += 1;
        let alarm = slot.alarm;
        if let Some(at) = at {
            self.push(at.max(self.now), Occurrence::Wake { node, alarm });
        }
    }

    /// The next thing to happen, not after `limit`; the present moves on to it.
    pub(crate) fn next(&mut self, limit: BootTime) -> Option<Occurrence<E>> {
        loop {
            let occurrence = match self.told.pop_front() {
                Some(occurrence) => occurrence,
                None => self.pop(limit)?,
            };
            let lost = match &occurrence {
                Occurrence::Event { node, life, .. } => *life != self.nodes[node.0].life,
                Occurrence::Wake { node, alarm } => *alarm != self.nodes[node.0].alarm,
                Occurrence::Happening(_) => false,
            };
            if !lost {
                return Some(occurrence);
            }
        }
    }

    fn push(&mut self, at: BootTime, occurrence: Occurrence<E>) {
        let tie_break = self.random.bits();
        self.queue.insert(
            Place {
                at,
                tie_break,
                number: self.queued,
            },
            occurrence,
        );
        self.queued += 1;
    }

    fn pop(&mut self, limit: BootTime) -> Option<Occurrence<E>> {
        let first = self.queue.first_entry()?;
        if first.key().at > limit {
            return None;
        }
        let (place, occurrence) = first.remove_entry();
        self.now = place.at;
        Some(occurrence)
    }

    pub(crate) fn suppress(&mut self, mishaps: BTreeSet<usize>) {
        self.mishaps.suppressed = mishaps;
    }

    pub(crate) fn mishaps(&self) -> &[(usize, String)] {
        &self.mishaps.happened
    }

    pub(crate) fn start_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// Adds a line to the report, which is only written when a failed history is replayed.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {}", self.now, line()));
        }
    }
}
