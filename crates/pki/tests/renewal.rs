//! When a leaf is issued anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use masthead_pki::{
    Authority, AuthorityKind, Leaf, Purpose, Reason, Renewal, Secret, SubjectNames, issue, renewal,
};
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const PURPOSE: Purpose = Purpose::EtcdServer;

struct Case {
    authority: Authority,
    leaf: Leaf,
    names: SubjectNames,
}

impl Case {
    fn new() -> Self {
        let authority = Authority::generate(AuthorityKind::Etcd, "c0ffee", NOW).unwrap();
        let names = SubjectNames::loopback();
        let leaf = issue(PURPOSE, &names, &authority, NOW).unwrap();
        Self {
            authority,
            leaf,
            names,
        }
    }

    fn decide(&self, now: OffsetDateTime) -> Renewal {
        renewal(PURPOSE, Some(&self.leaf), &self.names, &self.authority, now)
    }
}

#[test]
fn two_thirds_of_a_life_are_lived() {
    let case = Case::new();
    let begin = NOW - Duration::HOUR;
    let two_thirds = begin + (Duration::days(365) + Duration::HOUR) * 2 / 3;
    let Renewal::Keep { until } = case.decide(NOW) else {
        panic!("a new leaf is kept")
    };
    assert!(Duration::abs(until - two_thirds) <= Duration::SECOND);
    assert_eq!(
        case.decide(until - Duration::SECOND),
        Renewal::Keep { until }
    );
    assert_eq!(case.decide(until), Renewal::Issue(Reason::Due));
    assert_eq!(
        case.decide(NOW + Duration::days(4000)),
        Renewal::Issue(Reason::Due)
    );
}

#[test]
fn a_clock_that_was_ahead() {
    let case = Case::new();
    assert_eq!(
        case.decide(NOW - Duration::days(30)),
        Renewal::Issue(Reason::NotYetValid)
    );
}

#[test]
fn names_and_authority_must_be_the_present_ones() {
    let mut case = Case::new();
    case.names = case.names.with("10.20.0.12");
    assert_eq!(case.decide(NOW), Renewal::Issue(Reason::NamesChanged));

    let mut case = Case::new();
    case.authority = Authority::generate(AuthorityKind::Etcd, "c0ffee", NOW).unwrap();
    assert_eq!(case.decide(NOW), Renewal::Issue(Reason::OtherAuthority));

    let case = Case::new();
    let swapped = renewal(
        Purpose::EtcdPeer,
        Some(&case.leaf),
        &case.names,
        &case.authority,
        NOW,
    );
    assert_eq!(swapped, Renewal::Issue(Reason::NamesChanged));
}

#[test]
fn a_leaf_that_is_absent_or_damaged_is_made_again() {
    let case = Case::new();
    let missing = renewal(PURPOSE, None, &case.names, &case.authority, NOW);
    assert_eq!(missing, Renewal::Issue(Reason::Missing));
    let other = issue(PURPOSE, &case.names, &case.authority, NOW).unwrap();
    let damaged = [
        Leaf {
            certificate_pem: String::new(),
            ..case.leaf.clone()
        },
        Leaf {
            key_pem: Secret::new(""),
            ..case.leaf.clone()
        },
        Leaf {
            key_pem: other.key_pem,
            ..case.leaf.clone()
        },
    ];
    for leaf in damaged {
        let decision = renewal(PURPOSE, Some(&leaf), &case.names, &case.authority, NOW);
        assert_eq!(decision, Renewal::Issue(Reason::Unreadable));
    }
}

#[test]
fn each_reason_is_told_in_words_of_its_own() {
    let reasons = [
        Reason::Missing,
        Reason::Unreadable,
        Reason::OtherAuthority,
        Reason::NamesChanged,
        Reason::NotYetValid,
        Reason::Due,
    ];
    let words: std::collections::BTreeSet<_> = reasons.map(|reason| reason.to_string()).into();
    assert_eq!(words.len(), reasons.len());
    assert!(words.iter().all(|words| !words.is_empty()));
}

#[test]
fn a_leaf_is_kept_from_its_first_second_on() {
    let case = Case::new();
    let first = NOW - Duration::HOUR;
    assert!(matches!(case.decide(first), Renewal::Keep { .. }));
    assert_eq!(
        case.decide(first - Duration::SECOND),
        Renewal::Issue(Reason::NotYetValid)
    );
}
