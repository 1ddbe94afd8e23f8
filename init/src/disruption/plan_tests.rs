use masthead_api::cluster::NodeAnswer;
use std::collections::BTreeMap;

use masthead_api::{ApiError, ErrorCode, FORMAT};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A master as the others see it; `None` for one that does not answer.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Which master's member it follows; none while it knows no leader or does not run.
    follows: Option<usize>,
    runs_etcd: bool,
    apiserver: bool,
    ends: bool,
}

const WELL: Option<Seen> = Some(Seen {
    follows: Some(1),
    runs_etcd: true,
    apiserver: true,
    ends: false,
});

fn status(number: usize, masters: usize, seen: Seen) -> Status {
    let id = |number: usize| format!("{number:016x}");
    let members: Vec<Value> = (1..=masters)
        .map(|number| json!({ "id": id(number), "name": format!("m{number}") }))
        .collect();
    let service = |name: &str, ready: bool| {
        let state = if ready { "ready" } else { "unready" };
        json!({ "name": name, "state": state, "since": "2026-01-01T00:00:00Z", "pid": 7, "restarts": 0 })
    };
    let etcd = seen.runs_etcd.then(|| {
        json!({
            "member_id": id(number), "role": "voter", "leader": seen.follows.map(id), "raft_term": 3,
            "raft_index": 9, "raft_applied_index": 10 + number, "db_size": 1, "db_in_use": 1,
            "members": members,
        })
    });
    serde_json::from_value(json!({
        "node": {
            "name": format!("m{number}"), "machine_id": format!("machine-{number}"), "kind": "machine",
            "version": "0.1.0", "boot_time": "2026-01-01T00:00:00Z", "uptime": 1, "boot_id": "b",
            "timing_scale": 1.0, "supervisor": { "pid": 2, "restarts": 0 },
        },
        "waiting": if seen.ends { json!([{ "code": "shutting-down", "since": "2026-01-01T00:00:00Z", "cause": "", "remedy": "" }]) } else { json!([]) },
        "services": [service("etcd", true), service("kube-apiserver", seen.apiserver)],
        "etcd": etcd,
    }))
    .unwrap()
}

fn cluster(masters: &[Option<Seen>]) -> ClusterStatus {
    let nodes = masters.iter().enumerate().map(|(index, seen)| {
        let answer = match seen {
            Some(seen) => NodeAnswer::Status(Box::new(status(index + 1, masters.len(), *seen))),
            None => NodeAnswer::Error(ApiError::new(ErrorCode::NotReady, "silent", "Look.")),
        };
        (format!("m{}", index + 1), answer)
    });
    ClusterStatus {
        format: FORMAT,
        nodes: nodes.collect(),
    }
}

fn holder(number: usize) -> Disruption {
    Disruption {
        format: FORMAT,
        id: "d".to_owned(),
        holder: format!("m{number}"),
        machine_id: format!("machine-{number}"),
        purpose: Purpose::Reboot,
        by: "mk1-x".to_owned(),
        since: Timestamp::from_unix_millis(0),
    }
}

/// The plan for m1, whose own view must be among the masters.
fn planned(masters: &[Option<Seen>], lock: LockSeen, accept_outage: bool) -> PowerPlan {
    let own = status(1, masters.len(), masters[0].unwrap());
    Situation {
        own: &own,
        purpose: Purpose::Reboot,
        image: None,
        cluster: &cluster(masters),
        lock,
        accept_outage,
        now: Timestamp::from_unix_millis(0),
    }
    .plan()
}

fn codes(reasons: &[Reason]) -> Vec<&str> {
    reasons.iter().map(|reason| reason.code.as_str()).collect()
}

