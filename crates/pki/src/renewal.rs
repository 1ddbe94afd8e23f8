//! When a leaf is issued anew.

use std::fmt;

use time::OffsetDateTime;
use x509_parser::pem::parse_x509_pem;

use crate::{Authority, Description, Leaf, Purpose, SubjectNames};

/// What to do with a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Keep it until then, and ask again.
    Keep {
        /// When two thirds of its life are over.
        until: OffsetDateTime,
    },
    /// Issue it anew now.
    Issue(Reason),
}

/// Why a leaf is issued anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is none.
    Missing,
    /// It cannot be read, or key and certificate are not a pair. A leaf is worth nothing without its authority and
    /// can always be made again, so this is no damage.
    Unreadable,
    /// Another authority issued it.
    OtherAuthority,
    /// It is for other names.
    NamesChanged,
    /// Its validity begins in the future: it was issued while the clock was ahead.
    NotYetValid,
    /// Two thirds of its life are over.
    Due,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "there was none",
            Self::Unreadable => "the old one could not be read",
            Self::OtherAuthority => "the old one is of another authority",
            Self::NamesChanged => "the node's names or addresses changed",
            Self::NotYetValid => "the old one was issued while the clock was ahead",
            Self::Due => "two thirds of its life are over",
        })
    }
}

/// When a leaf is renewed: two thirds of its life are over.
pub fn renewed_at(leaf: &Description) -> OffsetDateTime {
    leaf.not_after - (leaf.not_after - leaf.not_before) / 3
}

/// Decides what to do with a leaf for that purpose, those names and that authority.
pub fn renewal(
    purpose: Purpose,
    leaf: Option<&Leaf>,
    names: &SubjectNames,
    authority: &Authority,
    now: OffsetDateTime,
) -> Renewal {
    let Some(leaf) = leaf else {
        return Renewal::Issue(Reason::Missing);
    };
    let (Ok(()), Ok(description)) = (
        leaf.check(purpose.name()),
        Description::of_pem(&leaf.certificate_pem),
    ) else {
        return Renewal::Issue(Reason::Unreadable);
    };
    if !issued_by(leaf, authority) {
        return Renewal::Issue(Reason::OtherAuthority);
    }
    if description.names != *names || description.common_name != purpose.common_name() {
        return Renewal::Issue(Reason::NamesChanged);
    }
    if now < description.not_before {
        return Renewal::Issue(Reason::NotYetValid);
    }
    let until = renewed_at(&description);
    if now >= until {
        Renewal::Issue(Reason::Due)
    } else {
        Renewal::Keep { until }
    }
}

fn issued_by(leaf: &Leaf, authority: &Authority) -> bool {
    let Ok((_, pem)) = parse_x509_pem(leaf.certificate_pem.as_bytes()) else {
        return false;
    };
    let (Ok(certificate), Ok((_, issuer))) = (
        pem.parse_x509(),
        x509_parser::parse_x509_certificate(authority.certificate_der()),
    ) else {
        return false;
    };
    certificate.issuer() == issuer.subject()
        && certificate
            .verify_signature(Some(issuer.public_key()))
            .is_ok()
}
