//! What the other masters said.

use std::collections::BTreeMap;
use std::time::Duration;

use masthead_machine::BootTime;

use crate::{KeyFingerprint, MachineId, Master, Member, PlanHash, Report, Sender, Standing};

/// The other masters, by name.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    by_name: BTreeMap<String, Peer>,
    session: u64,
    silence: Duration,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) master: Master,
    pub(crate) relation: Relation,
    heard: Option<Heard>,
}

/// Why a node knows of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The seed lists it.
    Listed,
    /// A plan that this node holds names it, and the seed does not.
    Planned,
    /// It asked: its seed lists this node, and this node's does not list it.
    Guest,
}

/// More guests than this are not remembered.
const GUESTS: usize = 16;

#[derive(Clone, Debug)]
struct Heard {
    key: KeyFingerprint,
    report: Report,
    /// When it last said something that is certainly newer than this node's start.
    current: Option<BootTime>,
}

impl Peers {
    /// Those of the list and of plans that are not `own`; a peer counts as silent after `silence`.
    pub(crate) fn new(
        own: &str,
        listed: &[Master],
        planned: impl Iterator<Item = Master>,
        session: u64,
        silence: Duration,
    ) -> Self {
        let mut by_name = BTreeMap::new();
        let listed = listed.iter().cloned();
        let listed = listed.map(|master| (master, Relation::Listed));
        let planned = planned.map(|master| (master, Relation::Planned));
        for (master, relation) in listed.chain(planned) {
            if master.name != own {
                by_name.entry(master.name.clone()).or_insert(Peer {
                    master,
                    relation,
                    heard: None,
                });
            }
        }
        Self {
            by_name,
            session,
            silence,
        }
    }

    /// All but guests.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.all().filter(|peer| peer.relation != Relation::Guest)
    }

    /// Guests, too.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Peer> {
        self.by_name.values()
    }

    pub(crate) fn listed(&self) -> impl Iterator<Item = &Peer> {
        self.all().filter(|peer| peer.relation == Relation::Listed)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Peer> {
        self.by_name.get(name)
    }

    /// Takes a report in; false if it is a stranger's or an old one.
    pub(crate) fn hear(&mut self, now: BootTime, from: Sender, report: Report) -> bool {
        let session = self.session;
        let is_guest = |peer: &&Peer| peer.relation == Relation::Guest;
        if !self.by_name.contains_key(&report.name) && self.all().filter(is_guest).count() < GUESTS
        {
            let guest = Peer {
                master: Master {
                    address: from.address,
                    name: report.name.clone(),
                },
                relation: Relation::Guest,
                heard: None,
            };
            self.by_name.insert(report.name.clone(), guest);
        }
        let Some(peer) = self.by_name.get_mut(&report.name) else {
            return false;
        };
        if peer.master.address != from.address {
            return false;
        }
        let before = peer.heard.as_ref();
        if before.is_some_and(|before| {
            before.report.session == report.session && before.report.sequence >= report.sequence
        }) {
            return false;
        }
        let current = if report.echo == Some(session) {
            Some(now)
        } else {
            // Another machine at this address has not answered because an earlier one did.
            before
                .filter(|before| before.report.session == report.session)
                .and_then(|before| before.current)
        };
        peer.heard = Some(Heard {
            key: from.key,
            report,
            current,
        });
        true
    }

    /// Whether a peer answers now.
    pub(crate) fn answers(&self, now: BootTime, peer: &Peer) -> bool {
        peer.heard
            .as_ref()
            .and_then(|heard| heard.current)
            .is_some_and(|current| now.since(current) < self.silence)
    }

    /// Those with which a cluster may have begun.
    pub(crate) fn begun(&self) -> impl Iterator<Item = &Peer> {
        self.iter()
            .filter(|peer| peer.standing().is_some_and(Standing::has_begun))
    }

    /// Whether this very member said that it holds go of this plan.
    pub(crate) fn holds_go(&self, member: &Member, plan: PlanHash) -> bool {
        self.go_of(member) == Some(plan)
    }

    /// The plan of which this very member said that it holds go.
    pub(crate) fn go_of(&self, member: &Member) -> Option<PlanHash> {
        self.standing_of(member)?.holds_go()
    }

    /// What this very member said, and not another machine at its address.
    pub(crate) fn standing_of(&self, member: &Member) -> Option<&Standing> {
        self.get(&member.name)
            .filter(|peer| peer.is(member))
            .and_then(Peer::standing)
    }
}

impl Peer {
    pub(crate) fn report(&self) -> Option<&Report> {
        self.heard.as_ref().map(|heard| &heard.report)
    }

    pub(crate) fn standing(&self) -> Option<&Standing> {
        self.report().map(|report| &report.standing)
    }

    /// Whether its etcd was started once, or may have been.
    pub(crate) fn has_started(&self) -> bool {
        matches!(
            self.standing(),
            Some(Standing::Member { .. } | Standing::Amnesiac { .. } | Standing::Newer)
        )
    }

    /// Its machine id and key, as it last showed them.
    pub(crate) fn identity(&self) -> Option<(MachineId, KeyFingerprint)> {
        self.heard
            .as_ref()
            .map(|heard| (heard.report.machine_id, heard.key))
    }

    /// Whether it is this very machine.
    pub(crate) fn is(&self, member: &Member) -> bool {
        self.master.name == member.name && self.identity() == Some((member.machine_id, member.key))
    }
}
