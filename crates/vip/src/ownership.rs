//! The machine: its states, and what leads from one to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use masthead_machine::{BootTime, Machine, Random};

use crate::contending::Contending;
use crate::frozen::Asked;
use crate::gate::{Address, Gate};
use crate::owning::Owning;
use crate::releasing::Releasing;
use crate::sent::Sent;
use crate::terms::Measured;
use crate::{Action, Event, Nonce, Note, ROUNDS, Raft, Record, Seen, Setup, Version};

/// Between two tries, on a real machine, after one that nobody answered.
pub(crate) const TRY_AGAIN: Duration = Duration::from_millis(20);

/// How long another master's word that it can serve counts, on a real machine.
const FRESH: Duration = Duration::from_secs(1);

/// For how long a master is not offered the address again that did not take it, on a real machine: what keeps it from that is not known here.
const VAIN: Duration = Duration::from_secs(30);

/// The machine of one address.
#[derive(Clone, Debug)]
pub struct Ownership {
    pub(crate) setup: Setup,
    pub(crate) random: Random,
    pub(crate) state: State,
    pub(crate) gate: Gate,
    pub(crate) address: Address,
    announcing: bool,
    pub(crate) ready: bool,
    /// Since this machine began, at some time.
    pub(crate) was_ready: bool,
    pub(crate) draining: bool,
    /// When other masters last said that they can serve.
    others: BTreeMap<String, BootTime>,
    /// To whom this node has offered the address last, and the epoch in which it has it again if that one does not come.
    offered: Option<(String, u64)>,
    /// When this node found that these had not come.
    vain: BTreeMap<String, BootTime>,
    pub(crate) raft: Raft,
    pub(crate) measured: Measured,
    /// Transactions that may still be committed, in the order in which they were sent.
    pub(crate) sent: Vec<Sent>,
    /// The transaction whose answer is awaited.
    pub(crate) awaiting: Option<Nonce>,
    /// The same, if it writes nothing.
    pub(crate) asked: Option<Asked>,
    /// etcd has said that it has no space, and the record is not frozen yet.
    pub(crate) out_of_space: bool,
    /// Who has said last that it owns the address, and when.
    pub(crate) said: Option<(String, BootTime)>,
    /// The newest sight of the record.
    pub(crate) seen: Option<Seen>,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Somebody else's, or nobody's.
    Contending(Contending),
    /// This node's.
    Owning(Owning),
    /// On its way to somebody else.
    Releasing(Releasing),
}

impl Machine for Ownership {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: BootTime, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.handle(now, event, &mut actions);
        self.pursue(now, &mut actions);
        actions.extend(self.deadline(now).map(Action::WakeAt));
        actions
    }
}

impl Ownership {
    /// A machine that knows nothing. First of all it closes the gate and removes the address, which an earlier one of this
    /// boot may have left.
    pub fn new(setup: Setup) -> Self {
        Self {
            random: Random::new(setup.seed),
            measured: Measured::new(setup.scale, setup.window),
            setup,
            state: State::Contending(Contending::new(BootTime::default())),
            gate: Gate::unknown(),
            address: Address::unknown(),
            announcing: false,
            ready: false,
            was_ready: false,
            draining: false,
            others: BTreeMap::new(),
            offered: None,
            vain: BTreeMap::new(),
            raft: Raft::default(),
            sent: Vec::new(),
            awaiting: None,
            asked: None,
            out_of_space: false,
            said: None,
            seen: None,
        }
    }

