//! Certificates for kubectl.

use masthead_api::kubeconfig::{KubeconfigAnswer, KubeconfigRequest, MAX_TTL};
use masthead_api::{ApiError, ErrorCode, FORMAT};
use masthead_pki::{Description, issue_kubernetes_admin};
use time::{Duration, OffsetDateTime};

use super::caller::{Caller, Operator};
use crate::error_chain::with_sources;

/// The group that the cluster binds to `cluster-admin`.
const ADMINS: &str = "masthead:admins";

/// The group that every apiserver lets do everything, whatever its RBAC says.
const BREAK_GLASS: &str = "system:masters";

/// Issues a certificate for the key in the request.
pub(super) fn answer(
    caller: &Caller,
    operator: Operator,
    request: &KubeconfigRequest,
) -> Result<KubeconfigAnswer, ApiError> {
    if request.ttl == 0 || request.ttl > MAX_TTL {
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            format!("a time to live of {} s was asked for", request.ttl),
            format!("Ask for 1 s to {MAX_TTL} s (7 days)."),
        ));
    }
    let issuers = &caller.identity.issuers;
    let authority = issuers.kubernetes.as_ref().ok_or_else(|| {
        ApiError::new(
            ErrorCode::NotReady,
            "this node belongs to no cluster yet",
            "See `mastctl status` for what it waits for.",
        )
    })?;
    let lifetime = Duration::seconds(i64::try_from(request.ttl).unwrap_or(i64::MAX));
    // Common names have 64 characters at most (RFC 5280, ub-common-name), and the key's text has 52.
    let user = format!("masthead:{}", operator.key);
    let group = if request.break_glass {
        BREAK_GLASS
    } else {
        ADMINS
    };
    let now = OffsetDateTime::now_utc();
    let certificate = issue_kubernetes_admin(
        &user,
        group,
        lifetime,
        &request.public_key,
        authority,
        now,
    )
    .map_err(|error| match error {
        masthead_pki::Error::PublicKey { .. } => ApiError::new(
            ErrorCode::BadRequest,
            error.to_string(),
            "Send an ECDSA, Ed25519 or RSA public key as PEM (SubjectPublicKeyInfo).",
        ),
        error => {
            tracing::error!(%caller, error = %with_sources(&error), "no certificate could be issued");
            ApiError::new(
                ErrorCode::Internal,
                "the node could not issue the certificate",
                "Read the node's own log.",
            )
        }
    })?;
    let expires = Description::of_pem(&certificate)
        .map_or_else(|_| now + lifetime, |description| description.not_after);
    if request.break_glass {
        tracing::warn!(
            %caller,
            ttl_seconds = request.ttl,
            "BREAK GLASS: a certificate of group system:masters was issued, which RBAC cannot bound"
        );
    }
    Ok(KubeconfigAnswer {
        format: FORMAT,
        cluster: issuers.cluster.clone(),
        user,
        server: issuers.kubernetes_server.clone(),
        authority: authority.certificate_pem().to_owned(),
        certificate,
        expires_at: expires.into(),
    })
}
