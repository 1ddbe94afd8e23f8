//! The flags that Masthead sets itself: a seed that set them too would break what Masthead promises.

use masthead_diagnostics::nearest;

use crate::Component;

/// Flags of each component that are Masthead's own, without dashes. Names that end in `*` stand for all with
/// that beginning.
pub const OWN_FLAGS: [(Component, &[&str]); 4] = [
    (
        Component::Etcd,
        &[
            "advertise-client-urls",
            "auto-tls",
            "cert-file",
            "cipher-suites",
            "client-cert-*",
            "client-crl-file",
            "config-file",
            "data-dir",
            "discovery*",
            "enable-grpc-gateway",
            "enable-pprof",
            "feature-gates",
            "force-new-cluster",
            "initial-advertise-peer-urls",
            "initial-cluster*",
            "key-file",
            "listen-*",
            "log-outputs",
            "max-learners",
            "name",
            "peer-*",
            "pre-vote",
            "strict-reconfig-check",
            "tls-*",
            "trusted-ca-file",
            "unsafe-no-fsync",
            "wal-dir",
            "watch-progress-notify-interval",
        ],
    ),
    (
        Component::KubeApiserver,
        &[
            "admission-control-config-file",
            "advertise-address",
            "allow-privileged",
            "anonymous-auth",
            "audit-log-path",
            "audit-policy-file",
            "authentication-config",
            "authorization-*",
            "bind-address",
            "cert-dir",
            "client-ca-file",
            "egress-selector-config-file",
            "enable-bootstrap-token-auth",
            "encryption-provider-config*",
            "endpoint-reconciler-type",
            "etcd-*",
            "kubelet-certificate-authority",
            "kubelet-client-*",
            "oidc-*",
            "permit-*",
            "profiling",
            "proxy-client-*",
            "requestheader-*",
            "secure-port",
            "service-account-*",
            "service-cluster-ip-range",
            "shutdown-delay-duration",
            "shutdown-send-retry-after",
            "tls-*",
            "token-auth-file",
        ],
    ),
    (
        Component::KubeControllerManager,
        &[
            "allocate-node-cidrs",
            "authentication-*",
            "authorization-*",
            "bind-address",
            "cert-dir",
            "client-ca-file",
            "cluster-cidr",
            "cluster-name",
            "cluster-signing-*",
            "kubeconfig",
            "leader-elect",
            "master",
            "profiling",
            "requestheader-*",
            "root-ca-file",
            "secure-port",
            "service-account-private-key-file",
            "service-cluster-ip-range",
            "tls-*",
            "use-service-account-credentials",
        ],
    ),
    (
        Component::KubeScheduler,
        &[
            "authentication-*",
            "authorization-*",
            "bind-address",
            "cert-dir",
            "client-ca-file",
            "config",
            "kubeconfig",
            "leader-elect",
            "master",
            "profiling",
            "requestheader-*",
            "secure-port",
            "tls-*",
            "write-config-to",
        ],
    ),
];

/// Which entry of [`OWN_FLAGS`] claims a flag, if one does. `flag` is written without dashes in front.
pub fn own_flag(component: Component, flag: &str) -> Option<&'static str> {
    let (_, own) = OWN_FLAGS.iter().find(|(owner, _)| *owner == component)?;
    own.iter().copied().find(|own| match own.strip_suffix('*') {
        Some(beginning) => flag.starts_with(beginning),
        None => flag == *own,
    })
}

/// Where a seed says what a flag of ours would say.
pub(crate) fn instead(flag: &str) -> &'static str {
    const KEYS: [(&str, &str); 8] = [
        (
            "service-cluster-ip-range",
            "set `services` under [kubernetes] instead",
        ),
        ("cluster-cidr", "set `pods` under [kubernetes] instead"),
        (
            "audit-policy-file",
            "write the policy as `audit-policy` under [kubernetes.files] instead",
        ),
        (
            "admission-control-config-file",
            "write the configuration as `admission` under [kubernetes.files] instead",
        ),
        (
            "authentication-config",
            "write the issuers as `authentication` under [kubernetes.files] instead",
        ),
        (
            "oidc-",
            "write the issuer as `authentication` under [kubernetes.files] instead",
        ),
        ("advertise-address", "the master's `address` is used"),
        ("name", "the master's name is used"),
    ];
    KEYS.iter()
        .find(|(beginning, _)| {
            flag == *beginning || (beginning.ends_with('-') && flag.starts_with(beginning))
        })
        .map_or("leave it out: Masthead sets it", |(_, instead)| instead)
}

/// A component's name that was probably meant.
pub(crate) fn nearest_component(written: &str) -> Option<&'static str> {
    let names = Component::ALL.map(Component::name);
    let short = names
        .into_iter()
        .find(|name| name.strip_prefix("kube-") == Some(written));
    short.or_else(|| nearest(written, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_flags_are_claimed_and_others_are_not() {
        let own = |flag| own_flag(Component::KubeApiserver, flag);
        assert_eq!(own("etcd-servers"), Some("etcd-*"));
        assert_eq!(own("tls-min-version"), Some("tls-*"));
        assert_eq!(own("profiling"), Some("profiling"));
        assert_eq!(own("profiling-more"), None);
        assert_eq!(own("max-requests-inflight"), None);
        assert_eq!(own_flag(Component::Etcd, "quota-backend-bytes"), None);
    }

    #[test]
    fn every_component_has_a_sorted_list() {
        for component in Component::ALL {
            let (_, own) = OWN_FLAGS
                .iter()
                .find(|(owner, _)| *owner == component)
                .expect("a list");
            assert!(own.is_sorted(), "{component:?}");
        }
    }
}