    fn handle(&mut self, now: BootTime, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Woken => {}
            Event::Saw(seen) => self.observe(now, seen, actions),
            Event::Read(seen) => {
                self.observe(now, seen, actions);
                if let State::Contending(contending) = &mut self.state {
                    contending.has_read(now);
                }
            }
            Event::ReadFailed => {
                let again = now + self.setup.scale * TRY_AGAIN;
                if let State::Contending(contending) = &mut self.state {
                    contending.read_failed(again);
                }
            }
            Event::Decided { nonce, decision } => self.decided(now, nonce, decision, actions),
            Event::Raft(raft) => {
                let moved = raft != self.raft;
                self.raft = raft;
                if let State::Contending(contending) = &mut self.state
                    && moved
                {
                    contending.begin_anew();
                }
            }
            Event::Ready(ready) => {
                self.ready = ready;
                self.was_ready |= ready;
                if let State::Owning(owning) = &mut self.state {
                    owning.readiness_changed();
                }
            }
            Event::OtherReady(name) => {
                self.others.insert(name, now);
            }
            Event::OwnerSaid(name) => self.owner_said(now, name),
            Event::GateSet(until) => self.gate.answered(until),
            Event::AddressSet(there) => self.address.answered(there),
            Event::ClientsLeft => {
                if let State::Releasing(releasing) = &mut self.state {
                    releasing.clients_left();
                }
            }
            Event::Probed(answer) => {
                if let State::Contending(contending) = &mut self.state {
                    contending.probed(now, self.setup.scale, answer, actions);
                }
            }
            Event::Release { heir, drain } => {
                self.draining |= drain;
                self.release(now, heir, actions);
            }
            Event::Undrain => self.draining = false,
        }
    }

    /// Somebody says how the record is, or was.
    pub(crate) fn observe(&mut self, now: BootTime, seen: Seen, actions: &mut Vec<Action>) {
        let newest = self.seen.as_ref().map_or(i64::MIN, |seen| seen.as_of);
        if seen.as_of < newest {
            return;
        }
        let nonce = seen.record.as_ref().and_then(Record::nonce);
        let own = self.sent.iter().position(|sent| Some(sent.nonce) == nonce);
        let version = seen.version;
        let moved = self.version() != Some(version);
        let before = self.seen.replace(seen).map(|seen| seen.version);
        if moved {
            // Somebody has written it, or another round has begun: what was known of space, or of who owns it, is of before.
            self.out_of_space &= version.round.is_some();
            self.said = None;
        }
        actions.extend(Note::of_change(before, version).map(Action::Note));
        // After the first round of a frozen record it says only what was.
        if let Some(place) = own.filter(|_| version.round.is_none_or(|round| round == 0)) {
            return self.acknowledged(now, place, version, actions);
        }
        // What expects another version than the present one comes too late for ever.
        self.sent.retain(|sent| sent.expected == version);
        if moved {
            self.moved(now, actions);
        }
    }

    /// What this node acts upon.
    pub(crate) fn version(&self) -> Option<Version> {
        match &self.state {
            State::Owning(owning) => Some(owning.version),
            State::Releasing(releasing) => Some(releasing.version),
            State::Contending(_) => self.seen.as_ref().map(|seen| seen.version),
        }
    }

    /// The record was changed, and not by a transaction of this machine.
    fn moved(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        let Some(seen) = self.seen.clone() else {
            return;
        };
        if let Some(Record::Held(held)) = &seen.record {
            self.measured.adopt(held.terms);
        }
        let is_own = seen.is_held_by(&self.setup.identity);
        match &mut self.state {
            // Frozen, or one of this boot's earlier transactions, of whose time of sending nothing is known.
            State::Owning(owning) if is_own => owning.adopt(now, seen.version),
            State::Releasing(releasing) if is_own => releasing.version = seen.version,
            State::Contending(contending) => contending.moved(now),
            State::Owning(_) | State::Releasing(_) => {
                actions.push(Action::Note(Note::Lost));
                self.contend(now);
            }
        }
        if seen.record == Some(Record::Unknown) {
            actions.push(Action::Note(Note::UnknownFormat));
        }
    }

    /// From here on the address is this node's.
    pub(crate) fn won(
        &mut self,
        now: BootTime,
        version: Version,
        epoch: u64,
        until: BootTime,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Note(Note::Won { epoch }));
        if let Some((heir, again)) = self.offered.take()
            && again == epoch
        {
            self.vain.insert(heir, now);
        }
        self.state = State::Owning(Owning::new(now, version, epoch, until));
        if self.draining {
            self.release(now, None, actions);
        }
    }

    /// Another master that may follow: its word that it can serve still counts, it was not offered the address in vain lately, and it is still possible.
    pub(crate) fn heir(&self, now: BootTime) -> Option<&String> {
        // Letting go of a frozen address takes a round, and taking it another one.
        let round = self.version().and_then(|version| version.round);
        if round.is_some_and(|round| round + 2 > ROUNDS) {
            return None;
        }
        let (fresh, vain) = (self.setup.scale * FRESH, self.setup.scale * VAIN);
        let has_failed = |name: &String| {
            let offered = self.vain.get(name);
            offered.is_some_and(|at| now.since(*at) <= vain)
        };
        let mut others = self.others.iter();
        others
            .find(|(name, said)| now.since(**said) <= fresh && !has_failed(name))
            .map(|(name, _)| name)
    }

    /// Remembers to whom the address was offered, and which epoch this node has if it takes it again without anybody in between.
    pub(crate) fn offer(&mut self, heir: Option<String>, epoch: u64, version: Version) {
        let again = epoch + if version.round.is_some() { 2 } else { 1 };
        self.offered = heir.map(|heir| (heir, again));
    }

    /// From here on as anybody.
    pub(crate) fn contend(&mut self, now: BootTime) {
        self.state = State::Contending(Contending::new(now));
    }

    fn pursue(&mut self, now: BootTime, actions: &mut Vec<Action>) {
        let wanted = match self.state {
            State::Contending(_) => {
                self.pursue_claim(now, actions);
                None
            }
            State::Owning(_) => self.pursue_renewal(now, actions),
            State::Releasing(_) => self.pursue_release(now, actions),
        };
        // A step above may have led on.
        let (gate, address) = match self.state {
            State::Contending(_) => (None, false),
            _ => wanted.unwrap_or((None, false)),
        };
        self.address.pursue(address, actions);
        self.gate.pursue(gate, actions);
        let answers = self.gate.open_until().is_some_and(|until| until > now);
        if self.announcing != answers {
            self.announcing = answers;
            actions.push(Action::Announce(answers));
        }
    }

    fn deadline(&self, now: BootTime) -> Option<BootTime> {
        let own = match &self.state {
            State::Contending(_) => self.claim_at(),
            State::Owning(_) => self.renewal_at(),
            State::Releasing(releasing) => releasing.deadline(),
        };
        // From then on people are told that nobody owns it, whoever may take it.
        let told = self.overdue_at();
        let gate = self.gate.open_until();
        // What is due and cannot be done now waits for an event.
        let all = own.into_iter().chain(told).chain(gate);
        all.filter(|at| *at > now).min()
    }
}
