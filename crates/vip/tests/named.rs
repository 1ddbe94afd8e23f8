//! What an owner and a contender do, step by step.

use std::time::Duration;

use masthead_machine::{BootTime, Machine as _, Scale};
use masthead_vip::{
    Action, Change, Decision, Event, Free, Held, Identity, Nonce, Note, Ownership, Raft, Record,
    Seen, Setup, Standing, Terms, Version,
};

const LED: Event = Event::Raft(Raft {
    leader: Some(1),
    term: 2,
});

fn at(milliseconds: u64) -> BootTime {
    BootTime::from_boot(Duration::from_millis(milliseconds))
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn identity(node: &str, instance: &str) -> Identity {
    Identity {
        node: node.to_owned(),
        instance: instance.to_owned(),
    }
}

fn held(by: Identity, nonce: u64, epoch: u64) -> Record {
    Record::Held(Held {
        by,
        nonce: Nonce(nonce),
        epoch,
        terms: Terms::of(millis(500), Scale::REAL),
    })
}

fn seen(revision: i64, record: Option<Record>) -> Seen {
    Seen {
        as_of: revision,
        version: Version::thawed(record.as_ref().map_or(0, |_| revision)),
        record,
    }
}

/// m1 with a gate and an interface that do at once what they are told.
struct Node {
    ownership: Ownership,
    now: BootTime,
    gate: Option<BootTime>,
    address: bool,
    notes: Vec<Note>,
}

impl Node {
    fn new(at: BootTime) -> Self {
        let setup = Setup {
            identity: identity("m1", "boot 7"),
            seed: 1,
            scale: Scale::REAL,
            window: 4,
        };
        let mut node = Self {
            ownership: Ownership::new(setup),
            now: at,
            gate: None,
            address: false,
            notes: Vec::new(),
        };
        node.hear(Event::Woken);
        node.hear(Event::Ready(true));
        node
    }

    /// Beside a leader, with the key as it is.
    fn beside(at: BootTime, key: Seen) -> Self {
        let mut node = Self::new(at);
        assert_eq!(node.hear(LED), [Action::Read(millis(200))]);
        assert_eq!(node.hear(Event::Read(key)), []);
        node
    }

    /// What is left to do for others.
    fn hear(&mut self, event: Event) -> Vec<Action> {
        let mut left = Vec::new();
        let mut actions = self.ownership.step(self.now, event);
        while !actions.is_empty() {
            let action = actions.remove(0);
            let answer = match action {
                Action::SetGate(until) => {
                    self.gate = until;
                    Event::GateSet(until)
                }
                Action::SetAddress(there) => {
                    self.address = there;
                    Event::AddressSet(there)
                }
                Action::WakeAt(_) | Action::Announce(_) => continue,
                Action::Note(note) => {
                    self.notes.push(note);
                    continue;
                }
                other => {
                    left.push(other);
                    continue;
                }
            };
            actions.extend(self.ownership.step(self.now, answer));
        }
        left
    }

    fn at(&mut self, now: BootTime) -> Vec<Action> {
        self.now = now;
        self.hear(Event::Woken)
    }

    /// The only transaction that is asked for.
    fn transaction(actions: &[Action]) -> (Nonce, i64, Record) {
        let [
            Action::Transact {
                nonce,
                expected,
                change: Change::Write { record, .. },
                ..
            },
        ] = actions
        else {
            panic!("no transaction: {actions:?}");
        };
        (*nonce, expected.revision, record.clone())
    }

    /// Owns the address since 2000 ms by revision 10, until 2500 ms.
    fn owning() -> Self {
        let mut node = Self::beside(at(1000), seen(5, Some(held(identity("m2", "b"), 9, 3))));
        let claim = node.at(at(2000));
        let (nonce, expected, record) = Self::transaction(&claim);
        assert_eq!((expected, record.epoch()), (5, 4));
        let decision = Decision::Done(10);
        let renewal = node.hear(Event::Decided { nonce, decision });
        assert_eq!(node.gate, Some(at(2500)));
        assert_eq!(node.notes, [Note::Won { epoch: 4 }]);
        let (nonce, expected, _) = Self::transaction(&renewal);
        assert_eq!(expected, 10);
        let decision = Decision::Done(11);
        assert_eq!(node.hear(Event::Decided { nonce, decision }), []);
        node
    }
}

#[test]
fn a_contender_waits_for_hold_and_gap_after_it_has_seen_a_renewal() {
    let other = |nonce| Some(held(identity("m2", "b"), nonce, 3));
    let mut node = Node::beside(at(1000), seen(5, other(1)));
    assert_eq!(node.at(at(1649)), []);
    node.hear(Event::Saw(seen(6, other(2))));
    assert_eq!(node.at(at(2298)), []);
    // What is older changes nothing.
    node.hear(Event::Saw(seen(5, other(1))));
    let (_, expected, record) = Node::transaction(&node.at(at(2299)));
    assert_eq!((expected, record.epoch()), (6, 4));
}

#[test]
fn an_election_or_a_silence_begins_the_wait_anew() {
    let other = seen(5, Some(held(identity("m2", "b"), 1, 3)));
    let mut node = Node::beside(at(1000), other.clone());
    node.now = at(1600);
    let lost = Event::Raft(Raft {
        leader: None,
        term: 2,
    });
    assert_eq!(node.hear(lost), []);
    assert_eq!(node.at(at(3000)), [], "nobody can be asked");
    let asked = [Action::Read(millis(150))];
    assert_eq!(node.hear(LED), asked);
    assert_eq!(node.hear(Event::Read(other.clone())), []);
    assert_eq!(node.at(at(3649)), []);
    let (nonce, ..) = Node::transaction(&node.at(at(3650)));
    node.now = at(3800);
    let decision = Decision::Unanswered;
    assert_eq!(node.hear(Event::Decided { nonce, decision }), asked);
    // It was committed all the same: its time counts from when it was sent.
    let own = Node::new(at(0)).ownership.standing();
    assert_eq!(own, Standing::Unknown);
    let record = held(identity("m1", "boot 7"), nonce.0, 4);
    node.now = at(3900);
    node.hear(Event::Read(seen(8, Some(record))));
    assert_eq!(node.gate, Some(at(3650 + 500)));
}

#[test]
fn who_wants_it_must_be_able_to_serve_and_stay() {
    let free = |heir: Option<&str>| {
        let free = Free {
            nonce: Nonce(3),
            epoch: 3,
            heir: heir.map(str::to_owned),
            reserved: millis(900),
        };
        seen(5, Some(Record::Free(free)))
    };
    let mut node = Node::new(at(1000));
    node.hear(Event::Ready(false));
    node.hear(LED);
    assert_eq!(node.hear(Event::Read(free(None))), []);
    node.hear(Event::Release {
        heir: None,
        drain: true,
    });
    assert_eq!(node.hear(Event::Ready(true)), []);
    Node::transaction(&node.hear(Event::Undrain));
    // The heir at once, others when it had its time.
    let mut heir = Node::new(at(1000));
    heir.hear(LED);
    Node::transaction(&heir.hear(Event::Read(free(Some("m1")))));
    let mut other = Node::beside(at(1000), free(Some("m3")));
    assert_eq!(other.at(at(1899)), []);
    Node::transaction(&other.at(at(1900)));
}

#[test]
fn an_address_that_was_never_owned_is_asked_for_on_the_network_first() {
    let mut node = Node::beside(at(1000), seen(5, None));
    assert_eq!(node.at(at(4599)), []);
    assert_eq!(node.at(at(4600)), [Action::ProbeAddress]);
    let hardware = "52:54:00:00:00:01".to_owned();
    assert_eq!(node.hear(Event::Probed(Some(hardware.clone()))), []);
    assert_eq!(node.notes, [Note::Stranger { hardware }]);
    assert_eq!(node.at(at(14_599)), []);
    assert_eq!(node.at(at(14_600)), [Action::ProbeAddress]);
    let (_, expected, _) = Node::transaction(&node.hear(Event::Probed(None)));
    assert_eq!(expected, 0);
}

#[test]
fn the_next_supervisor_of_a_boot_takes_it_at_once_and_that_of_the_next_boot_does_not() {
    let mut node = Node::new(at(1000));
    node.hear(LED);
    let own = held(identity("m1", "boot 7"), 4, 3);
    Node::transaction(&node.hear(Event::Read(seen(5, Some(own)))));
    let mut node = Node::beside(
        at(1000),
        seen(5, Some(held(identity("m1", "boot 6"), 4, 3))),
    );
    assert_eq!(node.at(at(1649)), []);
    Node::transaction(&node.at(at(1650)));
}

#[test]
fn what_a_later_release_keeps_is_left_alone() {
    let mut node = Node::beside(at(1000), seen(5, Some(Record::Unknown)));
    assert_eq!(node.notes, [Note::UnknownFormat]);
    assert_eq!(node.at(at(100_000)), []);
}

#[test]
fn an_owner_renews_three_times_in_a_hold_and_its_time_counts_from_the_sending() {
    let mut node = Node::owning();
    assert_eq!(node.at(at(2166)), []);
    let (nonce, expected, _) = Node::transaction(&node.at(at(2167)));
    assert_eq!(expected, 11);
    node.now = at(2300);
    let decision = Decision::Done(12);
    node.hear(Event::Decided { nonce, decision });
    assert_eq!(node.gate, Some(at(2667)));
    // No answer any more.
    let (nonce, ..) = Node::transaction(&node.at(at(2334)));
    node.now = at(2484);
    let decision = Decision::Unanswered;
    node.hear(Event::Decided { nonce, decision });
    assert_eq!(node.gate, Some(at(2667)));
    node.at(at(2667));
    assert_eq!((node.gate, node.address), (None, false));
    assert!(node.notes.contains(&Note::Expired));
    assert_eq!(node.ownership.standing(), Standing::Owner(None));
}

#[test]
fn an_owner_that_cannot_serve_lets_go_only_for_one_that_can() {
    let mut node = Node::owning();
    node.hear(Event::OtherReady("m3".to_owned()));
    node.now = at(3001);
    assert_eq!(node.hear(Event::Ready(false)).len(), 1, "a renewal");
    assert!(node.notes.contains(&Note::KeptUnready));
    let mut node = Node::owning();
    assert_eq!(node.hear(Event::Ready(false)), []);
    let actions = node.hear(Event::OtherReady("m3".to_owned()));
    assert_eq!(actions, [Action::LeaveClients { followed: true }]);
    assert!(node.gate.is_some() && node.address, "until they are reset");
    let (nonce, expected, record) = Node::transaction(&node.hear(Event::ClientsLeft));
    assert_eq!((node.gate, node.address, expected), (None, false, 11));
    let Record::Free(free) = record else {
        panic!("{record:?}")
    };
    assert_eq!(free.heir.as_deref(), Some("m3"));
    let decision = Decision::Done(13);
    node.hear(Event::Decided { nonce, decision });
    let heir = Some("m3".to_owned());
    assert!(node.notes.contains(&Note::Released { heir }));
}

#[test]
fn a_shorter_hold_is_sent_when_the_kernel_has_a_shorter_deadline() {
    let mut node = Node::owning();
    // Some fast renewals, by which the hold may become shorter.
    for revision in 12..20 {
        let before = node.gate.expect("open");
        let sent = node.now + millis(167);
        let (nonce, _, record) = Node::transaction(&node.at(sent));
        let Record::Held(held) = record else {
            panic!("{record:?}")
        };
        if held.terms.hold == millis(200) {
            assert!(before > sent + millis(200));
            assert_eq!(
                node.gate,
                Some(sent + millis(200)),
                "before anybody answers"
            );
            return;
        }
        let decision = Decision::Done(revision);
        assert_eq!(node.hear(Event::Decided { nonce, decision }), []);
    }
    panic!("the hold is never shorter");
}

/// The only transaction that is asked for, which writes nothing.
fn question(actions: &[Action]) -> (Nonce, Version, Change) {
    let [
        Action::Transact {
            nonce,
            expected,
            change,
            ..
        },
    ] = actions
    else {
        panic!("no transaction: {actions:?}");
    };
    (*nonce, *expected, change.clone())
}

fn frozen(revision: i64, round: u32) -> Version {
    Version {
        revision,
        round: Some(round),
    }
}

/// m2's record, frozen since so many rounds.
fn frozen_record(as_of: i64, round: u32) -> Seen {
    Seen {
        as_of,
        version: frozen(5, round),
        record: Some(held(identity("m2", "b"), 9, 3)),
    }
}

#[test]
fn an_owner_that_is_told_of_no_space_owns_on_by_asking_and_thaws_when_it_can() {
    let mut node = Node::owning();
    let (nonce, ..) = Node::transaction(&node.at(at(2167)));
    let decision = Decision::NoSpace;
    assert_eq!(node.hear(Event::Decided { nonce, decision }), []);
    let (nonce, expected, change) = question(&node.at(at(2187)));
    assert_eq!((expected, change), (Version::thawed(11), Change::Freeze));
    let decision = Decision::Done(12);
    // It tries to write at once, and then now and then.
    let actions = node.hear(Event::Decided { nonce, decision });
    assert_eq!(node.notes.last(), Some(&Note::Frozen));
    let (thaw, expected, change) = question(&actions);
    assert_eq!(expected, frozen(11, 0));
    assert!(matches!(change, Change::Write { stock: true, .. }));
    let decision = Decision::NoSpace;
    assert_eq!(
        node.hear(Event::Decided {
            nonce: thaw,
            decision
        }),
        []
    );
    let mut now = 2187;
    for _ in 0..11 {
        now += 20;
        let (nonce, expected, change) = question(&node.at(at(now)));
        assert_eq!((expected, change), (frozen(11, 0), Change::Confirm));
        let decision = Decision::Done(12);
        node.now = at(now + 5);
        assert_eq!(node.hear(Event::Decided { nonce, decision }), []);
        assert_eq!(node.gate, Some(at(now + 500)), "from when it asked");
        now += 147;
    }
    let (nonce, expected, _) = question(&node.at(at(4200)));
    assert_eq!(expected, frozen(11, 0));
    let decision = Decision::Done(40);
    let actions = node.hear(Event::Decided { nonce, decision });
    assert_eq!(node.notes.last(), Some(&Note::Thawed));
    assert_eq!(actions, []);
    let (_, expected, _) = Node::transaction(&node.at(at(4367)));
    assert_eq!(expected, 40);
}

#[test]
fn who_misses_the_owner_of_a_frozen_record_ends_its_round_and_waits() {
    let mut node = Node::beside(at(1000), frozen_record(7, 0));
    assert_eq!(node.at(at(2000)), []);
    node.hear(Event::OwnerSaid("m2".to_owned()));
    assert_eq!(node.at(at(3649)), []);
    let (nonce, expected, change) = question(&node.at(at(3650)));
    assert_eq!((expected, change), (frozen(5, 0), Change::Advance));
    let decision = Decision::Done(8);
    assert_eq!(node.hear(Event::Decided { nonce, decision }), []);
    // The owner before may be heard for a while.
    node.now = at(3800);
    node.hear(Event::OwnerSaid("m2".to_owned()));
    assert_eq!(node.at(at(4299)), []);
    let (nonce, expected, change) = question(&node.at(at(4300)));
    assert_eq!((expected, change), (frozen(5, 1), Change::Confirm));
    assert_eq!(node.gate, None);
    let decision = Decision::Done(8);
    node.hear(Event::Decided { nonce, decision });
    assert_eq!(node.gate, Some(at(4800)));
    assert_eq!(node.ownership.owner(), (Some("m1"), 4));
    assert!(node.notes.contains(&Note::Won { epoch: 4 }));
}

#[test]
fn who_is_not_told_that_its_deletion_ended_the_round_owns_nothing_by_it() {
    let mut node = Node::beside(at(1000), frozen_record(7, 0));
    let (nonce, ..) = question(&node.at(at(2650)));
    let decision = Decision::Unanswered;
    let actions = node.hear(Event::Decided { nonce, decision });
    assert_eq!(actions, [Action::Read(millis(150))]);
    node.hear(Event::Read(frozen_record(8, 1)));
    assert_eq!(node.at(at(2650 + 1649)), []);
    let (_, expected, change) = question(&node.at(at(2650 + 1650)));
    assert_eq!((expected, change), (frozen(5, 1), Change::Advance));
    // When all rounds are over nobody can take it.
    let mut node = Node::beside(at(1000), frozen_record(7, masthead_vip::ROUNDS));
    assert_eq!(node.at(at(100_000)), []);
    assert!(node.ownership.is_spent() && node.ownership.is_overdue(node.now));
    node.hear(Event::OwnerSaid("m2".to_owned()));
    assert!(!node.ownership.is_overdue(node.now), "its owner lives");
}

#[test]
fn when_nobody_takes_it_one_does_that_cannot_serve_any_more() {
    let free = Record::Free(Free {
        nonce: Nonce(3),
        epoch: 3,
        heir: Some("m3".to_owned()),
        reserved: millis(900),
    });
    let mut node = Node::beside(at(1000), seen(5, Some(free)));
    assert_eq!(node.hear(Event::Ready(false)), []);
    assert_eq!(node.at(at(3899)), []);
    let (nonce, ..) = Node::transaction(&node.at(at(3900)));
    let decision = Decision::Done(6);
    node.hear(Event::Decided { nonce, decision });
    assert!(node.notes.contains(&Note::KeptUnready));
    // And lets go when another one can.
    let actions = node.hear(Event::OtherReady("m2".to_owned()));
    assert_eq!(actions, [Action::LeaveClients { followed: true }]);
    // Nobody has owned it yet, and there is nothing to keep up.
    let mut first = Node::beside(at(1000), seen(5, None));
    first.hear(Event::Ready(false));
    assert_eq!(first.at(at(100_000)), []);
}

#[test]
fn who_was_offered_the_address_and_did_not_come_is_not_offered_it_again_at_once() {
    let mut node = Node::owning();
    node.hear(Event::Ready(false));
    node.hear(Event::OtherReady("m3".to_owned()));
    let (nonce, ..) = Node::transaction(&node.hear(Event::ClientsLeft));
    let decision = Decision::Done(13);
    let read = node.hear(Event::Decided { nonce, decision });
    assert!(matches!(*read, [Action::Read(_)]), "{read:?}");
    let free = node.ownership.record().cloned();
    node.hear(Event::Read(seen(13, free)));
    // m3 does not come, and so this node takes it again, although it cannot serve.
    let (mut time, mut actions) = (2001, Vec::new());
    while actions.is_empty() {
        time += 1;
        actions = node.at(at(time));
        assert!(time < 10_000);
    }
    let (nonce, ..) = Node::transaction(&actions);
    let decision = Decision::Done(14);
    node.hear(Event::Decided { nonce, decision });
    assert!(matches!(
        node.ownership.standing(),
        Standing::Owner(Some(_))
    ));
    let lets_go = |actions: &[Action]| actions.contains(&Action::LeaveClients { followed: true });
    assert!(
        !lets_go(&node.hear(Event::OtherReady("m3".to_owned()))),
        "to m3"
    );
    assert!(
        lets_go(&node.hear(Event::OtherReady("m2".to_owned()))),
        "to m2"
    );
}

/// m1, which owns the round of m2's record that follows this one.
fn owning_round_after(round: u32) -> Node {
    let mut node = Node::beside(at(1000), frozen_record(7, round));
    let (nonce, ..) = question(&node.at(at(2650)));
    let decision = Decision::Done(8);
    assert_eq!(node.hear(Event::Decided { nonce, decision }), []);
    let (nonce, ..) = question(&node.at(at(3300)));
    let decision = Decision::Done(8);
    let (nonce, ..) = Node::transaction(&node.hear(Event::Decided { nonce, decision }));
    let decision = Decision::NoSpace;
    assert_eq!(node.hear(Event::Decided { nonce, decision }), []);
    node
}

#[test]
fn a_frozen_address_is_not_let_go_of_when_nobody_could_take_it_any_more() {
    for (round, lets_go) in [(28, true), (29, true), (30, false), (31, false)] {
        let mut node = owning_round_after(round);
        node.hear(Event::Ready(false));
        let actions = node.hear(Event::OtherReady("m2".to_owned()));
        let is_let_go = actions.contains(&Action::LeaveClients { followed: true });
        assert_eq!(is_let_go, lets_go, "the round after {round}");
    }
}

#[test]
fn what_was_known_of_space_and_owner_is_forgotten_when_somebody_writes() {
    let mut node = owning_round_after(0);
    node.hear(Event::OwnerSaid("m3".to_owned()));
    node.hear(Event::Ready(false));
    node.hear(Event::OtherReady("m2".to_owned()));
    let (nonce, ..) = question(&node.hear(Event::ClientsLeft));
    let decision = Decision::Done(9);
    node.hear(Event::Decided { nonce, decision });
    assert_eq!(
        node.ownership.owner(),
        (None, 5),
        "the next one has not said so yet"
    );
    node.hear(Event::Read(frozen_record(9, 2)));
    node.hear(Event::Ready(true));
    // etcd has space again: m2 has written, and dies.
    node.now = at(10_000);
    node.hear(Event::Saw(seen(20, Some(held(identity("m2", "b"), 77, 6)))));
    let mut time = 10_000;
    let mut actions = Vec::new();
    while actions.is_empty() {
        time += 1;
        actions = node.at(at(time));
        assert!(time < 20_000);
    }
    // By a write, and not by freezing it first.
    Node::transaction(&actions);
}
