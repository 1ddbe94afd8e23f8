//! What a plan carries for its members alone: the authorities and keys of the cluster.

use std::collections::BTreeMap;

use masthead_formation::{ClusterId, Sealed};
use masthead_pki::{Authority, AuthorityKind, EncryptionKey, Roots, Secret, ServiceAccountKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;

/// The format that this release writes. It reads what says that it can be read so.
const FORMAT: u32 = 1;

/// Authorities and keys, with what the cluster was founded with and cannot change.
#[derive(Debug)]
pub(crate) struct Founded {
    /// The services' network.
    pub(crate) services: String,
    pub(crate) roots: Roots,
}

/// Why the keys of a plan cannot be used.
#[derive(Debug, Error)]
pub(crate) enum UnsealError {
    /// No document of that shape.
    #[error("read the authorities and keys of the plan")]
    Syntax(#[from] serde_json::Error),
    /// Only newer releases can read it.
    #[error(
        "the authorities and keys of the plan can be read from format {oldest} on, and this release reads format {FORMAT}; boot the release that made them"
    )]
    TooNew { oldest: u32 },
    /// An authority is missing.
    #[error("the plan has no {0} authority")]
    Missing(&'static str),
    /// One of them is none.
    #[error("use the authorities and keys of the plan")]
    Key(#[from] masthead_pki::Error),
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    oldest_format: u32,
    /// Seconds since 1970, by the planner's clock.
    founded_at: i64,
    services: String,
    /// By kind.
    authorities: BTreeMap<String, AuthorityDocument>,
    /// PEM.
    service_account_key: String,
    /// Base64.
    encryption_key: String,
}

/// PEM.
#[derive(Serialize, Deserialize)]
struct AuthorityDocument {
    certificate: String,
    key: String,
}

/// Makes authorities and keys for a new cluster.
pub(super) fn make(
    cluster_id: ClusterId,
    services: &str,
    now: OffsetDateTime,
) -> Result<Sealed, masthead_pki::Error> {
    let roots = Roots::generate(&cluster_id.to_string(), now)?;
    Ok(seal(&roots, services, now))
}

fn seal(roots: &Roots, services: &str, now: OffsetDateTime) -> Sealed {
    let text = |secret: Secret| String::from_utf8_lossy(secret.expose()).into_owned();
    let authorities = AuthorityKind::ALL.map(|kind| {
        let authority = roots.authority(kind);
        let document = AuthorityDocument {
            certificate: authority.certificate_pem().to_owned(),
            key: text(authority.key_pem()),
        };
        (kind.name().to_owned(), document)
    });
    let document = Document {
        format: FORMAT,
        oldest_format: FORMAT,
        founded_at: now.unix_timestamp(),
        services: services.to_owned(),
        authorities: authorities.into(),
        service_account_key: text(roots.service_account.private_pem()),
        encryption_key: text(roots.encryption.base64()),
    };
    Sealed(serde_json::to_vec(&document).expect("these types are always JSON"))
}

/// Reads them back.
pub(crate) fn open(sealed: &Sealed) -> Result<Founded, UnsealError> {
    // First what every format has, so that a newer one is refused as such.
    #[derive(Deserialize)]
    struct Formats {
        oldest_format: u32,
    }
    let Formats { oldest_format } = serde_json::from_slice(&sealed.0)?;
    if oldest_format > FORMAT {
        return Err(UnsealError::TooNew {
            oldest: oldest_format,
        });
    }
    let document: Document = serde_json::from_slice(&sealed.0)?;
    let roots = Roots::assemble(
        |kind| {
            let name = kind.name();
            let authority = document.authorities.get(name);
            let authority = authority.ok_or(UnsealError::Missing(name))?;
            let key = Secret::new(authority.key.as_str());
            Ok::<_, UnsealError>(Authority::parse(kind, &authority.certificate, &key)?)
        },
        ServiceAccountKey::parse(&Secret::new(document.service_account_key))?,
        EncryptionKey::parse(&Secret::new(document.encryption_key))?,
    )?;
    Ok(Founded {
        services: document.services,
        roots,
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    #[test]
    fn what_was_sealed_is_opened() {
        let sealed = make(ClusterId([7; 16]), "10.96.0.0/12", NOW).unwrap();
        let opened = open(&sealed).unwrap();
        assert_eq!(opened.services, "10.96.0.0/12");
        assert_eq!(seal(&opened.roots, &opened.services, NOW), sealed);
        let other = make(ClusterId([7; 16]), "10.96.0.0/12", NOW).unwrap();
        assert_ne!(other, sealed, "keys are made anew for each plan");
    }

    #[test]
    fn what_is_no_set_of_keys_is_refused() {
        let sealed = make(ClusterId([7; 16]), "10.96.0.0/12", NOW).unwrap();
        let text = String::from_utf8(sealed.0).unwrap();
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            open(&Sealed(text.replace(from, to).into_bytes())).unwrap_err()
        };
        let newer = changed("\"oldest_format\":1", "\"oldest_format\":2");
        assert!(
            matches!(newer, UnsealError::TooNew { oldest: 2 }),
            "{newer}"
        );
        let without = changed("\"operators\":", "\"operator\":");
        assert!(
            matches!(without, UnsealError::Missing("operators")),
            "{without}"
        );
        let key = changed("BEGIN PRIVATE KEY", "BEGIN PRIVATE KEX");
        assert!(matches!(key, UnsealError::Key(_)), "{key}");
        // A field of a newer release that can be read all the same.
        let more = text.replace("\"format\":1", "\"format\":2,\"more\":true");
        open(&Sealed(more.into_bytes())).unwrap();
    }
}