#[test]
fn one_of_three_goes_when_the_two_others_are_well() {
    let plan = planned(&[WELL; 3], LockSeen::Free, false);
    assert_eq!(codes(&plan.refusals), [""; 0]);
    assert!(plan.takes_lock);
    assert_eq!(plan.spare_meanwhile, Some(0));
    // m3 has applied most.
    assert_eq!(plan.hand_over_to.as_deref(), Some("m3"));
    assert_eq!(plan.services, ["kube-apiserver", "etcd"]);
    let follower = Some(Seen {
        follows: Some(2),
        ..WELL.unwrap()
    });
    let plan = planned(&[follower; 3], LockSeen::Free, false);
    assert_eq!(plan.hand_over_to, None);
}

#[test]
fn the_last_vote_that_a_quorum_needs_goes_only_when_that_is_accepted() {
    let two_of_three = [WELL, WELL, None];
    for masters in [&[WELL][..], &[WELL; 2], &two_of_three] {
        let plan = planned(masters, LockSeen::Free, false);
        assert_eq!(codes(&plan.refusals), ["quorum-would-be-lost"]);
        assert!(plan.spare_meanwhile < Some(0));
        let plan = planned(masters, LockSeen::Free, true);
        assert_eq!(codes(&plan.refusals), [""; 0]);
        assert_eq!(codes(&plan.accepted), ["quorum-would-be-lost"]);
        assert!(plan.takes_lock);
    }
    let plan = planned(&two_of_three, LockSeen::Free, false);
    let cause = &plan.refusals[0].cause;
    assert!(
        cause.starts_with("Without m1, 1 of 3 voters would be left, and 2 are needed"),
        "{cause}"
    );
}

/// Its member adds nothing to the quorum any more: the others go on without it as they do with it.
#[test]
fn one_whose_own_member_is_broken_may_go() {
    let broken = Some(Seen {
        runs_etcd: false,
        apiserver: false,
        follows: None,
        ..WELL.unwrap()
    });
    let two = Some(Seen {
        follows: Some(2),
        ..WELL.unwrap()
    });
    let plan = planned(&[broken, two, two], LockSeen::Free, false);
    assert_eq!(codes(&plan.refusals), [""; 0]);
    assert_eq!(plan.spare_meanwhile, Some(0));
}

#[test]
fn a_cluster_without_a_quorum_can_be_rebooted_when_that_is_accepted() {
    let lost = Some(Seen {
        follows: None,
        ..WELL.unwrap()
    });
    let unknown = || LockSeen::Unknown("no quorum".to_owned());
    let plan = planned(&[lost, None, None], unknown(), false);
    assert_eq!(codes(&plan.refusals), ["quorum-lost"]);
    let plan = planned(&[lost, None, None], unknown(), true);
    assert_eq!(codes(&plan.refusals), [""; 0]);
    assert!(!plan.takes_lock);
}

#[test]
fn who_holds_the_lock_is_named_and_waited_for() {
    let plan = planned(&[WELL; 3], LockSeen::HeldBy(holder(2)), false);
    assert_eq!(codes(&plan.refusals), ["disruption-under-way"]);
    assert!(plan.refusals[0].cause.starts_with("m2 holds"), "{plan:?}");
    // Its own, from before: it may go again.
    let plan = planned(&[WELL; 3], LockSeen::HeldBy(holder(1)), false);
    assert_eq!(codes(&plan.refusals), [""; 0]);
    let plan = planned(
        &[WELL; 3],
        LockSeen::Unknown("it is slow".to_owned()),
        false,
    );
    assert_eq!(codes(&plan.refusals), ["disruption-unknown"]);
}

