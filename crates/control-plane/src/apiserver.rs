//! The apiserver's command line and its policy files.

use std::time::Duration;

use masthead_lifecycle::{Policy, ProbePolicy};
use masthead_pki::{AuthorityKind, Purpose, Secret};
use masthead_seed::Endpoint;
use serde_json::{Value, json};

use crate::files::{Files, Reading};
use crate::flags::{Flags, scaled};
use crate::{APISERVER_PORT, AuditStore, Component, ETCD_CLIENT_PORT, Inputs, Service};

const COMPONENT: Component = Component::KubeApiserver;

/// Our audit policy, for a seed without one.
const AUDIT_POLICY: &str = include_str!("../../../configs/kubernetes/audit-policy.yaml");

/// Issuer of service-account tokens, and where their keys are found from inside the cluster.
const SERVICE_ACCOUNT_ISSUER: &str = "https://kubernetes.default.svc";

/// What a client may read without saying who it is: health, and what `kubeadm join` needs to verify the cluster.
const ANONYMOUS_PATHS: [&str; 4] = [
    "/livez",
    "/readyz",
    "/healthz",
    "/api/v1/namespaces/kube-public/configmaps/cluster-info",
];

pub(crate) fn service(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Service {
    Service {
        component: COMPONENT,
        program: inputs.paths.programs.join(COMPONENT.name()),
        arguments: arguments(inputs, files),
        environment: Vec::new(),
        readiness: files.probe(APISERVER_PORT, "/readyz"),
        // Without etcd it is as alive as it can be; restarting it would only lose its caches.
        liveness: files.probe(APISERVER_PORT, "/livez?exclude=etcd"),
        policy: Policy {
            // It starts beside etcd and waits for it, but must stop first: without its etcd it does not end on TERM.
            needs: vec![Component::Etcd.name().into()],
            readiness: Some(ProbePolicy::READINESS),
            liveness: Some(ProbePolicy::LIVENESS),
            startup: Duration::from_secs(300),
            // The delay, requests in flight, and watches.
            stop_grace: Duration::from_secs(30),
            ..Policy::default()
        },
    }
}

fn arguments(inputs: &Inputs<'_>, files: &mut Files<'_>) -> Vec<String> {
    let owner = Some(COMPONENT);
    let kubernetes = &inputs.seed.kubernetes;
    let etcd_authority = files.authority(owner, AuthorityKind::Etcd);
    let client_authority = files.authority(owner, AuthorityKind::Kubernetes);
    let proxy_authority = files.authority(owner, AuthorityKind::FrontProxy);
    // Reads certificate files again whenever it opens a connection, or watches them.
    let etcd = files.leaf(owner, Purpose::EtcdClient, Reading::Watched);
    let serving = files.leaf(owner, Purpose::ApiserverServing, Reading::Watched);
    let kubelet = files.leaf(owner, Purpose::ApiserverKubeletClient, Reading::Watched);
    let proxy = files.leaf(owner, Purpose::FrontProxyClient, Reading::Watched);
    let signer = &inputs.roots.service_account;
    let signing_key = files.add(
        owner,
        "service-account.key",
        signer.private_pem(),
        Reading::Once,
    );
    let verifying_key = files.add(
        owner,
        "service-account.pub",
        Secret::new(signer.public_pem()),
        Reading::Once,
    );
    let authentication = files.document(
        COMPONENT,
        "authentication.json",
        &authentication(inputs),
        Reading::Watched,
    );
    let authorization = files.document(
        COMPONENT,
        "authorization.json",
        &authorization(),
        Reading::Watched,
    );
    let encryption = files.document(
        COMPONENT,
        "encryption.json",
        &encryption(inputs),
        Reading::Watched,
    );
    let audit_policy = match &kubernetes.files.audit_policy {
        Some(policy) => files.document(COMPONENT, "audit-policy.json", policy, Reading::Once),
        None => files.add(
            owner,
            "audit-policy.yaml",
            Secret::new(AUDIT_POLICY),
            Reading::Once,
        ),
    };

    let mut flags = Flags::default();
    flags
        // Others are told the node's own address, never the VIP, which moves.
        .set("advertise-address", inputs.master.address)
        .set(
            "bind-address",
            if inputs.master.address.is_ipv4() {
                "0.0.0.0"
            } else {
                "::"
            },
        )
        .set("secure-port", APISERVER_PORT)
        .set("endpoint-reconciler-type", "lease")
        // The local member only: with several, an apiserver can stick to a dead one (kubernetes #128812).
        .set(
            "etcd-servers",
            format!("https://{}", inputs.local(ETCD_CLIENT_PORT)),
        )
        .set("etcd-cafile", etcd_authority)
        .set("etcd-certfile", etcd.0)
        .set("etcd-keyfile", etcd.1)
        .set(
            "etcd-healthcheck-timeout",
            scaled(inputs.scale, Duration::from_secs(2)),
        )
        .set(
            "etcd-readycheck-timeout",
            scaled(inputs.scale, Duration::from_secs(2)),
        )
        .set("tls-cert-file", serving.0)
        .set("tls-private-key-file", serving.1)
        .set("tls-min-version", "VersionTLS13")
        .set("client-ca-file", client_authority)
        .set("authentication-config", authentication)
        .set("authorization-config", authorization)
        .set("enable-bootstrap-token-auth", true)
        .set("enable-admission-plugins", "NodeRestriction")
        .set("allow-privileged", true)
        .set("encryption-provider-config", encryption)
        .set("encryption-provider-config-automatic-reload", true)
        .set("service-account-issuer", SERVICE_ACCOUNT_ISSUER)
        .set("service-account-key-file", verifying_key)
        .set("service-account-signing-key-file", signing_key)
        .set("service-cluster-ip-range", kubernetes.services)
        .set("kubelet-client-certificate", kubelet.0)
        .set("kubelet-client-key", kubelet.1)
        .set(
            "kubelet-preferred-address-types",
            "InternalIP,ExternalIP,Hostname",
        )
        .set("requestheader-client-ca-file", proxy_authority)
        .set(
            "requestheader-allowed-names",
            Purpose::FrontProxyClient.common_name(),
        )
        .set("requestheader-username-headers", "X-Remote-User")
        .set("requestheader-group-headers", "X-Remote-Group")
        .set("requestheader-extra-headers-prefix", "X-Remote-Extra-")
        .set("proxy-client-cert-file", proxy.0)
        .set("proxy-client-key-file", proxy.1)
        .set("audit-policy-file", audit_policy);
    audit(inputs, &mut flags);
    flags
        // Clients see "not ready" and move before connections are refused.
        .set("shutdown-delay-duration", "5s")
        .set("shutdown-send-retry-after", true)
        .set("shutdown-watch-termination-grace-period", "5s")
        .set("profiling", false);
    if let Some(admission) = &kubernetes.files.admission {
        let path = files.document(COMPONENT, "admission.json", admission, Reading::Once);
        flags.set("admission-control-config-file", path);
    }
    if matches!(inputs.seed.endpoint, Endpoint::LoadBalancer { .. })
        && inputs.seed.masters.len() > 1
    {
        // Long connections move to other masters now and then. Only behind a load balancer, says its help.
        flags.set("goaway-chance", "0.001");
    }
    flags.with_extra(kubernetes.flags.get(&COMPONENT))
}

/// The audit log and its bounds. In batches: a DATA disk that stalls must not stop the API. What does not fit
/// into the buffer is counted in `apiserver_audit_error_total`.
fn audit(inputs: &Inputs<'_>, flags: &mut Flags) {
    let (age, backups, megabytes) = match inputs.audit {
        AuditStore::Disk => (30, 10, 100),
        AuditStore::Memory => (1, 1, 8),
    };
    flags
        .set(
            "audit-log-path",
            inputs.paths.audit.join("audit.log").display(),
        )
        .set("audit-log-mode", "batch")
        .set("audit-log-maxage", age)
        .set("audit-log-maxbackup", backups)
        .set("audit-log-maxsize", megabytes);
}

/// The seed's token issuers, and our rule for those who do not say who they are.
fn authentication(inputs: &Inputs<'_>) -> Value {
    let paths: Vec<Value> = ANONYMOUS_PATHS
        .iter()
        .map(|path| json!({ "path": path }))
        .collect();
    let mut document = inputs.seed.kubernetes.files.authentication.clone().unwrap_or_else(
        || json!({ "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration" }),
    );
    document["anonymous"] = json!({ "enabled": true, "conditions": paths });
    document
}

fn authorization() -> Value {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": [
            { "type": "Node", "name": "node" },
            { "type": "RBAC", "name": "rbac" },
        ],
    })
}

/// Secrets are written encrypted; unencrypted ones, should a restored snapshot hold any, are still read.
fn encryption(inputs: &Inputs<'_>) -> Value {
    let key = inputs.roots.encryption.base64();
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [
                { "secretbox": { "keys": [
                    { "name": "key-1", "secret": key.text().expect("base64 is text") },
                ] } },
                { "identity": {} },
            ],
        }],
    })
}
