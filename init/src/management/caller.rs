//! Who is at the other end of a connection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Method;
use masthead_api::{ApiError, ErrorCode};
use masthead_pki::{Description, MANAGEMENT_ROLE_ADMIN};
use masthead_seed::OperatorKey;
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::identity::Identity;
use super::node::Node;
use crate::operators::Enrolled;

/// The other end of a connection, and this end as it saw it.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    pub(super) identity: Arc<Identity>,
    pub(super) operator: Option<Operator>,
}

/// An operator with a certificate that TLS has verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    pub(super) key: OperatorKey,
    pub(super) expires_at: OffsetDateTime,
    /// Whether the certificate has the role that these routes need.
    admin: bool,
}

impl Operator {
    /// Reads the certificate that TLS has verified. Nothing when it is not one that this software issues.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let description = Description::of_der(certificate).ok()?;
        Some(Self {
            key: description.common_name.parse().ok()?,
            expires_at: description.not_after,
            admin: description
                .organizations
                .iter()
                .any(|role| role == MANAGEMENT_ROLE_ADMIN),
        })
    }
}

impl Caller {
    /// The operator, if the certificate is good for administration now, and the seed names the key or it is `enrolled`.
    /// TLS has verified the certificate when the connection began; a connection can outlive it.
    pub(super) fn administrator(&self, enrolled: &Enrolled) -> Result<Operator, ApiError> {
        let Some(operator) = self.operator else {
            return Err(ApiError::new(
                ErrorCode::CertificateRequired,
                "this needs an operator's certificate, and none was shown",
                "Run `mastctl login NODE`.",
            ));
        };
        if OffsetDateTime::now_utc() >= operator.expires_at {
            return Err(ApiError::new(
                ErrorCode::CertificateRequired,
                "the operator's certificate has expired since the connection began",
                "Run `mastctl login NODE`.",
            ));
        }
        if !operator.admin {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                format!("the certificate lacks the role {MANAGEMENT_ROLE_ADMIN}"),
                "Log in with an operator's key.",
            ));
        }
        if !self.names(operator.key) && !self.lets_in(operator.key, enrolled) {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "this key is no operator's any more",
                "Log in with a new token (`mastctl token`), add the key to `admins` in the seed, or use another one.",
            ));
        }
        Ok(operator)
    }

    /// Who came in by a token, as far as a request needs it: what it changes, or gives away, may outlive what this node has not
    /// heard yet.
    pub(super) async fn enrolled(&self, node: &dyn Node, method: &Method) -> Enrolled {
        let in_doubt = self
            .operator
            .is_some_and(|operator| !self.names(operator.key));
        if in_doubt && method != Method::GET {
            node.confirmed().await
        } else {
            node.enrolled()
        }
    }

    /// Whether the key is an operator's now.
    pub(super) async fn is_operators(&self, key: OperatorKey, node: &dyn Node) -> bool {
        self.names(key) || self.lets_in(key, &node.confirmed().await)
    }

    /// Whether the seed names the key.
    fn names(&self, key: OperatorKey) -> bool {
        self.identity.issuers.admins.contains(&key)
    }

    /// Whoever came in by a token is an operator of the cluster, not of a node that is no member of it.
    fn lets_in(&self, key: OperatorKey, enrolled: &Enrolled) -> bool {
        !self.identity.is_provisional() && enrolled.contains(&key)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.operator {
            Some(operator) => write!(formatter, "{} at {}", operator.key, self.address),
            None => write!(formatter, "somebody at {}", self.address),
        }
    }
}