/// Its member answers until it is stopped, after everything else.
#[test]
fn one_that_goes_down_already_is_not_counted() {
    let ends = Some(Seen {
        ends: true,
        ..WELL.unwrap()
    });
    let plan = planned(&[WELL, ends, WELL], LockSeen::Free, false);
    assert_eq!(codes(&plan.refusals), ["quorum-would-be-lost"]);
    let cause = &plan.refusals[0].cause;
    assert!(
        cause.contains("1 of 3 voters would be left (m2 is shutting down)"),
        "{cause}"
    );
    // m3 has applied most, and does not stay.
    let plan = planned(&[WELL, WELL, ends], LockSeen::Free, true);
    assert_eq!(plan.hand_over_to.as_deref(), Some("m2"));
    let unserved = Some(Seen {
        apiserver: false,
        ..WELL.unwrap()
    });
    let five = [WELL, ends, unserved, unserved, unserved];
    let plan = planned(&five, LockSeen::Free, false);
    assert_eq!(codes(&plan.refusals), ["apiserver-would-be-lost"]);
}

#[test]
fn the_last_apiserver_goes_only_when_that_is_accepted() {
    let without = Some(Seen {
        apiserver: false,
        ..WELL.unwrap()
    });
    let plan = planned(&[WELL, without, without], LockSeen::Free, false);
    assert_eq!(codes(&plan.refusals), ["apiserver-would-be-lost"]);
    // There is none to lose.
    let plan = planned(&[without; 3], LockSeen::Free, false);
    assert_eq!(codes(&plan.refusals), [""; 0]);
}

#[test]
fn a_node_of_no_cluster_asks_nobody() {
    let plan = planned(&[WELL, None, None], LockSeen::NotNeeded, false);
    assert_eq!(codes(&plan.refusals), [""; 0]);
    assert!(!plan.takes_lock && plan.availability.is_none());
}

fn seen() -> impl Strategy<Value = Option<Seen>> {
    let flags = any::<[bool; 3]>();
    let seen = (0..4usize, flags).prop_map(|(follows, [runs_etcd, apiserver, ends])| Seen {
        follows: Some(follows).filter(|follows| *follows > 0 && runs_etcd),
        runs_etcd,
        apiserver,
        ends,
    });
    // Most are well, or nothing would ever be allowed.
    prop_oneof![4 => Just(WELL), 2 => seen.prop_map(Some), 1 => Just(None)]
}

fn lock() -> impl Strategy<Value = LockSeen> {
    prop_oneof![
        2 => Just(LockSeen::Free),
        1 => (1..=5usize).prop_map(|number| LockSeen::HeldBy(holder(number))),
        1 => Just(LockSeen::Unknown("it is slow".to_owned())),
    ]
}

/// The masters whose members follow the leader of m1 or of any other, by the plan's own count.
fn followers(masters: &[Option<Seen>]) -> BTreeMap<usize, usize> {
    let mut followers = BTreeMap::new();
    for leader in masters.iter().flatten().filter_map(|seen| seen.follows) {
        *followers.entry(leader).or_default() += 1;
    }
    followers
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the masters say: what is not refused leaves a majority that follows one leader, and no other master is out of
    /// service on purpose.
    #[test]
    fn what_is_allowed_costs_nothing(
        mut masters in prop::collection::vec(seen(), 1..6),
        lock in lock(),
    ) {
        masters[0] = masters[0].or(WELL);
        let plan = planned(&masters, lock.clone(), false);
        let accepted = planned(&masters, lock.clone(), true);
        prop_assert!(accepted.refusals.is_empty());
        prop_assert_eq!(&accepted.accepted, &plan.refusals);
        if let Some(to) = &plan.hand_over_to {
            prop_assert_ne!(to, "m1");
            prop_assert_eq!(masters[0].unwrap().follows, Some(1));
        }
        if plan.refusals.is_empty() {
            let others = masters[1..].iter().map(|seen| seen.filter(|seen| !seen.ends));
            let without: Vec<_> = std::iter::once(None).chain(others).collect();
            let most = followers(&without).values().copied().max().unwrap_or(0);
            prop_assert!(most > masters.len() / 2, "{most} of {} are left", masters.len());
            prop_assert!(plan.takes_lock);
            prop_assert!(lock == LockSeen::Free || lock == LockSeen::HeldBy(holder(1)));
        }
    }
}
