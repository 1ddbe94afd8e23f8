//! Every certificate of the node, as the status shows them.

use masthead_api::Timestamp;
use masthead_api::status::Certificate;
use masthead_pki::{AuthorityKind, Description, Leaves, Purpose, Roots, renewed_at};
use time::OffsetDateTime;

/// What is this far ahead is the last moment that a certificate can name, and means never (RFC 5280, 4.1.2.5).
const NEVER: i32 = 9999;

/// All leaves and authorities, the first to expire first. Which of them are renewed, and when, is [`renewed_at`]'s
/// word; authorities are not.
pub fn inventory(roots: &Roots, leaves: &Leaves) -> Vec<Certificate> {
    let leaves = Purpose::ALL.into_iter().filter_map(|purpose| {
        // It was read when it was issued, or taken over.
        let description = Description::of_pem(&leaves.get(purpose).certificate_pem).ok()?;
        Some(Certificate {
            name: purpose.name().to_owned(),
            issued_by: Some(authority_name(purpose.authority())),
            expires_at: moment(description.not_after),
            renewed_at: moment(renewed_at(&description)),
        })
    });
    let authorities = AuthorityKind::ALL.into_iter().map(|kind| Certificate {
        name: authority_name(kind),
        issued_by: None,
        expires_at: moment(roots.authority(kind).not_after()),
        renewed_at: None,
    });
    let mut all: Vec<_> = leaves.chain(authorities).collect();
    all.sort_by_key(|certificate| {
        certificate
            .expires_at
            .map_or(i64::MAX, Timestamp::unix_millis)
    });
    all
}

fn authority_name(kind: AuthorityKind) -> String {
    format!("{}-ca", kind.name())
}

fn moment(instant: OffsetDateTime) -> Option<Timestamp> {
    (instant.year() < NEVER).then(|| instant.into())
}

#[cfg(test)]
mod tests {
    use masthead_pki::SubjectNames;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn all_are_listed_with_expiry_and_renewal() {
        let now = datetime!(2026-11-21 12:00 UTC);
        let roots = Roots::generate("0123", now).unwrap();
        let leaves = Leaves::issue(&roots, |_| SubjectNames::default(), now).unwrap();
        let listed = inventory(&roots, &leaves);
        assert_eq!(listed.len(), Purpose::ALL.len() + AuthorityKind::ALL.len());
        let find = |name: &str| listed.iter().find(|one| one.name == name).unwrap();
        let text = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());

        let leaf = find("etcd-peer");
        assert_eq!(leaf.issued_by.as_deref(), Some("etcd-ca"));
        assert_eq!(
            text(leaf.expires_at).as_deref(),
            Some("2027-11-21T12:00:00Z")
        );
        // Two thirds of 365 days and of the hour that it is backdated by.
        assert_eq!(
            text(leaf.renewed_at).as_deref(),
            Some("2027-07-22T19:40:00Z")
        );

        let authority = find("etcd-ca");
        assert_eq!((&authority.issued_by, authority.renewed_at), (&None, None));
        assert_eq!(
            text(authority.expires_at).as_deref(),
            Some("2036-11-18T12:00:00Z")
        );
        assert_eq!(find("peers-ca").expires_at, None);
        assert_eq!(listed.last().unwrap().name, "peers-ca");
    }
}
